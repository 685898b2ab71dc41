"""TiDB, with pessimistic transactions, its default, and with optimistic ones, a level of their own."""

from collections.abc import Mapping

from loadgen.databases.tidb import DATABASE
from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, ErrorRule, Level
from loadgen.engines.mysql_engine import MysqlEngine
from loadgen.engines.mysql_outcomes import COMMON, LOST, RESOURCE, TIMEOUT, UNAVAILABLE, ErrorRules
from loadgen.engines.mysql_settings import OF_TIDB, Profile
from loadgen.engines.mysql_writable import ASK_TIDB

_WRITE_CONFLICT = ErrorRule("conflict", retry=True, refusal=True)

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
        **OF_TIDB,
        "innodb_lock_wait_timeout": LOCK_TIMEOUT_S,
        "max_execution_time": STATEMENT_TIMEOUT_S * 1000,
    },
    _refused,
    asked=("tidb_txn_mode",),
)
"""A load session."""


class Tidb(MysqlEngine):
    """The engine."""

    identity = "tidb"
    rules = RULES
    ask_writable = ASK_TIDB
    control_dialect = "loadgen.engines.mysql_dialects:TIDB"

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        return LOAD


ENGINE = Tidb(DATABASE)
