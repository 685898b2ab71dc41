"""The load's PostgreSQL connection: the extended query protocol (version 3.0), as much of it as a transaction needs.

asyncpg opens the connection, logs in and prepares the statements; then this protocol takes its transport over for the
statements themselves. asyncpg pays for generality with each statement: locks, guards, timers, two futures and three
coroutines, as much as the server's answer costs. Here a statement is one packed message and one future, and an answer
without rows is one look into a dictionary. Four round trips then cost 1.2 times what pgbench pays, instead of 1.9.
"""

import asyncio
import itertools
import secrets
import struct
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from loadgen.engines.postgres_codec import SYNC, TEXT, Plan, bind_and_execute, plan_of
from loadgen.engines.watchdog import watchdog
from loadgen.workload import Call, Result, Statement

MOST_KNOWN = 4096
_BEFORE_VALUE = b"2\0\0\0\4" + b"D\0\0\0\x12\0\1\0\0\0\x08"
"""BindComplete, and DataRow up to the value, of one row of one value of eight bytes."""
_VALUE = len(_BEFORE_VALUE)
_VALUE_END = _VALUE + 8
_DATA_ROW, _COMPLETE, _READY, _ERROR, _NOTICE = b"DCZEN"
# ParseComplete, BindComplete, RowDescription, ParameterStatus, NotificationResponse, EmptyQueryResponse, NoData:
# nothing in them matters here. Anything else means that server and client have lost each other.
_IGNORED = frozenset(b"12TSAIn")
_LENGTH = struct.Struct("!I")
_UNASKED = frozenset(b"ENS")
_IDLE = ord("I")


class ServerError(Exception):
    """An ErrorResponse. ``before_commit``: it ended a pipeline before the server came to its COMMIT."""

    def __init__(self, fields: dict[str, str], *, before_commit: bool = False) -> None:
        super().__init__(fields.get("M", ""))
        self.sqlstate = fields.get("C", "")
        self.severity = fields.get("V") or fields.get("S", "")
        self.identifiers = frozenset(fields[key] for key in "stcdn" if key in fields)
        self.before_commit = before_commit


class ConnectionLostError(Exception):
    """The connection ended while, or before, something was asked. Its cause is the server's last word, if any."""


class UnreadableAnswerError(Exception):
    """An answer that this protocol does not understand: the connection can't be used any more."""


class RolledBackAtCommitError(Exception):
    """The server answered COMMIT with ROLLBACK: the transaction had failed before."""


class UnconfirmedCommitError(Exception):
    """The server answered COMMIT with a warning: a wait for a synchronous standby that was cut short ends in one."""


class ServerAnswer(NamedTuple):
    """All that came up to one ReadyForQuery. ``rows`` are the payloads of the last command's."""

    tags: tuple[bytes, ...]
    rows: tuple[bytes, ...]
    error: dict[str, str] | None
    warned: bool
    idle: bool
    """Whether no transaction is open now."""
    rest: bytes = b""
    """Messages after it that were not asked for: a server that shuts down may announce it at any time."""

    @property
    def commands(self) -> int:
        """How many commands were completed; negative if the last of them was COMMIT."""
        return -len(self.tags) if self.tags and self.tags[-1] == b"COMMIT" else len(self.tags)

    @property
    def row_count(self) -> int:
        """How many rows the last command wrote or found."""
        tail = self.tags[-1].rpartition(b" ")[2] if self.tags else b""
        return int(tail) if tail.isdigit() else 0


Known = tuple[int, bool, Result]
"""A regular answer: ``commands`` and ``idle`` of ServerAnswer, and the statement's result without rows."""


