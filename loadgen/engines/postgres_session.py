"""The settings of a PostgreSQL session: set by statement, then read back.

Poolers silently drop or override settings in the start-up packet. So each one is set by a statement of the session. A
reload of the server's files then cannot change it during the run, and a later transaction of the same session reads the
values back.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from loadgen.engines.engine import LOCK_TIMEOUT_S, META_TABLE, SCHEMA, STATEMENT_TIMEOUT_S, Level
from loadgen.errors import ClusterError, SessionRefused

T = TypeVar("T")

IDLE_IN_TRANSACTION_S = 10
"""How long a transaction of ours may wait for us: a load process that is stopped must not hold its locks for ever."""
CONTROL_LOCK_WAIT_S = 5
POOL_WAIT_S = 3.0
"""How long a session may wait for an answer while another one has a transaction open, before a pool is to blame."""
_PID = "SELECT pg_catalog.pg_backend_pid()"
SHORT_TIMEOUT_TRIES = 10
_CANCELLED = "57014"
_BEGIN_TO_ASK = (
    "BEGIN; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = 0; "
    "SET LOCAL idle_in_transaction_session_timeout = '30s'"
)
"""The begin of a transaction on a session that is not set up yet: what it sets ends with it."""

_OURS = {
    # What a user of a pooled connection left in pg_temp must not stand in front of our tables.
    "search_path": f"{SCHEMA}, pg_temp",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    # A COMMIT whose wait for a standby was cut short says so in a warning, and only there.
    "client_min_messages": "warning",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "gin_fuzzy_search_limit": "0",
    "exit_on_error": "off",
    # It would compile plans of single rows.
    "jit": "off",
    "session_replication_role": "origin",
}
"""What every session of ours needs. A server that does not have one of these settings goes without."""
_PRIVILEGED = "session_replication_role"
"""Only superusers may set it, so it is left alone where it is right."""
_CONTROL = {
    **_OURS,
    # It names its schema wherever it uses it. With pg_temp in the path, and without our schema, a look at the path
    # alone would make a schema for temporary tables.
    "search_path": SCHEMA,
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": f"{CONTROL_LOCK_WAIT_S}s",
    "idle_in_transaction_session_timeout": "0",
    # Where a policy would hide rows, reading them is an error.
    "row_security": "off",
}
_TOLD = ("synchronous_commit", "TimeZone", "default_table_access_method", "default_tablespace", "row_security")
"""Settings that are the user's to choose: plan.json says what they were."""


