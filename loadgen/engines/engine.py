"""What an engine is: one database's way to connect, prepare, isolate, and fail. Nothing here does I/O.

``Connection`` is the load path: asynchronous, one per session, as thin as can be. ``Control`` is everything else:
synchronous, used by the conductor's process before and after the load.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from loadgen.databases.database import Database
from loadgen.databases.database import Level as Level
from loadgen.dsn import MASK, masked_parameters
from loadgen.engines.progress import Say
from loadgen.errors import PlanError
from loadgen.op import Outcome, Stage
from loadgen.plan import Plan
from loadgen.workload import Call, Result, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "loadgen"
"""The schema (PostgreSQL) or database (MySQL wire) that is ours; nothing outside it is ever touched."""
META_TABLE = "loadgen_meta"
"""The table that marks a schema as ours: a row for each table in it, with the id of the run that made it."""
LOCK_TABLE = "loadgen_lock"
"""The table of the run's lock: one row, with the id of the run and the server's time of its last beat."""
FRESH_S = 15
"""How long after its last beat a lock counts as held, by the server's clock.

It is longer than a load process may continue without its master (10 s), so no run takes over while one still writes.
"""
LOCK_TIMEOUT_S = 2
"""How long a statement waits for a lock before it fails: set explicitly on every engine, so that they compare."""
STATEMENT_TIMEOUT_S = 5
"""How long a statement may take in all. A COMMIT that times out is ``info``."""
CONNECT_TIMEOUT_S = 5
PROOF_LIMIT_S = 5
"""How long the write may take that proves a node to be the primary: one without its peers would wait for ever."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is reached. ``socket`` is a unix socket (PostgreSQL: its directory) and has priority over
    ``host``.

    ``host`` may name several, each with its port (``db1:5432,db2:5432``; a path is a socket): members of one cluster,
    of which a connection takes the first that takes writes.

    ``parameters`` are the others (TLS and so on), each understood (see postgres_parameters and mysql_parameters).
    """

    host: str = "127.0.0.1"
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    socket: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """All of it, password included: for handing to a load process, never for a file."""
        return {**asdict(self), "parameters": dict(self.parameters)}

    def masked(self) -> dict[str, Any]:
        """All of it but secrets, for files and messages."""
        parameters = masked_parameters(self.parameters)
        return {**self.to_json(), "password": MASK if self.password else "", "parameters": parameters}


class ErrorRule(NamedTuple):
    """What one code, or a class of codes, of a server means.

    ``retry``: worth another try where the outcome is ``fail``. ``refusal``: as the answer to COMMIT it says clearly
    that the transaction was rolled back. ``drop``: the server closes the connection, or another one is wanted.
    """

    error_class: str
    retry: bool = False
    refusal: bool = False
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error means for the op. ``retry`` only where the outcome is ``fail``; ``drop``: the connection is gone.

    ``error_class`` groups codes for a person: conflict, deadlock, timeout, connection, unavailable, constraint,
    resource, session, other. ``sample`` is the server's text, without values.
    """

    outcome: Outcome
    code: str
    error_class: str
    retry: bool = False
    drop: bool = False
    sample: str = ""


class FinalReads(dict[str, dict[str, "NDArray[Any]"]]):
    """The tables read at the end, by name, as columns. What is not in it has its reason in ``gone`` or ``unread``."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: dict[str, str] = {}
        """Tables that do not exist by the server: they were dropped, with all their rows."""
        self.unread: dict[str, str] = {}
        """Tables that are there and cannot be read as what they were made."""


class Connection(Protocol):
    """One driver connection. Every method may raise the driver's errors; ``Engine.classify`` reads them."""

    verified: Mapping[str, str]
    """What the server answered when the session was verified, by name: plan.json keeps it."""

    def begin(self) -> Awaitable[None]:
        """Start a transaction."""

    def execute(self, call: Call) -> Awaitable[Result]:
        """Run one statement, inside the transaction or by itself."""

    def commit(self) -> Awaitable[None]:
        """Commit. Returns only on the server's clear confirmation."""

    async def rollback(self) -> None:
        """Roll back; harmless where no transaction is open."""

    async def close(self) -> None:
        """Close, at once and without raising."""


