"""What the control plane asks a server of the MySQL wire. What differs between engines, each says in its own file.

Who it is, how durable it is, how many sessions it takes, whether it takes writes, and which transactions are open.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loadgen.engines.engine import SCHEMA
from loadgen.engines.identity import ALLOW, ASK_MYSQL_MARKERS, on_mysql_wire
from loadgen.engines.mysql_settings import Profile
from loadgen.errors import ClusterError

Query = Callable[[str], list[tuple[Any, ...]]]
"""Runs one statement by itself. Raises ClusterError, whose cause is the driver's error."""

READ_ONLY = 1290
"""The code of a statement that a read-only server refuses."""
LOCK_WAIT_S = 10
"""How long a statement of ours waits for a lock."""
READ_AT_ONCE = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
)
"""The statements that begin a transaction whose reads all see one snapshot."""
HERE = f"db = '{SCHEMA}' AND id <> CONNECTION_ID()"
BUSY = "command NOT IN ('Sleep', 'Daemon')"
UNLIMITED = 1_000_000
"""The number of connections that means no limit."""
_PER_HOUR = re.compile(r"MAX_(?:QUERIES|UPDATES|CONNECTIONS)_PER_HOUR [1-9]\d*")
_OWN = re.compile(r"MAX_USER_CONNECTIONS ([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says that it is."""

    version: str
    edition: str
    durability: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    fork: str = ""
    """Its name where it is not the engine itself (see identity)."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the engines of the MySQL wire in the control plane."""

    name: str
    """The engine's."""
    title: str
    look: Callable[[Query], Server]
    """Looks at the server. Raises ClusterError if it is another engine's."""
    profile: Profile
    """Settings of the control connection: nothing that it does may run into a limit meant for the load."""
    ask_writable: str
    """The statement that finds the host that accepts writes.

    It answers 0 on such a node, and something else or an error on any other. Asked when a connection is opened to an
    address with several hosts, and never on a single one.
    """
    open_sessions: Callable[[Query, Sequence[str]], list[int]]
    """The sessions that hold a transaction open on the tables named, other than the one that asks."""


def takes_writes(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether ``rows`` are the answer of a node that takes writes."""
    return [int(row[0]) for row in rows] == [0]


def connections_free(query: Query, where: str) -> int:
    """How many more sessions the server takes, of all and of this account, as far as its user may see.

    Raises ClusterError for an account with an hourly limit, which would stop the load during the run.
    """
    # 0 is TiDB's way to say that there is no limit.
    limit = int(query("SELECT @@GLOBAL.max_connections")[0][0]) or UNLIMITED
    used = query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    free = [limit - (int(used[0][1]) if used else 1)]
    account = _account(query)
    if found := _PER_HOUR.search(account):
        raise ClusterError(
            f"the account on {where} has the limit {found[0]}, which would stop the load during the run: set "
            "it to 0 by ALTER USER, or use another account"
        )
    # The account's own limit beats everybody's.
    own = _OWN.search(account)
    if of_account := int(own[1]) if own else int(query("SELECT @@max_user_connections")[0][0]):
        # Everybody may see the sessions of their own account.
        mine = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = SUBSTRING_INDEX(USER(), '@', 1)"
        free.append(of_account - int(query(mine)[0][0]))
    return max(0, min(free))


def _account(query: Query) -> str:
    """How the account was created, as far as the server shows it."""
    with suppress(ClusterError):
        return " ".join(str(row[0]) for row in query("SHOW CREATE USER CURRENT_USER()"))
    return ""


def busy(query: Query) -> list[int]:
    """Sessions in our database that run something now."""
    return ids(query(f"SELECT id FROM information_schema.processlist WHERE {HERE} AND {BUSY}"))


def ids(rows: Sequence[Sequence[Any]]) -> list[int]:
    """The numbers in the first column."""
    return [int(row[0]) for row in rows]


def version_of(query: Query, expected: str) -> tuple[str, str, str]:
    """The server's version, its comment, and its name where it is a fork. Raises ClusterError for another engine."""
    version, comment = map(str, query("SELECT VERSION(), @@version_comment")[0])
    markers: set[str] = set()
    with suppress(ClusterError):
        markers = {str(name).lower() for name, _ in query(ASK_MYSQL_MARKERS)}
    identity = on_mysql_wire(version, comment, markers)
    if identity.engine == expected:
        return identity.version, comment, identity.fork
    name = identity.fork or identity.engine
    as_what = f"--engine {identity.engine}" + (f" {ALLOW}" if identity.fork else "")
    raise ClusterError(f"--engine {expected}: the server says that it is {name} ({version}): use {as_what}")


def variables_of(query: Query, names: tuple[str, ...]) -> dict[str, Any]:
    """The global variables called ``names``, as far as the server has them."""
    listed = ", ".join(f"'{name}'" for name in names)
    return {str(name): str(value) for name, value in query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")}