def load_settings(level: Level) -> dict[str, str]:
    """The settings of a session of the load, at ``level``, with the timeouts that every engine gets."""
    return {
        **_OURS,
        "default_transaction_isolation": level.name,
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": f"{LOCK_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
        "row_security": "on",
    }


def control_settings() -> dict[str, str]:
    """The settings of a control connection: nothing that it does may run into a limit meant for others."""
    return dict(_CONTROL)


async def set_up(
    connection: Any, settings: Mapping[str, str], run_id: str = "", *, reader: bool = False
) -> dict[str, str]:
    """Make asyncpg's ``connection`` what ``settings`` say, and verify it; what it says of itself, by name.

    With a ``run_id`` the tables in our schema must be that run's. ``reader``: it may be read-only, on a standby. Raises
    SessionRefused, or the driver's errors.
    """
    await _outlast(connection, f"SET statement_timeout = '{settings['statement_timeout']}'")
    await connection.execute(_set_all(settings))
    row = await connection.fetchrow(_ask(with_run=bool(run_id)), list(settings), list(settings.values()), list(_TOLD))
    said = {name: str(value) for name, value in row.items() if value is not None}
    differs, other_run, recovering = said.pop("differs", ""), said.pop("run", ""), said["standby"] == "True"
    if differs:
        raise SessionRefused(
            f"a setting of this session did not take effect ({differs}): something between here and PostgreSQL "
            "changes it, such as a pooler in transaction or statement mode; use session mode, or connect "
            "directly"
        )
    level = settings["default_transaction_isolation"]
    if said["isolation"] != level:
        raise SessionRefused(f"a transaction runs at {said['isolation']!r}, not at {level!r} as was set")
    if run_id and said.get("schema") != SCHEMA:
        raise SessionRefused(f"names are looked up in schema {said.get('schema')!r}, and not in {SCHEMA!r} as was set")
    if said["read_only"] == "on" and not reader:
        what = "a standby" if recovering else "read-only, though it was set to take writes"
        raise SessionRefused(f"this session is {what}: name the primary in the DSN")
    if run_id and other_run != run_id:
        raise SessionRefused(
            f"the tables in schema {SCHEMA} are not this run's any more (they are of {other_run or 'no run'})"
        )
    said["pooled"] = str(connection.get_server_pid() != int(said["pid"])).lower()
    return said


async def pooled(connection: Any) -> bool:
    """Whether a pooler with its own connections is between loadgen and the server.

    A server reports its process at the start-up, for cancelling. Most poolers report a number of their own.
    """
    return bool(await _server_process(connection) != connection.get_server_pid())


async def refuse_transaction_pool(connection: Any, other: Any, place: str) -> None:
    """Raise ClusterError if one server connection serves several of ours, ``other`` and ``connection``, in turn.

    Nothing is set: in such a pool whoever comes next would get our settings. While ``other`` has a transaction open it
    has a server's connection to itself, whatever lies between. In a pool of transactions that one is then either the
    one that ``connection`` was given before, or not the last in its queue.
    """
    pids = [await _server_process(connection) for _ in range(2)]
    await _within(_outlast(other, _BEGIN_TO_ASK))
    shared = await _within(other.fetchval(_PID)) in pids
    if not shared:
        try:
            pids.append(await _server_process(connection))
        except TimeoutError:
            shared = True
    await _within(other.execute("ROLLBACK"))
    if not shared:
        pids += [await _server_process(connection) for _ in range(2)]
    if shared or len(set(pids)) > 1:
        raise ClusterError(pools_transactions(place))


async def _server_process(connection: Any) -> int:
    """The server's process behind ``connection``, with any time-outs of its session."""
    await _within(_outlast(connection, _BEGIN_TO_ASK))
    pid = int(await _within(connection.fetchval(_PID)))
    await _within(connection.execute("ROLLBACK"))
    return pid


def refuse_pgpool(settings: Mapping[str, str], nodes: int, place: str) -> None:
    """Raise ClusterError where Pgpool, with these settings and so many servers, does more than hand connections on."""
    if settings.get("memory_cache_enabled") == "on":
        raise ClusterError(
            f"Pgpool at {place} answers reads out of a cache of its own (memory_cache_enabled = on): what it says is "
            "not what the database has; switch that off, or connect to PostgreSQL directly"
        )
    if nodes > 1 and settings.get("load_balance_mode") != "off":
        raise ClusterError(
            f"Pgpool at {place} sends reads to any of {nodes} servers (load_balance_mode = on), also inside a "
            "transaction: switch that off, or connect to the primary directly; --read-from replica reads from replicas"
        )
    mode = settings.get("backend_clustering_mode", "")
    if nodes > 1 and mode in ("native_replication", "snapshot_isolation"):
        raise ClusterError(
            f"Pgpool at {place} runs each write on {nodes} servers by itself (backend_clustering_mode = {mode}): that "
            "was never tried; connect to a PostgreSQL directly"
        )


def pool_too_small(place: str) -> str:
    """The refusal of a pool that has no second connection for us."""
    return (
        f"the pooler at {place} gave a second session no connection within {POOL_WAIT_S:g} s: its pool is too small "
        "for a run (PgBouncer: default_pool_size, max_db_connections)"
    )


def pools_transactions(place: str) -> str:
    """The refusal of a pool of transactions or statements."""
    return (
        f"a pooler at {place} lends one connection to several sessions, transaction by transaction: no setting and no "
        "prepared statement of a session holds there; use its session mode (PgBouncer: pool_mode = session), or "
        "connect to PostgreSQL directly"
    )


def refusal_of(facts: Any) -> str:
    """Why a session was refused whose setting up met the server's error ``facts``; empty where it may come right."""
    said = " ".join(facts.message.split())
    if facts.sqlstate in ("42P01", "3F000"):
        return f"the tables of this run are gone from schema {SCHEMA} ({said})"
    if facts.sqlstate[:2] in ("0A", "22", "42"):
        return f"this user's session can't be made what the run needs: {said}"
    return ""


async def _outlast(connection: Any, sql: str) -> None:
    """Run ``sql``, which puts off a statement timeout: again where that was too short for this, on a busy machine.

    The timeout of a message holds for all its statements, so that nothing that takes long may travel with it.
    """
    for tries_left in reversed(range(SHORT_TIMEOUT_TRIES)):
        try:
            await connection.execute(sql)
        except Exception as error:
            if getattr(error, "sqlstate", "") != _CANCELLED or not tries_left:
                raise
            await connection.execute("ROLLBACK")
        else:
            return


async def _within(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, POOL_WAIT_S)


def _set_all(settings: Mapping[str, str]) -> str:
    values = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    return (
        f"SELECT pg_catalog.set_config(name, value, false) FROM (VALUES {values}) AS wanted (name, value) "
        "WHERE pg_catalog.current_setting(name, true) IS NOT NULL "
        f"AND (name <> '{_PRIVILEGED}' OR pg_catalog.current_setting(name) <> value)"
    )


def _ask(*, with_run: bool) -> str:
    run = f"(SELECT string_agg(DISTINCT run_id, ', ') FROM {SCHEMA}.{META_TABLE})" if with_run else "NULL::text"
    return f"""
SELECT pg_catalog.current_setting('server_version') AS version, pg_catalog.current_database() AS database,
    pg_catalog.current_schema() AS schema, session_user AS session_user, current_user AS current_user,
    pg_catalog.current_setting('transaction_isolation') AS isolation,
    pg_catalog.current_setting('transaction_read_only') AS read_only,
    pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.pg_backend_pid() AS pid,
    (SELECT backend_start::text FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())) AS began,
    (SELECT string_agg(name || ' is ' || pg_catalog.current_setting(name), ', ')
     FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
     WHERE pg_catalog.current_setting(name, true) <> value) AS differs,
    (SELECT string_agg(name || '=' || pg_catalog.current_setting(name, true), ', ')
     FROM unnest($3::text[]) AS told (name)) AS settings,
    {run} AS run"""
