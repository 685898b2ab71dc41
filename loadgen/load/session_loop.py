"""Session loop: takes due operations, executes them with retries, records the outcome."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from loadgen.clock import NS_PER_S
from loadgen.engines.engine import CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_S, Failure
from loadgen.engines.session import Session, Try
from loadgen.load.due_queue import DueQueue, Item
from loadgen.op import Completion, Outcome, Stage
from loadgen.workload import is_single_statement
from loadgen.workload.follow_up_draws import DueFollowUps

MAX_TRIES = 10
"""How often an op is tried at most."""
MAX_CONFLICT_TRIES = 50
"""The same where tries get in each other's way: 32 sessions on one hot row need many more to get through."""
CONFLICT_CLASSES = frozenset({"conflict", "deadlock"})
RETRY_LIMIT_NS = 10 * NS_PER_S
"""No try begins later than this after the first."""
LONGEST_PAUSE_S = 0.064
"""The pause before try n is uniform between 0 and 2^(n-1) ms, at most this: conflicts thin out by themselves."""
FIRST_RECONNECT_S = 0.1
LONGEST_RECONNECT_S = 1.0
"""The pause after a connection attempt that failed doubles from the one to the other."""
TRY_LIMIT_NS = 6 * STATEMENT_TIMEOUT_S * NS_PER_S
"""A try longer than this is cut: far above what a server that keeps its own timeouts can take."""
NO_ANSWER = "no-answer"
"""The code of a try that was cut and gave no answer: whether it happened is unknown."""
MOST_CODES = 200

_new_row = tuple.__new__
"""Completion's own constructor checks its arguments by name; a row is made for every op of a run."""


@dataclass(slots=True)
class Shared:
    """What all session loops of a load process share. ``rows`` and ``tries`` are emptied by another thread."""

    due: DueQueue
    rows: list[Completion]
    tries: list[Completion]
    clock: Callable[[], int]
    late_ns: int
    follow_ups: DueFollowUps
    new_session: Callable[[], Session]
    new_reader: Callable[[int], Session | None]
    """A process's connection to its replica; None where it reads on the writable node."""
    new_process: Callable[[], int]
    jitter: Random
    think: Callable[[int], int] | None = None
    """How long a session waits after an arrival of a number before it asks for another, in nanoseconds."""
    errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    no_more_tries: bool = False
    closing: bool = False

    def note(self, failure: Failure) -> None:
        """Keep the class and one sample of each code, the first few."""
        if failure.code not in self.errors and len(self.errors) < MOST_CODES:
            self.errors[failure.code] = (failure.error_class, failure.sample)


