"""What loadgen knows about a database by its name. These are plain values, so every room may read them.

What needs a driver, Docker or a server's process is named as ``module:attribute`` and imported where it is used. Every
command imports this, so the parts are named tuples: a dataclass takes half a millisecond more to make.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple


class Wire(NamedTuple):
    """A protocol between clients and servers. Several databases may speak one: their DSNs and clients are alike."""

    name: str
    example: str
    """A DSN, for messages."""
    dsn_drivers: tuple[str, ...]
    """What SQLAlchemy writes behind the scheme: which driver it is to take, which is no matter here."""
    packages: tuple[str, ...]
    """The packages of ours that speak it."""
    quote: str
    """What quotes an identifier."""
    schema_is: str
    """What the server calls the place for our tables: a schema or a database."""


POSTGRES_WIRE = Wire(
    "postgres",
    "postgres://user:password@host:5432/database",
    ("asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async"),
    ("asyncpg",),
    '"',
    "schema",
)
MYSQL_WIRE = Wire(
    "mysql",
    "mysql://user:password@host:3306/",
    ("aiomysql", "asyncmy", "cymysql", "mariadbconnector", "mysqlconnector", "mysqldb", "pymysql"),
    ("asyncmy", "pymysql"),
    "`",
    "database",
)


class Level(NamedTuple):
    """One isolation level of one engine: what to set, and what the engine documents that it gives.

    ``means`` is a name of the field's lattice (read-committed, snapshot-isolation, serializable, ...).
    """

    name: str
    means: str
    set_sql: str
    statement_snapshot: bool = True
    """Whether one statement is documented to read from one snapshot (read committed and up)."""
    on_replicas: bool = True
    """Whether a read-only replica can run it too."""


class ServerBinary(NamedTuple):
    """A server program that ``loadgen install NAME`` can provide. ``program`` is its file name on PATH."""

    name: str
    title: str
    program: str
    variable: str
    """The environment variable that names the program's path, and beats everything else."""
    described: str
    """``module:function`` from what the program says of itself to its name, and whether that is it."""
    install: str
    """``module:function`` that puts the program into a folder."""
    template: str = ""
    """``module:function`` that then makes an empty data directory beside it."""
    means: str = ""
    """What it is installed by, for a person."""
    needs: str = ""
    """``module:function`` from this value to a Finding of ``loadgen doctor``: whether that is here."""


class Embedded(NamedTuple):
    """The server that runs as a process of ours: from a Python package, or a program found on this machine."""

    start: str
    """``module:function`` that starts it (a Provider)."""
    package: str = ""
    """The Python package that brings it, as pip calls it."""
    binary: ServerBinary | None = None
    most_nodes: int = 1


class Image(NamedTuple):
    """How a server is run in a container. ``name`` is that of its variable LOADGEN_IMAGE_NAME in deploy/images.env."""

    name: str
    title: str
    make: str
    """``module:function`` from plan, image and password to the container."""
    user: str
    memory: str
    by_hand: str
    """How a person gets in, with {name} of the container and {port} on 127.0.0.1."""
    database: str = ""
    settings: str = ""
    """``module:function`` from the plan to the server's settings, for the record."""


class Topology(NamedTuple):
    """One folder of ``deploy/``: what its compose file starts, where one connects, and how its state is asked for."""

    folder: str
    title: str
    nodes: int
    """How many servers it has that hold data."""
    entry: str
    """The service that takes writes when the cluster has just started."""
    port: int
    user: str
    database: str
    members: tuple[str, ...]
    """The services that hold data, or that one can connect to."""
    state: str
    """``module:function`` from a Query for each of ``asked`` to what the servers report about their replication;
    ``complete`` in it says whether it is correct."""
    asked: tuple[str, ...] = ()
    """The services to ask for it, if the entry alone does not know."""
    replicas: tuple[str, ...] = ()
    """The members that serve reads only while the entry takes the writes."""
    start_within_s: int = 240


class Published(NamedTuple):
    """What is published of its levels: the version that was tested, and the marks of Hermitage's anomalies by level."""

    version: str
    marks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Database:
    """One database, as all of loadgen finds it. Everything that is known by its name is here, or named here."""

    name: str
    title: str
    """Its name as a person writes it."""
    wire: Wire
    dialect: str
    """``module:class`` of its Engine (engines/engine.py): how to connect, and what errors mean. It is made with this
    value."""
    default_level: str
    levels: tuple[Level, ...]
    """From the weakest. A level that the database does not have, or runs as another one, is not among them."""
    embedded: Embedded | None = None
    images: tuple[Image, ...] = ()
    """The first is its own; another one is meant where the image that the user names has its name."""
    topologies: tuple[Topology, ...] = ()
    """Its compose files, each for the image of the same place."""
    schemes: tuple[str, ...] = ()
    """Of DSNs that mean this database where no engine is named. It is reached by any scheme of its wire."""
    replicated_as: str = ""
    """``module:function`` from a Query to how an existing cluster replicates, or the words for it."""
    lesser_editions: Mapping[str, str] = field(default_factory=dict)
    """Editions whose figures must never be shown as the whole database's, with the sentence that says so."""
    waits: tuple[str, ...] = ()
    """Statements that ask who waits for whom; the first that the server takes is used (see hermitage/waits.py)."""
    published: Published | None = None
    notes: tuple[str, ...] = ()
    """Why its levels prevent what they do, by its documentation unless a note says otherwise."""

    @property
    def scheme(self) -> str:
        """The scheme of a DSN that we write."""
        return self.schemes[0] if self.schemes else self.wire.name

    @property
    def example(self) -> str:
        """A DSN without a password, for messages."""
        return f"{self.scheme}{self.wire.example.removeprefix(self.wire.name)}".replace(":password", "")

    @property
    def packages(self) -> tuple[str, ...]:
        """The Python packages that have a part in a run on it."""
        return (*self.wire.packages, *filter(None, (self.embedded.package if self.embedded else "",)))


def resolved(reference: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)
