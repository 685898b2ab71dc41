"""TiDB, with pessimistic transactions, its default, and with optimistic ones, a level of their own."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from loadgen.databases.tidb import DATABASE
from loadgen.engines.engine import LOCK_TIMEOUT_S, SCHEMA, STATEMENT_TIMEOUT_S, ErrorRule, Level
from loadgen.engines.mysql_dialect import LOCK_WAIT_S, Dialect, Query, Server, ids, variables_of, version_of
from loadgen.engines.mysql_engine import MysqlEngine
from loadgen.engines.mysql_outcomes import COMMON, LOST, RESOURCE, TIMEOUT, UNAVAILABLE, ErrorRules
from loadgen.engines.mysql_settings import Profile, Values
from loadgen.errors import ClusterError

_WRITE_CONFLICT = ErrorRule("conflict", retry=True, refusal=True)

_ALWAYS: Values = {
    # A server that retried a transaction by itself would run it on values that the client has not seen, so that its
    # version witness would be of another transaction.
    "tidb_disable_txn_auto_retry": 1,
    "tidb_snapshot": "",
    "tx_read_ts": "",
    "tidb_read_staleness": 0,
    "tidb_enable_external_ts_read": 0,
    "tidb_low_resolution_tso": 0,
    "tidb_read_consistency": "strict",
    "tidb_replica_read": "leader",
    "tidb_guarantee_linearizability": 1,
    "tidb_rc_read_check_ts": 0,
    "txn_scope": "global",
    "tidb_constraint_check_in_place": 0,
    "tidb_constraint_check_in_place_pessimistic": 1,
    "tidb_skip_isolation_level_check": 0,
    # These let one transaction become several.
    "tidb_batch_insert": 0,
    "tidb_batch_delete": 0,
    "tidb_batch_commit": 0,
    "tidb_dml_type": "standard",
    "tidb_idle_transaction_timeout": 0,
    "tidb_mem_quota_query": 1 << 30,
    "tidb_isolation_read_engines": "tikv,tiflash,tidb",
    "tidb_enforce_mpp": 0,
    "tikv_client_read_timeout": 0,
}
"""What every session of ours sets."""
_UNISTORE_WARNING = "unistore replaces TiKV in one process, without Raft and durability: its figures are not TiDB's"
_ALONE_WARNING = (
    "this TiDB server can't ask others for their sessions (report-status = false?): an earlier run's open transactions "
    "on others, if there are any, are not seen"
)
ASK_LIMIT_MS = 2000
"""How long a server may take to ask the others of its cluster."""
# Where a COMMIT's result is not known, the server sends no error: it closes the connection (2013). An error of the
# store, answered by COMMIT, is taken as unknown all the same.
RULES: ErrorRules = {
    **COMMON,
    8002: _WRITE_CONFLICT,
    8005: _WRITE_CONFLICT,
    8022: _WRITE_CONFLICT,  # the commit failed and was rolled back
    8028: _WRITE_CONFLICT,  # the schema changed
    9007: _WRITE_CONFLICT,
    1105: ErrorRule("other"),
    8027: UNAVAILABLE,
    8120: UNAVAILABLE,
    8147: UNAVAILABLE,
    8229: UNAVAILABLE,
    8252: RESOURCE,
    8004: RESOURCE,  # the transaction is too large
    8175: RESOURCE,  # memory quota
    9001: UNAVAILABLE,  # PD timeout
    9002: TIMEOUT,  # TiKV timeout
    9003: RESOURCE,  # TiKV is busy
    9004: TIMEOUT,  # resolving locks took too long
    9005: UNAVAILABLE,  # the region is unavailable
    9006: ErrorRule("conflict", retry=True),  # the snapshot was garbage-collected
    9008: UNAVAILABLE,
    9010: RESOURCE,
    8052: LOST,
}


def _refused(answers: Mapping[str, str], level: Level | None) -> str:
    mode = "optimistic" if level is not None and level.name.endswith(" optimistic") else "pessimistic"
    if level is not None and answers.get("tidb_txn_mode") != mode:
        return f"tidb_txn_mode is {answers.get('tidb_txn_mode', 'unknown')!r} in a session of this server, not {mode!r}"
    return ""


LOAD = Profile(
    {
        **_ALWAYS,
        "innodb_lock_wait_timeout": LOCK_TIMEOUT_S,
        "max_execution_time": STATEMENT_TIMEOUT_S * 1000,
    },
    _refused,
    asked=("tidb_txn_mode",),
)
"""A load session."""


def look_at_tidb(query: Query) -> Server:
    """A TiDB server, with its store: ``tikv``, or ``unistore``, the one-process stand-in."""
    version = version_of(query, "tidb")[0]
    number = match[1] if (match := re.search(r"TiDB-v?([\w.\-]+)", version)) else version
    about = str(query("SELECT tidb_version()")[0][0])
    store = match[1].lower() if (match := re.search(r"Store:\s*(\w+)", about)) else "unknown"
    names = ("tidb_enable_async_commit", "tidb_enable_1pc", "tidb_guarantee_linearizability")
    warnings = [_UNISTORE_WARNING] * (store == "unistore")
    warnings += [_ALONE_WARNING] * (_is_several(query) and not _tells_of_all(query))
    return Server(number, store, {"store": store, **variables_of(query, names)}, tuple(warnings))


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
    if _is_several(query) and _tells_of_all(query):
        with suppress(ClusterError):
            return ids(query(f"{columns}.cluster_tidb_trx {where}"))
    return ids(query(f"{columns}.tidb_trx {where}"))


def _tells_of_all(query: Query) -> bool:
    """Whether a server can ask the others, and itself, for their sessions, within its time."""
    asking = f"SELECT /*+ MAX_EXECUTION_TIME({ASK_LIMIT_MS}) */ id FROM information_schema.cluster_processlist"
    with suppress(ClusterError):
        return bool(query(f"{asking} WHERE id = CONNECTION_ID()"))
    return False


def _is_several(query: Query) -> bool:
    """Whether there are other servers, as far as this user may know: only some may."""
    with suppress(ClusterError):
        return int(query("SELECT COUNT(*) FROM information_schema.cluster_info WHERE type = 'tidb'")[0][0]) > 1
    return True


DIALECT = Dialect(
    # Every server takes writes.
    ask_writable="SELECT 0",
    name="tidb",
    title="TiDB",
    look=look_at_tidb,
    profile=Profile(
        {
            **_ALWAYS,
            "tidb_txn_mode": "pessimistic",
            "innodb_lock_wait_timeout": LOCK_WAIT_S,
            "max_execution_time": 0,
        }
    ),
    open_sessions=open_in_tidb,
)
"""The control connection, and what it asks."""


class Tidb(MysqlEngine):
    """The engine."""

    rules = RULES
    dialect = DIALECT

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        return LOAD


ENGINE = Tidb(DATABASE)
