"""The load connection on the MySQL wire (MySQL, TiDB, OceanBase), and the only file that imports asyncmy.

It uses no cursor, and values are rendered into the text: integers as digits, strings escaped, others as
mysql_literals has them. CLIENT_FOUND_ROWS stays
off, so that ``rowcount`` counts changed rows: an INSERT ... ON DUPLICATE KEY UPDATE that leaves the row as it was
answers 0.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import asyncmy
import numpy as np
from asyncmy.connection import MySQLResult
from asyncmy.constants import ER
from asyncmy.cursors import SSCursor
from asyncmy.errors import MySQLError, OperationalError
from numpy.typing import NDArray

from loadgen.engines.address import in_turn
from loadgen.engines.columns import as_column
from loadgen.engines.engine import CONNECT_TIMEOUT_S, META_TABLE, SCHEMA, Address, Failure, FinalReads, Level
from loadgen.engines.mysql_dialect import READ_ONLY, takes_writes
from loadgen.engines.mysql_literals import literal
from loadgen.engines.mysql_outcomes import ErrorRules, broken, outcome_of
from loadgen.engines.mysql_settings import Profile, Steps
from loadgen.engines.mysql_tls import tls_context
from loadgen.engines.network import explained
from loadgen.engines.watchdog import watchdog
from loadgen.errors import ClusterError
from loadgen.history.column_types import column_type
from loadgen.op import Stage
from loadgen.workload import Call, Result, Statement, Table

PROGRAM = "loadgen"
"""The connection attribute ``program_name`` of every load connection."""
READ_TIMEOUT_S = 120
"""How long the server may be silent in a final read."""
READ_ROWS = 20_000
"""Rows of a final read that are in memory as Python values at one time."""
ERRORS = (MySQLError, OSError, TimeoutError)
"""What a lost, refused or failing connection raises."""
_OF_THE_TABLE = (ER.BAD_FIELD_ERROR, ER.VIEW_INVALID)
"""Errors that concern the table and not the server: a column is gone, or the table under a view."""
GONE = 2006
"""The client's own code for a connection that was closed before a statement could be sent."""

Driver = Any
"""An asyncmy Connection: its stubs leave out what is needed here."""
Rendering = tuple[bytes, Callable[[tuple[Any, ...]], tuple[Any, ...]] | None]
_renderings: dict[Statement, Rendering] = {}
_QUERY = b"\x03"
_BEGIN = b"\x06\x00\x00\x00\x03BEGIN"
_COMMIT = b"\x07\x00\x00\x00\x03COMMIT"
_ROLLBACK = b"\x09\x00\x00\x00\x03ROLLBACK"
_OK = b"\x00\x00\x01\x00"
_QUIT = b"\x01\x00\x00\x00\x01"
_ONE_BYTE, _TWO_BYTES, _THREE_BYTES = 251, 252, 253
"""Length-encoded integers: below the first it is the number itself, else it says how many bytes follow."""


