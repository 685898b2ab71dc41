"""When ops are due: the schedule as the loop wants it, and the timer that wakes a loop when one is due."""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

from loadgen import schedule
from loadgen.clock import NS_PER_S, now_ns
from loadgen.plan import Plan
from loadgen.workload import Workload

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


def plan_arrivals(plan: Plan, workload: Workload, index: int, count: int) -> Iterator[list[int]]:
    """The arrivals of one load process of a plan, as Python integers; none where the shape is closed."""
    return (chunk.tolist() for chunk in schedule.plan_arrivals(plan, workload.arrivals, index, count))


class Timer:
    """Calls ``wake`` on a loop at a time of the monotonic clock, which is set for each call.

    uvloop's own timers have steps of one millisecond and fire early, which turns "wait for the next arrival" into a
    busy loop; the kernel's timerfd fires within 0.1 ms. Where it is missing the loop's timers do, rounded up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None], *, use_timerfd: bool = True) -> None:
        self._loop = loop
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None
        self._timerfd = _Timerfd.open() if use_timerfd else None
        if self._timerfd is not None:
            loop.add_reader(self._timerfd.descriptor, wake)

    @property
    def precise(self) -> bool:
        """Whether it is the kernel's timer."""
        return self._timerfd is not None

    def set(self, at_ns: int) -> None:
        """Wake at ``at_ns``, at once if that has passed; instead of any earlier setting. 0: not at all."""
        if self._timerfd is not None:
            self._timerfd.set(at_ns)
            return
        if self._handle is not None:
            self._handle.cancel()
        delay_s = max(0.0, (at_ns - now_ns()) / NS_PER_S)
        # A loop's timer may be early by its step: a wake before the instant would only be set again.
        self._handle = self._loop.call_later(delay_s + 0.001, self._wake) if at_ns else None

    def close(self) -> None:
        """Never wake again."""
        if self._handle is not None:
            self._handle.cancel()
        if self._timerfd is not None:
            self._loop.remove_reader(self._timerfd.descriptor)
            self._timerfd.close()
            self._timerfd = None


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class _Timerfd:
    """A Linux timerfd on the monotonic clock. Setting it clears its expiry, so it need never be read."""

    def __init__(self, descriptor: int, settime: Callable[..., int]) -> None:
        self.descriptor = descriptor
        self._settime = settime
        self._spec = _Itimerspec()
        self._value = self._spec.it_value
        self._pointer = ctypes.byref(self._spec)

    @classmethod
    def open(cls) -> "_Timerfd | None":
        """A new timer, or None where the platform has none."""
        with contextlib.suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
            if descriptor >= 0:
                return cls(descriptor, libc.timerfd_settime)
        return None

    def set(self, at_ns: int) -> None:
        self._value.tv_sec, self._value.tv_nsec = divmod(at_ns, NS_PER_S)
        self._settime(self.descriptor, _TFD_TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        os.close(self.descriptor)
