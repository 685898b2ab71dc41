"""Shapes: how many arrivals a second are due, t seconds into a run. Pure, and vectorised over numpy arrays.

A shape is one function of relative time (0 at the begin of the schedule, 1 at its end) to relative rate (1 at the
peak). A Profile lays it over a duration and a peak rate, and inverts its integral, which is how arrivals are made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = Callable[[Floats], Floats]
"""Relative time in [0, 1] -> relative rate in [0, 1]."""

CELLS = 8192
"""Into how many cells a duration is cut. The rate is constant in a cell: 7 ms of a minute, 0.9 s of two hours."""

# The timeline of Double 11 in seconds from 00:00:00, after the published milestones of 2017-2020; all of it is
# compressed by one time factor, so a minute's run goes through 13 minutes of the sale.
PREHEAT_S = 60.0
"""How long before the sale's begin the run begins."""
PREHEAT_RATES = (0.02, 0.05)
"""The relative rate at the begin and at the end of the preheat."""
PEAK_S = 26.0
"""When the rate is highest: 583,000 orders a second were reported at 00:00:26."""
PLATEAU_END_S = 150.0
"""When it begins to fall."""
DECAY_S = 300.0
"""The time constant of the fall: the short end of the 5-10 minutes that the milestones allow."""
LAST_RATE = 0.15
"""The relative rate at which the run ends: the level of the rest of the first two hours, six times below the peak."""
SALE_END_S = PLATEAU_END_S - DECAY_S * float(np.log(LAST_RATE))


def double11(share: Floats) -> Floats:
    """Preheat, a ramp to the peak, a plateau, and an exponential fall: the whole timeline, compressed."""
    second = share * (PREHEAT_S + SALE_END_S) - PREHEAT_S
    rising = np.interp(second, (-PREHEAT_S, 0.0, PEAK_S), (*PREHEAT_RATES, 1.0))
    return np.where(second <= PLATEAU_END_S, rising, np.exp(np.minimum(PLATEAU_END_S - second, 0.0) / DECAY_S))


def constant(share: Floats) -> Floats:
    """The peak rate from begin to end."""
    return np.ones_like(share)


def ramp(share: Floats) -> Floats:
    """From nothing to the peak rate, in a straight line."""
    return share


def closed(share: Floats) -> Floats:
    """No arrivals: each session takes its next op as soon as it is free."""
    return np.zeros_like(share)


SHAPES: Mapping[str, Shape] = {"double11": double11, "constant": constant, "ramp": ramp, "closed": closed}


def is_closed(name: str) -> bool:
    """Whether sessions take one op after another instead of waiting for arrivals."""
    return SHAPES[name] is closed


@dataclass(frozen=True)
class Profile:
    """A shape laid over ``duration_s`` seconds with ``peak_rate`` arrivals a second at its highest.

    ``counts[i]`` arrivals are due, on average, before ``edges_s[i]``; between two edges the rate is constant, so
    ``cumulative`` and ``inverse`` are straight lines there and exact inverses of each other.
    """

    duration_s: float
    peak_rate: float
    edges_s: Floats
    counts: Floats

    @property
    def total(self) -> float:
        """How many arrivals are due in all, on average."""
        return float(self.counts[-1])

    def rate(self, elapsed_s: Floats) -> Floats:
        """Arrivals a second, at each of ``elapsed_s``; 0 outside the duration."""
        cell = np.searchsorted(self.edges_s, elapsed_s, side="right") - 1
        inside = (cell >= 0) & (cell < CELLS)
        rates = np.diff(self.counts) * (CELLS / self.duration_s)
        return np.where(inside, rates[np.clip(cell, 0, CELLS - 1)], 0.0)

    def cumulative(self, elapsed_s: Floats) -> Floats:
        """How many arrivals are due, on average, in the first ``elapsed_s`` seconds."""
        return np.interp(elapsed_s, self.edges_s, self.counts)

    def inverse(self, count: Floats) -> Floats:
        """The seconds after which ``count`` arrivals are due, on average. ``count`` is at most ``total``."""
        return np.interp(count, self.counts, self.edges_s)


def profile(shape: str, duration_s: float, peak_rate: float) -> Profile:
    """The profile of the shape called ``shape``; each cell has the mean of the rates at its two edges."""
    edges = np.linspace(0.0, 1.0, CELLS + 1)
    relative = SHAPES[shape](edges)
    steps = (relative[1:] + relative[:-1]) * (0.5 * peak_rate * duration_s / CELLS)
    return Profile(duration_s, peak_rate, edges * duration_s, np.concatenate(([0.0], np.cumsum(steps))))
