"""PostgreSQL's control plane: what the server is, the lock, our schema made anew, and the final reads."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from loadgen.engines.engine import (
    CONNECT_TIMEOUT_S,
    FRESH_S,
    LOCK_TABLE,
    META_TABLE,
    PROOF_LIMIT_S,
    SCHEMA,
    Address,
    FinalReads,
)
from loadgen.engines.network import NameLookupError, TlsError
from loadgen.engines.postgres_copy import read_table, read_table_as_text
from loadgen.engines.postgres_driver import CONTROL_NAME, DRIVER_ERRORS, LOAD_NAME, error_facts, open_connection
from loadgen.errors import ClusterError, LockLost
from loadgen.workload import Table

T = TypeVar("T")

CONTROL_LIMIT_S = 60.0
"""How long one step of the control plane may take."""
READ_LIMIT_S = 600.0
"""How long the final reads may take: millions of rows."""
LOCK_WAIT_S = 5
BEAT_LIMIT_S = 5.0
"""How long one beat may take; the next one tries again, on another connection."""
LOCK_KEY = int.from_bytes(b"loadgen")
"""The advisory lock of a transaction that takes a run's lock: two that make the schema at once would meet."""
POLL_S = 0.5
TAKE_LIMIT_S = FRESH_S + 10.0
"""How long a run waits for another one's row to go stale, and for open transactions to end, before it is refused."""
DURABILITY = (
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_level",
    "wal_sync_method",
    "commit_delay",
    "checkpoint_timeout",
    "max_wal_size",
    "shared_buffers",
    "data_checksums",
)

_NOT_THERE = {"42P01", "3F000"}
"""There is no such table, or no such schema."""
_OF_THE_TABLE = {"22", "42"}
"""Classes of SQLSTATE that tell of the table or its values, and not of the server."""

_CONNECTIONS_FREE = """
SELECT least(
    current_setting('max_connections')::int
    - CASE WHEN usesuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) END
    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT CASE WHEN datconnlimit < 0 THEN 1000000 ELSE datconnlimit
            - (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = d.datname) END
     FROM pg_database d WHERE d.datname = current_database()),
    (SELECT CASE WHEN rolconnlimit < 0 THEN 1000000 ELSE rolconnlimit
            - (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = rolname) END
     FROM pg_roles WHERE rolname = current_user))
FROM pg_user WHERE usename = current_user"""
_OPEN = f"""
SELECT count(DISTINCT pid) FROM (
    SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = '{SCHEMA}' AND c.relname <> '{LOCK_TABLE}' AND c.relkind = 'r'
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                       'AccessExclusiveLock')
    UNION ALL
    SELECT pid FROM pg_stat_activity
    WHERE application_name LIKE '{LOAD_NAME}%' AND datname = current_database()
        AND state IN ('active', 'idle in transaction', 'idle in transaction (aborted)', 'fastpath function call')
) open WHERE pid IS DISTINCT FROM pg_backend_pid()"""
"""Who writes, or may: whoever has locked rows of ours, which everybody may see, and the load's open transactions."""
_RELATIONS = """
SELECT c.relname, c.relkind = 'r' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY 1"""


class _Holder(NamedTuple):
    """Whose the lock is: the run, its last beat, and whether that is fresh."""

    run_id: str
    beaten: Any
    fresh: bool


