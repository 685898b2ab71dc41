"""What the control plane asks each engine of the MySQL wire: who it is, how durable it is, how to read at one time."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from loadgen.engines.engine import SCHEMA
from loadgen.engines.identity import ALLOW, ASK_MYSQL_MARKERS, on_mysql_wire, untried
from loadgen.engines.mysql_accounts import Query
from loadgen.engines.mysql_control import Dialect, Server
from loadgen.engines.mysql_refusals import errno_of
from loadgen.engines.mysql_settings import FOREVER_S, OF_MYSQL, OF_OCEANBASE, OF_TIDB, Profile
from loadgen.engines.mysql_writable import ASK_MYSQL, ASK_OCEANBASE, ASK_TIDB
from loadgen.errors import ClusterError

LOCK_WAIT_S = 10
"""How long a statement of ours waits for a lock."""
ASK_LIMIT_MS = 2000
"""How long a server may take to ask the others of its cluster."""
_HERE = f"db = '{SCHEMA}' AND id <> CONNECTION_ID()"
_SEEKDB_WARNING = "seekdb is OceanBase's single-node edition: one copy of the data, and no figure of a cluster"
_UNISTORE_WARNING = "unistore is TiDB's one-process stand-in for TiKV: no Raft, no durability, and no figure of TiDB's"
_ALONE_WARNING = (
    "this TiDB server can't ask others for their sessions (report-status = false?): an earlier run's open transactions "
    "on others, if there are any, are not seen"
)
_READ_AT_ONCE = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
)


def look_at_oceanbase(query: Query) -> Server:
    """An OceanBase server: the edition and version out of ``5.7.25-OceanBase_CE-v4.2.5.3`` and its like."""
    version = _version(query, "oceanbase")[0]
    number = match[1] if (match := re.search(r"-v(\d[\d.]*)", version)) else version
    parameters = _parameters(query, ("log_disk_size", "memory_limit", "memory_budget", "cpu_count", "datafile_size"))
    if "seekdb" in version.lower():
        durability = {"commit_log": "flushed before each acknowledgement, to one copy", **parameters}
        return Server(number, "seekdb", durability, (_SEEKDB_WARNING,))
    durability = {"commit_log": "flushed by a majority of the replicas before each acknowledgement", **parameters}
    return Server(number, "oceanbase-ce" if "_CE" in version else "oceanbase", durability)


def look_at_mysql(query: Query) -> Server:
    """A MySQL server, with the settings that decide what an acknowledged commit is worth."""
    version, comment, fork = _version(query, "mysql")
    names = (
        "innodb_flush_log_at_trx_commit",
        "sync_binlog",
        "log_bin",
        "innodb_doublewrite",
        "innodb_flush_method",
        "innodb_rollback_on_timeout",
        "group_replication_consistency",
        "rpl_semi_sync_source_enabled",
        "super_read_only",
    )
    durability = _variables(query, names)
    warnings = [untried(fork, "MySQL")] * bool(fork)
    if durability.get("innodb_flush_log_at_trx_commit") != "1":
        warnings.append("innodb_flush_log_at_trx_commit is not 1: an acknowledged transaction can be lost in a crash")
    if durability.get("log_bin") == "ON" and durability.get("sync_binlog") != "1":
        warnings.append("sync_binlog is not 1: an acknowledged transaction can be lost to the replicas in a crash")
    edition = "enterprise" if "enterprise" in comment.lower() else "community"
    return Server(version, fork or edition, durability, tuple(warnings), fork)


def look_at_tidb(query: Query) -> Server:
    """A TiDB server, with its store: ``tikv``, or ``unistore``, the one-process stand-in."""
    version = _version(query, "tidb")[0]
    number = match[1] if (match := re.search(r"TiDB-v?([\w.\-]+)", version)) else version
    about = str(query("SELECT tidb_version()")[0][0])
    store = match[1].lower() if (match := re.search(r"Store:\s*(\w+)", about)) else "unknown"
    names = ("tidb_enable_async_commit", "tidb_enable_1pc", "tidb_guarantee_linearizability")
    warnings = [_UNISTORE_WARNING] * (store == "unistore")
    warnings += [_ALONE_WARNING] * (_tidb_is_several(query) and not _tidb_tells_of_all(query))
    return Server(number, store, {"store": store, **_variables(query, names)}, tuple(warnings))


def open_in_mysql(query: Query, tables: Sequence[str]) -> list[int]:
    """Sessions that hold a transaction open on ``tables``; [0] for one that this user may not see.

    A transaction keeps the tables that it has touched from being locked, whoever asks, and wherever its session is.
    """
    if not tables:
        return []
    locks = ", ".join(f"{SCHEMA}.`{name}` WRITE" for name in tables)
    query("SET @@SESSION.lock_wait_timeout = 1")
    try:
        query(f"LOCK TABLES {locks}")
        return []
    except ClusterError as error:
        if errno_of(error.__cause__) not in (_LOCK_WAIT, *_DENIED):
            raise
        seen: list[int] = []
        with suppress(ClusterError):
            of_ours = f"p.{_HERE.replace(' id', ' p.id')}"
            trx = (
                "information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
            )
            seen = _ids(query(f"SELECT p.id FROM {trx} WHERE {of_ours}"))
        return seen or ([0] if errno_of(error.__cause__) == _LOCK_WAIT else _busy(query))
    finally:
        query("UNLOCK TABLES")
        query(f"SET @@SESSION.lock_wait_timeout = {LOCK_WAIT_S}")


def open_in_tidb(query: Query, tables: Sequence[str]) -> list[int]:
    """Sessions that hold a transaction open in our database or on ``tables``: of every server, or of this one.

    A server that has no status port (report-status = false) can't be asked by the others, and they wait long for it.
    """
    names = ", ".join(f"'{name}'" for name in tables) or "''"
    of_ours = f"table_schema = '{SCHEMA}' AND table_name IN ({names})"
    listed = query(f"SELECT tidb_table_id FROM information_schema.tables WHERE {of_ours}")
    touched = "".join(f" OR FIND_IN_SET('{number}', related_table_ids)" for (number,) in listed)
    where = f"WHERE session_id <> CONNECTION_ID() AND (db = '{SCHEMA}'{touched})"
    columns = f"SELECT /*+ MAX_EXECUTION_TIME({ASK_LIMIT_MS}) */ session_id FROM information_schema"
    if _tidb_is_several(query) and _tidb_tells_of_all(query):
        with suppress(ClusterError):
            return _ids(query(f"{columns}.cluster_tidb_trx {where}"))
    return _ids(query(f"{columns}.tidb_trx {where}"))


def open_in_oceanbase(query: Query, tables: Sequence[str]) -> list[int]:  # noqa: ARG001
    """Sessions in our database that hold a transaction open; the busy ones for a user who may not see that."""
    for view in ("GV$OB_PROCESSLIST", "V$OB_PROCESSLIST"):
        with suppress(ClusterError):
            return _ids(query(f"SELECT id FROM oceanbase.{view} WHERE {_HERE} AND (trans_id <> 0 OR {_BUSY})"))
    return _busy(query)


_BUSY = "command NOT IN ('Sleep', 'Daemon')"
_LOCK_WAIT, _DENIED = 1205, (1044, 1142, 1227)


def _busy(query: Query) -> list[int]:
    return _ids(query(f"SELECT id FROM information_schema.processlist WHERE {_HERE} AND {_BUSY}"))


def _ids(rows: Sequence[Sequence[Any]]) -> list[int]:
    return [int(row[0]) for row in rows]


def _tidb_tells_of_all(query: Query) -> bool:
    """Whether a server can ask the others, and itself, for their sessions, within its time."""
    asking = f"SELECT /*+ MAX_EXECUTION_TIME({ASK_LIMIT_MS}) */ id FROM information_schema.cluster_processlist"
    with suppress(ClusterError):
        return bool(query(f"{asking} WHERE id = CONNECTION_ID()"))
    return False


def _tidb_is_several(query: Query) -> bool:
    """Whether there are other servers, as far as this user may know: only some may."""
    with suppress(ClusterError):
        return int(query("SELECT COUNT(*) FROM information_schema.cluster_info WHERE type = 'tidb'")[0][0]) > 1
    return True


def _version(query: Query, expected: str) -> tuple[str, str, str]:
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


def _variables(query: Query, names: tuple[str, ...]) -> dict[str, Any]:
    listed = ", ".join(f"'{name}'" for name in names)
    return {str(name): str(value) for name, value in query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")}


def _parameters(query: Query, names: tuple[str, ...]) -> dict[str, Any]:
    """OceanBase parameters; none of them where the user has no right to see them."""
    found: dict[str, Any] = {}
    try:
        for name in names:
            # Rows differ between versions: the value is the column after the type, wherever that is.
            for row in query(f"SHOW PARAMETERS LIKE '{name}'"):
                position = row.index(name)
                found[name] = str(row[position + 2])
    except (ClusterError, ValueError, IndexError):
        return found
    return found


OCEANBASE = Dialect(
    ask_writable=ASK_OCEANBASE,
    name="oceanbase",
    title="OceanBase",
    look=look_at_oceanbase,
    profile=Profile(
        {
            **OF_OCEANBASE,
            "ob_query_timeout": FOREVER_S * 1_000_000,
            "ob_trx_timeout": FOREVER_S * 1_000_000,
            "ob_trx_idle_timeout": FOREVER_S * 1_000_000,
            "ob_trx_lock_timeout": LOCK_WAIT_S * 1_000_000,
            "max_execution_time": 0,
        }
    ),
    snapshot=_READ_AT_ONCE,
    open_sessions=open_in_oceanbase,
)
MYSQL = Dialect(
    ask_writable=ASK_MYSQL,
    name="mysql",
    title="MySQL",
    look=look_at_mysql,
    profile=Profile(
        {
            **OF_MYSQL,
            "innodb_lock_wait_timeout": LOCK_WAIT_S,
            "lock_wait_timeout": LOCK_WAIT_S,
            "max_execution_time": 0,
        }
    ),
    snapshot=_READ_AT_ONCE,
    open_sessions=open_in_mysql,
)
TIDB = Dialect(
    ask_writable=ASK_TIDB,
    name="tidb",
    title="TiDB",
    look=look_at_tidb,
    profile=Profile(
        {
            **OF_TIDB,
            "tidb_txn_mode": "pessimistic",
            "innodb_lock_wait_timeout": LOCK_WAIT_S,
            "max_execution_time": 0,
        }
    ),
    snapshot=_READ_AT_ONCE,
    open_sessions=open_in_tidb,
)
