"""TiDB, with pessimistic transactions, its default, and with optimistic ones, a level of their own."""

from collections.abc import Mapping

from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, Address, Control, Failure, Level
from loadgen.engines.mysql_outcomes import COMMON, LOST, RESOURCE, TIMEOUT, UNAVAILABLE, Rule, Rules
from loadgen.engines.mysql_settings import OF_TIDB, Profile
from loadgen.engines.mysql_wire import MysqlConnection, classify, connect
from loadgen.engines.mysql_writable import ASK_TIDB
from loadgen.op import Stage

_WRITE_CONFLICT = Rule("conflict", retry=True, refusal=True)

# Where a COMMIT's result is not known, the server sends no error: it closes the connection (2013). An error of the
# store, answered by COMMIT, is taken as unknown all the same.
RULES: Rules = {
    **COMMON,
    8002: _WRITE_CONFLICT,
    8005: _WRITE_CONFLICT,
    8022: _WRITE_CONFLICT,  # the commit failed and was rolled back
    8028: _WRITE_CONFLICT,  # the schema changed
    9007: _WRITE_CONFLICT,
    1105: Rule("other"),
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
    9006: Rule("conflict", retry=True),  # the snapshot was garbage-collected
    9008: UNAVAILABLE,
    9010: RESOURCE,
    8052: LOST,
}


def _level(name: str, means: str, isolation: str, mode: str) -> Level:
    return Level(name, means, f"SET SESSION transaction_isolation = '{isolation}', tidb_txn_mode = '{mode}'")


# The mode is a part of the level, for it decides what the level means. Optimistic transactions have one level only:
# READ COMMITTED is for pessimistic ones, and an optimistic one would silently run as REPEATABLE READ.
_LEVELS = {
    level.name: level
    for level in (
        _level("read committed", "read-committed", "READ-COMMITTED", "pessimistic"),
        # Snapshot reads, but a pessimistic write or locking read sees the latest commit: an update can be lost.
        _level("repeatable read", "monotonic-atomic-view", "REPEATABLE-READ", "pessimistic"),
        # Nothing is locked before COMMIT, which is refused if a row was written since the snapshot.
        _level("repeatable read optimistic", "snapshot-isolation", "REPEATABLE-READ", "optimistic"),
    )
}


class Tidb:
    """The engine. It refuses read uncommitted and serializable (8048), so neither is among its levels."""

    name = "tidb"
    wire = "mysql"
    title = "TiDB"
    default_level = "repeatable read"
    levels: Mapping[str, Level] = _LEVELS

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """The outcome of ``error`` at ``stage``."""
        return classify(RULES, error, stage)

    async def connect(
        self,
        address: Address,
        level: Level,
        run_id: str,
        *,
        reader: bool = False,  # noqa: ARG002 - a replica's session is set and asked in the same way
    ) -> MysqlConnection:
        """Open one load connection in our database, at ``level``, with explicit timeouts, and verify it."""
        return await connect(address, LOAD, self.name, level, run_id, ASK_TIDB)

    def control(self, address: Address, run_id: str) -> Control:
        """Open the control connection."""
        from loadgen.engines.mysql_control import MysqlControl
        from loadgen.engines.mysql_dialects import TIDB

        return MysqlControl(address, run_id, TIDB)


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
ENGINE = Tidb()
