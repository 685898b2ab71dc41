"""The one clock of a run: integer nanoseconds on the host's monotonic clock, and what ties it to the wall.

Also how a user writes a time.
"""

import math
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.errors import PlanError

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

now_ns = time.monotonic_ns
"""Nanoseconds on CLOCK_MONOTONIC: one clock for every process of one boot of one host, never set back."""

_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


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


def parse_duration(value: Any, option: str, most_s: float) -> float:
    """Seconds of ``90``, ``90s``, ``1m30s``, ``1.5h`` or ``250ms``; more than 0 and at most ``most_s``."""
    text = str(value).strip().lower()
    seconds = math.nan
    if text.endswith("ms") and is_number(text[:-2]):
        seconds = float(text[:-2]) / 1000
    elif is_number(text):
        seconds = float(text)
    elif text and (match := _DURATION.fullmatch(text)):
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not 0 < seconds <= most_s:  # NaN compares false, so it ends here too
        raise PlanError(f"--{option} {str(value)!r} is not a time from above 0 to {most_s:g} s, such as 90s or 1m30s")
    return seconds


def parse_range(text: str, option: str, most_s: float) -> tuple[float, float]:
    """The two times of ``1s-3s``, in seconds; the same one twice of ``2s``. Each is as in ``parse_duration``."""
    least, *most = (parse_duration(part, option, most_s) for part in re.split(r"(?<!e)-", text))
    if len(most) > 1 or (most and most[0] < least):
        raise PlanError(f"--{option} {text!r} is not a time or a range such as 2s or 1s-3s")
    return least, most[0] if most else least


def pause_words(pause_s: Sequence[float]) -> str:
    """How long sessions wait before they ask again, in words; empty where they do not wait."""
    least, most = pause_s
    return f"{least:g}{f' to {most:g}' if most > least else ''} s after each answer" if most else ""


def is_number(text: str) -> bool:
    """Whether ``text`` is a finite number as a user writes it: no more than 18 digits, and an exponent of two."""
    return bool(re.fullmatch(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)(e[+-]?\d{1,2})?", text.strip().lower()))
