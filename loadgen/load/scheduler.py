"""Driving one load process's part of a run: ops become due, sessions take them, and each end becomes a row.

``due = started + skipped`` and ``started = ok + fail + info``: every op that became due leaves exactly one row that
says how it ended.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

from loadgen.clock import NS_PER_S, now_ns
from loadgen.draws import uniform
from loadgen.engines.engine import Address, Engine, Failure, level_of
from loadgen.engines.session import Session
from loadgen.history.history import ROW_DONE, ROW_TRY
from loadgen.load.arrivals import Timer, plan_arrivals
from loadgen.load.client_cost import ClientMeter
from loadgen.load.due_queue import NEVER, DueQueue, Item
from loadgen.load.loop import LoopThread
from loadgen.load.session_loop import TRY_LIMIT_NS, SessionLoop, Shared, skipped
from loadgen.op import Completion, replica_of
from loadgen.plan import Plan
from loadgen.shapes import is_closed
from loadgen.workload import Invoked, Workload
from loadgen.workload.follow_up_draws import DueFollowUps

TICK_S = 0.1
"""How often the loop looks for what is late or stuck, and whether it is itself saturated."""
CUT_GRACE_S = 1.0
"""How long a transaction whose connection was cut may take to notice."""
MOST_PROBLEMS = 20
THINK = 0x7468696E6B
"""The index of the draw of a number's think time: far from those of workloads."""


