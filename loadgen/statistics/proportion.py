"""Shares and percentiles with their uncertainty: whether counts show that an objective is met, and what p99 may be.

"p99 at most 50 ms" says that at most 1 % of the arrivals are bad: later than 50 ms, failed or skipped. So a percentile
objective is a statement about a share, and counts decide it exactly. No shape of the latencies is assumed.

All of this assumes that arrivals are bad independently of each other. They are not: bad ones come in bursts. The design
effect says by how much a burst-ridden sample is worth less, and every function here takes it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.percentiles import nearest_rank

SURE = 0.99
"""The confidence with which an objective passes or fails: that of MLPerf LoadGen (loadgen/early_stopping.cc)."""
CONFIDENCE = 0.95
"""The confidence of intervals."""
LEAST_BATCHES = 10
"""Fewer batches don't tell a variance."""


class Decision(StrEnum):
    """What a sample shows about an objective."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was measured: ``bad`` of ``of``, the most that is ``allowed``, and what this shows.

    ``low`` and ``high`` are the bounds that the share keeps with the confidence of the decision, each by itself.
    """

    bad: int
    of: int
    allowed: float
    decision: Decision
    low: float
    high: float


def judge_share(bad: int, of: int, allowed: float, *, confidence: float = SURE, design_effect: float = 1.0) -> Share:
    """Decide by the exact binomial rule whether at most the share ``allowed`` is bad.

    It passes if so few bad ones (or fewer) would be seen with a probability of at most 1 − ``confidence`` where the
    share is just the allowed one, and it fails if so many (or more) would. Anything between is undecided: a longer
    trial may tell. The bounds are those of Clopper and Pearson (Biometrika 26, 1934), one-sided.

    Raises ValueError for counts that can't be and for ``allowed`` outside 0 < allowed < 1.
    """
    _check(bad, of)
    if not 0 < allowed < 1:
        raise ValueError(f"an allowed share is more than 0 and less than 1, not {allowed}")
    doubt = 1 - confidence
    few, many = bad / design_effect, of / design_effect
    decision = Decision.UNDECIDED
    if of and _at_most(few, many, allowed) <= doubt:
        decision = Decision.PASS
    elif of and _at_least(few, many, allowed) <= doubt:
        decision = Decision.FAIL
    low, high = share_interval(bad, of, confidence=1 - 2 * doubt, design_effect=design_effect)
    return Share(bad, of, allowed, decision, low, high)


def share_interval(
    bad: int, of: int, *, confidence: float = CONFIDENCE, design_effect: float = 1.0
) -> tuple[float, float]:
    """The interval of a share by Clopper and Pearson (1934), two-sided; (0, 1) without a sample."""
    from scipy.special import betaincinv

    _check(bad, of)
    if not of:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    few, many = bad / design_effect, of / design_effect
    low = float(betaincinv(few, many - few + 1, tail)) if bad else 0.0
    high = float(betaincinv(few + 1, many - few, 1 - tail)) if bad < of else 1.0
    return low, high


def least_arrivals(allowed: float, *, bad: int = 0, confidence: float = SURE) -> int:
    """How many arrivals the rule needs to pass an objective with so many bad ones among them."""
    many = bad + 1
    while _at_most(bad, many, allowed) > 1 - confidence:
        many *= 2
    few = many // 2
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if _at_most(bad, middle, allowed) > 1 - confidence else (few, middle)
    return many


