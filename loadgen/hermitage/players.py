"""Plays one case: each statement in its turn, and each wait as the server itself reports it.

The rule that makes a play the same each time: before the next statement of the script is sent, every session with a
statement in flight has been answered, or the server reports that it waits for another session of the script whose
transaction is open and can continue. Statements of a session that waits are kept until it has been answered.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, Address, Connection, Engine, Level
from loadgen.errors import ClusterError
from loadgen.hermitage.case import BEGIN, COMMIT, INITIAL, ROLLBACK, TABLE, Case, Rows, Seen, Step
from loadgen.hermitage.play import Event, Play, Verdict, What
from loadgen.hermitage.waits import SESSION_ID, WAITS
from loadgen.op import Outcome, Stage
from loadgen.workload import Call, Result, Statement

SETTLE_LIMIT_S = 2 * (LOCK_TIMEOUT_S + STATEMENT_TIMEOUT_S)
"""How long a statement may neither be answered nor be seen to wait: above all limits of the server."""
ASK_AGAIN_S = 0.002
"""The pause before the server is asked again; an answer ends it at once."""

_CLEAR = Statement(f"TRUNCATE TABLE {TABLE}")
_FILL = Statement(f"INSERT INTO {TABLE} (id, value) VALUES {', '.join(map(str, INITIAL.items()))}")
_READ_ALL = Statement(f"SELECT id, value FROM {TABLE} ORDER BY id")
_REFUSALS = ("conflict", "deadlock")
"""The classes of the errors by which a level prevents an anomaly; the timeout of a lock is another."""
_STAGES = {BEGIN: Stage.BEGIN, COMMIT: Stage.COMMIT}


@dataclass(slots=True)
class _Seat:
    """One session while a case is played."""

    number: int
    connection: Connection
    server_id: int
    open: bool = False
    locks: bool = False
    ended: str = ""
    lost: bool = False
    unsure: bool = False
    waits_for: tuple[int, ...] = ()
    may_wait_for: tuple[int, ...] = ()
    waited: bool = False
    told: bool = False
    step: Step | None = None
    task: "asyncio.Task[Result | None] | None" = None
    kept: deque[Step] = field(default_factory=deque)


class Players:
    """The sessions of one engine at one level, and one more that watches them. Use it as an async context manager."""

    def __init__(self, engine: Engine, address: Address, level: Level, run_id: str = "") -> None:
        self._engine = engine
        self._run_id = run_id
        self._address = address
        self._level = level
        self._connections: dict[int, tuple[Connection, int]] = {}
        self._watcher: Connection | None = None
        self._waits = list(WAITS[engine.name])

    async def __aenter__(self) -> "Players":
        """Connect the watcher."""
        # The watcher's own level must not take part: at some levels its reads would lock.
        level = self._engine.levels["read committed"]
        try:
            self._watcher = await self._engine.connect(self._address, level, self._run_id)
        except Exception as error:
            raise self._refusal("cannot be reached", error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every session."""
        connections = [connection for connection, _ in self._connections.values()]
        for connection in (*connections, *([self._watcher] if self._watcher else ())):
            await connection.close()

    async def play(self, case: Case) -> Play:
        """Play one case on a fresh table. Raises ClusterError where the server can't be used, or can't be asked."""
        await self._watch(_CLEAR())
        await self._watch(_FILL())
        seats = {number: await self._seated(number) for number in case.sessions}
        play = _CasePlay(self._engine, case, seats, self._who_waits)
        try:
            await play.run()
        finally:
            for seat in seats.values():
                await self._left(seat)
        final = _rows(await self._watch(_READ_ALL()))
        return play.result(final)

    async def _seated(self, number: int) -> _Seat:
        if number not in self._connections:
            try:
                connection = await self._engine.connect(self._address, self._level, self._run_id)
                self._connections[number] = connection, int((await connection.execute(SESSION_ID())).rows[0][0])
            except Exception as error:
                raise self._refusal("lets no session in", error) from error
        return _Seat(number, *self._connections[number])

    async def _left(self, seat: _Seat) -> None:
        """Leave no transaction open."""
        if seat.task is not None and not seat.task.done():
            seat.task.cancel()
            await asyncio.wait([seat.task])
            seat.lost = True
        if not seat.lost and seat.open:
            try:
                await seat.connection.rollback()
            except Exception:  # noqa: BLE001 - what is open is gone with the connection
                seat.lost = True
        if seat.lost:
            await seat.connection.close()
            del self._connections[seat.number]

    async def _who_waits(self) -> dict[int, set[int]]:
        """Each waiting session, by the server's number, with those that it waits for (none: unknown)."""
        while True:
            try:
                answer = await self._watch(self._waits[0]())
                break
            except ClusterError as error:
                if len(self._waits) == 1:
                    raise ClusterError(
                        f"{self._engine.title} can't be asked which session waits: give this user the right to "
                        f"read it ({error})"
                    ) from error
                del self._waits[0]
        waits: dict[int, set[int]] = {}
        for waiter, blocker in answer.rows:
            waits.setdefault(int(waiter), set()).update(() if blocker is None else (int(blocker),))
        return waits

    async def _watch(self, call: Call) -> Result:
        assert self._watcher is not None
        try:
            return await self._watcher.execute(call)
        except Exception as error:
            raise self._refusal(f"does not take {call[0]!r}", error) from error

    def _refusal(self, what: str, error: Exception) -> ClusterError:
        failure = self._engine.classify(error, Stage.STATEMENT)
        return ClusterError(f"{self._engine.title} {what}: {failure.code} {failure.sample}".rstrip())


