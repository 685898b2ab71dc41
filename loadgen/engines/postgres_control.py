"""PostgreSQL's control plane: the server's identity, the lock, the schema and the final reads."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from loadgen.engines import postgres_schema
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
from loadgen.engines.identity import ASK_POSTGRES_MARKERS, Identity, on_postgres_wire, untried
from loadgen.engines.network import NameLookupError, TlsError
from loadgen.engines.postgres_driver import CONTROL_NAME, DRIVER_ERRORS, LOAD_NAME, error_facts, open_connection
from loadgen.engines.postgres_session import (
    POOL_WAIT_S,
    control_settings,
    pool_too_small,
    pooled,
    pools_transactions,
    refuse_pgpool,
    refuse_transaction_pool,
    set_up,
)
from loadgen.engines.postgres_wire import WireConnection
from loadgen.engines.progress import Progress, Say
from loadgen.errors import ClusterError
from loadgen.plan import Plan
from loadgen.workload import Table

T = TypeVar("T")

CONTROL_LIMIT_S = 60.0
"""How long one step of the control plane may take."""
NAME_LIMIT_S = 2.0
"""How long a server that could not be used may take to say what it is."""
PROTOCOL_VIOLATION, UNKNOWN_SETTING = "08P01", "42704"
READ_LIMIT_S = 600.0
"""How long the final reads may take: millions of rows."""
FILL_LIMIT_S = 4 * 3600.0
"""How long large tables may take to be filled and looked through; each batch has its own limit."""
ASK_LIMIT_S = 5.0
"""How long a heartbeat, or a look at the sessions, may take. After that it is repeated on another connection."""
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

_CONNECTIONS_FREE = """
WITH used AS (
    -- Of others' sessions a user without rights sees little more than their database and user.
    SELECT datname, usename FROM pg_stat_activity
    WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend')
SELECT least(
    current_setting('max_connections')::int - (SELECT count(*) FROM used)
    - CASE WHEN rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) END,
    CASE WHEN rolsuper OR datconnlimit < 0 THEN 1000000
        ELSE datconnlimit - (SELECT count(*) FROM used u WHERE u.datname = d.datname) END,
    CASE WHEN rolsuper OR rolconnlimit < 0 THEN 1000000
        ELSE rolconnlimit - (SELECT count(*) FROM used u WHERE u.usename = rolname) END)
