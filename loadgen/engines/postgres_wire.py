"""The load's PostgreSQL connection: the extended query protocol (version 3.0), as much of it as a transaction needs.

asyncpg opens the connection, logs in and prepares the statements; then this protocol takes its transport over for the
statements themselves. asyncpg pays for generality with each statement: locks, guards, timers, two futures and three
coroutines, as much as the server's answer costs. Here a statement is one packed message and one future, and an answer
without rows is one look into a dictionary. Four round trips then cost 1.2 times what pgbench pays, instead of 1.9.
"""

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from loadgen.engines.postgres_codec import Plan, bind_and_execute, plan_of
from loadgen.engines.watchdog import watchdog
from loadgen.workload import Call, Result, Statement

SYNC = b"S\0\0\0\4"
MOST_KNOWN = 4096
_DATA_ROW, _COMPLETE, _READY, _ERROR, _NOTICE = b"DCZEN"
# ParseComplete, BindComplete, ParameterStatus, NotificationResponse, EmptyQueryResponse, NoData: nothing in them
# matters here. Anything else means that server and client have lost each other.
_IGNORED = frozenset(b"12SAIn")
_LENGTH = struct.Struct("!I")
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


class Answer(NamedTuple):
    """All that came up to one ReadyForQuery. ``rows`` are the payloads of the last command's."""

    tags: tuple[bytes, ...]
    row_count: int
    rows: Sequence[bytes]
    error: dict[str, str] | None
    warned: bool
    idle: bool
    """Whether no transaction is open now."""


_known: dict[bytes, Answer] = {}
"""Answers without rows, errors or warnings are few, and the same for every connection."""


