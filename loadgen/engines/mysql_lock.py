"""The run's lock on the MySQL wire: one row, with the run and the server's time of its last beat.

No connection has to stay open for it, and no transaction: each step is one independent statement, so the lock works
through a pooler and across a lost connection.
"""

import time
from collections.abc import Callable

from loadgen.engines.engine import FRESH_S, LOCK_TABLE, SCHEMA
from loadgen.engines.mysql_dialect import Query
from loadgen.engines.mysql_refusals import NOT_THERE, errno_of
from loadgen.errors import ClusterError, LockLost

TAKE_LIMIT_S = FRESH_S + 10.0
"""How long a run waits for another one's row to go stale, and for open transactions to end, before it is refused."""
POLL_S = 0.5
LOCK_COLUMNS = "id INT NOT NULL PRIMARY KEY, run VARCHAR(128) NOT NULL, beaten_at DATETIME(6) NOT NULL"
_LOCK = f"{SCHEMA}.{LOCK_TABLE}"
_NOW = "UTC_TIMESTAMP(6)"


def take(query: Query, run_id: str, where: str, open_sessions: Callable[[], int]) -> None:
    """Take the lock for ``run_id``, once the row there is stale and no session is open. Raises ClusterError."""
    deadline = time.monotonic() + TAKE_LIMIT_S
    first: tuple[str, str] | None = None
    while (holder := _holder(query, run_id))[0] != run_id:
        first = first or holder
        if holder != first or time.monotonic() > deadline:
            raise ClusterError(
                f"another run is using {where} at this time ({holder[0]} holds its lock): wait until it ends, "
                "or stop it"
            )
        time.sleep(POLL_S)
    while left := open_sessions():
        if time.monotonic() > deadline:
            give_back(query, run_id)
            raise ClusterError(
                f"{left} transactions are open on the tables of an earlier run in the database {SCHEMA!r} of "
                f"{where}: end them, or wait until they end; nothing was changed"
            )
        beat(query, run_id)
        time.sleep(POLL_S)


def beat(query: Query, run_id: str) -> None:
    """Renew the row of ``run_id``. Raises LockLost, or ClusterError if its state is unknown."""
    try:
        query(f"UPDATE {_LOCK} SET beaten_at = {_NOW} WHERE run = '{run_id}'")
        holders = [str(run) for (run,) in query(f"SELECT run FROM {_LOCK}")]
    except ClusterError as error:
        if errno_of(error.__cause__) in NOT_THERE:
            raise LockLost(
                "the run's lock was removed from the server during the run, together with its table"
            ) from None
        raise
    if run_id not in holders:
        taken = f"was taken by another run, {holders[0]}" if holders else ("was removed from the server during the run")
        raise LockLost(f"the run's lock {taken}")


def give_back(query: Query, run_id: str) -> None:
    """Remove the row of ``run_id``, if there is one."""
    try:
        query(f"DELETE FROM {_LOCK} WHERE run = '{run_id}'")
    except ClusterError as error:
        if errno_of(error.__cause__) not in NOT_THERE:
            raise


def _holder(query: Query, run_id: str) -> tuple[str, str]:
    """Whose the lock is after a try to take it, and that one's last beat."""
    stale = f"beaten_at <= {_NOW} - INTERVAL {FRESH_S} SECOND"
    query(f"INSERT IGNORE INTO {_LOCK} (id, run, beaten_at) VALUES (1, '', '1971-01-01 00:00:00')")
    query(f"UPDATE {_LOCK} SET run = '{run_id}', beaten_at = {_NOW} WHERE id = 1 AND (run = '{run_id}' OR {stale})")
    rows = query(f"SELECT run, beaten_at FROM {_LOCK} WHERE id = 1")
    return (str(rows[0][0]), str(rows[0][1])) if rows else ("", "")
