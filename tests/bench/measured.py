"""What a benchmark measures of one repeat, and the median of several."""

import resource
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One repeat: orders placed, the client's CPU seconds (user and system), and the seconds that it took."""

    orders: int
    cpu_s: float
    wall_s: float

    @property
    def us_per_order(self) -> float:
        """The client's CPU microseconds for each order."""
        return self.cpu_s / self.orders * 1e6

    @property
    def orders_per_second(self) -> float:
        """Orders placed a second."""
        return self.orders / self.wall_s


class Stopwatch:
    """CPU time of this process, or of its children that have ended, from now on."""

    def __init__(self, *, children: bool = False) -> None:
        self._who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
        self._begin = self._now()

    def cpu_s(self) -> float:
        """Seconds since it was made, user and system."""
        return self._now() - self._begin

    def _now(self) -> float:
        used = resource.getrusage(self._who)
        return used.ru_utime + used.ru_stime


def median(values: Sequence[float]) -> float:
    """The median, rounded for a table."""
    return round(statistics.median(values), 2)
