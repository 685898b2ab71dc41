"""The control connection on the MySQL wire (MySQL, TiDB, OceanBase), and the only file that imports PyMySQL.

Synchronous and thorough rather than fast: it looks at the server, takes the lock, makes our database, and reads it at
the end. Nothing outside the database ``loadgen`` is ever touched, and nothing inside it that we did not make.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymysql
import uvloop
from pymysql.constants import CR, ER

from loadgen.engines.address import in_turn
from loadgen.engines.engine import META_TABLE, PROOF_LIMIT_S, SCHEMA, Address, FinalReads
from loadgen.engines.mysql_tls import tls_context
from loadgen.engines.mysql_writable import READ_ONLY, takes_writes
from loadgen.engines.network import NameLookupError, TlsError, explained
from loadgen.errors import ClusterError
from loadgen.workload import Table

PROGRAM = "loadgen-control"
"""The connection attribute ``program_name`` of the control plane."""
READ_TIMEOUT_S = 120
"""How long the server may be silent while it works on one of our statements (a CREATE TABLE, a filling INSERT)."""
LOCK_WAIT_S = 2
"""How long a run waits for the lock of one that has just ended."""
LEFTOVER_WAIT_S = 3
"""How long sessions of an earlier run may take to go before they refuse this one."""
FILL_ROWS = 1000
"""Rows in one filling INSERT: some 50 kB, far below any server's ``max_allowed_packet``."""
UNLIMITED = 1_000_000
"""The number of connections that stands for no limit."""

_LOST = {CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, 0}
_NO_RIGHT = {
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}
_LOCKED = {ER.LOCK_WAIT_TIMEOUT, 3572}
_TLS_DEMANDED = 3159
_META = f"{SCHEMA}.{META_TABLE}"