WhoWaits = Callable[[], Awaitable[dict[int, set[int]]]]


class _CasePlay:
    """The state of one play."""

    def __init__(self, engine: Engine, case: Case, seats: Mapping[int, _Seat], who_waits: WhoWaits) -> None:
        self._engine = engine
        self._case = case
        self._seats = seats
        self._who_waits = who_waits
        self._reads: dict[str, Rows] = {}
        self._events: list[Event] = []

    async def run(self) -> None:
        """Play the script to the end of every transaction."""
        for number in self._case.sessions:
            if number not in self._case.begin_themselves:
                await self._do(self._seats[number], Step(number, BEGIN, "", Statement(BEGIN)))
        for step in self._case.steps:
            seat = self._seats[step.session]
            if seat.task is None:
                await self._do(seat, step)
            else:
                seat.kept.append(step)
                self._tell(seat, step, What.KEPT)
        if self._pending():
            raise ClusterError(
                f"{self._engine.title}: {self._case.name} ended while a session waited for a session that had ended"
            )

    def result(self, final: Rows) -> Play:
        """What the play says, with the table as it was afterwards."""
        ended = {number: seat.ended for number, seat in self._seats.items()}
        if any(seat.unsure for seat in self._seats.values()):
            verdict = Verdict.UNKNOWN
        elif any(ended[number] != "committed" for number in self._case.committing):
            verdict = Verdict.PREVENTED
        else:
            happened = self._case.shows(Seen(self._reads, final))
            verdict = Verdict.HAPPENED if happened else Verdict.PREVENTED
        return Play(self._case, verdict, ended, final, tuple(self._events))

    async def _do(self, seat: _Seat, step: Step) -> None:
        self._send(seat, step)
        await self._settle(seat)

    def _send(self, seat: _Seat, step: Step) -> None:
        if seat.ended:
            self._tell(seat, step, What.SKIPPED)
            return
        seat.step, seat.waits_for, seat.waited, seat.told = step, (), False, False
        seat.locks = seat.locks or step.locks
        seat.task = asyncio.ensure_future(_sent(seat.connection, step))

    async def _settle(self, current: _Seat) -> None:
        """Until every session is answered, or firmly waits. Answers are taken in one order, whatever came first.

        That order is: what was sent last, and then by session. A kept statement is sent when its session's answer is
        taken, and is then what was sent last.
        """
        while pending := self._pending():
            await self._come_to_rest()
            for seat in (current, *(other for other in pending if other is not current)):
                if seat.task is not None and not seat.task.done() and not seat.told:
                    assert seat.step is not None
                    seat.told = True
                    self._tell(seat, seat.step, What.WAITS, waits_for=seat.waits_for)
            ready = [seat for seat in pending if seat.task is not None and seat.task.done()]
            if not ready:
                return
            current = current if current in ready else ready[0]
            await self._take_answer(current)
            while current.kept and current.task is None:
                self._send(current, current.kept.popleft())

    async def _come_to_rest(self) -> None:
        """Until each session with a statement in flight is answered, or waits for one that can continue.

        Sessions that wait for each other are not at rest: the server breaks a deadlock, or its lock timeout does.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_LIMIT_S
        while unanswered := self._unanswered():
            if await _first_of(unanswered, ASK_AGAIN_S):
                continue
            waits = await self._who_waits()
            unanswered = self._unanswered()
            waiting = [seat for seat in unanswered if self._waits(seat, waits)]
            if len(waiting) == len(unanswered) and not _deadlocked(waiting):
                return
            if loop.time() > deadline:
                assert unanswered[0].step is not None
                raise ClusterError(
                    f"{self._engine.title}: {unanswered[0].step.sql!r} was not answered within "
                    f"{SETTLE_LIMIT_S} s, and the server does not report that it waits for a session that can "
                    "continue"
                )

    def _pending(self) -> list[_Seat]:
        return [seat for seat in self._seats.values() if seat.task is not None]

    def _unanswered(self) -> list[_Seat]:
        return [seat for seat in self._pending() if seat.task is not None and not seat.task.done()]

    def _waits(self, seat: _Seat, waits: Mapping[int, set[int]]) -> bool:
        """Whether the server says that ``seat`` waits, for a session that can still hold what it waits for.

        A server may take a moment to wake the waiter of a lock that has just been given back: then it says what was.
        """
        blockers = waits.get(seat.server_id)
        if blockers is None:
            return False
        others = [other for other in self._seats.values() if other is not seat and other.open]
        seat.waits_for = tuple(other.number for other in others if other.server_id in blockers)
        seat.may_wait_for = seat.waits_for or tuple(other.number for other in others if other.locks and not blockers)
        seat.waited = seat.waited or bool(seat.may_wait_for)
        return bool(seat.may_wait_for)

    async def _take_answer(self, seat: _Seat) -> None:
        step, task = seat.step, seat.task
        assert step is not None and task is not None
        seat.step = seat.task = None
        try:
            result = task.result()
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes an outcome, by the engine's table
            await self._end_by(seat, step, error)
            return
        if step.sql == BEGIN:
            seat.open = True
        elif step.sql in (COMMIT, ROLLBACK):
            seat.open, seat.ended = False, "committed" if step.sql == COMMIT else "rolled back"
        rows = _rows(result) if result is not None and step.sql.startswith("SELECT") else None
        if rows is not None and step.label:
            self._reads[step.label] = rows
        self._tell(seat, step, What.ANSWERED, rows=rows, row_count=result.rowcount if result else 0)

    async def _end_by(self, seat: _Seat, step: Step, error: Exception) -> None:
        """An error ends the transaction: after some a server keeps it open, so it is always rolled back."""
        failure = self._engine.classify(error, _STAGES.get(step.sql, Stage.STATEMENT))
        seat.open, seat.ended = False, failure.code or "error"
        # A lost connection, a COMMIT without an answer or an error of another kind proves nothing about the level.
        refused = failure.error_class in _REFUSALS or (failure.error_class == "timeout" and seat.waited)
        seat.unsure = failure.drop or failure.outcome is Outcome.INFO or not refused
        seat.lost = failure.drop
        self._tell(seat, step, What.FAILED, failure=failure)
        if not failure.drop:
            try:
                await seat.connection.rollback()
            except Exception:  # noqa: BLE001 - what was open is gone with the connection
                seat.lost = True

    def _tell(self, seat: _Seat, step: Step, what: What, **more: Any) -> None:
        waited = seat.told and what in (What.ANSWERED, What.FAILED)
        self._events.append(Event(seat.number, step.sql, what, waited=waited, **more))


def _deadlocked(waiting: Sequence[_Seat]) -> bool:
    """Whether some of ``waiting`` wait for each other."""
    left = {seat.number: set(seat.may_wait_for) for seat in waiting}
    while free := [number for number, blockers in left.items() if not blockers & left.keys()]:
        for number in free:
            del left[number]
    return bool(left)


async def _first_of(seats: Sequence[_Seat], within_s: float) -> bool:
    """Wait for the first answer to any of ``seats``; False if none came in time."""
    tasks = [seat.task for seat in seats if seat.task is not None]
    done, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def _sent(connection: Connection, step: Step) -> Result | None:
    if step.sql == BEGIN:
        await connection.begin()
    elif step.sql == COMMIT:
        await connection.commit()
    elif step.sql == ROLLBACK:
        await connection.rollback()
    else:
        return await connection.execute(step.statement())
    return None


def _rows(result: Result) -> Rows:
    return {int(key): int(value) for key, value in result.rows}
