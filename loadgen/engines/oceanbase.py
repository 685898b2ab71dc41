"""OceanBase in MySQL mode: an OceanBase cluster, or seekdb, the single-node edition of the same engine."""

from loadgen.databases.oceanbase import DATABASE
from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, ErrorRule
from loadgen.engines.mysql_engine import MysqlEngine
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
    ErrorRules,
)
from loadgen.engines.mysql_settings import OF_OCEANBASE, Profile
from loadgen.engines.mysql_writable import ASK_OCEANBASE

TRANSACTION_TIMEOUT_S = 6 * STATEMENT_TIMEOUT_S
"""How long a whole transaction may take, and how long one whose client is gone may keep its locks."""
_US = 1_000_000

RULES: ErrorRules = {
    **COMMON,
    # The conflict of snapshot isolation. The transaction stays open: rolling back is up to the client.
    6235: REFUSED_CONFLICT,
    # 6002 stands for several internal errors, told apart by SQLSTATE: 40000 says that the transaction was rolled back,
    # 25000 that it was killed or timed out, HY000 that its context is gone, which after a change of leader may mean
    # that it was committed before. So only the first is a clear answer to COMMIT.
    (6002, "40000"): ErrorRule("conflict", retry=True, refusal=True),
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


class OceanBase(MysqlEngine):
    """The engine."""

    identity = "oceanbase"
    rules = RULES
    ask_writable = ASK_OCEANBASE
    control_dialect = "loadgen.engines.mysql_dialects:OCEANBASE"

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        return LOAD


ENGINE = OceanBase(DATABASE)
