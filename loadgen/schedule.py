"""The schedule of a run: the seeded Poisson arrivals that its plan asks for.

Driving makes them due, and figures count them: what a dead load process should have driven is known without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S
from loadgen.draws import Draws
from loadgen.errors import PlanError
from loadgen.plan import MAX_DURATION_S, MAX_RATE, Plan
from loadgen.shapes import Profile, is_closed, profile, stored_curve

CHUNK = 1024
"""How many arrivals are made at a time: the memory of a schedule, however long it is."""


def arrival_profile(plan: Plan, kinds: Sequence[str]) -> Profile:
    """The rate of all arrivals of a plan, together. ``kinds`` are those that arrive by themselves.

    The plan's rate is that of the first kind; the others come on top by their weights.
    """
    weights = dict(plan.kind_weights)
    all_weights = sum(weights.get(kind, 0) for kind in kinds)
    first_weight = weights.get(kinds[0], 0)
    # A mix without the first kind, picked by tags, gives the whole rate to what there is.
    share = first_weight / all_weights if first_weight else 1.0
    return profile(plan.shape, plan.duration_s, plan.peak_rate / share, plan.shape_pieces)


def kinds_by_mix(plan: Plan, kinds: Sequence[str], numbers: NDArray[np.int64]) -> NDArray[np.intp]:
    """Which of ``kinds`` each number is by the weights of the mix, as its place among them; the first without any."""
    weights = dict(plan.kind_weights)
    shares = np.cumsum([weights.get(kind, 0) for kind in kinds], dtype=float)
    if not shares[-1]:
        return np.zeros(len(numbers), np.intp)
    return np.searchsorted(shares / shares[-1], Draws(plan.seed, numbers).uniform(0), side="right")


def has_schedule(plan: Plan) -> bool:
    """Whether a plan can have been a run's: a stored one may say anything."""
    numbers = (plan.duration_s, plan.peak_rate)
    sound = (
        all(isinstance(number, int | float) and isfinite(number) for number in numbers)
        and 0 < plan.duration_s <= MAX_DURATION_S
        and 0 < plan.peak_rate <= MAX_RATE
        and isinstance(plan.sessions, int)
        and all(isinstance(weight, int) and 0 <= weight < 10**6 for _, weight in plan.kind_weights)
    )
    try:
        return sound and bool(stored_curve(plan.shape, plan.shape_pieces, plan.duration_s))
    except PlanError:
        return False


def main_kind(plan: Plan, kinds: Sequence[str]) -> str:
    """The main kind, of which a run must acknowledge at least one op: the first one that arrives and is in the plan's
    mix."""
    return first_in_mix(dict(plan.kind_weights), kinds)


def first_in_mix(weights: Mapping[str, Any], kinds: Sequence[str]) -> str:
    """The first of ``kinds`` that has a weight; the first one where none has."""
    return next((kind for kind in kinds if weights.get(kind)), kinds[0])


def arrivals(due_rate: Profile, seed: int, index: int, count: int) -> Iterator[NDArray[np.int64]]:
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
        yield (offsets_s * NS_PER_S).astype(np.int64)


def plan_arrivals(plan: Plan, kinds: Sequence[str], index: int, count: int) -> Iterator[NDArray[np.int64]]:
    """The arrivals of one load process of a plan; none where the shape is closed."""
    if is_closed(plan.shape):
        return iter(())
    return arrivals(arrival_profile(plan, kinds), plan.seed, index, count)
