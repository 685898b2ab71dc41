"""The one clock of a run: integer nanoseconds on the host's monotonic clock, and what ties it to the wall."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

now_ns = time.monotonic_ns
"""Nanoseconds on CLOCK_MONOTONIC: one clock for every process of one boot of one host, never set back."""


@dataclass(frozen=True, slots=True)
class ClockOrigin:
    """What makes monotonic times comparable: only times of one ``boot_id`` may be ordered among each other."""

    host: str
    boot_id: str
    wall_ns: int
    monotonic_ns: int

    def wall_of(self, monotonic_ns: int) -> int:
        """The wall-clock nanoseconds since the epoch at which this host's monotonic clock showed ``monotonic_ns``."""
        return self.wall_ns + monotonic_ns - self.monotonic_ns


def clock_origin() -> ClockOrigin:
    """The wall and monotonic clocks of this host, read together."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Without a boot id, nothing says that two processes share a clock: each one stands alone.
        boot_id = f"{platform.node()}-{time.time_ns()}"
    return ClockOrigin(platform.node(), boot_id, time.time_ns(), time.monotonic_ns())
