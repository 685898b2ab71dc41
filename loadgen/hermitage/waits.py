"""How each server is asked who waits for whom: statements whose rows are the waiting session and the one it waits for.

The second column is NULL where the server knows only that a session waits. Where an engine has several, the first one
that the server takes is used: they differ between its editions.
"""

from collections.abc import Mapping

from loadgen.workload import Statement

SESSION_ID = Statement("SELECT pg_backend_pid()", mysql="SELECT CONNECTION_ID()")
"""What a session is called in the answers."""

WAITS: Mapping[str, tuple[Statement, ...]] = {
    "postgres": (
        Statement(
            "SELECT a.pid, b.pid FROM pg_stat_activity a, unnest(pg_blocking_pids(a.pid)) AS b (pid) "
            "WHERE a.wait_event_type = 'Lock'"
        ),
    ),
    "mysql": (
        Statement(
            "SELECT w.PROCESSLIST_ID, b.PROCESSLIST_ID FROM performance_schema.data_lock_waits l "
            "JOIN performance_schema.threads w ON w.THREAD_ID = l.REQUESTING_THREAD_ID "
            "JOIN performance_schema.threads b ON b.THREAD_ID = l.BLOCKING_THREAD_ID"
        ),
    ),
    # Every request of a lock is a LockWaiting for a moment. data_lock_waits tells the real ones, but is always empty on
    # unistore: there, one that has gone on for a tenth of a second by the server's clock is taken for one.
    "tidb": (
        Statement(
            "SELECT w.SESSION_ID, b.SESSION_ID FROM information_schema.tidb_trx w "
            "LEFT JOIN information_schema.data_lock_waits l ON l.TRX_ID = w.ID "
            "LEFT JOIN information_schema.tidb_trx b ON b.ID = l.CURRENT_HOLDING_TRX_ID "
            "WHERE w.STATE = 'LockWaiting' "
            "AND (b.SESSION_ID IS NOT NULL OR w.WAITING_START_TIME < NOW(6) - INTERVAL 100000 MICROSECOND)"
        ),
    ),
    "oceanbase": (
        # seekdb, and the sys tenant of a cluster.
        Statement("SELECT session_id, holder_session_id FROM oceanbase.__all_virtual_lock_wait_stat"),
        # Any tenant of a cluster.
        Statement(
            "SELECT p.SESSION_ID, NULL FROM oceanbase.GV$OB_LOCKS l "
            "JOIN oceanbase.GV$OB_TRANSACTION_PARTICIPANTS p ON p.TX_ID = l.TRANS_ID WHERE l.BLOCK = 1"
        ),
    ),
}
