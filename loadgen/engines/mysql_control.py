"""The control connection on the MySQL wire (MySQL, TiDB, OceanBase), and the only file that imports PyMySQL.

Synchronous and thorough rather than fast: it looks at the server, takes the lock, makes our database, and reads it at
the end. Nothing outside the database ``loadgen`` is ever touched, and nothing inside it that we did not make.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pymysql
import uvloop

from loadgen.engines.address import in_turn
from loadgen.engines.engine import LOCK_TABLE, META_TABLE, PROOF_LIMIT_S, SCHEMA, Address, FinalReads
from loadgen.engines.identity import on_mysql_wire
from loadgen.engines.mysql_dialect import READ_AT_ONCE, READ_ONLY, Dialect, connections_free, takes_writes
from loadgen.engines.mysql_literals import literal
from loadgen.engines.mysql_lock import LOCK_COLUMNS, beat, give_back, take
from loadgen.engines.mysql_refusals import LOST, NO_LOGIN, errno_of, refusal
from loadgen.engines.mysql_settings import Steps
from loadgen.engines.mysql_tls import tls_context
from loadgen.engines.network import explained
from loadgen.engines.progress import Progress, Say
from loadgen.errors import ClusterError, SessionRefused
from loadgen.plan import Plan
from loadgen.workload import Table

PROGRAM = "loadgen-control"
"""The connection attribute ``program_name`` of the control plane."""
READ_TIMEOUT_S = 120
"""How long the server may be silent while it works on one of our statements (a CREATE TABLE, a filling INSERT)."""
BEAT_LIMIT_S = 5
"""How long one beat may take; the next one tries again, on another connection."""
FILL_ROWS = 1000
"""Rows in one filling INSERT: some 50 kB."""
PACKET_LEAST = 1 << 18
"""What ``max_allowed_packet`` must allow: our largest statements, and a row of any workload, several times over."""
_META = f"{SCHEMA}.{META_TABLE}"


class MysqlControl:
    """The control connection, opened again if it was lost."""

    def __init__(self, address: Address, run_id: str, dialect: Dialect) -> None:
        """Connect. Raises ClusterError with what to do."""
        self._address = address
        self._member = address
        """The one of its hosts that the connection is to."""
        self._run_id = run_id
        self._dialect = dialect
        self._in_schema = False
        """Whether statements name tables of ours without the database, so that a new connection must be in it too."""
        self._verified: dict[str, str] = {}
        self._connection = self._connected()
        try:
            self._server = dialect.look(self.query)
        except BaseException:
            self.close()
            raise

    def facts(self) -> dict[str, Any]:
        """As Control has them; ``fork`` is the server's name where it is not the engine itself."""
        server = self._server
        return {
            "version": server.version,
            "edition": server.edition,
            "fork": server.fork,
            "durability": dict(server.durability),
            "connections_free": connections_free(self.query, self._where),
            "warnings": list(server.warnings),
            "verified": dict(self._verified),
        }

    def lock(self) -> None:
        """Write this run's row. Raises ClusterError if another run is alive, or our database holds what is not ours."""
        self._make_database()
        take(self.query, self._run_id, self._where, self.sessions)

    def beat(self) -> None:
        """Renew this run's row."""
        _limit_reads(self._connection, BEAT_LIMIT_S)
        try:
            beat(self.query, self._run_id)
        finally:
            _limit_reads(self._connection, READ_TIMEOUT_S)

    def unlock(self) -> None:
        """Remove this run's row, if there is one."""
        give_back(self.query, self._run_id)

    def prepare(self, tables: Sequence[Table], plan: Plan | None = None, say: Say | None = None) -> dict[str, int]:
        """Create loadgen's database again: the tables of an earlier run are dropped; anything else in it refuses the
        run.

        Each table is marked before it is made, so a crash in between leaves no unmarked table of loadgen.
        """
        progress, most_bytes, marked = Progress(say), self._packet(), self._make_database()
        self.query(f"USE {SCHEMA}")
        self._in_schema = True
        for name in marked:
            self.query(f"DROP TABLE IF EXISTS `{name}`")
        # Marks of tables that somebody dropped meanwhile go too.
        self.query(f"DELETE FROM {_META} WHERE name NOT IN ('{META_TABLE}', '{LOCK_TABLE}')")
        for table in tables:
            marks = f"{self._literal(table.name)}, {self._literal(self._run_id)}"
            self.query(f"INSERT INTO {META_TABLE} (name, run) VALUES ({marks})")
            self.query(table.create_for(self._dialect.name, "mysql"))
            progress.made(table)
            for names, rows in table.filling(plan):
                into = f"{table.name} ({', '.join(names)})" if names else table.name
                for start in range(0, len(rows), FILL_ROWS):
                    some = [f"({', '.join(map(self._literal, row))})" for row in rows[start : start + FILL_ROWS]]
                    self._fill(into, some, most_bytes)
                    progress.filled(table, len(some))
        self._check_transactional(tables)
        return progress.rows

    def sessions(self) -> int:
        """How many sessions hold a transaction open on our tables, or are in our database and in one."""
        return len(self._open())

    def end_sessions(self) -> None:
        """Let the server end what sessions in our database hold a transaction open. Those of others may stay."""
        for session in filter(None, self._open()):
            with suppress(ClusterError):
                self.query(f"KILL {session}")

    def read_only(self) -> bool:
        """Whether it refuses writes, by its answer or by its refusal to answer (see mysql_dialect)."""
        try:
            return not takes_writes(self._once(self._dialect.ask_writable))
        except pymysql.MySQLError as error:
            if errno_of(error) in LOST:
                raise self._refusal(error) from error
            return True

    def prove_writable(self) -> None:
        """Commit a write, which a member without its group's majority can't."""
        _limit_reads(self._connection, PROOF_LIMIT_S)
        self.query(f"REPLACE INTO {_META} (name, run) VALUES ('{META_TABLE}', UUID())")
        _limit_reads(self._connection, READ_TIMEOUT_S)

    def final_reads(self, tables: Sequence[Table]) -> FinalReads:
        """All tables that are there, read in one snapshot transaction on a connection of its own."""
        # Here rather than above: the load's driver is not needed before, and not at all where no run is made.
        from loadgen.engines.mysql_wire import ERRORS, read_tables

        dialect = self._dialect
        try:
            return uvloop.run(
                read_tables(self._member, PROGRAM, dialect.profile, READ_AT_ONCE, tables, run_id=self._run_id)
            )
        except ERRORS as error:
            raise self._refusal(error) from error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement by itself and return its rows. A connection that was lost is opened again, once."""
        try:
            return self._once(sql)
        except (pymysql.MySQLError, OSError) as error:
            if not isinstance(error, OSError) and errno_of(error) not in LOST:
                raise self._refusal(error) from error
        self._connection = self._connected()
        try:
            return self._once(sql)
        except (pymysql.MySQLError, OSError) as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Close."""
        with suppress(pymysql.MySQLError, OSError):
            self._connection.close()

    @property
    def _where(self) -> str:
        address = self._address
        place = address.host if "," in address.host else f"{address.host}:{address.port or 3306}"
        return f"{self._dialect.title} at {address.socket or place}"

    def _connected(self) -> "pymysql.Connection[Any]":
        """A connection; of several hosts to the first that takes writes."""
        problem: BaseException | None = None
        for member, within_s in in_turn(self._address):
            try:
                connection = self._opened(member, within_s)
            except SessionRefused as refused:
                raise SessionRefused(f"{self._where}: {refused}") from refused
            except (pymysql.MySQLError, OSError, RuntimeError, UnicodeError) as error:
                problem = explained(error, member)
            else:
                self._member = member
                return connection
        assert problem is not None
        raise self._refusal(problem) from problem

    def _opened(self, address: Address, within_s: float) -> "pymysql.Connection[Any]":
        tls = None if address.socket else tls_context(address.parameters)
        connection = pymysql.Connection(
            host=address.host,
            port=address.port or 3306,
            unix_socket=address.socket or None,
            user=address.user or None,
            # As bytes: the driver would take text for Latin-1.
            password=address.password.encode(),
            database=address.database or None,
            autocommit=True,
            connect_timeout=within_s,
            read_timeout=within_s,  # a frozen host takes the connection, and never says a word
            write_timeout=READ_TIMEOUT_S,
            program_name=PROGRAM,
            ssl=tls,
            ssl_disabled=tls is None,
            defer_connect=True,
        )
        try:
            self._log_in(connection)
            with connection.cursor() as cursor:
                if address is not self._address:
                    cursor.execute(self._dialect.ask_writable)
                    if not takes_writes(cursor.fetchall()):
                        raise pymysql.OperationalError(READ_ONLY, "none of these hosts takes writes")
                version = _greeting(connection)
                steps = self._dialect.profile.steps(version, "", None, "", in_schema=False)
                try:
                    self._verified = _stepped(cursor, steps)
                except (pymysql.MySQLError, SessionRefused) as error:
                    _name_fork(cursor, version, self._dialect.title, error)
                    raise
                if self._in_schema:
                    cursor.execute(f"USE {SCHEMA}")
            _limit_reads(connection, READ_TIMEOUT_S)
        except BaseException:
            with suppress(pymysql.MySQLError):
                connection.close()
            raise
        return connection

    def _log_in(self, connection: "pymysql.Connection[Any]") -> None:
        try:
            connection.connect()
        except pymysql.MySQLError as error:
            # What the driver sends after the login: a look-alike may not understand it.
            if errno_of(error) not in (*LOST, *NO_LOGIN):
                _name_fork(None, _greeting(connection), self._dialect.title, error)
            raise

    def _once(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def _make_database(self) -> list[str]:
        """Our database, its marks and its lock, made if they are not there; the tables that earlier runs left in it.

        Raises ClusterError if there is anything in it that no run made.
        """
        characters = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        of_schema = f"FROM information_schema.schemata WHERE schema_name = '{SCHEMA}'"
        if not (made := self.query(f"SELECT default_collation_name {of_schema}")):
            self.query(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} {characters}")
        elif str(made[0][0]).lower() != "utf8mb4_bin":
            self.query(f"ALTER DATABASE {SCHEMA} {characters}")
        listed = self.query(
            f"SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = '{SCHEMA}'"
        )
        found = {str(name): str(kind).upper() == "BASE TABLE" for name, kind in listed}
        marked: set[str] = set()
        if META_TABLE in found:
            # One of that name that is not of our making has other columns, and marks nothing.
            with suppress(ClusterError):
                marked = {META_TABLE} | {str(name) for name, _ in self.query(f"SELECT name, run FROM {_META}")}
        foreign = sorted(name for name, is_table in found.items() if name not in marked or not is_table)
        if foreign:
            names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
            raise ClusterError(
                f"the database {SCHEMA!r} of {self._where} holds tables that {META_TABLE} does not list "
                f"({names}). Nothing was changed: move them, or use another server"
            )
        mark = "name VARCHAR(64) NOT NULL PRIMARY KEY, run VARCHAR(128)"
        self.query(f"CREATE TABLE IF NOT EXISTS {_META} ({mark})")
        self.query(f"INSERT IGNORE INTO {_META} (name, run) VALUES ('{META_TABLE}', ''), ('{LOCK_TABLE}', '')")
        self.query(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{LOCK_TABLE} ({LOCK_COLUMNS})")
        return [name for name in found if name not in (META_TABLE, LOCK_TABLE)]

    def _open(self) -> list[int]:
        tables = [name for (name,) in self.query(f"SELECT name FROM {_META}")] if self._has_marks() else []
        there = self.query(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}'")
        names = {str(name) for (name,) in there} & set(map(str, tables)) - {META_TABLE, LOCK_TABLE}
        return self._dialect.open_sessions(self.query, sorted(names))

    def _has_marks(self) -> bool:
        of_marks = f"table_schema = '{SCHEMA}' AND table_name = '{META_TABLE}'"
        return bool(self.query(f"SELECT 1 FROM information_schema.tables WHERE {of_marks}"))

    def _fill(self, table: str, rows: list[str], most_bytes: int) -> None:
        """Insert ``rows`` by as few statements as the server's packets allow."""
        text = f"INSERT INTO {table} VALUES {', '.join(rows)}"
        if len(rows) > 1 and len(text) * 4 > most_bytes:
            half = len(rows) // 2
            self._fill(table, rows[:half], most_bytes)
            self._fill(table, rows[half:], most_bytes)
        else:
            self.query(text)

    def _packet(self) -> int:
        most_bytes = int(self.query("SELECT @@max_allowed_packet")[0][0])
        if most_bytes < PACKET_LEAST:
            raise ClusterError(
                f"{self._where} accepts packets of {most_bytes} bytes only: SET GLOBAL max_allowed_packet = "
                f"{PACKET_LEAST} or more"
            )
        return most_bytes

    def _check_transactional(self, tables: Sequence[Table]) -> None:
        """Raise ClusterError unless every table was made in an engine that has transactions."""
        rows = self.query(f"SELECT table_name, engine FROM information_schema.tables WHERE table_schema = '{SCHEMA}'")
        engines = {str(name): str(engine) for name, engine in rows}
        for table in tables:
            if engines.get(table.name, "").lower() != "innodb":
                raise ClusterError(
                    f"{self._where} created the table {table.name} in the storage engine "
                    f"{engines.get(table.name)}, not in InnoDB: a run needs transactions; see its setting "
                    "disabled_storage_engines"
                )

    def _literal(self, value: Any) -> str:
        return str(value) if type(value) is int else literal(value, self._connection.escape)

    def _refusal(self, error: BaseException) -> ClusterError:
        return refusal(self._address, self._where, error)


def _stepped(cursor: Any, steps: Steps) -> dict[str, str]:
    """Run ``steps`` to their end; what they verified."""
    try:
        sql = next(steps)
        while True:
            try:
                cursor.execute(sql)
                rows = list(cursor.fetchall()) if cursor.description else []
            except pymysql.MySQLError as error:
                sql = steps.throw(error)
            else:
                sql = steps.send(rows)
    except StopIteration as end:
        verified: dict[str, str] = end.value
        return verified


def _name_fork(cursor: Any, greeting: str, title: str, error: Exception) -> None:
    """Raise SessionRefused if the server is a fork, by what it says or by its ``greeting``: why it gave ``error``."""
    says = [greeting, ""]
    with suppress(pymysql.MySQLError, OSError):
        if cursor is not None:
            cursor.execute("SELECT VERSION(), @@version_comment")
            says = [str(value) for row in cursor.fetchall() for value in row] or says
    if greeting and len(says) > 1 and (fork := on_mysql_wire(says[0], says[1]).fork):
        raise SessionRefused(f"the server says that it is {fork}, not {title}, and can't be used: {error}")


def _greeting(connection: "pymysql.Connection[Any]") -> str:
    """The version in the server's greeting; empty where there was none."""
    return str(getattr(connection, "server_version", ""))


def _limit_reads(connection: "pymysql.Connection[Any]", within_s: float) -> None:
    # There is no public way to change it once the login is done.
    connection._read_timeout = within_s  # type: ignore[attr-defined]
