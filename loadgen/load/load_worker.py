"""One load process of a run. It generates load and reports to the run controller through a link."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gevent

from loadgen.engines import engine_of
from loadgen.engines.engine import Address
from loadgen.history.history import ops_batch
from loadgen.load.client_cost import calm_collector
from loadgen.load.live_view import LocustView
from loadgen.load.loop import LoopThread, LoopTimeoutError
from loadgen.load.metrics import LoadMetrics
from loadgen.load.scheduler import MOST_PROBLEMS, Scheduler
from loadgen.op import Completion
from loadgen.plan import Plan
from loadgen.schedule import arrival_profile
from loadgen.shapes import is_closed
from loadgen.workload import Workload

FLUSH_S = 0.1
"""How often finished ops go to the history and the live view. At half of it, recording an op costs much more."""
BATCH_ROWS = 2_000
"""Rows of one batch at the most: a larger one would hold the interpreter for longer than 4 ms."""
BLOCK = 256
"""Op numbers asked for at a time: making their meaning takes 1-2 ms."""
AHEAD_S = 2.0
"""How long the numbers in stock should last at the peak."""
CLOSED_AHEAD = 4_096
"""The same for sessions that order as fast as they can, at the least."""
MOST_AHEAD = 120_000
"""The most numbers in stock: about 40 MB."""
MOST_TRIES = 5
"""How often a batch is offered to the controller. If it never accepts a batch, the batch is lost, and this process does
not end in order."""
CONNECT_LIMIT_S = 30.0
LATEST_END_S = 2.0
"""How much later a worker's schedule may end than the controller's: it begins when the message to begin arrives."""
EVENTS_WITHIN_S = 0.5
"""How long listeners to events may take for what is left at the end."""
CUT_LIMIT_S = 3.0
"""How much longer than its timeout a drain may take: cutting what is still in flight."""


class Link(Protocol):
    """How a load worker reaches the run controller."""

    def want(self, count: int) -> None:
        """Ask for ``count`` numbers; LoadWorker.supply delivers them, in this call or later."""

    def rows(self, batch: Any, *, first: int, in_flight: int, queued: int) -> None:
        """Give a batch of rows; ``first`` is how many were given before it."""

    def sessions(self, count: int) -> None:
        """Say how many sessions there are from now on."""

    def closed(self, facts: dict[str, Any]) -> None:
        """Say that this process has ended in order."""


class LoadWorker:
    """The part of one load process in one run. Its numbers last for ``ahead_s`` if the controller does not answer."""

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        address: Address,
        replicas: Sequence[Address],
        share: tuple[int, int],
        run_id: str,
        link: Link,
        stats: Any,
        *,
        ahead_s: float = AHEAD_S,
        metrics: LoadMetrics | None = None,
    ) -> None:
        self.plan = plan
        self.workload = workload
        self.begun = False
        self._link = link
        self._thread = LoopThread()
        engine = engine_of(plan.engine)
        self.scheduler = Scheduler(
            plan, workload, engine, address, self._thread, replicas=replicas, run_id=run_id, share=share
        )
        self._locust = LocustView(workload, stats)
        self._metrics = metrics
        if metrics is not None:
            metrics.attach(plan, run_id, self.scheduler, self._thread.call_soon)
        self._closed_loop = is_closed(plan.shape)
        self._ahead_s = ahead_s
        self._ahead = CLOSED_AHEAD if self._closed_loop else _numbers_ahead(plan, workload, share[1], ahead_s)
        self._wanted = 0
        self._kept: deque[tuple[list[Completion], list[int]]] = deque()
        """Rows that were taken from the scheduler and that the controller does not have yet."""
        self._given = self._tries = 0
        self._problems: list[str] = []
        self._sessions = -1
        self._closed: dict[str, Any] | None = None
        self._pump: gevent.Greenlet | None = gevent.spawn(self._pump_rows)

    def add_session(self, bodies: Sequence[Any]) -> int:
        """Open a session with these bodies; its id."""
        return self.scheduler.add_session(bodies)

    def remove_session(self, session: int) -> None:
        """Close a session, after its transaction."""
        self.scheduler.remove_session(session)

    def connect(self, wanted: int) -> str:
        """Wait until ``wanted`` sessions are connected; else say what hinders, in one line."""
        deadline = gevent.get_hub().loop.now() + CONNECT_LIMIT_S
        while self.scheduler.connected < wanted and gevent.get_hub().loop.now() < deadline:
            if self.scheduler.connect_failures:
                break
            gevent.sleep(0.01)
        if self.scheduler.connected >= wanted:
            self._tell_sessions()
            calm_collector()
            return ""
        failures = self.scheduler.connect_failures
        reason = f"{failures[0].code}: {failures[0].sample}" if failures else f"no answer in {CONNECT_LIMIT_S:g} s"
        return f"{self.scheduler.connected} of {wanted} sessions connected, then {reason}"

    def supply(self, columns: Mapping[str, Any]) -> None:
        """Accept numbers from the controller, with the columns that the workload computed for them."""
        self._wanted -= len(columns["number"])
        self.scheduler.supply(self.workload.ops(self.plan, columns))

    def begin(self, start_ns: int) -> None:
        """Let arrivals be due from ``start_ns`` on."""
        self.begun = True
        self.scheduler.begin(start_ns)

    def finish(self, drain_s: float, *, serve_queued: bool, reason: str = "") -> None:
        """Stop arrivals, wait at most ``drain_s`` for ops in flight, and give all rows to the controller. Idempotent.

        Ops that are due and wait for a session are still served, or are skipped. ``reason`` says why this process ends
        before its run does.
        """
        if self._closed is not None:
            return
        self._closed = {}
        if serve_queued:
            gevent.sleep(min(self.scheduler.left_s, LATEST_END_S))
        self.scheduler.stop_arrivals()
        warnings = []
        try:
            self._thread.submit(self.scheduler.drain(drain_s, serve_queued=serve_queued)).result(drain_s + CUT_LIMIT_S)
        except LoopTimeoutError as error:
            warnings.append(str(error))
        if self._pump is not None:
            self._pump.kill()
        self._flush_all()
        if self.scheduler.rowless:
            warnings.append(f"{self.scheduler.rowless} ops became due and left no row")
        if self.scheduler.made != self._given:
            warnings.append(f"{self.scheduler.made - self._given} of {self.scheduler.made} rows could not be recorded")
        warnings += [*self.scheduler.problems, *self._thread.problems]
        # Of a loop that hung, or lost a session or a row by a mistake of ours, nobody knows what it left undone.
        orderly = not warnings
        warnings += self._problems
        self._closed = {
            "orderly": orderly,
            "warnings": warnings,
            "next_number": self.scheduler.next_number,
            "made": self.scheduler.made,
            "start_ns": self.scheduler.start_ns,
            "unreached": self.scheduler.unreached,
            "unnumbered": self.scheduler.unnumbered,
            "reason": reason,
            "client": self.scheduler.client_facts(),
            "errors": {code: {"class": known[0], "sample": known[1]} for code, known in self.scheduler.errors.items()},
        }
        self._locust.events.settle(EVENTS_WITHIN_S)
        self._link.closed(self._closed)
        self._thread.stop()

    def _pump_rows(self) -> None:
        while True:
            self._try(self._ask)
            self._try(self._flush)
            self._try(self._tell_sessions)
            gevent.sleep(FLUSH_S)

    def _try(self, step: Callable[[], None]) -> None:
        """Run ``step``. An error is reported and loses nothing, because the step runs again."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - without the pump every op from here on would be lost
            problem = f"{step.__name__.strip('_')}: {error!r}"
            if problem not in self._problems and len(self._problems) < MOST_PROBLEMS:
                self._problems.append(problem)

    def _tell_sessions(self) -> None:
        if self._sessions != self.scheduler.sessions:
            self._sessions = self.scheduler.sessions
            self._link.sessions(self._sessions)

    def _ask(self) -> None:
        while self.scheduler.numbers_left + self._wanted < self._ahead:
            self._wanted += BLOCK
            self._link.want(BLOCK)
            gevent.sleep(0)  # One block at a time: a burst of Python here delays arrivals on the loop.

    def _flush_all(self) -> None:
        """Give everything that there is, or give it up: each call takes a batch or counts a try of it."""
        self._try(self._flush)
        for _ in range((MOST_TRIES + 1) * len(self._kept)):
            if self._kept:
                self._try(self._flush)

    def _flush(self) -> None:
        rows, types = self.scheduler.take_rows()
        if self._closed_loop:
            per_second = len(rows) / FLUSH_S
            self._ahead = max(self._ahead, min(MOST_AHEAD, int(per_second * self._ahead_s)))
        for first in range(0, len(rows), BATCH_ROWS):
            self._kept.append((rows[first : first + BATCH_ROWS], types[first : first + BATCH_ROWS]))
        while self._kept:
            part, kinds = self._kept[0]
            self._give(part, kinds)
            self._kept.popleft()
            self._tries = 0
            self._locust.record(part, kinds)

    def _give(self, part: list[Completion], kinds: list[int]) -> None:
        """Give one batch to the controller. It is kept until the controller has accepted it, or never will."""
        self._tries += 1
        if self._tries > MOST_TRIES:
            return
        batch = ops_batch(part, kinds)
        self._link.rows(batch, first=self._given, in_flight=self.scheduler.in_flight, queued=self.scheduler.queued)
        self._given += len(part)
        if self._metrics is not None:
            self._metrics.observe(batch)


def _numbers_ahead(plan: Plan, workload: Workload, processes: int, ahead_s: float) -> int:
    """How many numbers last for ``ahead_s`` at the peak: a third more than the mean, and no more than a run needs."""
    schedule = arrival_profile(plan, workload.arrivals)
    most = min(schedule.peak_rate * ahead_s, schedule.total) / processes * 1.3
    return max(2 * BLOCK, min(MOST_AHEAD, int(most)))