class MysqlConnection(asyncio.Protocol):
    """One asyncmy connection. Autocommit is on, so that a statement outside a transaction is a transaction of its own.

    asyncmy's query goes through seven coroutines for each statement, a quarter of the client's whole cost of an order.
    So once the session is open the plain answer, one small OK packet, is read here, straight from the transport, and
    all else (rows, errors, large or split packets) is handed on to asyncmy's own protocol and read by asyncmy.
    """

    __slots__ = ("_driver", "_future", "_protocol", "_transport", "_waiter", "steps", "verified")

    def __init__(self, driver: Driver, verified: Mapping[str, str]) -> None:
        self.steps = 0
        self.verified = verified
        self._driver = driver
        self._protocol = driver._proto
        self._future = driver._loop.create_future
        self._waiter: asyncio.Future[bytes] | None = None
        self._transport = driver._transport
        self._transport.set_protocol(self)
        watchdog().add(self)

    # These return the coroutine rather than being one: a coroutine more costs more than all that they do.

    def begin(self) -> Coroutine[Any, Any, Any]:
        """Start a transaction."""
        return self._ask(_BEGIN)

    def execute(self, call: Call) -> Coroutine[Any, Any, Result]:
        """Run one statement, inside the transaction or by itself. ``version`` is the statement's insert id."""
        statement, values = call
        rendering = _renderings.get(statement)
        if rendering is None:
            rendering = _renderings[statement] = _rendering(statement)
        template, ordered = rendering
        try:
            # A sum is an int where each value is one; of a fraction the template would take the whole part.
            if type(sum(values)) is int:  # type: ignore[arg-type]
                sql = template % (values if ordered is None else ordered(values))
            else:
                sql = self._escaped(statement, values)
        except TypeError:
            sql = self._escaped(statement, values)
        return self._ask((len(sql) + 1).to_bytes(4, "little") + _QUERY + sql)

    def commit(self) -> Coroutine[Any, Any, Any]:
        """Commit. Returns only on the server's clear confirmation."""
        return self._ask(_COMMIT)

    def rollback(self) -> Coroutine[Any, Any, Any]:
        """Roll back; harmless where no transaction is open."""
        return self._ask(_ROLLBACK)

    async def close(self) -> None:
        """Close, at once and without raising."""
        watchdog().remove(self)
        if not self._transport.is_closing() and not self.steps % 2:
            # Said goodbye to, a server frees the session without a warning in its log.
            with suppress(OSError, RuntimeError):
                self._transport.write(_QUIT)
            self._driver.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection. Its waiters get error 2013."""
        self._transport.abort()

    async def _ask(self, packet: bytes) -> Result:
        """Send one statement and read its answer."""
        protocol = self._protocol
        # What is there before anything was asked are the last words of a server that has closed the connection.
        if protocol.eof or protocol.length != protocol.pos or self._transport.is_closing():
            raise OperationalError(GONE, "the server has closed the connection")
        self.steps += 1
        try:
            self._transport.write(packet)
            self._waiter = waiter = self._future()
            answer = await waiter
            if answer:
                # An OK packet: length, sequence number, 0, rows changed, insert id, status, warnings, text.
                insert_id = answer[6]
                if insert_id >= _ONE_BYTE:
                    size = 2 if insert_id == _TWO_BYTES else 3 if insert_id == _THREE_BYTES else 8
                    insert_id = int.from_bytes(answer[7 : 7 + size], "little")
                return _result(Result, (answer[5], (), insert_id))
            self._driver._next_seq_id = 1
            result: Any = MySQLResult(self._driver)
            await result.read()
            return Result(result.affected_rows, result.rows or (), result.insert_id)
        except asyncio.CancelledError:
            # Its answer would be taken for the next statement's.
            self.abort()
            raise
        finally:
            self._waiter = None
            self.steps += 1

    def data_received(self, data: bytes) -> None:
        """Wake who waits, with the plain answer, or with nothing where asyncmy is to read it."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            # Three bytes of length, sequence number 1, an OK packet, and the rows changed in one byte.
            if data[1:5] == _OK and data[0] == len(data) - 4 >= 7 and data[5] < _ONE_BYTE and not waiter.done():
                waiter.set_result(data)
                return
        protocol = self._protocol
        while data:
            room = protocol.get_buffer(len(data))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]
        if waiter is not None and not waiter.done():
            waiter.set_result(b"")

    def eof_received(self) -> bool | None:
        """The server has closed the connection."""
        return bool(self._hand_on(self._protocol.eof_received))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._hand_on(self._protocol.connection_lost, exc)

    def _hand_on(self, event: Callable[..., Any], *arguments: Any) -> Any:
        answer = event(*arguments)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(b"")
        return answer

    def _escaped(self, statement: Statement, values: tuple[Any, ...]) -> bytes:
        literals = [literal(value, self._driver.escape) for value in values]
        return (statement.mysql % tuple(literals[index] for index in statement.mysql_order)).encode()


async def connect(
    address: Address, profile: Profile, engine: str, level: Level, run_id: str, ask_writable: str
) -> MysqlConnection:
    """Open a load connection in our database, set and verified by ``profile``, all within the connect limit.

    Of several hosts it is the first that takes writes, by its answer to ``ask_writable`` (see mysql_dialect). Raises
    SessionRefused, the driver's errors and TimeoutError: those of the last host.
    """

    def steps(version: str) -> Steps:
        return profile.steps(version, engine, level, run_id, in_schema=True)

    problem: BaseException | None = None
    for member, within_s in in_turn(address):
        question = "" if member is address else ask_writable
        try:
            driver, verified = await asyncio.wait_for(_opened(member, PROGRAM, steps, question), within_s)
            return MysqlConnection(driver, verified)
        except Exception as error:  # noqa: BLE001 - the next host may take it
            problem = explained(error, member)
    assert problem is not None
    raise problem


async def read_tables(
    address: Address, program: str, profile: Profile, begin: Sequence[str], tables: Sequence[Table], *, run_id: str
) -> FinalReads:
    """Read ``tables`` whole, in one snapshot that ``begin`` begins on a connection of their own.

    PyMySQL takes nine times as long for it. Raises ERRORS, also where the server is silent for READ_TIMEOUT_S, and
    ClusterError unless that snapshot says that the tables are those of the run ``run_id``.
    """
    found = FinalReads()

    def steps(version: str) -> Steps:
        return profile.steps(version, "", None, "", in_schema=False)

    driver, _ = await asyncio.wait_for(_opened(address, program, steps, silence_s=READ_TIMEOUT_S), CONNECT_TIMEOUT_S)
    try:
        if not await _asked(driver, f"SHOW DATABASES LIKE '{SCHEMA}'"):
            found.gone = {table.name: f"there is no database {SCHEMA!r}" for table in tables}
            return found
        for sql in (f"USE {SCHEMA}", *begin):
            await driver.query(sql)
        runs = {str(row[0]): str(row[1]) for row in await _asked(driver, f"SELECT name, run FROM {META_TABLE}")}
        for table in tables:
            run = runs.get(table.name, "")
            if run != run_id:
                raise ClusterError(
                    f"the table {table.name} is {f'of another run, {run}' if run else 'of no run'}: something "
                    "else used the server during the run"
                )
            await _final_read(driver, table, found)
    finally:
        driver.close()
    return found


