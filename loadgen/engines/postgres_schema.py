"""loadgen's schema on PostgreSQL: its owner, the owner of its lock, and its tables, created at the start and read at
the end."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from loadgen.engines.engine import FRESH_S, LOCK_TABLE, META_TABLE, SCHEMA, Address, FinalReads
from loadgen.engines.postgres_copy import read_table, read_table_as_text
from loadgen.engines.postgres_driver import DRIVER_ERRORS, error_facts
from loadgen.engines.progress import Progress
from loadgen.errors import ClusterError, LockLost
from loadgen.plan import Plan
from loadgen.workload import Table

LOCK_KEY = int.from_bytes(b"loadgen")
"""The advisory lock of a transaction that takes a run's lock: two that make the schema at once would meet."""
NOT_THERE = {"42P01", "3F000"}
"""There is no such table, or no such schema."""
_OF_THE_TABLE = {"22", "42"}
"""Classes of SQLSTATE that concern the table or its values, and not the server."""
BATCH_LIMIT_S = 60.0
"""How long the server may take for one batch of a table's rows."""
_META = f"{SCHEMA}.{META_TABLE}"
_LOCK = f"{SCHEMA}.{LOCK_TABLE}"
_RELATIONS = """
SELECT c.relname, c.relkind = 'r' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY 1"""
_ADDED = """
SELECT c.relname, CASE
    WHEN c.relkind <> 'r' OR c.relpersistence <> 'p' THEN 'it is not the plain table that was made'
    WHEN t.tgname IS NOT NULL THEN format('the trigger %I', t.tgname)
    WHEN c.relrowsecurity THEN 'row-level security' WHEN c.relhasrules THEN 'a rule' ELSE 'a table that inherits' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
WHERE n.nspname = $1 AND c.relname = ANY($2) AND (c.relkind <> 'r' OR c.relpersistence <> 'p' OR t.oid IS NOT NULL
    OR c.relrowsecurity OR c.relhasrules OR c.relhassubclass) LIMIT 1"""
"""What an event trigger, say, has put on a table of ours, and may change what our statements do to it."""


class Holder(NamedTuple):
    """Whose the lock is: the run, its last beat, and whether that is fresh."""

    run_id: str
    beaten: Any
    fresh: bool


async def try_lock(connection: Any, address: Address, run_id: str) -> Holder | None:
    """Take the lock for ``run_id`` unless another run's row is fresh: whose it is then. Raises ClusterError."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
        if LOCK_TABLE not in await _ours(connection, address):
            await _as_owner(
                connection, address, f"CREATE TABLE IF NOT EXISTS {_META} (name text PRIMARY KEY, run_id text NOT NULL)"
            )
            await _as_owner(
                connection, address, f"CREATE TABLE {_LOCK} (run_id text NOT NULL, beaten_at timestamptz NOT NULL)"
            )
            mark = f"INSERT INTO {_META} VALUES ($1, $2), ($3, $2) ON CONFLICT (name) DO NOTHING"
            await connection.execute(mark, LOCK_TABLE, run_id, META_TABLE)
        fresh = f"beaten_at > clock_timestamp() - interval '{FRESH_S} s'"
        for row in await connection.fetch(f"SELECT run_id, beaten_at, {fresh} FROM {_LOCK}"):
            holder = Holder(*row)
            if holder.fresh and holder.run_id != run_id:
                return holder
        await connection.execute(f"DELETE FROM {_LOCK}")
        await connection.execute(f"INSERT INTO {_LOCK} VALUES ($1, clock_timestamp())", run_id)
    return None


async def beat(connection: Any, run_id: str) -> None:
    """Renew the row of ``run_id``. Raises LockLost, or the driver's errors."""
    try:
        # In a transaction of its own: what Pgpool answers to a write outside of one is not committed.
        async with connection.transaction():
            renew = f"UPDATE {_LOCK} SET beaten_at = clock_timestamp() WHERE run_id = $1"
            if await connection.execute(renew, run_id) != "UPDATE 0":
                return
            rows = await connection.fetch(f"SELECT run_id FROM {_LOCK}")
    except DRIVER_ERRORS as error:
        if error_facts(error).sqlstate not in NOT_THERE:
            raise
        rows = []
    taken = f"was taken by another run, {rows[0][0]}" if rows else "was removed from the server during the run"
    raise LockLost(f"the run's lock {taken}: from then on, nobody knows which run owns the tables")


async def unlock(connection: Any, run_id: str) -> None:
    """Remove the row of ``run_id``, if there is one."""
    async with connection.transaction():
        if await connection.fetchval(f"SELECT to_regclass('{_LOCK}') IS NOT NULL"):
            await connection.execute(f"DELETE FROM {_LOCK} WHERE run_id = $1", run_id)