Query = Callable[[str], list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says that it is."""

    version: str
    edition: str
    durability: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the engines of the MySQL wire in the control plane."""

    title: str
    look: Callable[[Query], Server]
    """Looks at the server. Raises ClusterError if it is another engine's."""
    set_up: tuple[str, ...]
    """Settings of the control connection: nothing that it does may run into a limit meant for the load."""
    snapshot: tuple[str, ...]
    """The statements that begin a transaction whose reads all see one snapshot."""
    ask_writable: str
    """What tells which of several hosts takes writes (see mysql_writable)."""
    processlist: str = "information_schema.processlist"
    """The table of the sessions of every node that takes part."""


class MysqlControl:
    """The control connection, opened again if it was lost."""

    def __init__(self, address: Address, run_id: str, dialect: Dialect) -> None:
        """Connect. Raises ClusterError with what to do."""
        self._address = address
        self._member = address
        """The one of its hosts that the connection is to."""
        self._run_id = run_id
        self._dialect = dialect
        self._holder: pymysql.Connection[Any] | None = None
        self._connection = self._connected()
        try:
            self._server = dialect.look(self.query)
        except BaseException:
            self.close()
            raise

    def facts(self) -> dict[str, Any]:
        """``version``, ``edition``, ``durability``, ``connections_free`` and ``warnings``."""
        server = self._server
        return {
            "version": server.version,
            "edition": server.edition,
            "durability": dict(server.durability),
            "connections_free": self._connections_free(),
            "warnings": list(server.warnings),
        }

    def lock(self) -> None:
        """Take the server-side lock that refuses a second run, until this connection closes. Raises ClusterError.

        It is the lock of a row in a transaction that stays open: the server gives it back with the connection,
        however that ends. (OceanBase keeps a GET_LOCK of a session that is gone.)
        """
        self._make_database()
        self._holder = self._connected()
        try:
            for _ in range(LOCK_WAIT_S * 5):
                if self._try_lock(self._holder):
                    return
                self.query("SELECT SLEEP(0.2)")
        except (pymysql.MySQLError, OSError) as error:
            raise self._refusal(error) from error
        raise ClusterError(
            f"another run is using {self._where} at this time (it holds the lock in {SCHEMA}.{META_TABLE}): "
            "wait for its end, or end it"
        )

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make our database anew: what an earlier run made is dropped; anything else in it refuses the run, untouched.

        Each table is marked before it is made, so that a crash in between leaves no unmarked one of ours.
        """
        marked = self._make_database()
        self.query(f"USE {SCHEMA}")
        self._refuse_leftover_sessions()
        for name in marked:
            self.query(f"DROP TABLE IF EXISTS `{name}`")
            self.query(f"DELETE FROM {META_TABLE} WHERE name = {self._literal(name)}")
        for table in tables:
            marks = f"{self._literal(table.name)}, {self._literal(self._run_id)}"
            self.query(f"INSERT INTO {META_TABLE} (name, run) VALUES ({marks})")
            self.query(table.create)
            for start in range(0, len(table.rows), FILL_ROWS):
                rows = ", ".join(map(self._row, table.rows[start : start + FILL_ROWS]))
                self.query(f"INSERT INTO {table.name} VALUES {rows}")

    def sessions(self) -> int:
        """How many sessions in our database, other than this one, the server still knows."""
        return len(self._sessions())

    def beat(self) -> None:
        """Ask whether the server is there: the lock is held by a connection of its own."""
        self.query("SELECT 1")

    def unlock(self) -> None:
        """Give the lock back."""
        holder, self._holder = self._holder, None
        if holder is not None:
            with suppress(pymysql.MySQLError, OSError):
                holder.close()

    def end_sessions(self) -> None:
        """Let the server end what sessions of our load still have open there."""

    def read_only(self) -> bool:
        """Whether it refuses writes, by its answer or by its refusal to answer (see mysql_writable)."""
        try:
            return not takes_writes(self._once(self._dialect.ask_writable))
        except pymysql.MySQLError as error:
            if _errno(error) in _LOST:
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

        set_up = (*self._dialect.set_up, *self._dialect.snapshot)
        try:
            return uvloop.run(read_tables(self._member, PROGRAM, set_up, tables, silence_s=READ_TIMEOUT_S))
        except ERRORS as error:
            raise self._refusal(error) from error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement by itself and return its rows. A connection that was lost is opened again, once."""
        try:
            return self._once(sql)
        except (pymysql.MySQLError, OSError) as error:
            if not isinstance(error, OSError) and _errno(error) not in _LOST:
                raise self._refusal(error) from error
        self._connection = self._connected()
        try:
            return self._once(sql)
        except (pymysql.MySQLError, OSError) as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Close; gives the lock back."""
        for connection in (self._connection, self._holder):
            with suppress(pymysql.MySQLError, OSError):
                if connection is not None:
                    connection.close()

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
            except (pymysql.MySQLError, OSError, RuntimeError, UnicodeError) as error:
                problem = explained(error, member)
            else:
                self._member = member
                return connection
        assert problem is not None
        raise self._refusal(problem) from problem

    def _opened(self, address: Address, within_s: float) -> "pymysql.Connection[Any]":
        tls = None if address.socket else tls_context(address.parameters)
        connection = pymysql.connect(
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
        )
        try:
            with connection.cursor() as cursor:
                if address is not self._address:
                    cursor.execute(self._dialect.ask_writable)
                    if not takes_writes(cursor.fetchall()):
                        raise pymysql.OperationalError(READ_ONLY, "none of these hosts takes writes")
                for sql in self._dialect.set_up:
                    cursor.execute(sql)
            _limit_reads(connection, READ_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise
        return connection

    def _once(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def _make_database(self) -> list[str]:
        """Our database and its table of marks, made if they are not there; the tables that earlier runs left in it.

        Raises ClusterError if there is anything in it that no run made.
        """
        if not self.query(f"SELECT schema_name FROM information_schema.schemata WHERE schema_name = '{SCHEMA}'"):
            self.query(f"CREATE DATABASE IF NOT EXISTS {SCHEMA}")
        listed = self.query(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}'")
        found = sorted(str(name) for (name,) in listed)
        marked: set[str] = set()
        if META_TABLE in found:
            # One of that name that is not of our making has other columns, and marks nothing.
            with suppress(ClusterError):
                marked = {META_TABLE} | {str(name) for name, _ in self.query(f"SELECT name, run FROM {_META}")}
        foreign = [name for name in found if name not in marked]
        if foreign:
            names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
            raise ClusterError(
                f"the database {SCHEMA!r} of {self._where} holds tables that {META_TABLE} does not mark ({names}): "
                "they stay untouched; move them, or use another server"
            )
        self.query(f"CREATE TABLE IF NOT EXISTS {_META} (name VARCHAR(64) NOT NULL PRIMARY KEY, run VARCHAR(128))")
        return [name for name in found if name != META_TABLE]

    def _try_lock(self, connection: "pymysql.Connection[Any]") -> bool:
        try:
            with connection.cursor() as cursor:
                if not cursor.execute(f"SELECT name FROM {_META} WHERE name = ''"):
                    cursor.execute(f"INSERT IGNORE INTO {_META} (name, run) VALUES ('', '')")
                cursor.execute("BEGIN")
                cursor.execute(f"SELECT name FROM {_META} WHERE name = '' FOR UPDATE NOWAIT")
        except pymysql.MySQLError as error:
            if _errno(error) not in _LOCKED:
                raise
            connection.rollback()
            return False
        return True

    def _refuse_leftover_sessions(self) -> None:
        sessions = self._sessions()
        for _ in range(LEFTOVER_WAIT_S * 5):
            if not sessions:
                return
            self.query("SELECT SLEEP(0.2)")
            sessions = self._sessions()
        raise ClusterError(
            f"{len(sessions)} other sessions use the database {SCHEMA!r} of {self._where} "
            f"(ids {', '.join(map(str, sessions[:5]))}): an earlier run may still write; close them"
        )

    def _sessions(self) -> list[int]:
        rows = self.query(f"SELECT id FROM {self._dialect.processlist} WHERE db = '{SCHEMA}' AND id <> CONNECTION_ID()")
        return [int(row[0]) for row in rows]

    def _connections_free(self) -> int:
        # 0 is TiDB's way to say that there is no limit.
        limit = int(self.query("SELECT @@GLOBAL.max_connections")[0][0]) or UNLIMITED
        of_user = int(self.query("SELECT @@GLOBAL.max_user_connections")[0][0])
        used = self.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        free = limit - (int(used[0][1]) if used else 1)
        return max(0, min(free, of_user - 1) if of_user else free)

    def _row(self, values: Sequence[int | str]) -> str:
        return f"({', '.join(map(self._literal, values))})"

    def _literal(self, value: int | str) -> str:
        return str(int(value)) if isinstance(value, int) else str(self._connection.escape(str(value)))

    def _refusal(self, error: BaseException) -> ClusterError:
        """The operator's one line for an error: what is wrong and what to do, and never the password."""
        address, errno = self._address, _errno(error)
        user = f"the user {address.user!r}" if address.user else "the user"
        text = str(error.args[1] if len(error.args) > 1 else error).splitlines()
        what = text[0] if text else type(error).__name__
        if errno == ER.ACCESS_DENIED_ERROR:
            advice = f"refuses {user}: check the name and the password in the DSN"
        elif errno == ER.BAD_DB_ERROR or (errno == ER.DBACCESS_DENIED_ERROR and f"'{address.database}'" in what):
            advice = f"has no database {address.database!r} that {user} may use: name another in the DSN, or none"
        elif errno in _NO_RIGHT:
            grantee = f"'{address.user or 'USER'}'@'%'"
            advice = f"does not let {user} do this ({what}): GRANT ALL PRIVILEGES ON {SCHEMA}.* TO {grantee}"
        elif errno == _TLS_DEMANDED:
            advice = "demands TLS: add ?ssl-mode=REQUIRED to the DSN"
        elif isinstance(error, NameLookupError | TlsError):
            advice = f"cannot be reached: {error}"
        elif errno in (CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR) or isinstance(error, OSError):
            advice = f"cannot be reached ({what}): check that it runs, and the host and port in the DSN"
        elif errno in _LOST:
            advice = f"closed the connection ({what})"
        else:
            advice = f"answered {errno or type(error).__name__}: {what}"
        return ClusterError(f"{self._where} {advice}")


def _limit_reads(connection: "pymysql.Connection[Any]", within_s: float) -> None:
    # There is no public way to change it once the login is done.
    connection._read_timeout = within_s  # type: ignore[attr-defined]


def _errno(error: BaseException) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else -1
