"""When things happened on one time axis: nanoseconds since the run's first op was due, whichever host measured them."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.clock import NS_PER_S
from loadgen.history.history import LoadProcess


@dataclass(frozen=True, slots=True)
class Timeline:
    """The shift of each load process's monotonic clock to the common axis, and where the axis begins.

    Processes of one boot share one shift, so that the wall clock of a host cannot change the order of its monotonic
    clock. Between hosts the wall clocks decide. That is good enough for a display, and never proves an order.
    """

    start_wall_ns: int
    shifts: tuple[int, ...]
    """By process: add it to a monotonic time to get nanoseconds since the start."""
    boots: tuple[int, ...]
    """By process: a small number that is equal for equal boot ids. Times of one boot may be ordered."""

    def seconds(self, time_ns: int, process: int) -> float:
        """Seconds since the run's start of a time that ``process`` measured."""
        return (time_ns + self.shifts[process]) / NS_PER_S


def timeline(processes: Sequence[LoadProcess]) -> Timeline:
    """The timeline of a run's processes. Without any op it begins at the epoch."""
    boots: dict[str, int] = {}
    first_of_boot: list[int] = []
    numbers = []
    for index, process in enumerate(processes):
        # A process that does not say its boot shares a clock with nobody.
        boot = process.origin.boot_id or f"unknown {index}"
        numbers.append(boots.setdefault(boot, len(boots)))
        if numbers[-1] == len(first_of_boot):
            first_of_boot.append(process.origin.wall_ns - process.origin.monotonic_ns)
    dues = [
        int(process.ops["due"].min()) + first_of_boot[boot]
        for process, boot in zip(processes, numbers, strict=True)
        if len(process.ops["due"])
    ]
    start = min(dues, default=0)
    return Timeline(start, tuple(first_of_boot[boot] - start for boot in numbers), tuple(numbers))