def design_effect(bad: Sequence[int] | NDArray[np.int64], of: Sequence[int] | NDArray[np.int64]) -> float:
    """By what factor bursts inflate the variance of the share of bad ones, from the counts of successive seconds; ≥ 1.

    A sample of n arrivals is worth n / design effect independent ones (Kish: Survey Sampling, 1965). The variance is
    that of batch sums, with batches of 1, 2, 4, … seconds as long as there are ten of them; the largest counts, as
    bursts show in batches that are longer than they are (the method of batch means). Without a bad one it is 1:
    nothing is known about bursts.
    """
    bads, alls = np.asarray(bad, dtype=np.float64), np.asarray(of, dtype=np.float64)
    if not 0 < bads.sum() < alls.sum():
        return 1.0
    share = bads.sum() / alls.sum()
    excess = bads - share * alls
    effect, length = 1.0, 1
    while (batches := len(excess) // length) >= LEAST_BATCHES:
        sums = excess[: batches * length].reshape(batches, length).sum(axis=1)
        arrivals = alls[: batches * length].sum()
        if arrivals:
            effect = max(effect, batches * float(sums.var(ddof=1)) / (arrivals * share * (1 - share)))
        length *= 2
    return effect


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile by nearest rank with its interval and the size of its sample; the unit is that of the sample."""

    value: float
    low: float
    high: float
    count: int


def percentile(
    ordered: NDArray[Any], thousandths: int, *, confidence: float = CONFIDENCE, design_effect: float = 1.0
) -> Percentile | None:
    """A percentile of samples in ascending order, with its interval; None where the sample is too small to carry it."""
    ranks = percentile_ranks(thousandths, len(ordered), confidence=confidence, design_effect=design_effect)
    if ranks is None:
        return None
    low, at, high = (float(ordered[rank]) for rank in ranks)
    return Percentile(at, low, high, len(ordered))


def percentile_ranks(
    thousandths: int, count: int, *, confidence: float = CONFIDENCE, design_effect: float = 1.0
) -> tuple[int, int, int] | None:
    """The ranks, from 0, of a percentile's lower bound, of itself and of its upper bound among ``count`` samples.

    The bounds are order statistics: whatever the distribution is, the number of samples below its percentile is
    binomial (David and Nagaraja: Order Statistics, 2003, section 7.1). With a histogram, look the ranks up in its
    cumulative counts. None where a bound lies outside the sample: such a percentile is not told.
    """
    worth = int(count / design_effect)
    if worth < least_samples(thousandths, confidence=confidence):
        return None
    share, tail = thousandths / 1000, (1 - confidence) / 2
    low = math.floor(_quantile(tail, worth, share) * count / worth)
    high = math.ceil((_quantile(1 - tail, worth, share) + 1) * count / worth)
    return max(low, 1) - 1, int(nearest_rank(thousandths, count)), min(high, count) - 1


def least_samples(thousandths: int, *, confidence: float = CONFIDENCE) -> int:
    """From how many independent samples on a percentile can be told: both bounds of its interval lie in the sample."""
    share = thousandths / 1000
    return math.floor(math.log((1 - confidence) / 2) / math.log(max(share, 1 - share))) + 1


def _check(bad: int, of: int) -> None:
    if not 0 <= bad <= of:
        raise ValueError(f"{bad} bad ones of {of} can't be")


def _at_most(few: float, many: float, share: float) -> float:
    """P(Binomial(many, share) ≤ few), also for sizes that are no whole numbers: the incomplete beta function."""
    from scipy.special import betainc

    return float(betainc(many - few, few + 1, 1 - share)) if few < many else 1.0


def _at_least(few: float, many: float, share: float) -> float:
    """P(Binomial(many, share) ≥ few)."""
    from scipy.special import betainc

    return float(betainc(few, many - few + 1, share)) if few > 0 else 1.0


def _quantile(probability: float, many: int, share: float) -> int:
    """The smallest k with P(Binomial(many, share) ≤ k) ≥ ``probability``."""
    # From the ratios of neighbours: scipy would be imported for this alone by each look at a stored run.
    far = math.ceil(12 * math.sqrt(many * share * (1 - share))) + 12
    first, last = max(0, math.floor(many * share) - far), min(many, math.ceil(many * share) + far)
    k = np.arange(first + 1, last + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log((many - k + 1) / k * (share / (1 - share))))))
    likely = np.cumsum(np.exp(logs - logs.max()))
    return first + int(np.searchsorted(likely, probability * likely[-1]))