class WireConnection(asyncio.Protocol):
    """One session of the load. No call has a timeout: the server keeps them, and the watchdog ends what it does not.

    A client's own timeout would cancel a COMMIT, which can turn into an acknowledgement that is not durable.

    With ``merge`` BEGIN travels with the first statement, and a statement on whose answer nothing depends (see
    Statement) with the next one or with COMMIT. The server still sees every statement by itself and in order, and skips
    all that follow one that failed: no outcome changes but that an error may be met a statement later.
    """

    def __init__(self, connection: Any, begin: Any = None, commit: Any = None) -> None:
        """Take ``connection`` of asyncpg over; with its prepared ``begin`` and ``commit``, merge round trips."""
        self.steps = 0
        self._connection = connection
        self._transport = connection._transport
        self._asyncpg = connection._protocol
        self._write = self._transport.write
        self._create_future = asyncio.get_running_loop().create_future
        self._waiter: asyncio.Future[Answer] | None = None
        self._partial = b""
        self._idle = True
        self._lost: Exception | None = None
        self._plans: dict[Statement, Plan] = {}
        self._prepared: list[Any] = [begin, commit]
        self._begin = bind_and_execute(begin.get_name()) if begin else b""
        self._commit = (bind_and_execute(commit.get_name()) if commit else b"") + SYNC
        self._ahead: list[bytes] = []
        """Messages that go out with the next one."""
        self._transport.set_protocol(self)
        watchdog().add(self)

    # What a session calls

    async def begin(self) -> None:
        """Start a transaction, at the session's isolation level."""
        if self._begin:
            self._ahead.append(self._begin)
        else:
            await self._plain(_BEGIN)

    async def execute(self, call: Call) -> Result:
        """Run one statement."""
        statement, values = call
        plan = self._plans.get(statement)
        if plan is None:
            plan = await self._prepare(statement)
        message = plan.message(values)
        ahead = self._ahead
        expected = 1
        if self._begin:
            if plan.blind and (ahead or not self._idle):
                ahead.append(message)
                return _UNSEEN
            if ahead:
                expected += len(ahead)
                message = b"".join(ahead) + message
                ahead.clear()
        # As in _ask, once more: a coroutine for each statement would be a tenth of the client's own work.
        if self._waiter is not None or self._lost is not None:
            raise self._unusable()
        self._waiter = waiter = self._create_future()
        self.steps += 1
        self._write(message + SYNC)
        try:
            answer = await waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self.steps += 1
        self._idle = answer.idle
        if answer.error is not None:
            raise ServerError(answer.error)
        if len(answer.tags) != expected:
            raise self._unreadable(f"{len(answer.tags)} commands were completed instead of {expected}")
        if not answer.rows:
            return _new_result(Result, (answer.row_count, (), -1))
        rows = plan.rows(answer.rows)
        return _new_result(Result, (answer.row_count, rows, rows[0][0] if plan.versioned else -1))

    async def commit(self) -> None:
        """Commit; raises unless the answer is the plain COMMIT."""
        ahead = self._ahead
        if self._begin:
            message = b"".join(ahead) + self._commit
            expected = len(ahead) + 1
            ahead.clear()
            answer = await self._ask(message)
            if answer.error is not None:
                raise ServerError(answer.error, before_commit=len(answer.tags) < expected - 1)
        else:
            answer = await self._ask(_COMMIT)
            if answer.error is not None:
                raise ServerError(answer.error)
        if not answer.tags or answer.tags[-1] != b"COMMIT":
            raise RolledBackAtCommitError
        if answer.warned:
            raise UnconfirmedCommitError

    async def rollback(self) -> None:
        """Roll back what is open."""
        self._ahead.clear()
        if not self._idle:
            await self._plain(_ROLLBACK)

    async def close(self) -> None:
        """Close at once, without waiting for the server."""
        watchdog().remove(self)
        self.abort()

    def abort(self) -> None:
        """Cut the connection; whoever waits on it gets an error."""
        self._end(ConnectionLostError("the connection was cut by this side"))
        with suppress(Exception):
            self._transport.set_protocol(self._asyncpg)
            self._connection.terminate()

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take a piece of the stream; the waiter gets its answer with the ReadyForQuery that ends it."""
        if self._partial:
            data = self._partial + data
        answer = _known.get(data)
        if answer is None:
            try:
                answer = read_answer(data)
            except UnreadableAnswerError as error:
                self._end(error)
                self._transport.abort()
                return
            if answer is None:
                self._partial = data
                return
        self._partial = b""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self._unreadable("an answer to nothing")
        elif not waiter.done():
            waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        lost = ConnectionLostError("the server closed the connection")
        fields = last_error(self._partial)
        lost.__cause__ = ServerError(fields) if fields else exc
        self._end(lost)

    # Details

    async def _plain(self, message: bytes) -> None:
        answer = await self._ask(message)
        if answer.error is not None:
            raise ServerError(answer.error)

    async def _ask(self, message: bytes) -> Answer:
        if self._waiter is not None or self._lost is not None:
            raise self._unusable()
        self._waiter = waiter = self._create_future()
        self.steps += 1
        self._write(message)
        try:
            answer: Answer = await waiter
        except BaseException:
            # Cancelled, or lost: whatever the server still answers would be taken for the answer to something else.
            self.abort()
            raise
        finally:
            self.steps += 1
        self._idle = answer.idle
        return answer

    async def _prepare(self, statement: Statement) -> Plan:
        """Have asyncpg prepare it, with its own protocol on the transport meanwhile."""
        if self._waiter is not None or self._lost is not None:
            raise self._unusable()
        self._transport.set_protocol(self._asyncpg)
        self.steps += 1
        try:
            prepared = await self._connection.prepare(statement.postgres)
        finally:
            self.steps += 1
            self._transport.set_protocol(self)
            self._idle = not self._connection.is_in_transaction()
        # asyncpg closes a statement on the server once nobody holds it.
        self._prepared.append(prepared)
        plan = self._plans[statement] = plan_of(prepared, statement)
        return plan

    def _end(self, reason: Exception) -> None:
        if self._lost is None:
            self._lost = reason
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(reason)

    def _unusable(self) -> Exception:
        return self._lost or UnreadableAnswerError("the connection still waits for an answer")

    def _unreadable(self, reason: str) -> Exception:
        error = UnreadableAnswerError(reason)
        self._end(error)
        self._transport.abort()
        return error


def read_answer(data: bytes) -> Answer | None:
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
            idle = data[after - 1] == _IDLE
            return _whole(data, Answer(tuple(tags), _count(tags), last_rows, error, warned, idle), after)
        elif kind == _ERROR:
            error = _fields(data[position + 5 : after])
        elif kind == _NOTICE:
            fields = _fields(data[position + 5 : after])
            warned = warned or (fields.get("V") or fields.get("S")) == "WARNING"
        elif kind not in _IGNORED:
            raise UnreadableAnswerError(f"a message of type {chr(kind)!r} came")
        position = after
    return None


def last_error(data: bytes) -> dict[str, str] | None:
    """The fields of the last ErrorResponse in a stream that ended without its ReadyForQuery."""
    error = None
    position = 0
    while position + 5 <= len(data):
        after = position + 1 + int(_LENGTH.unpack_from(data, position + 1)[0])
        if data[position] == _ERROR and after <= len(data):
            error = _fields(data[position + 5 : after])
        position = after
    return error


def _whole(data: bytes, answer: Answer, after: int) -> Answer:
    if after != len(data):
        raise UnreadableAnswerError("more came than was asked for")
    if not answer.rows and answer.error is None and not answer.warned and len(_known) < MOST_KNOWN:
        _known[data] = answer
    return answer


def _fields(body: bytes) -> dict[str, str]:
    parts = body.rstrip(b"\0").split(b"\0")
    return {chr(part[0]): part[1:].decode(errors="replace") for part in parts if part}


def _count(tags: Sequence[bytes]) -> int:
    tail = tags[-1].rpartition(b" ")[2] if tags else b""
    return int(tail) if tail.isdigit() else 0


def _simple_query(sql: str) -> bytes:
    text = sql.encode() + b"\0"
    return b"Q" + _LENGTH.pack(len(text) + 4) + text


_BEGIN, _COMMIT, _ROLLBACK = map(_simple_query, ("BEGIN", "COMMIT", "ROLLBACK"))
_UNSEEN = Result(0, (), -1)
"""What a body gets for a statement whose answer has not come yet, and on which nothing depends."""
_new_result = tuple.__new__