FROM pg_roles, pg_database d WHERE rolname = session_user AND d.datname = current_database()"""
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


class PostgresControl:
    """The control connection. It has an event loop of its own, which runs only while a method does."""

    def __init__(self, address: Address, run_id: str) -> None:
        self._address = address
        self._run_id = run_id
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None
        self._verified: dict[str, str] = {}
        try:
            self._loop.run_until_complete(self._open())
        except (*DRIVER_ERRORS, ValueError) as error:
            self.close()
            raise ClusterError(_refusal(address, error)) from None
        except BaseException:
            self.close()
            raise

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
                    f"({_place(self._address)}): end them, or wait until they end; nothing was changed"
                )
            self.beat()
            time.sleep(POLL_S)

    def _take(self, deadline: float) -> None:
        first: postgres_schema.Holder | None = None
        while (
            holder := self._run(postgres_schema.try_lock(self._connection, self._address, self._run_id))
        ) is not None:
            first = first or holder
            if holder[:2] != first[:2] or time.monotonic() > deadline:
                raise ClusterError(
                    f"another run is using this database ({_place(self._address)}): {holder.run_id} holds its "
                    "lock. Wait until it ends, or use another database"
                )
            time.sleep(POLL_S)

    def beat(self) -> None:
        """Renew this run's row."""
        self._run(postgres_schema.beat(self._connection, self._run_id), ASK_LIMIT_S)

    def unlock(self) -> None:
        """Remove this run's row, if there is one."""
        self._run(postgres_schema.unlock(self._connection, self._run_id))

    def prepare(self, tables: Sequence[Table], plan: Plan | None = None, say: Say | None = None) -> dict[str, int]:
        """Create loadgen's schema again, in one transaction. Foreign tables are found before anything changes."""
        progress = Progress(say)
        work = postgres_schema.prepare(self._connection, self._address, self._run_id, tables, plan, progress)
        large = any(table.batches is not None for table in tables)
        self._run(work, FILL_LIMIT_S if large else CONTROL_LIMIT_S)
        return progress.rows

    def sessions(self) -> int:
        """How many sessions have a transaction open on our tables, or are the load's and in a transaction."""
        return int(self._run(self._connection.fetchval(_OPEN), ASK_LIMIT_S))

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
        return self._run(postgres_schema.final_reads(self._connection, self._run_id, tables), READ_LIMIT_S)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement by itself."""
        return [tuple(row) for row in self._run(self._connection.fetch(sql))]

    def close(self) -> None:
        """Close the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if self._loop.is_closed():
            return
        if connection is not None:
            with suppress(*DRIVER_ERRORS):
                self._loop.run_until_complete(self._closed(connection))
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T], within_s: float = CONTROL_LIMIT_S) -> T:
        try:
            answer = self._loop.run_until_complete(asyncio.wait_for(work, within_s))
        except DRIVER_ERRORS as error:
            facts = error_facts(error)
            what = facts.message or f"no answer within {within_s:g} s"
            if facts.lost and self._connection is not None:
                # Its answer may still come, or never: nobody waits for a farewell.
                self._connection.terminate()
            raise ClusterError(f"PostgreSQL at {_place(self._address)}: {' '.join(what.split())}") from error
        if self._connection is not None and self._connection.is_in_transaction():
            raise ClusterError(
                f"PostgreSQL at {_place(self._address)}: a transaction is open that loadgen did not begin, so "
                "the last answers are not committed"
            )
        return answer

    async def _open(self) -> None:
        self._connection = connection = await open_connection(self._address, CONTROL_NAME)
        try:
            if await self._pooled():
                await self._refuse_pool()
            self._verified = await asyncio.wait_for(
                set_up(connection, control_settings(), reader=True), CONNECT_TIMEOUT_S
            )
        except (ClusterError, *DRIVER_ERRORS) as error:
            await self._name_fork(error)
            raise

    async def _pooled(self) -> bool:
        try:
            return await pooled(self._connection)
        except DRIVER_ERRORS as error:
            if error_facts(error).sqlstate != PROTOCOL_VIOLATION:
                raise
            # PgBouncer's answer to BEGIN where it pools statements: it closes the connection.
            raise ClusterError(pools_transactions(_place(self._address))) from None

    async def _identity(self) -> Identity:
        fetch, markers = self._connection.fetch, []
        banner = str((await fetch("SELECT version()"))[0][0])
        with suppress(*DRIVER_ERRORS):
            markers = [str(row[0]) for row in await fetch(ASK_POSTGRES_MARKERS)]
        return on_postgres_wire(banner, markers)

    async def _name_fork(self, error: BaseException) -> None:
        """Raise ClusterError if the server is no PostgreSQL, which is why it answered with ``error``."""
        with suppress(*DRIVER_ERRORS):
            if fork := (await asyncio.wait_for(self._identity(), NAME_LIMIT_S)).fork:
                reason = str(error) or type(error).__name__
                raise ClusterError(f"the server says that it is {fork}, not PostgreSQL, and can't be used: {reason}")

    async def _facts(self) -> dict[str, Any]:
        fork = (await self._identity()).fork
        if not fork:
            return await self._looked_at("")
        try:
            return await self._looked_at(fork)
        except (ClusterError, *DRIVER_ERRORS) as error:
            await self._name_fork(error)
            raise

    async def _looked_at(self, fork: str) -> dict[str, Any]:
        fetch = self._connection.fetchval
        free = int(await fetch(_CONNECTIONS_FREE))  # before another one is opened, and lingers for a moment
        pooler = await self._refuse_pool()
        if await fetch("SELECT pg_is_in_recovery()"):
            raise ClusterError(f"PostgreSQL at {_place(self._address)} is a standby: name the primary in the DSN")
        rows = await self._connection.fetch(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1)", list(DURABILITY)
        )
        durability = dict(map(tuple, rows))
        return {
            "version": str(await fetch("SELECT current_setting('server_version')")),
            "edition": fork or "postgresql",
            "fork": fork,
            "durability": durability,
            "verified": {**self._verified, **pooler},
            "connections_free": free,
            "warnings": _warnings(durability) + [untried(fork, "PostgreSQL")] * bool(fork),
        }

    async def _refuse_pool(self) -> dict[str, str]:
        """The pooler before PostgreSQL, if it identifies itself. Raises ClusterError if it does too much."""
        place = _place(self._address)
        try:
            other = await open_connection(self._address, CONTROL_NAME)
        except DRIVER_ERRORS as error:
            raise ClusterError(f"no second connection could be opened: {_refusal(self._address, error)}") from None
        try:
            if pooler := await _pgpool(other, place):
                return pooler
            if other.is_closed():  # as a session that ends with its first error
                other = await open_connection(self._address, CONTROL_NAME)
            await refuse_transaction_pool(self._connection, other, place)
        except TimeoutError:
            raise ClusterError(pool_too_small(place)) from None
        finally:
            other.terminate()
        return {}

    async def _closed(self, connection: Any) -> None:
        if self._verified.get("pooled") == "true":
            # Whoever gets the server's connection next must not find our settings.
            await asyncio.wait_for(connection.execute("DISCARD ALL"), CONNECT_TIMEOUT_S)
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _pgpool(connection: Any, place: str) -> dict[str, str]:
    """Pgpool's version, if that is what answers, and nothing else. Raises ClusterError if it does too much."""
    try:
        await asyncio.wait_for(connection.execute("SHOW pool_version"), POOL_WAIT_S)
    except DRIVER_ERRORS as error:
        if error_facts(error).sqlstate != UNKNOWN_SETTING:
            raise
        return {}
    wire = WireConnection(connection, {})
    names = ("load_balance_mode", "backend_clustering_mode", "memory_cache_enabled")
    try:
        settings = {name: (await wire.show(f"PGPOOL SHOW {name}"))[0][0] for name in names}
        refuse_pgpool(settings, len(await wire.show("SHOW pool_nodes")), place)
        return {"pooler": f"Pgpool {(await wire.show('SHOW pool_version'))[0][0]}"}
    finally:
        await wire.close()


def _warnings(durability: dict[str, str]) -> list[str]:
    warnings = []
    if durability.get("fsync") == "off":
        warnings.append("fsync is off: a crash can lose or corrupt acknowledged transactions, and commits cost less")
    if durability.get("full_page_writes") == "off":
        warnings.append("full_page_writes is off: a crash of the host can corrupt the data")
    if durability.get("synchronous_commit") == "off":
        warnings.append("synchronous_commit is off: a crash loses the transactions acknowledged in the last moments")
    return warnings


def _refusal(address: Address, error: BaseException) -> str:
    """Why a connection was refused, in one line, with what to do. It never holds the password, because no server
    returns it."""
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
