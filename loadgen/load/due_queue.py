"""Which op is due next: arrivals from the schedule, what follows them, and the numbers that give them a meaning.

Lives on the loop thread; only ``supply`` and the counts may be used from elsewhere.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from loadgen.load.client_cost import LATE_RELEASE_NS, ClientMeter
from loadgen.workload import Invoked

Item = tuple[int, int, int, Invoked]
"""An op that is due: ``(due_ns, number, kind, op)``."""

NEVER = 2**63 - 1


class Wakes(Protocol):
    """A timer (arrivals.Timer): wakes the queue at an instant; 0 for not at all."""

    def set(self, at_ns: int) -> None:
        """Wake at ``at_ns`` instead of any earlier setting."""


class DueQueue:
    """What is due and not yet taken, oldest first.

    An arrival gets its number when it becomes due. One that no session can take within ``late_ns`` is given to
    ``skip``: so the queue holds at most what becomes due in that time. In a closed run nothing arrives: a session
    that asks gets a due follow-up, or else the next number, due at that instant. Where it ``thinks`` before it asks,
    follow-ups that become due meanwhile are given to it.
    """

    def __init__(
        self,
        schedule: Iterator[Sequence[int]],
        *,
        closed: bool,
        thinks: bool,
        duration_ns: int,
        late_ns: int,
        skip: Callable[[Item], None],
        clock: Callable[[], int],
        meter: ClientMeter,
    ) -> None:
        self.ready: deque[Item] = deque()
        # Whoever has waited longest is next: else, at a low rate, one session would do all and read from one replica.
        self.idle: deque[asyncio.Future[Item | None]] = deque()
        self.thinking: deque[asyncio.Future[Item | None]] = deque()
        """Sessions that wait before they ask for a number."""
        self.timer: Wakes | None = None
        self.unnumbered = 0
        """Arrivals that were due but for which no number had been supplied when the schedule was stopped."""
        self.released = 0
        """Ops that became due, with a number: each of them leaves one row."""
        self.unreached = 0
        """Follow-ups that would have been due after the end: none of them was due."""
        self._numbers: deque[Invoked] = deque()
        self._after_last = 0
        self._follow_ups: list[Item] = []
        self._schedule = schedule
        self._dues: Iterator[int] = iter(())
        self._arrival = NEVER
        self.start = NEVER
        """When the schedule begins."""
        self._end = NEVER
        self._closed = closed
        self._untimed = closed and not thinks
        self._duration_ns = duration_ns
        self._late_ns = late_ns
        self._skip = skip
        self._clock = clock
        self._meter = meter
        self._timer_at = NEVER

    def supply(self, block: Sequence[Invoked]) -> None:
        """Add numbers. May be called from any thread; ``release`` must follow, on the loop."""
        if block:
            self._after_last = block[-1].number + 1
            self._numbers.extend(block)

    @property
    def numbers_left(self) -> int:
        """How many numbers are left for arrivals to come."""
        return len(self._numbers)

    @property
    def next_number(self) -> int:
        """The first number that was never given to an op."""
        return self._numbers[0].number if self._numbers else self._after_last

    def begin(self, start_ns: int) -> None:
        """Let the schedule begin at ``start_ns``."""
        self.start, self._end = start_ns, start_ns + self._duration_ns
        self._dues = (start_ns + offset for chunk in self._schedule for offset in chunk)
        self._arrival = next(self._dues, NEVER)
        self._set_timer(start_ns if self._closed else self._arrival)

    def stop(self) -> None:
        """Let nothing more become due. What is due already stays ready."""
        self.release()
        now = self._clock()
        while self._arrival <= now:
            self.unnumbered += 1
            self._arrival = next(self._dues, NEVER)
        self._arrival, self._dues = NEVER, iter(())
        self.release()  # what waited behind arrivals without a number
        self.unreached += len(self._follow_ups)
        self._follow_ups.clear()
        self._end = min(self._end, now)
        self._set_timer(NEVER)

    def take(self) -> Item | None:
        """The op that has been due for longest; None if none is."""
        if self.ready:
            return self.ready.popleft()
        return self._take_closed() if self._closed else None

    def release(self) -> None:
        """Give what has become due to idle sessions, the rest to the queue, and set the timer for the next."""
        now = self._clock()
        numbers, follow_ups, idle, ready, meter = self._numbers, self._follow_ups, self.idle, self.ready, self._meter
        arrival = self._arrival
        while True:
            if follow_ups and follow_ups[0][0] < arrival:
                if follow_ups[0][0] > now:
                    break
                item = heappop(follow_ups)
            elif arrival <= now and numbers:
                op = numbers.popleft()
                item = (arrival, op.number, op.kind, op)
                arrival = next(self._dues, NEVER)
            else:
                break
            self.released += 1
            meter.released += 1
            if now - item[0] > LATE_RELEASE_NS:
                meter.released_late += 1
            if idle:
                idle.popleft().set_result(item)
            elif self.thinking:
                self.thinking.popleft().set_result(item)
            else:
                ready.append(item)
        self._arrival = arrival
        if ready and now - ready[0][0] > self._late_ns:
            self.expire(now)
        if self._closed:
            self._set_timer(NEVER if self._untimed or not follow_ups else follow_ups[0][0])
            self._wake_idle()
        elif arrival <= now:  # Out of numbers: it waits for supply, and a timer would only spin.
            self._set_timer(NEVER)
        else:
            self._set_timer(min(arrival, follow_ups[0][0]) if follow_ups else arrival)

    def follow(self, follow_ups: Sequence[tuple[int, int]], op: Invoked, bodies: Sequence[Any]) -> None:
        """Let ``(due, kind)`` of what follows ``op`` become due; nothing at or after the schedule's end."""
        for due, kind in follow_ups:
            if bodies[kind] is None:
                continue
            if due >= self._end:
                self.unreached += 1
            else:
                heappush(self._follow_ups, (due, op.number, kind, op))
                if due < self._timer_at and not self._untimed and self._arrival > due:
                    self._set_timer(due)

    def expire(self, now: int) -> None:
        """Skip what has waited for too long."""
        ready = self.ready
        while ready and now - ready[0][0] > self._late_ns:
            self._skip(ready.popleft())

    def skip_all(self) -> None:
        """Skip everything that is ready."""
        while self.ready:
            self._skip(self.ready.popleft())

    def _take_closed(self) -> Item | None:
        now = self._clock()
        if not self.start <= now < self._end:
            return None
        if self._follow_ups and self._follow_ups[0][0] <= now:
            self.released += 1
            return heappop(self._follow_ups)
        if not self._numbers:
            return None
        self.released += 1
        op = self._numbers.popleft()
        return now, op.number, op.kind, op

    def _wake_idle(self) -> None:
        """Let idle sessions look again, if they would find something."""
        while self.idle and (item := self.take()) is not None:
            self.idle.popleft().set_result(item)

    def _set_timer(self, at_ns: int) -> None:
        self._timer_at = at_ns
        if self.timer is not None:
            self.timer.set(0 if at_ns == NEVER else at_ns)