class SessionLoop:
    """One session: at most one transaction at a time. ``bodies`` are indexed by kind; None is not in the mix.

    Single reads go over ``reader``: a second connection, to a replica, or the same one.
    """

    def __init__(self, shared: Shared, bodies: Sequence[Any]) -> None:
        self.shared = shared
        self.process = shared.new_process()
        self._open_sessions()
        self.bodies = [None if body is None else (body, is_single_statement(body)) for body in bodies]
        self.leaving = False
        self.connect_failure: Failure | None = None
        """Why the latest attempt to connect failed; None once it is connected."""
        self.item: Item | None = None
        """The op in flight."""
        self.try_began = 0
        """When the try in flight began, or 0."""
        self._sent = 0
        self._tries = 0
        self._asks_at = 0
        """Until when it thinks."""
        self._waiter: asyncio.Future[Item | None] | None = None

    async def serve(self) -> None:
        """Take and run due ops until the loop is ended. Only a bug in loadgen raises."""
        try:
            while not await self._work_until_cut():
                self._open_sessions()
        finally:
            await self.close()

    @property
    def connected(self) -> bool:
        """Whether all its connections are there."""
        return self.session.connected and self.reader.connected

    async def close(self) -> None:
        """Close its connections, even if something runs on them."""
        await self.session.close()
        await self.reader.close()

    def _open_sessions(self) -> None:
        self.session = self.shared.new_session()
        self.reader = self.shared.new_reader(self.process) or self.session

    async def _work_until_cut(self) -> bool:
        """Whether the loop ended in order; otherwise its session has to be replaced."""
        try:
            await self._work()
        except asyncio.CancelledError:
            self._give_up()
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return self.shared.closing
        return True

    def leave(self) -> None:
        """End the loop after the transaction in flight."""
        self.leaving = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            due = self.shared.due
            (due.thinking if waiter in due.thinking else due.idle).remove(waiter)
            waiter.set_result(None)

    async def _work(self) -> None:
        shared = self.shared
        due, clock, late_ns, rows, think = shared.due, shared.clock, shared.late_ns, shared.rows, shared.think
        followed, what_follows = shared.follow_ups.answers, shared.follow_ups.due
        skip, new_row, bodies = self._skip, _new_row, self.bodies
        take, wait = (due.take, due.idle.append) if think is None else (self._take_unless_it_thinks, self._wait)
        create_future = asyncio.get_running_loop().create_future
        run = self.session.run
        for session in (self.session, self.reader):
            await self._reconnect(session)
        while not self.leaving:
            item = take()
            if item is None:
                self._waiter = waiter = create_future()
                wait(waiter)
                item = await waiter
                if item is None:
                    continue
            sent = clock()
            due_at, number, kind, op = item
            if sent - due_at > late_ns:
                skip(item)
                continue
            body, single = bodies[kind]  # type: ignore[misc]  # what is not in the mix is never due
            self.item, self._sent, self.try_began, self._tries = item, sent, sent, 1
            tried = await (self.reader.run if single else run)(body(op), single_statement=single)
            outcome, answer, touched, stage, failure = tried
            code = ""
            if failure is not None:
                tried = await self._try_again(item, tried)
                outcome, answer, touched, stage, failure = tried
                code = "" if failure is None else failure.code
            done = clock()
            tries, process = self._tries, self.process
            row = (number, kind, process, due_at, sent, done, outcome, answer, tries, stage, code, touched)
            rows.append(new_row(Completion, row))
            self.item, self.try_began = None, 0
            if answer in followed:
                due.follow(what_follows(op, kind, answer, done, due.start), op, bodies)
            if failure is not None:
                await self._recover(outcome)
            if think is not None and kind == op.kind:
                self._asks_at = done + think(number)

    def _take_unless_it_thinks(self) -> Item | None:
        """What is due; a new number only where the session has thought for long enough."""
        due = self.shared.due
        if due.ready:
            return due.ready.popleft()
        return due.take() if self.shared.clock() >= self._asks_at else None

    def _wait(self, waiter: asyncio.Future[Item | None]) -> None:
        """Let ``waiter`` wait among those who think, until the time is over, or else among the idle ones."""
        due, left_ns = self.shared.due, self._asks_at - self.shared.clock()
        if left_ns <= 0:
            due.idle.append(waiter)
            return

        def wake() -> None:
            if not waiter.done():
                due.thinking.remove(waiter)
                waiter.set_result(None)

        # A loop's timer may be early by its step.
        asyncio.get_running_loop().call_later(left_ns / NS_PER_S + 0.001, wake)
        due.thinking.append(waiter)

    async def _try_again(self, item: Item, tried: Try) -> Try:
        """Try ``item`` again, each time in a new transaction, for as long as that is right; the last try."""
        shared = self.shared
        body, single = self.bodies[item[2]]  # type: ignore[misc]
        session = self.reader if single else self.session
        while (failure := tried.failure) is not None:
            shared.note(failure)
            if not self._may_try_again(tried, failure):
                break
            began, self.try_began = self.try_began, 0
            shared.tries.append(self._row(item, began, tried, failure.code))
            longest_s = min(LONGEST_PAUSE_S, 0.001 * 2 ** min(self._tries, 10))
            await asyncio.sleep(shared.jitter.uniform(0.0, longest_s))
            self._tries += 1
            self.try_began = shared.clock()
            tried = await session.run(body(item[3]), single_statement=single)
        return tried

    def _may_try_again(self, tried: Try, failure: Failure) -> bool:
        most = MAX_CONFLICT_TRIES if failure.error_class in CONFLICT_CLASSES else MAX_TRIES
        return (
            failure.retry
            and tried.outcome == Outcome.FAIL
            and tried.stage != Stage.CONNECT
            and self._tries < most
            and not self.shared.no_more_tries
            and self.shared.clock() - self._sent < RETRY_LIMIT_NS
        )

    async def _recover(self, outcome: Outcome) -> None:
        """After an op that did not end ok: a new process number if the outcome is unknown, a new connection if it is
        lost."""
        if outcome == Outcome.INFO:
            # What it asked for may still happen, beside whatever this session does next: that is another process.
            self.process = self.shared.new_process()
            if self.reader is not self.session:
                # The process names the replica. Like a replica that was lost, it is connected by the next read.
                await self.reader.close()
                self.reader = self.shared.new_reader(self.process) or self.session
        if not self.session.connected:
            await self._reconnect(self.session)

    async def _reconnect(self, session: Session) -> None:
        """Open the connection, with growing pauses; each attempt that fails makes at most one due op fail with it."""
        shared = self.shared
        pause_s = FIRST_RECONNECT_S
        while not self.leaving:
            failure = self.connect_failure = await self._connect(session)
            if failure is None:
                return
            shared.note(failure)
            item = shared.due.take()
            if item is not None:
                self._fail(item, failure)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RECONNECT_S)

    async def _connect(self, session: Session) -> Failure | None:
        try:
            return await asyncio.wait_for(session.connect(), CONNECT_TIMEOUT_S + 1)
        except TimeoutError:
            return Failure(
                Outcome.FAIL, "connect-timeout", "connection", drop=True, sample="no answer to the connection"
            )

    def _fail(self, item: Item, failure: Failure) -> None:
        now = self.shared.clock()
        if now - item[0] > self.shared.late_ns:
            self._skip(item)
            return
        self._sent, self._tries = now, 1
        tried = Try(Outcome.FAIL, 0, (), Stage.CONNECT, failure)
        self.shared.rows.append(self._row(item, now, tried, failure.code))

    def _give_up(self) -> None:
        """The try in flight was cut and gave no answer, so how far it came is unknown."""
        item, self.item, self.try_began = self.item, None, 0
        if item is not None:
            failure = Failure(Outcome.INFO, NO_ANSWER, "timeout", sample="the transaction was cut and gave no answer")
            self.shared.note(failure)
            self.shared.rows.append(
                self._row(item, self._sent, Try(Outcome.INFO, 0, (), Stage.NONE, failure), NO_ANSWER)
            )
            self.process = self.shared.new_process()

    def _row(self, item: Item, sent: int, tried: Try, code: str) -> Completion:
        due, number, kind, _ = item
        return Completion(
            number,
            kind,
            self.process,
            due,
            sent,
            self.shared.clock(),
            tried.outcome,
            tried.answer,
            self._tries,
            tried.stage,
            code,
            tried.touched,
        )

    def _skip(self, item: Item) -> None:
        self.shared.rows.append(skipped(item))


def skipped(item: Item) -> Completion:
    """The row of an op that was due and never started: all its times are the instant when it was due."""
    due, number, kind, _ = item
    return Completion(number, kind, -1, due, due, due, Outcome.SKIPPED, 0, 0, Stage.NONE, "", ())
