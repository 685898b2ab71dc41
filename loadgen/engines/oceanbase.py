"""OceanBase in MySQL mode: an OceanBase cluster, or seekdb, the single-node edition of the same engine."""

from collections.abc import Mapping

from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, Address, Control, Failure, Level
from loadgen.engines.mysql_outcomes import (
    COMMON,
    CONFLICT,
    ELSEWHERE,
    LOST,
    OTHER,
    REFUSED_CONFLICT,
    RESOURCE,
    TIMEOUT,
    UNAVAILABLE,
    Rule,
    Rules,
)
from loadgen.engines.mysql_settings import OF_OCEANBASE, Profile
from loadgen.engines.mysql_wire import MysqlConnection, classify, connect
from loadgen.engines.mysql_writable import ASK_OCEANBASE
from loadgen.op import Stage

TRANSACTION_TIMEOUT_S = 6 * STATEMENT_TIMEOUT_S
"""How long a whole transaction may take, and how long one whose client is gone may keep its locks."""
_US = 1_000_000

RULES: Rules = {
    **COMMON,
    # The conflict of snapshot isolation. The transaction stays open: rolling back is up to the client.
    6235: REFUSED_CONFLICT,
    # 6002 stands for several internal errors, told apart by SQLSTATE: 40000 says that the transaction was rolled back,
    # 25000 that it was killed or timed out, HY000 that its context is gone, which after a change of leader may mean
    # that it was committed before. So only the first is a clear answer to COMMIT.
    (6002, "40000"): Rule("conflict", retry=True, refusal=True),
    6002: CONFLICT,
    # 4012 is the timeout of a statement or a transaction, and "Transaction result is unknown" too.
    4012: TIMEOUT,
    6005: CONFLICT,
    6202: UNAVAILABLE,  # the leader is being switched
    6210: TIMEOUT,
    6211: CONFLICT,
    6222: OTHER,  # transaction state unknown
    6225: OTHER,  # transaction result unknown
    6230: TIMEOUT,
    6231: UNAVAILABLE,  # replica not readable
    6233: OTHER,  # transaction has been committed
    6238: UNAVAILABLE,
    6239: UNAVAILABLE,
    6241: CONFLICT,
    6280: TIMEOUT,
    6281: TIMEOUT,
    4023: UNAVAILABLE,
    4036: UNAVAILABLE,
    4038: UNAVAILABLE,  # not the leader
    4076: UNAVAILABLE,
    4138: CONFLICT,  # snapshot too old
    4225: UNAVAILABLE,  # the location of the leader is not known
    4688: ELSEWHERE,  # a standby is read-only
    4013: RESOURCE,
    4030: RESOURCE,
    4039: RESOURCE,  # throttled
    6330: RESOURCE,  # the disk is almost full
    4064: LOST,  # session killed
    8001: LOST,
    8002: LOST,
    8003: LOST,
    8004: LOST,
}

_SNAPSHOT = "snapshot-isolation"
_LEVELS = {
    "read committed": Level(
        "read committed", "read-committed", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    ),
    "repeatable read": Level("repeatable read", _SNAPSHOT, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
    # Documented as snapshot isolation: write skew commits.
    "serializable": Level("serializable", _SNAPSHOT, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
}


class OceanBase:
    """The engine. Read uncommitted is not among its levels: a server takes it silently and runs something else."""

    name = "oceanbase"
    wire = "mysql"
    title = "OceanBase"
    default_level = "read committed"
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
        return await connect(address, LOAD, self.name, level, run_id, ASK_OCEANBASE)

    def control(self, address: Address, run_id: str) -> Control:
        """Open the control connection."""
        from loadgen.engines.mysql_control import MysqlControl
        from loadgen.engines.mysql_dialects import OCEANBASE

        return MysqlControl(address, run_id, OCEANBASE)


LOAD = Profile(
    {
        **OF_OCEANBASE,
        # In the engine's microseconds.
        "ob_query_timeout": STATEMENT_TIMEOUT_S * _US,
        "ob_trx_lock_timeout": LOCK_TIMEOUT_S * _US,
        "ob_trx_timeout": TRANSACTION_TIMEOUT_S * _US,
        "ob_trx_idle_timeout": TRANSACTION_TIMEOUT_S * _US,
        "max_execution_time": 0,
    }
)
"""A load session."""
ENGINE = OceanBase()