class WireConnection(asyncio.Protocol):
    """One session of the load. No call has a timeout: the server keeps them, and the watchdog ends what it does not.

    A client's own timeout would cancel a COMMIT, which can turn into an acknowledgement that is not durable. A caller
    that is cancelled while it waits loses the connection: the answer would be taken for that to something else.

    With ``merge`` BEGIN travels with the first statement, and a statement on whose answer nothing depends (see
    Statement) with the next one or with COMMIT. The server still sees every statement by itself and in order, and skips
    all that follow one that failed: no outcome changes but that an error may be met a statement later.
    """

    def __init__(self, connection: Any, verified: Mapping[str, str], begin: Any = None, commit: Any = None) -> None:
        """Take ``connection`` of asyncpg over; with its prepared ``begin`` and ``commit``, merge round trips."""
        self.steps = 0
        self.verified = verified
        self._names = statement_names()
        self._connection = connection
        self._transport = connection._transport
        self._asyncpg = connection._protocol
        self._write = self._transport.write
        self._create_future = asyncio.get_running_loop().create_future
        self._waiter: asyncio.Future[Any] | None = None
        self._expected = 1
        self._plan: Plan | None = None
        self._partial = b""
        self._idle = True
        self._lost: Exception | None = None
        self._plans: dict[Statement, Plan] = {}
        self._prepared: list[Any] = [begin, commit]
        self._merge = begin is not None
        self._begin = bind_and_execute(begin.get_name()) if begin else b""
        self._commit = bind_and_execute(commit.get_name()) + SYNC if commit else _COMMIT
        self._ahead: list[bytes] = []
        """Messages that go out with the next one."""
        self._transport.set_protocol(self)
        watchdog().add(self)

    @property
    def lost(self) -> bool:
        """Whether it can't be used any more."""
        return self._lost is not None

    # What a session calls. Those on the hot path are no coroutines: what they return is the one future of the answer.

    def begin(self) -> Awaitable[None]:
        """Start a transaction, at the session's isolation level."""
        if not self._idle:
            self._end(UnreadableAnswerError("a transaction was open that loadgen did not begin"))
        if self._merge:
            self._ahead.append(self._begin)
            return _nothing()
        return self._ask(_BEGIN, 1, None)

    def execute(self, call: Call) -> Awaitable[Result]:
        """Run one statement."""
        statement, values = call
        plan = self._plans.get(statement)
        if plan is None:
            return self._prepare_and_execute(call)
        if self._merge:
            return self._merged(plan, plan.message(values))
        return self._ask(plan.message(values), 1, plan)

    def commit(self) -> Awaitable[None]:
        """Commit; raises unless the answer is the plain COMMIT."""
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            return self._ask(b"".join(ahead) + self._commit, -1 - len(ahead), None)
        return self._ask(self._commit, -1, None)

    async def rollback(self) -> None:
        """Roll back what is open."""
        self._ahead.clear()
        if not self._idle:
            await self._ask(_ROLLBACK, 1, None)

    async def show(self, sql: str) -> list[tuple[str, ...]]:
        """Run one statement as text, without preparing it, and return its rows as text: as psql would."""
        rows: list[tuple[str, ...]] = (await self._ask(_simple_query(sql), 1, TEXT)).rows
        return rows

    async def close(self) -> None:
        """Close at once, without waiting for the server."""
        watchdog().remove(self)
        if self.verified.get("pooled") == "true" and self._waiter is None and self._lost is None:
            # Whoever gets the server's connection next must not find our settings.
            self._write(_DISCARD)
        self.abort()

    def abort(self) -> None:
        """Cut the connection. Its waiters get an error."""
        self._end(ConnectionLostError("the connection was cut by this side"))

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take a piece of the stream; the waiter gets its answer with the ReadyForQuery that ends it."""
        waiter = self._waiter
        known = _known.get(data)
        if known is not None and known[0] == self._expected and waiter is not None and not self._partial:
            result: Any = known[2]
        else:
            # An UPDATE that returns its version: all but the eight bytes of the value is the same each time. Where
            # they lie, and that they are eight, is in the bytes that are looked up.
            known = _known_around_value.get(data[:_VALUE] + data[_VALUE_END:])
            plan = self._plan
            if known is None or self._expected != 1 or plan is None or waiter is None or self._partial:
                self._read(data)
                return
            result = plan.result(known[2][0], (data[_VALUE - 4 : _VALUE_END],))
        self._waiter = None
        self._idle = known[1]
        self.steps += 1
        try:
            waiter.set_result(result)
        except asyncio.InvalidStateError:
            self._end(ConnectionLostError("the waiter is gone"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        lost = ConnectionLostError("the server closed the connection")
        fields, done = last_error(self._partial)
        lost.__cause__ = ServerError(fields, before_commit=self._before_commit(done)) if fields else exc
        self._end(lost)

    # Details

    def _ask(self, message: bytes, expected: int, plan: Plan | None) -> "asyncio.Future[Any]":
        """Send ``message``; the answer must be of ``expected`` commands (see ServerAnswer.commands)."""
        waiter: asyncio.Future[Any] = self._create_future()
        if self._waiter is not None or self._lost is not None:
            waiter.set_exception(self._lost or UnreadableAnswerError("the connection still waits for an answer"))
            return waiter
        self._waiter = waiter
        self._expected = expected
        self._plan = plan
        self.steps += 1
        self._write(message)
        return waiter

    def _merged(self, plan: Plan, message: bytes) -> Awaitable[Result]:
        ahead = self._ahead
        if plan.blind and (ahead or not self._idle):
            ahead.append(message[: -len(SYNC)])
            return _unseen()
        if not ahead:
            return self._ask(message, 1, plan)
        self._ahead = []
        return self._ask(b"".join(ahead) + message, len(ahead) + 1, plan)

    async def _prepare_and_execute(self, call: Call) -> Result:
        """Have asyncpg prepare the statement, with its own protocol on the transport meanwhile; then run it."""
        if self._waiter is not None or self._lost is not None:
            raise self._lost or UnreadableAnswerError("the connection still waits for an answer")
        statement = call[0]
        self._transport.set_protocol(self._asyncpg)
        self.steps += 1
        try:
            prepared = await self._connection.prepare(statement.postgres, name=next(self._names))
        finally:
            self.steps += 1
            self._transport.set_protocol(self)
            self._idle = not self._connection.is_in_transaction()
        # asyncpg closes a statement on the server once nobody holds it.
        self._prepared.append(prepared)
        self._plans[statement] = plan_of(prepared, statement)
        return await self.execute(call)

    def _read(self, data: bytes) -> None:
        """Any answer, or a piece of it: one with many rows, an error, a warning, or one seen for the first time."""
        data = self._partial + data
        try:
            answer = read_answer(data)
        except UnreadableAnswerError as error:
            self._end(error)
            return
        self._partial = data if answer is None else answer.rest
        if answer is None:
            return
        waiter, self._waiter = self._waiter, None
        self._idle = answer.idle
        self.steps += 1
        if waiter is None or waiter.done():
            self._end(UnreadableAnswerError("an unexpected answer came"))
            return
        expected = self._expected
        done = len(answer.tags)
        if answer.error is not None:
            waiter.set_exception(ServerError(answer.error, before_commit=self._before_commit(done)))
        elif answer.commands == expected and not (expected < 0 and answer.warned):
            remember(data, answer)
            rows = answer.rows
            empty = Result(answer.row_count, (), -1)
            waiter.set_result(self._plan.result(answer.row_count, rows) if rows and self._plan is not None else empty)
        elif expected < 0 and done and answer.tags[-1] == b"ROLLBACK":
            waiter.set_exception(RolledBackAtCommitError())
        elif answer.commands == expected:
            waiter.set_exception(UnconfirmedCommitError())
        else:
            reason = UnreadableAnswerError(f"the server did {b', '.join(answer.tags)!r}")
            waiter.set_exception(reason)
            self._end(reason)

    def _before_commit(self, done: int) -> bool:
        """Whether an error after ``done`` commands kept the server from coming to the COMMIT of a pipeline."""
        return self._expected < 0 and done < -1 - self._expected

    def _end(self, reason: Exception) -> None:
        """Give the connection up, for the first reason that came."""
        if self._lost is None:
            self._lost = reason
            waiter, self._waiter = self._waiter, None
            if waiter is not None and not waiter.done():
                self.steps += 1
                waiter.set_exception(reason)
            with suppress(Exception):
                # asyncpg tells the server, where it still can, and closes the transport.
                self._transport.set_protocol(self._asyncpg)
                self._connection.terminate()


def statement_names() -> Iterator[str]:
    """Names of prepared statements that no other session uses: a pool may give us one that still has theirs."""
    mark = secrets.token_hex(4)
    return (f"loadgen_{mark}_{number}" for number in itertools.count(1))


def read_answer(data: bytes) -> ServerAnswer | None:
    """The answer in ``data``, or None while its end has not come. Raises UnreadableAnswerError."""
    tags: list[bytes] = []
    rows: list[bytes] = []
    last_rows: list[bytes] = []
    error: dict[str, str] | None = None
    warned = False
    position, end = 0, len(data)
    while position + 5 <= end:
        kind = data[position]
        after = position + 1 + _LENGTH.unpack_from(data, position + 1)[0]
        if after > end:
            return None
        if kind == _DATA_ROW:
            rows.append(data[position + 7 : after])
        elif kind == _COMPLETE:
            tags.append(data[position + 5 : after - 1])
            last_rows, rows = rows, []
        elif kind == _READY:
            if after != end and data[after] not in _UNASKED:
                raise UnreadableAnswerError("more came than was asked for")
            return ServerAnswer(tuple(tags), tuple(last_rows), error, warned, data[after - 1] == _IDLE, data[after:])
        elif kind == _ERROR:
            error = _fields(data[position + 5 : after])
        elif kind == _NOTICE:
            fields = _fields(data[position + 5 : after])
            warned = warned or (fields.get("V") or fields.get("S")) == "WARNING"
        elif kind not in _IGNORED:
            raise UnreadableAnswerError(f"a message of type {chr(kind)!r} came")
        position = after
    return None


def remember(data: bytes, answer: ServerAnswer) -> None:
    """Keep an answer that will come again, and again: one without errors and warnings."""
    if answer.error is not None or answer.warned or answer.rest:
        return
    known = answer.commands, answer.idle, Result(answer.row_count, (), -1)
    if not answer.rows and len(_known) < MOST_KNOWN:
        _known[data] = known
    single = len(answer.rows) == len(answer.tags) == 1 and data.startswith(_BEFORE_VALUE)
    if single and len(_known_around_value) < MOST_KNOWN:
        _known_around_value[data[:_VALUE] + data[_VALUE_END:]] = known


def last_error(data: bytes) -> tuple[dict[str, str] | None, int]:
    """The last error in a stream that ended without its ReadyForQuery, and how many commands came before its end."""
    error = None
    done = 0
    position = 0
    while position + 5 <= len(data):
        after = position + 1 + int(_LENGTH.unpack_from(data, position + 1)[0])
        done += data[position] == _COMPLETE
        if data[position] == _ERROR and after <= len(data):
            error = _fields(data[position + 5 : after])
        position = after
    return error, done


async def _nothing() -> None:
    """BEGIN, for a session that sends it with the first statement."""


async def _unseen() -> Result:
    """What a body gets for a statement whose answer has not come yet, and on which nothing depends."""
    return Result(0, (), -1)


def _fields(body: bytes) -> dict[str, str]:
    parts = body.rstrip(b"\0").split(b"\0")
    return {chr(part[0]): part[1:].decode(errors="replace") for part in parts if part}


def _simple_query(sql: str) -> bytes:
    text = sql.encode() + b"\0"
    return b"Q" + _LENGTH.pack(len(text) + 4) + text


_BEGIN, _COMMIT, _ROLLBACK, _DISCARD = map(_simple_query, ("BEGIN", "COMMIT", "ROLLBACK", "DISCARD ALL"))
_known: dict[bytes, Known] = {}
"""Whole answers without rows, errors or warnings: they are few, and the same for every connection."""
_known_around_value: dict[bytes, Known] = {}
"""Answers of one row of one value of eight bytes, without these bytes."""