class PostgresControl:
    """The control connection. It has an event loop of its own, which runs only while a method does."""

    def __init__(self, address: Address, run_id: str) -> None:
        self._address = address
        self._run_id = run_id
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None
        settings = {"lock_timeout": f"{LOCK_WAIT_S}s", "statement_timeout": "0", "search_path": SCHEMA}
        try:
            opened = open_connection(address, CONTROL_NAME, settings)
            self._connection = self._loop.run_until_complete(opened)
        except (*DRIVER_ERRORS, ValueError) as error:
            self._loop.close()
            raise ClusterError(_refusal(address, error)) from None

    def facts(self) -> dict[str, Any]:
        """``version``, ``edition``, ``durability``, ``connections_free`` and ``warnings``."""
        return self._run(self._facts())

    def lock(self) -> None:
        """Write this run's row. Raises ClusterError if another run is alive, or the schema holds what is not ours."""
        self._take(time.monotonic() + TAKE_LIMIT_S)
        deadline = time.monotonic() + TAKE_LIMIT_S
        while left := self.sessions():
            if time.monotonic() > deadline:
                self.unlock()
                raise ClusterError(
                    f"{left} transactions are open on the tables of an earlier run in schema {SCHEMA} "
                    f"({_place(self._address)}): end them, or wait for their end; nothing was touched"
                )
            self.beat()
            time.sleep(POLL_S)

    def _take(self, deadline: float) -> None:
        first: _Holder | None = None
        while (holder := self._run(self._try_lock())) is not None:
            first = first or holder
            if holder[:2] != first[:2] or time.monotonic() > deadline:
                raise ClusterError(
                    f"another run is using this database ({_place(self._address)}): {holder.run_id} holds its lock; "
                    "let it end, or use another database"
                )
            time.sleep(POLL_S)

    def beat(self) -> None:
        """Renew this run's row."""
        renew = f"UPDATE {SCHEMA}.{LOCK_TABLE} SET beaten_at = clock_timestamp() WHERE run_id = $1"
        try:
            done = self._run(self._connection.execute(renew, self._run_id), BEAT_LIMIT_S)
        except ClusterError as error:
            if error.__cause__ is not None and error_facts(error.__cause__).sqlstate in ("42P01", "3F000"):
                raise LockLost("the run's lock was removed from the server in mid-run, with its table") from None
            raise
        if done == "UPDATE 0":
            rows = self.query(f"SELECT run_id FROM {SCHEMA}.{LOCK_TABLE}")
            taken = f"was taken by another run, {rows[0][0]}" if rows else "was removed from the server in mid-run"
            raise LockLost(f"the run's lock {taken}")

    def unlock(self) -> None:
        """Remove this run's row, if there is one."""
        if self.query(f"SELECT to_regclass('{SCHEMA}.{LOCK_TABLE}')")[0][0] is not None:
            self._run(self._connection.execute(f"DELETE FROM {SCHEMA}.{LOCK_TABLE} WHERE run_id = $1", self._run_id))

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make our schema anew, in one transaction: what is not ours is found before anything is touched."""
        self._run(self._prepare(tables))

    def sessions(self) -> int:
        """How many sessions have a transaction open on our tables, or are the load's and in a transaction."""
        return int(self.query(_OPEN)[0][0])

    def end_sessions(self) -> None:
        """Terminate the load's sessions that are in a transaction. One of another user stays, and is waited for."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            f"AND application_name LIKE '{LOAD_NAME}%' AND usename = session_user AND state <> 'idle'"
        )

    def read_only(self) -> bool:
        """Whether it is a standby."""
        return bool(self.query("SELECT pg_is_in_recovery()")[0][0])

    def prove_writable(self) -> None:
        """Commit a write, which a primary without its synchronous standbys can't."""
        proof = f"UPDATE {SCHEMA}.{META_TABLE} SET run_id = run_id WHERE name = '{META_TABLE}'"
        self._run(self._connection.execute(proof), PROOF_LIMIT_S)

    def final_reads(self, tables: Sequence[Table]) -> FinalReads:
        """All tables that are there, as one snapshot has them."""
        return self._run(self._final_reads(tables), READ_LIMIT_S)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement by itself."""
        return [tuple(row) for row in self._run(self._connection.fetch(sql))]

    def close(self) -> None:
        """Close the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*DRIVER_ERRORS):
                self._loop.run_until_complete(connection.close(timeout=CONNECT_TIMEOUT_S))
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T], within_s: float = CONTROL_LIMIT_S) -> T:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(work, within_s))
        except DRIVER_ERRORS as error:
            facts = error_facts(error)
            what = facts.message or f"no answer within {within_s:g} s"
            raise ClusterError(f"PostgreSQL at {_place(self._address)}: {' '.join(what.split())}") from error

    async def _facts(self) -> dict[str, Any]:
        fetch = self._connection.fetchval
        banner = str(await fetch("SELECT version()"))
        if await fetch("SELECT pg_is_in_recovery()"):
            raise ClusterError(f"PostgreSQL at {_place(self._address)} is a standby: name the primary in the DSN")
        rows = await self._connection.fetch(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1)", list(DURABILITY)
        )
        durability = dict(map(tuple, rows))
        return {
            "version": str(await fetch("SELECT current_setting('server_version')")),
            "edition": "postgresql" if banner.startswith("PostgreSQL") and "-YB-" not in banner else banner.split()[0],
            "durability": durability,
            "connections_free": int(await fetch(_CONNECTIONS_FREE)),
            "warnings": _warnings(durability),
        }

    async def _prepare(self, tables: Sequence[Table]) -> None:
        connection = self._connection
        async with connection.transaction():
            for name in await self._ours():
                if name != LOCK_TABLE:
                    await self._as_owner(f'DROP TABLE {SCHEMA}."{name}"')
            await self._as_owner(f"CREATE TABLE {SCHEMA}.{META_TABLE} (name text PRIMARY KEY, run_id text NOT NULL)")
            marks = [(table.name, self._run_id) for table in tables] + [
                (META_TABLE, self._run_id),
                (LOCK_TABLE, self._run_id),
            ]
            await connection.copy_records_to_table(META_TABLE, schema_name=SCHEMA, records=marks)
            for table in tables:
                await connection.execute(table.create)
                if table.rows:
                    await connection.copy_records_to_table(table.name, schema_name=SCHEMA, records=table.rows)
        for table in tables:
            # The planner's figures and the visibility map, now rather than by autovacuum in mid-run.
            await connection.execute(f'VACUUM (ANALYZE) {SCHEMA}."{table.name}"')

    async def _try_lock(self) -> _Holder | None:
        """Take the lock unless another run's row is fresh: whose it is then."""
        connection, lock = self._connection, f"{SCHEMA}.{LOCK_TABLE}"
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
            if LOCK_TABLE not in await self._ours():
                meta = f"{SCHEMA}.{META_TABLE}"
                await self._as_owner(f"CREATE TABLE IF NOT EXISTS {meta} (name text PRIMARY KEY, run_id text NOT NULL)")
                await self._as_owner(f"CREATE TABLE {lock} (run_id text NOT NULL, beaten_at timestamptz NOT NULL)")
                mark = f"INSERT INTO {meta} VALUES ($1, $2), ($3, $2) ON CONFLICT (name) DO NOTHING"
                await connection.execute(mark, LOCK_TABLE, self._run_id, META_TABLE)
            rows = await connection.fetch(
                f"SELECT run_id, beaten_at, beaten_at > clock_timestamp() - interval '{FRESH_S} s' FROM {lock}"
            )
            holders = [_Holder(*row) for row in rows]
            for holder in holders:
                if holder.fresh and holder.run_id != self._run_id:
                    return holder
            await connection.execute(f"DELETE FROM {lock}")
            await connection.execute(f"INSERT INTO {lock} VALUES ($1, clock_timestamp())", self._run_id)
        return None

    async def _ours(self) -> list[str]:
        """The tables of an earlier run, in a schema that holds nothing else; makes the schema if there is none."""
        connection = self._connection
        if not await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", SCHEMA):
            await self._as_owner(f"CREATE SCHEMA {SCHEMA}")
            return []
        found = {str(name): bool(is_table) for name, is_table in await connection.fetch(_RELATIONS, SCHEMA)}
        if not found:
            return []
        where = f"schema {SCHEMA} of database {self._address.database}"
        if not found.get(META_TABLE):
            raise ClusterError(
                f"{where} holds {_some(found)}, and no {META_TABLE} marks it as ours: nothing was touched; "
                "use another database, or rename that schema"
            )
        marked = await connection.fetch(f"SELECT name FROM {SCHEMA}.{META_TABLE}")
        ours = {str(row[0]) for row in marked} | {META_TABLE}
        foreign = [name for name, is_table in found.items() if name not in ours or not is_table]
        if foreign:
            raise ClusterError(
                f"{where} holds {_some(foreign)}, which {META_TABLE} does not list as ours: nothing was touched; "
                "move it out of that schema"
            )
        return list(found)

    async def _as_owner(self, sql: str) -> None:
        try:
            await self._connection.execute(sql)
        except DRIVER_ERRORS as error:
            if error_facts(error).sqlstate != "42501":
                raise
            user, database = self._address.user, self._address.database
            grant = (
                f'GRANT CREATE ON DATABASE "{database}" TO "{user}"'
                if sql.startswith("CREATE SCHEMA")
                else f'ALTER SCHEMA {SCHEMA} OWNER TO "{user}", and of the tables in it too'
                if sql.startswith("DROP")
                else f'GRANT ALL ON SCHEMA {SCHEMA} TO "{user}"'
            )
            raise ClusterError(
                f"user {user} has no right to work in schema {SCHEMA} of database {database} "
                f"({' '.join(error_facts(error).message.split())}): as its owner run {grant}"
            ) from None

    async def _final_reads(self, tables: Sequence[Table]) -> FinalReads:
        found = FinalReads()
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            for table in tables:
                await self._final_read(table, found)
        return found

    async def _final_read(self, table: Table, found: FinalReads) -> None:
        """Read ``table`` into ``found``, each try behind a savepoint: what is wrong with one table spoils no other."""
        for read in (read_table, read_table_as_text):
            try:
                async with self._connection.transaction():
                    found[table.name] = await read(self._connection, table)
                    return
            except ClusterError as error:
                reason = str(error)
            except DRIVER_ERRORS as error:
                facts = error_facts(error)
                reason = " ".join(facts.message.split())
                if facts.sqlstate in _NOT_THERE:
                    found.gone[table.name] = reason
                    return
                if facts.sqlstate[:2] not in _OF_THE_TABLE:
                    raise
        found.unread[table.name] = reason


