"""The load connection on the MySQL wire (MySQL, TiDB, OceanBase), and the only file that imports asyncmy.

It uses no cursor, and values are rendered into the text: integers as digits, strings escaped. CLIENT_FOUND_ROWS stays
off, so that ``rowcount`` counts changed rows: an INSERT ... ON DUPLICATE KEY UPDATE that leaves the row as it was
answers 0.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import asyncmy
from asyncmy.connection import MySQLResult
from asyncmy.errors import MySQLError, OperationalError

from loadgen.engines.engine import CONNECT_TIMEOUT_S, SCHEMA, Address, Failure
from loadgen.engines.mysql_outcomes import Rules, broken, outcome_of
from loadgen.engines.mysql_tls import tls_context
from loadgen.engines.watchdog import watchdog
from loadgen.op import Stage
from loadgen.workload import Call, Result, Statement

PROGRAM = "loadgen"
"""The connection attribute ``program_name`` of every load connection."""
GONE = 2006
"""The client's own code for a connection that was closed before a statement could be sent."""

Driver = Any
"""An asyncmy Connection: its stubs leave out what is needed here."""
Rendering = tuple[bytes, Callable[[tuple[int | str, ...]], tuple[int | str, ...]]]
_renderings: dict[Statement, Rendering] = {}
_QUERY = b"\x03"
_QUIT = b"\x01\x00\x00\x00\x01"
_ONE_BYTE, _TWO_BYTES, _THREE_BYTES = 251, 252, 253
"""Length-encoded integers: below the first it is the number itself, else it says how many bytes follow."""


class MysqlConnection:
    """One asyncmy connection. Autocommit is on, so that a statement outside a transaction stands by itself.

    asyncmy's query goes through seven coroutines for each statement, a quarter of the client's whole cost of an order.
    So the plain answer, one small OK packet, is read here straight from asyncmy's receive buffer, and everything else
    (rows, errors, large or split packets) by asyncmy.
    """

    __slots__ = ("_driver", "_future", "_protocol", "_transport", "steps")

    def __init__(self, driver: Driver) -> None:
        self.steps = 0
        self._driver = driver
        self._transport = driver._transport
        self._protocol = driver._proto
        self._future = driver._loop.create_future
        watchdog().add(self)

    async def begin(self) -> None:
        """Start a transaction."""
        await self._ask(b"BEGIN")

    async def execute(self, call: Call) -> Result:
        """Run one statement, inside the transaction or by itself. ``version`` is the statement's insert id."""
        statement, values = call
        rendering = _renderings.get(statement)
        if rendering is None:
            rendering = _renderings[statement] = _rendering(statement)
        template, ordered = rendering
        try:
            sql = template % ordered(values)
        except TypeError:
            sql = self._escaped(statement, values)
        return await self._ask(sql)

    async def commit(self) -> None:
        """Commit. Returns only on the server's clear confirmation."""
        await self._ask(b"COMMIT")

    async def rollback(self) -> None:
        """Roll back; harmless where no transaction is open."""
        await self._ask(b"ROLLBACK")

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
        """Cut the connection: whoever waits on it gets 2013."""
        self._transport.abort()

    async def _ask(self, sql: bytes) -> Result:
        """Send one statement and read its answer."""
        protocol = self._protocol
        # What is there before anything was asked are the last words of a server that has closed the connection.
        if protocol.eof or protocol.length != protocol.pos or self._transport.is_closing():
            raise OperationalError(GONE, "the server has closed the connection")
        self.steps += 1
        try:
            self._transport.write((len(sql) + 1).to_bytes(4, "little") + _QUERY + sql)
            protocol._read_waiter = waiter = self._future()
            await waiter
            buffer, start = protocol.buffer, protocol.pos
            end = protocol.length
            # An OK packet: length (3 bytes), sequence number, 0, rows changed, insert id, status, warnings, text.
            if (
                end - start >= 11
                and buffer[start] == end - start - 4
                and buffer[start + 1] == buffer[start + 2] == buffer[start + 4] == 0
                and buffer[start + 3] == 1
                and (rowcount := buffer[start + 5]) < _ONE_BYTE
            ):
                insert_id = buffer[start + 6]
                if insert_id >= _ONE_BYTE:
                    size = 2 if insert_id == _TWO_BYTES else 3 if insert_id == _THREE_BYTES else 8
                    insert_id = int.from_bytes(buffer[start + 7 : start + 7 + size], "little")
                protocol.pos = end
                return _result(Result, (rowcount, (), insert_id))
            self._driver._next_seq_id = 1
            result: Any = MySQLResult(self._driver)
            await result.read()
            return Result(result.affected_rows, result.rows or (), result.insert_id)
        except asyncio.CancelledError:
            # Its answer would be taken for the next statement's.
            self.abort()
            raise
        finally:
            self.steps += 1

    def _escaped(self, statement: Statement, values: tuple[int | str, ...]) -> bytes:
        literals = [str(int(value)) if isinstance(value, int) else self._driver.escape(value) for value in values]
        return (statement.mysql % tuple(literals[index] for index in statement.mysql_order)).encode()


async def connect(address: Address, set_up: Sequence[str]) -> MysqlConnection:
    """Open a load connection in our database, and run the statements ``set_up`` on it, all within the connect limit.

    Raises the driver's errors and TimeoutError.
    """
    driver = await asyncio.wait_for(_opened(address, set_up), CONNECT_TIMEOUT_S)
    return MysqlConnection(driver)


def classify(rules: Rules, error: BaseException, stage: Stage) -> Failure:
    """The outcome of ``error`` at ``stage`` by an engine's ``rules``."""
    if isinstance(error, MySQLError) and error.args and isinstance(error.args[0], int) and error.args[0] > 0:
        text = str(error.args[1]) if len(error.args) > 1 else ""
        return outcome_of(rules, error.args[0], str(error.sqlstate or ""), text, stage)
    return broken(error, stage)


async def _opened(address: Address, set_up: Sequence[str]) -> Driver:
    options: dict[str, Any] = {"unix_socket": address.socket} if address.socket else {"host": address.host}
    driver: Driver = await asyncmy.connect(
        **options,
        port=address.port or 3306,
        user=address.user or None,
        # As bytes: the driver would take text for Latin-1.
        password=address.password.encode(),
        database=SCHEMA,
        autocommit=True,
        program_name=PROGRAM,
        connect_timeout=CONNECT_TIMEOUT_S,
        ssl=None if address.socket else tls_context(address.parameters),
    )
    try:
        for sql in set_up:
            await driver.query(sql)
    except BaseException:
        driver.close()
        raise
    return driver


def _rendering(statement: Statement) -> Rendering:
    """The text with a place for each integer, and what puts the values in its order."""
    order = statement.mysql_order
    template = statement.mysql.replace("%s", "%d").encode()
    if order == tuple(range(len(statement.parameters))):
        return template, _as_they_are
    if len(order) == 1:
        (index,) = order
        return template, lambda values: (values[index],)
    return template, itemgetter(*order)


def _as_they_are(values: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return values


def _result(kind: type[Result], values: tuple[int, Sequence[Any], int]) -> Result:
    return tuple.__new__(kind, values)
