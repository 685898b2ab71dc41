"""What driving costs the client, and whether the client itself was the bottleneck."""

import gc
import resource
import sys
import time
from dataclasses import dataclass

from loadgen.clock import NS_PER_MS, NS_PER_S

BUSY_SHARE = 0.9
"""Python runs on one core: a second in which this process used more of one than this is saturated."""
LATE_RELEASE_NS = 20 * NS_PER_MS
"""An arrival released later than this was late through the client's fault, not the server's."""
LATE_RELEASE_SHARE = 0.01
"""A second with a larger share of such arrivals is saturated: its lag p99 is above LATE_RELEASE_NS."""

COLLECT_AFTER = 10_000
"""How many objects more there must be before the garbage collector looks at the new ones: about 1 ms each time."""


@dataclass(frozen=True, slots=True)
class ClientCost:
    """What one load process used from the begin of its schedule on."""

    cpu_seconds: float
    saturated_seconds: int
    peak_rss_mb: float


class ClientMeter:
    """Counts saturated seconds. Fed by the loop: each release, and a tick several times a second."""

    def __init__(self) -> None:
        self.released = 0
        self.released_late = 0
        self._saturated = 0
        self._begin_cpu_ns = 0
        self._second_begin_ns = 0
        self._second_cpu_ns = 0
        self._end_cpu_ns = 0

    def begin(self, now_ns: int) -> None:
        """Count from ``now_ns`` on."""
        self._saturated = 0
        self._begin_cpu_ns = self._second_cpu_ns = time.process_time_ns()
        self._second_begin_ns = now_ns
        self._end_cpu_ns = 0
        self.released = self.released_late = 0

    def tick(self, now_ns: int) -> None:
        """End the current second if it is over."""
        elapsed_ns = now_ns - self._second_begin_ns
        if not self._second_begin_ns or elapsed_ns < NS_PER_S or self._end_cpu_ns:
            return
        cpu_ns = time.process_time_ns()
        busy = cpu_ns - self._second_cpu_ns >= BUSY_SHARE * elapsed_ns
        late = self.released_late > LATE_RELEASE_SHARE * self.released
        if busy or late:
            # A stalled loop ticks late: the seconds that it slept through count too.
            self._saturated += elapsed_ns // NS_PER_S
        self._second_begin_ns, self._second_cpu_ns = now_ns, cpu_ns
        self.released = self.released_late = 0

    def end(self) -> None:
        """Stop counting. Idempotent."""
        if self._second_begin_ns and not self._end_cpu_ns:
            self._end_cpu_ns = time.process_time_ns()

    def cost(self) -> ClientCost:
        """The cost up to now, or up to the end."""
        cpu_ns = (self._end_cpu_ns or time.process_time_ns()) - self._begin_cpu_ns if self._second_begin_ns else 0
        return ClientCost(cpu_ns / NS_PER_S, self._saturated, peak_rss_mb())


def peak_rss_mb() -> float:
    """The largest resident size of this process so far, in megabytes of 2^20 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def calm_collector() -> None:
    """Let the garbage collector leave alone what is there now: its looks at all of Locust are a tenth of a run's CPU.

    Takes about 0.1 s, so call it before the first arrival is due. May be called again before each run.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