def _warnings(durability: dict[str, str]) -> list[str]:
    warnings = []
    if durability.get("fsync") == "off":
        warnings.append("fsync is off: a crash can lose or corrupt acknowledged orders, and commits cost less")
    if durability.get("full_page_writes") == "off":
        warnings.append("full_page_writes is off: a crash of the host can corrupt the data")
    if durability.get("synchronous_commit") == "off":
        warnings.append("synchronous_commit is off: a crash loses the orders acknowledged in the last moments")
    return warnings


def _refusal(address: Address, error: BaseException) -> str:
    """Why a connection was refused, in one line, with what to do. Never the password: no server tells it back."""
    facts = error_facts(error)
    place, user = _place(address), address.user
    said = " ".join(facts.message.split())
    known = {
        "28P01": f"PostgreSQL at {place} refused user {user}'s password: set it in the DSN, PGPASSWORD or ~/.pgpass",
        "28000": f"PostgreSQL at {place} does not let user {user} in ({said}): check the user and pg_hba.conf",
        "3D000": f"there is no database {address.database} at {place}: create it, or name another in the DSN",
        "53300": f"PostgreSQL at {place} has no connection left ({said}): raise max_connections, or close others",
        "57P03": f"PostgreSQL at {place} is not ready ({said}): wait until it is",
    }
    if facts.sqlstate in known:
        return known[facts.sqlstate]
    if isinstance(error, TimeoutError):
        return f"PostgreSQL at {place} did not answer within {CONNECT_TIMEOUT_S} s: check host, port and firewall"
    if isinstance(error, NameLookupError | TlsError):
        return f"cannot connect to PostgreSQL at {place}: {said}"
    if isinstance(error, OSError):
        return f"cannot reach PostgreSQL at {place}: {said}; check that it runs there, and the DSN's host and port"
    return f"cannot connect to PostgreSQL at {place}: {said}; check the DSN and its parameters"


def _place(address: Address) -> str:
    if address.socket:
        return f"{address.socket} (unix socket)"
    return address.host if "," in address.host else f"{address.host}:{address.port}"


def _some(names: Sequence[str] | dict[str, bool]) -> str:
    known = list(names)
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