async def prepare(
    connection: Any, address: Address, run_id: str, tables: Sequence[Table], plan: Plan | None, progress: Progress
) -> None:
    """Create loadgen's schema again, in one transaction. Foreign tables are found before anything changes."""
    async with connection.transaction():
        for name in await _ours(connection, address):
            if name != LOCK_TABLE:
                await _as_owner(connection, address, f'DROP TABLE {SCHEMA}."{name}"')
        await _as_owner(connection, address, f"CREATE TABLE {_META} (name text PRIMARY KEY, run_id text NOT NULL)")
        names = [table.name for table in tables]
        marks = [(name, run_id) for name in (*names, META_TABLE, LOCK_TABLE)]
        await connection.copy_records_to_table(META_TABLE, schema_name=SCHEMA, records=marks)
        for table in tables:
            await _as_owner(connection, address, table.create_for("postgres"))
            progress.made(table)
            for names_of, rows in table.filling(plan):
                copied = connection.copy_records_to_table(
                    table.name, schema_name=SCHEMA, columns=names_of or None, records=rows
                )
                await asyncio.wait_for(copied, BATCH_LIMIT_S)
                progress.filled(table, len(rows))
        await _refuse_additions(connection, names)
    for name in names:
        # The planner's figures and the visibility map, now rather than by autovacuum in mid-run.
        await connection.execute(f'VACUUM (ANALYZE) {SCHEMA}."{name}"')


async def final_reads(connection: Any, run_id: str, tables: Sequence[Table]) -> FinalReads:
    """All tables that are there, as one snapshot has them. Raises ClusterError where they are not all this run's."""
    found = FinalReads()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        level = await connection.fetchval("SELECT current_setting('transaction_isolation')")
        if level != "repeatable read":
            raise ClusterError(f"the final reads need one snapshot, and they run at {level!r}")
        marks = await _marks(connection)
        for table in tables:
            if marks.get(table.name) != run_id:
                whose = marks.get(table.name) or "no run"
                raise ClusterError(f"table {table.name} is not this run's any more ({META_TABLE} says: {whose})")
            await _final_read(connection, table, found)
    return found


async def _marks(connection: Any) -> dict[str, str]:
    try:
        async with connection.transaction():
            return {str(name): str(run) for name, run in await connection.fetch(f"SELECT name, run_id FROM {_META}")}
    except DRIVER_ERRORS as error:
        if error_facts(error).sqlstate in NOT_THERE:
            return {}
        raise


async def _final_read(connection: Any, table: Table, found: FinalReads) -> None:
    """Read ``table`` into ``found``, each try behind a savepoint: what is wrong with one table spoils no other."""
    for read in (read_table, read_table_as_text):
        try:
            async with connection.transaction():
                columns = await read(connection, table)
                count = await connection.fetchval(f'SELECT count(*) FROM {SCHEMA}."{table.name}"')
                rows = len(next(iter(columns.values())))
                if rows != count:
                    raise ClusterError(f"{rows:,} rows of table {table.name} were read, and it has {count:,}")
                found[table.name] = columns
                return
        except ClusterError as error:
            reason = str(error)
        except DRIVER_ERRORS as error:
            facts = error_facts(error)
            reason = " ".join(facts.message.split())
            if facts.sqlstate in NOT_THERE:
                found.gone[table.name] = reason
                return
            if facts.sqlstate[:2] not in _OF_THE_TABLE:
                raise
    found.unread[table.name] = reason


async def _ours(connection: Any, address: Address) -> list[str]:
    """The tables of an earlier run, in a schema that holds nothing else; makes the schema if there is none."""
    if not await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", SCHEMA):
        await _as_owner(connection, address, f"CREATE SCHEMA {SCHEMA}")
        return []
    found = {str(name): bool(is_table) for name, is_table in await connection.fetch(_RELATIONS, SCHEMA)}
    if not found:
        return []
    where = f"schema {SCHEMA} of database {address.database}"
    columns = (
        "SELECT count(*) FROM pg_attribute WHERE attrelid = $1::regclass AND attname = ANY($2) AND NOT attisdropped"
    )
    if not found.get(META_TABLE) or await connection.fetchval(columns, _META, ["name", "run_id"]) != 2:
        raise ClusterError(
            f"{where} holds {_some(list(found))}, and no {META_TABLE} marks it as loadgen's. Nothing was "
            "changed: use another database, or rename that schema"
        )
    marked = await connection.fetch(f"SELECT name FROM {_META}")
    ours = {str(row[0]) for row in marked} | {META_TABLE}
    foreign = [name for name, is_table in found.items() if name not in ours or not is_table]
    if foreign:
        raise ClusterError(
            f"{where} holds {_some(foreign)}, which {META_TABLE} does not list as loadgen's. Nothing was "
            "changed: move it out of that schema"
        )
    return list(found)


async def _refuse_additions(connection: Any, names: list[str]) -> None:
    made = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 "
    if await connection.fetchval(made + "AND c.relname = ANY($2)", SCHEMA, names) != len(names):
        raise ClusterError(f"the created tables are not in schema {SCHEMA}: nothing was kept")
    for table, what in await connection.fetch(_ADDED, SCHEMA, names):
        raise ClusterError(
            f"{what} was added to table {table} when it was created, for example by an event trigger, and may "
            f"change what loadgen's statements do. Nothing was kept: exclude schema {SCHEMA} from it"
        )


async def _as_owner(connection: Any, address: Address, sql: str) -> None:
    try:
        await connection.execute(sql)
    except DRIVER_ERRORS as error:
        if error_facts(error).sqlstate != "42501":
            raise
        user, database = address.user, address.database
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


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