class Scheduler:
    """The sessions of one load process, and what becomes due for them.

    Made and used from any thread; the work is done on ``thread``'s loop. ``share`` is ``(index, count)`` among the
    run's load processes. Where there are ``replicas``, bodies of one read run there. Numbers must be supplied ahead of
    the arrivals; without one an arrival waits.
    """

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        engine: Engine,
        address: Address,
        thread: LoopThread,
        *,
        replicas: Sequence[Address] = (),
        run_id: str = "",
        share: tuple[int, int] = (0, 1),
        clock: Callable[[], int] = now_ns,
    ) -> None:
        index, count = share
        self._thread = thread
        self._clock = clock
        self._meter = ClientMeter()
        self._rows: list[Completion] = []
        self._tries: list[Completion] = []
        self._due = self._due_queue(plan, workload, index, count)
        self._shared = self._what_seats_share(plan, workload, engine, (address, *replicas), index, run_id)
        self._processes = count
        self._next_process = index
        self._session_loops: dict[int, SessionLoop] = {}
        self._tasks: dict[SessionLoop, asyncio.Task[None]] = {}
        self._cut_at: dict[SessionLoop, int] = {}
        self._seat_ids = 0
        self._timer: Timer | None = None
        self.made = 0
        """How many rows ``take_rows`` has given."""
        self._ended_ops = 0
        self._start_until = NEVER
        self._end_ns = 0
        self.start_ns: int | None = None
        """When the schedule begins, once that is said."""
        self.problems: list[str] = []
        """Bugs of ours that ended a session, one line each: a run with one of them cannot be trusted to be whole."""
        thread.call_soon(self._open)

    # From any thread

    def add_session(self, bodies: Sequence[Any]) -> int:
        """Open a session whose transactions are ``bodies``, by kind code, None for what is not in the mix; its id."""
        self._seat_ids += 1
        seat_id = self._seat_ids
        self._thread.call_soon(lambda: self._add(seat_id, bodies))
        return seat_id

    def remove_session(self, session: int) -> None:
        """Close a session, after its transaction."""
        self._thread.call_soon(lambda: self._remove(session))

    def supply(self, block: Sequence[Invoked]) -> None:
        """Give numbers, already written to the history, for arrivals to come."""
        self._due.supply(block)
        self._thread.call_soon(self._due.release)

    def begin(self, start_ns: int) -> None:
        """Let the schedule begin at ``start_ns`` of the monotonic clock."""
        self.start_ns, self._end_ns = start_ns, start_ns + self._duration_ns
        self._thread.call_soon(lambda: self._begin(start_ns))

    def start_until(self, until_ns: int) -> None:
        """Start nothing after ``until_ns``, within a tick: unless a later instant is given before."""
        self._start_until = until_ns

    def stop_arrivals(self) -> None:
        """Let nothing more become due; what is due is still served."""
        self._thread.call_soon(self._due.stop)

    def take_rows(self) -> tuple[list[Completion], list[int]]:
        """The rows since the last call, and what each one is (history.ROW_TRY or ROW_DONE)."""
        rows, tries = self._rows, self._tries
        # Copy, then delete as many: an append from the loop in between stays, and each step is whole by itself.
        tried = tries[: len(tries)]
        del tries[: len(tried)]
        done = rows[: len(rows)]
        del rows[: len(done)]
        self.made += len(tried) + len(done)
        self._ended_ops += len(done)
        return tried + done, [ROW_TRY] * len(tried) + [ROW_DONE] * len(done)

    @property
    def left_s(self) -> float:
        """Seconds until the end of the schedule; 0 after it, and before the begin."""
        return max(0.0, (self._end_ns - self._clock()) / NS_PER_S) if self._end_ns else 0.0

    @property
    def sessions(self) -> int:
        """How many sessions there are, connected or not."""
        return len(self._session_loops)

    @property
    def connected(self) -> int:
        """How many sessions have a connection."""
        return sum(session_loop.connected for session_loop in list(self._session_loops.values()))

    @property
    def connect_failures(self) -> list[Failure]:
        """Why sessions that have no connection could not open one."""
        failures = [session_loop.connect_failure for session_loop in list(self._session_loops.values())]
        return [failure for failure in failures if failure is not None]

    @property
    def in_flight(self) -> int:
        """How many ops have been started and have not ended."""
        return sum(session_loop.item is not None for session_loop in list(self._session_loops.values()))

    @property
    def queued(self) -> int:
        """How many ops are due and wait for a session."""
        return len(self._due.ready)

    @property
    def numbers_left(self) -> int:
        """How many numbers are left for arrivals to come."""
        return self._due.numbers_left

    @property
    def next_number(self) -> int:
        """The first number that was never used; final once ``drain`` has ended."""
        return self._due.next_number

    @property
    def released(self) -> int:
        """How many ops became due."""
        return self._due.released

    @property
    def rowless(self) -> int:
        """Ops that became due and of which no row was taken. After ``drain`` and ``take_rows`` there is none."""
        return self._due.released - self._ended_ops

    @property
    def unnumbered(self) -> int:
        """Arrivals without a number in time, which have no row. Above 0 only if the controller gave no numbers."""
        return self._due.unnumbered

    @property
    def unreached(self) -> int:
        """Follow-ups that would have been due after the end of the load: they were never due, and have no row."""
        return self._due.unreached

    @property
    def errors(self) -> dict[str, tuple[str, str]]:
        """``{code: (class, sample)}`` of the errors met so far."""
        return dict(self._shared.errors)

    def client_facts(self) -> dict[str, Any]:
        """``cpu_seconds``, ``saturated_seconds`` and ``peak_rss_mb`` of this process since the begin."""
        return asdict(self._meter.cost())

    # Coroutines, for LoopThread.submit

    async def drain(self, timeout_s: float, *, serve_queued: bool = True) -> None:
        """Stop arrivals, wait until every started op has ended, and close all sessions.

        Ops that are due and not started are served within the late limit and the timeout; without ``serve_queued`` they
        are skipped at once. After ``timeout_s``, the connections of ops in flight are closed, and the stage of each op
        decides between ``fail`` and ``info``. Takes at most ``timeout_s`` + 2 * CUT_GRACE_S.
        """
        self._due.stop()
        if not serve_queued:
            self._due.skip_all()
        deadline = self._clock() + int(timeout_s * NS_PER_S)
        while (self._due.ready or self.in_flight) and self._session_loops and self._clock() < deadline:
            await asyncio.sleep(0.005)
            self._due.expire(self._clock())
        self._due.skip_all()
        self._shared.no_more_tries = True
        await self._cut_all()
        self._meter.end()
        await self._close()

    # On the loop

    def _due_queue(self, plan: Plan, workload: Workload, index: int, count: int) -> DueQueue:
        self._duration_ns = int(plan.duration_s * NS_PER_S)
        return DueQueue(
            plan_arrivals(plan, workload, index, count),
            closed=is_closed(plan.shape),
            thinks=plan.think_time_s[1] > 0,
            duration_ns=self._duration_ns,
            late_ns=int(plan.late_limit_s * NS_PER_S),
            skip=self._skip,
            clock=self._clock,
            meter=self._meter,
        )

    def _what_seats_share(
        self, plan: Plan, workload: Workload, engine: Engine, addresses: Sequence[Address], index: int, run_id: str
    ) -> Shared:
        level = level_of(engine, plan.isolation)
        address, *replicas = addresses

        def new_reader(process: int) -> Session | None:
            if not replicas:
                return None
            return Session(engine, replicas[replica_of(process, len(replicas))], level, run_id, reader=True)

        return Shared(
            due=self._due,
            rows=self._rows,
            tries=self._tries,
            clock=self._clock,
            late_ns=int(plan.late_limit_s * NS_PER_S),
            follow_ups=DueFollowUps(workload, plan),
            new_session=lambda: Session(engine, address, level, run_id),
            new_reader=new_reader,
            new_process=self._new_process,
            jitter=Random(f"{plan.seed}/{index}"),
            think=_think(plan),
        )

    def _open(self) -> None:
        self._timer = Timer(self._thread.loop, self._due.release)
        self._due.timer = self._timer
        self._thread.loop.call_later(TICK_S, self._tick)

    def _begin(self, start_ns: int) -> None:
        self._meter.begin(self._clock())
        self._due.begin(start_ns)

    def _new_process(self) -> int:
        process = self._next_process
        self._next_process += self._processes
        return process

    def _skip(self, item: Item) -> None:
        self._rows.append(skipped(item))

    def _add(self, seat_id: int, bodies: Sequence[Any]) -> None:
        session_loop = SessionLoop(self._shared, bodies)
        self._session_loops[seat_id] = session_loop
        task = self._thread.loop.create_task(session_loop.serve())
        self._tasks[session_loop] = task
        task.add_done_callback(lambda ended: self._ended(seat_id, session_loop, ended))

    def _ended(self, seat_id: int, session_loop: SessionLoop, task: asyncio.Task[None]) -> None:
        self._session_loops.pop(seat_id, None)
        self._tasks.pop(session_loop, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"a session ended by {error!r}")

    def _remove(self, session: int) -> None:
        session_loop = self._session_loops.get(session)
        if session_loop is not None:
            session_loop.leave()

    def _tick(self) -> None:
        if self._shared.closing:
            return
        now = self._clock()
        if now > self._start_until:
            self._shared.no_more_tries = True
            self._due.stop()
            self._due.skip_all()
        self._due.expire(now)
        self._meter.tick(now)
        for session_loop in list(self._tasks):
            self._watch(session_loop, now)
        self._thread.loop.call_later(TICK_S, self._tick)

    def _watch(self, session_loop: SessionLoop, now: int) -> None:
        """Cut a try that takes too long: first its connection, so that its stage still shows how it ended."""
        stuck = session_loop.try_began and now - session_loop.try_began > TRY_LIMIT_NS
        if not stuck:
            self._cut_at.pop(session_loop, None)
        elif session_loop not in self._cut_at:
            self._cut_at[session_loop] = now
            self._cut(session_loop)
        elif now - self._cut_at[session_loop] > CUT_GRACE_S * NS_PER_S:
            self._tasks[session_loop].cancel()

    def _cut(self, session_loop: SessionLoop) -> None:
        self._thread.submit(session_loop.close())

    async def _cut_all(self) -> None:
        in_flight = [session_loop for session_loop in self._tasks if session_loop.item is not None]
        for session_loop in in_flight:
            self._cut(session_loop)
        await self._wait_for(in_flight)
        self._shared.closing = True
        for session_loop in in_flight:
            if session_loop.item is not None and session_loop in self._tasks:
                self._tasks[session_loop].cancel()
        await self._wait_for(in_flight)

    async def _wait_for(self, session_loops: Sequence[SessionLoop]) -> None:
        deadline = self._clock() + int(CUT_GRACE_S * NS_PER_S)
        while any(session_loop.item is not None for session_loop in session_loops) and self._clock() < deadline:
            await asyncio.sleep(0.005)

    async def _close(self) -> None:
        self._shared.closing = True
        tasks = list(self._tasks.values())
        for session_loop in list(self._tasks):
            session_loop.leave()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=CUT_GRACE_S)
            for task in stuck:
                task.cancel()
        if self._timer is not None:
            self._timer.close()
            self._timer = self._due.timer = None


def _think(plan: Plan) -> Callable[[int], int] | None:
    """How long a session thinks after an arrival of a number, in nanoseconds; None if it does not."""
    least, most = (int(bound * NS_PER_S) for bound in plan.think_time_s)
    return (lambda number: least + int(uniform(plan.seed, number, THINK) * (most - least))) if most else None