async def _final_read(driver: Driver, table: Table, found: FinalReads) -> None:
    """Read ``table`` into ``found``, with as many rows as the server counts."""
    try:
        columns = await _columns(driver, table)
        ((count,),) = await _asked(driver, f"SELECT COUNT(*) FROM {table.name}")
    except ClusterError as error:
        found.unread[table.name] = str(error)
        return
    except MySQLError as error:
        code, *text = error.args or (0,)
        if code not in (ER.NO_SUCH_TABLE, *_OF_THE_TABLE):
            raise
        reasons = found.gone if code == ER.NO_SUCH_TABLE else found.unread
        reasons[table.name] = str(text[0]) if text else str(code)
        return
    read = len(next(iter(columns.values())))
    if read == count:
        found[table.name] = columns
    else:
        found.unread[table.name] = f"the server gave {read} of the {count} rows that it counts"


async def _asked(driver: Driver, sql: str) -> Sequence[Sequence[Any]]:
    """The rows of one statement. By no cursor, which would print the server's warnings."""
    await driver.query(sql)
    return driver._result.rows or ()


def classify(rules: ErrorRules, error: BaseException, stage: Stage) -> Failure:
    """The outcome of ``error`` at ``stage`` by an engine's ``rules``."""
    if isinstance(error, MySQLError) and error.args and isinstance(error.args[0], int) and error.args[0] > 0:
        text = str(error.args[1]) if len(error.args) > 1 else ""
        return outcome_of(rules, error.args[0], str(error.sqlstate or ""), text, stage)
    return broken(error, stage)


async def _opened(
    address: Address,
    program: str,
    steps_for: Callable[[str], Steps],
    ask_writable: str = "",
    silence_s: float | None = None,
) -> tuple[Driver, dict[str, str]]:
    options: dict[str, Any] = {"unix_socket": address.socket} if address.socket else {"host": address.host}
    driver: Driver = await asyncmy.connect(
        **options,
        port=address.port or 3306,
        user=address.user or None,
        # As bytes: the driver would take text for Latin-1.
        password=address.password.encode(),
        autocommit=True,
        program_name=program,
        read_timeout=silence_s,
        connect_timeout=CONNECT_TIMEOUT_S,
        ssl=None if address.socket else tls_context(address.parameters),
    )
    try:
        if ask_writable and not takes_writes(await _asked(driver, ask_writable)):
            raise OperationalError(READ_ONLY, "this node is read-only")
        return driver, await _stepped(driver, steps_for(str(driver.get_server_info())))
    except BaseException:
        driver.close()
        raise


async def _stepped(driver: Driver, steps: Steps) -> dict[str, str]:
    """Run ``steps`` to their end; what they verified."""
    try:
        sql = next(steps)
        while True:
            try:
                rows = await _asked(driver, sql)
            except MySQLError as error:
                sql = steps.throw(error)
            else:
                sql = steps.send(rows)
    except StopIteration as end:
        verified: dict[str, str] = end.value
        return verified


async def _columns(driver: Driver, table: Table) -> dict[str, NDArray[Any]]:
    dtypes = {name: column_type(kind).dtype for name, kind in table.final.items()}
    chunks: dict[str, list[NDArray[Any]]] = {name: [] for name in dtypes}
    async with driver.cursor(SSCursor) as cursor:
        await cursor.execute(table.final_read)
        while rows := await cursor.fetchmany(READ_ROWS):
            for name, values in zip(dtypes, zip(*rows, strict=True), strict=True):
                chunks[name].append(as_column(values, table.final[name]))
    return {name: np.concatenate(parts) if parts else np.empty(0, dtype=dtypes[name]) for name, parts in chunks.items()}


def _rendering(statement: Statement) -> Rendering:
    """The text with a place for each integer, and what puts the values in its order."""
    order = statement.mysql_order
    template = re.sub(r"%(.)", lambda match: "%d" if match[1] == "s" else match[0], statement.mysql).encode()
    if order == tuple(range(len(statement.parameters))):
        return template, None
    if len(order) == 1:
        (index,) = order
        return template, lambda values: (values[index],)
    return template, itemgetter(*order)


def _result(kind: type[Result], values: tuple[int, Sequence[Any], int]) -> Result:
    return tuple.__new__(kind, values)
