"""What a capacity search says in the end: a figure with its error, or a bracket and why there is no figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import median, stdev
from typing import Any

from loadgen.statistics.proportion import Share
from loadgen.statistics.trials import Settings, TrialResult, batch_mean

INTERVAL = 0.95
"""The confidence of the bound on the error of the figure."""


class Ending(StrEnum):
    """Why the search ended."""

    KNEE = "knee"
    VIOLATION = "violation"
    CLIENT = "client-limited"
    NEVER_MET = "never met"
    NEVER_FAILED = "never failed"
    UNCONFIRMED = "unconfirmed"
    MOVED = "machine moved"
    APART = "answers apart"
    NOTHING_FINISHED = "nothing finished"


@dataclass(frozen=True, slots=True)
class Found:
    """One search's answer: ``low`` passed and was confirmed, ``high`` is the lowest rate above it that failed.

    ``shares`` are the arrivals of the confirming looks by objective. They pass by the exact binomial rule, or are too
    few for it. ``with_bursts`` judges the same by what the bursts among them leave of the sample.
    """

    low: float
    high: float
    shares: Mapping[str, Share]
    with_bursts: Mapping[str, Share]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the whole search says.

    ``rate`` is the highest rate that meets the objectives: the median of the searches, between ``error_low`` and
    ``error_high`` with 95 % confidence (None for a quick search, which can't tell its error). Where no figure may be
    named, ``rate`` is None, and ``why`` says why. ``low`` is the highest rate that met the objectives in this search
    and ``high`` the lowest above it that didn't, each None if not known; after three searches they are the lowest and
    the highest answer. ``anchor_change`` is how much more the closed load finished a second at the end (0.03 is 3 %).
    """

    ending: Ending
    why: str
    rate: float | None
    error_low: float | None
    error_high: float | None
    low: float | None
    high: float | None
    found: Sequence[Found]
    anchor_change: float | None
    trials: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "found": [asdict(each) for each in self.found]}


def concluded(
    settings: Settings, found: Sequence[Found], first: TrialResult, last: TrialResult, trials: int
) -> Capacity:
    """The conclusion from searches that all came to an answer, and from the anchors before and after them."""
    answers = sorted(each.low for each in found)
    low, high, rate = answers[0], answers[-1], median(answers)
    if settings.quick:
        high = found[0].high
    change, moved = _change(settings, first, last)
    if moved:
        why = f"the closed load finished {_percent(change)} a second at the end than at the start: the machine moved"
        return Capacity(Ending.MOVED, why, None, None, None, low, high, found, change, trials)
    if answers[-1] / answers[0] > 1 + settings.spread:
        apart = f"{100 * (answers[-1] / answers[0] - 1):.0f} %"
        why = f"the searches' answers lie {apart} apart: the speed of the machine wanders"
        return Capacity(Ending.APART, why, None, None, None, low, high, found, change, trials)
    why = "the next higher rate does not meet the objectives"
    error_low, error_high = _error(found, rate)
    return Capacity(Ending.KNEE, why, rate, error_low, error_high, low, high, found, change, trials)


WHY = {
    Ending.VIOLATION: "the database broke a promise: ",
    Ending.CLIENT: "the load side was at its limit, so the server can do more, or fails for the load's sake",
    Ending.NEVER_MET: "even the lowest rate tried does not meet the objectives",
    Ending.NEVER_FAILED: "even the highest rate tried meets the objectives",
    Ending.UNCONFIRMED: "no rate that passed once passed again when it was asked again",
    Ending.NOTHING_FINISHED: "the closed load got no good answer",
}
"""Why a search ended without a figure, in words."""


def broken_off(
    ending: Ending, low: float | None, high: float | None, found: Sequence[Found], trials: int, *, violation: str = ""
) -> Capacity:
    """The conclusion of a search that ended before its time: the bracket that it knows, and no figure."""
    return Capacity(ending, WHY[ending] + violation, None, None, None, low, high, found, None, trials)


def _change(settings: Settings, first: TrialResult, last: TrialResult) -> tuple[float, bool]:
    """How much faster the anchor became, and whether that is more than allowed and more than its own noise."""
    if not last.finished_per_second:
        return -1.0, True
    change = last.finished_per_second / first.finished_per_second - 1
    means = [batch_mean(anchor.finished, confidence=(1 + INTERVAL) / 2) for anchor in (first, last)]
    noise = math.hypot(*(margin / mean if mean else math.inf for mean, margin in means))
    return change, abs(math.log1p(change)) > max(math.log1p(settings.drift), noise)


def _error(found: Sequence[Found], rate: float) -> tuple[float | None, float | None]:
    """The bounds of the median: by Student's t of the searches' logarithms, and above it the bracket.

    That is the middle of the bracket with half the bracket and the searches' error on both sides.
    """
    from scipy.special import stdtrit

    if len(found) < 2:
        return None, None
    bracket = max(each.high / each.low for each in found)
    logs = [math.log(each.low) for each in found]
    t = float(stdtrit(len(logs) - 1, (1 + INTERVAL) / 2))
    error = math.exp(t * stdev(logs) / math.sqrt(len(logs)))
    return rate / error, rate * bracket * error


def _percent(change: float) -> str:
    return f"{100 * abs(change):.0f} % {'more' if change > 0 else 'less'}"