class Control(Protocol):
    """The control plane's connection: synchronous, never in a load process. Raises ClusterError for the operator.

    It may be lost and opened again at any time: nothing that a run rests on depends on its staying open.
    """

    def facts(self) -> dict[str, Any]:
        """``version``, ``edition``, ``durability`` (settings by name), ``connections_free`` and ``warnings``.

        Also ``verified``: what the server said of this connection, by name.
        """

    def lock(self) -> None:
        """Write this run's row into LOCK_TABLE, before any table of ours is touched. Makes our schema if need be.

        Waits until the row of another run is no longer fresh (see FRESH_S) and no transaction is open on our tables.
        Raises ClusterError where that run is alive, because its row is renewed meanwhile or a transaction stays open,
        or where the schema holds what is not ours; then nothing was touched.
        """

    def beat(self) -> None:
        """Renew this run's row. Raises LockLost if it is another run's or is gone, ClusterError if that is unknown."""

    def unlock(self) -> None:
        """Remove this run's row, if there is one."""

    def prepare(self, tables: Sequence[Table], plan: Plan | None = None, say: Say | None = None) -> dict[str, int]:
        """Create loadgen's schema again: marked tables are dropped; unmarked ones refuse the run and do not change.

        ``plan`` fills tables with ``batches``, and ``say`` receives progress messages. Returns how many rows each table
        got.
        """

    def sessions(self) -> int:
        """How many sessions, other than this one, can still write to our tables: those in a transaction.

        An idle session in a pool is not counted.
        """

    def end_sessions(self) -> None:
        """Let the server end what sessions of our load still have open there: their clients are gone."""

    def read_only(self) -> bool:
        """Whether this node says that it takes no writes: a replica. One that is lost says nothing: ClusterError."""

    def prove_writable(self) -> None:
        """Commit a write to our table of marks: a node that was the primary, and does not know yet, can't.

        Raises ClusterError, within PROOF_LIMIT_S or a few times that.
        """

    def final_reads(self, tables: Sequence[Table]) -> FinalReads:
        """All tables that are there, read in one snapshot transaction. Raises ClusterError if the server can't be read.

        Also unless that snapshot says that each table was made by this run, and has as many rows as were read. Where
        somebody made a value NULL or no number, an integer column holds the least one of its type instead, unless
        NULL is a value of its type (see history.column_types).
        """

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement by itself and return its rows."""

    def close(self) -> None:
        """Close. The lock stays: ``unlock`` gives it back."""


class Engine(Protocol):
    """One database."""

    name: str
    wire: str
    """The name of its wire (databases.database.Wire)."""
    title: str
    """Its name as a person writes it."""
    default_level: str
    levels: Mapping[str, Level]
    """What can be asked for, by its name in the plan. A level that the engine does not have is not in it."""

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """The outcome of ``error`` at ``stage``: keyed by SQLSTATE or errno, never by the message's text."""

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> Connection:
        """Open one load connection in our schema, at ``level``, with explicit timeouts, and verify it.

        It sets what differs from what a run needs, and asks back: engine, schema, isolation in force, every setting
        that changes what our statements mean, and that the tables there are those of the run ``run_id`` (of any run if
        it is empty). ``reader``: it may be read-only, on a replica. Raises SessionRefused, or the driver's errors.
        """

    def control(self, address: Address, run_id: str) -> Control:
        """Open the control connection. Raises ClusterError with what to do."""


class Described:
    """What an engine says of itself: what its Database says."""

    def __init__(self, database: Database) -> None:
        self.name = database.name
        self.wire = database.wire.name
        self.title = database.title
        self.default_level = database.default_level
        self.levels: Mapping[str, Level] = {level.name: level for level in database.levels}


def level_of(engine: Engine, isolation: str) -> Level:
    """The level that a plan asks for, the engine's default if it names none. Raises PlanError if there is none."""
    name = isolation or engine.default_level
    if name not in engine.levels:
        raise PlanError(f"--isolation {name!r}: {engine.title} does not have it; it has {', '.join(engine.levels)}")
    return engine.levels[name]
