"""OceanBase in MySQL mode: an OceanBase cluster, or seekdb, the single-node edition of the same engine."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from loadgen.databases.oceanbase import DATABASE
from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, ErrorRule
from loadgen.engines.mysql_dialect import BUSY, HERE, LOCK_WAIT_S, Dialect, Query, Server, busy, ids, version_of
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
from loadgen.engines.mysql_settings import FOREVER_S, Profile, Values
from loadgen.errors import ClusterError

TRANSACTION_TIMEOUT_S = 6 * STATEMENT_TIMEOUT_S
"""How long a whole transaction may take, and how long one whose client is gone may keep its locks."""
_US = 1_000_000

_ALWAYS: Values = {"ob_read_consistency": "STRONG", "ob_max_read_stale_time": -1, "recyclebin": 0}
"""What every session of ours sets."""
_SEEKDB_WARNING = "seekdb is OceanBase's single-node edition: one copy of the data, and no figure of a cluster"
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
        **_ALWAYS,
        # In the engine's microseconds.
        "ob_query_timeout": STATEMENT_TIMEOUT_S * _US,
        "ob_trx_lock_timeout": LOCK_TIMEOUT_S * _US,
        "ob_trx_timeout": TRANSACTION_TIMEOUT_S * _US,
        "ob_trx_idle_timeout": TRANSACTION_TIMEOUT_S * _US,
        "max_execution_time": 0,
    }
)
"""A load session."""


def look_at_oceanbase(query: Query) -> Server:
    """An OceanBase server: the edition and version out of ``5.7.25-OceanBase_CE-v4.2.5.3`` and its like."""
    version = version_of(query, "oceanbase")[0]
    number = match[1] if (match := re.search(r"-v(\d[\d.]*)", version)) else version
    parameters = _parameters(query, ("log_disk_size", "memory_limit", "memory_budget", "cpu_count", "datafile_size"))
    if "seekdb" in version.lower():
        durability = {"commit_log": "flushed before each acknowledgement, to one copy", **parameters}
        return Server(number, "seekdb", durability, (_SEEKDB_WARNING,))
    durability = {"commit_log": "flushed by a majority of the replicas before each acknowledgement", **parameters}
    return Server(number, "oceanbase-ce" if "_CE" in version else "oceanbase", durability)


def open_in_oceanbase(query: Query, tables: Sequence[str]) -> list[int]:  # noqa: ARG001
    """Sessions in our database that hold a transaction open; the busy ones for a user who may not see that."""
    for view in ("GV$OB_PROCESSLIST", "V$OB_PROCESSLIST"):
        with suppress(ClusterError):
            return ids(query(f"SELECT id FROM oceanbase.{view} WHERE {HERE} AND (trans_id <> 0 OR {BUSY})"))
    return busy(query)


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


DIALECT = Dialect(
    # A standby refuses to lock (4688). What its views say of its role is stale for a while after a change of it.
    ask_writable="SELECT 0 FROM dual FOR UPDATE",
    name="oceanbase",
    title="OceanBase",
    look=look_at_oceanbase,
    profile=Profile(
        {
            **_ALWAYS,
            "ob_query_timeout": FOREVER_S * 1_000_000,
            "ob_trx_timeout": FOREVER_S * 1_000_000,
            "ob_trx_idle_timeout": FOREVER_S * 1_000_000,
            "ob_trx_lock_timeout": LOCK_WAIT_S * 1_000_000,
            "max_execution_time": 0,
        }
    ),
    open_sessions=open_in_oceanbase,
)
"""The control connection, and what it asks."""


class OceanBase(MysqlEngine):
    """The engine."""

    rules = RULES
    dialect = DIALECT

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        return LOAD


ENGINE = OceanBase(DATABASE)
