"""When ops are due: seeded Poisson arrivals with a shape's rate, and the timer that wakes a loop when one is due."""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

import numpy as np

from loadgen.clock import NS_PER_S, now_ns
from loadgen.plan import Plan
from loadgen.shapes import Profile, is_closed, profile
from loadgen.workload import Workload

CHUNK = 1024
"""How many arrivals are made at a time: the memory of a schedule, however long it is."""

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


def arrival_profile(plan: Plan, workload: Workload) -> Profile:
    """The rate of all arrivals of a plan, together.

    The plan's rate is that of the workload's first kind of arrival; the others come on top by their weights.
    """
    weights = dict(plan.kind_weights)
    all_weights = sum(weights.get(kind, 0) for kind in workload.arrivals)
    first_weight = weights.get(workload.arrivals[0], 0)
    # A mix without the first kind, picked by tags, gives the whole rate to what there is.
    share = first_weight / all_weights if first_weight else 1.0
    return profile(plan.shape, plan.duration_s, plan.peak_rate / share)


def arrivals(due_rate: Profile, seed: int, index: int, count: int) -> Iterator[list[int]]:
    """The arrivals of load process ``index`` of ``count``: nanoseconds from the begin, ascending, in chunks.

    An inhomogeneous Poisson process by time change: the arrivals of a process of rate 1, sent through the inverse of
    the cumulative rate (Çinlar, Introduction to Stochastic Processes, 1975). Each load process has a stream of its
    own with 1/``count`` of the rate; independent Poisson streams add up to one of the whole rate.
    """
    draw = np.random.default_rng([seed, index, count])
    total = due_rate.total / count
    reached = 0.0
    while reached < total:
        steps = reached + np.cumsum(draw.standard_exponential(CHUNK))
        reached = float(steps[-1])
        offsets_s = due_rate.inverse(steps[steps < total] * count)
        yield (offsets_s * NS_PER_S).astype(np.int64).tolist()


def plan_arrivals(plan: Plan, workload: Workload, index: int, count: int) -> Iterator[list[int]]:
    """The arrivals of one load process of a plan; none where the shape is closed."""
    if is_closed(plan.shape):
        return iter(())
    return arrivals(arrival_profile(plan, workload), plan.seed, index, count)


class Timer:
    """Calls ``wake`` on a loop at an instant of the monotonic clock, set anew each time.

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
