"""Rank tests and the intervals that they leave: Wilcoxon's signed rank, and Mann and Whitney's for two samples.

Both tests count how many of certain differences are below a supposed shift: of the averages of all pairs of values
(Walsh averages), or of all differences between the two samples. So the order statistics of these differences are the
ends of the interval that the test leaves, their median is the estimate of Hodges and Lehmann (Annals of Mathematical
Statistics 34, 1963), and test and interval never contradict each other (Hollander, Wolfe, Chicken: Nonparametric
Statistical Methods, 2014, sections 3.1-3.3 and 4.1-4.3). The distributions are exact. A tie counts for no change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MOST_PAIRS = 1_000
MOST_RUNS = 100
"""The exact distributions of more are not worth their time."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much values lie above zero, or one sample above another: the estimate, its interval and the p-value.

    The interval is None, and the p-value means nothing, where the sample is too small to show anything at the level.
    """

    estimate: float
    low: float | None
    high: float | None
    p: float


def signed_rank(values: Sequence[float], alpha: float) -> Shift:
    """Wilcoxon's signed rank test (Biometrics Bulletin 1, 1945) that values lie around 0, two-sided, and its interval.

    Raises ValueError without values, and for more than 1,000 of them.
    """
    if not 1 <= len(values) <= MOST_PAIRS:
        raise ValueError(f"the signed rank test takes 1 to {MOST_PAIRS:,} values, not {len(values):,}")
    sample = np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(len(sample))
    return _inverted((sample[first] + sample[second]) / 2, _signed_rank_distribution(len(sample)), alpha)


def rank_sum(first: Sequence[float], second: Sequence[float], alpha: float) -> Shift:
    """Mann and Whitney's test (Annals of Mathematical Statistics 18, 1947) of two samples, two-sided, and its interval.

    The shift is that of the second over the first. Raises ValueError without values, and for more than 100 in a sample.
    """
    if not (1 <= len(first) <= MOST_RUNS and 1 <= len(second) <= MOST_RUNS):
        raise ValueError(f"the Mann-Whitney test takes 1 to {MOST_RUNS} values a sample")
    differences = np.subtract.outer(np.asarray(second, dtype=np.float64), np.asarray(first, dtype=np.float64))
    return _inverted(differences.ravel(), _rank_sum_distribution(len(first), len(second)), alpha)


def _inverted(differences: Floats, distribution: Floats, alpha: float) -> Shift:
    """Test and interval from the differences and from P(at most k of them are below the true shift)."""
    differences = np.sort(differences)
    outside = int(np.searchsorted(distribution, alpha / 2 * (1 + 1e-9), side="right"))
    low, high = (differences[outside - 1], differences[-outside]) if outside else (None, None)
    fewer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p = min(1.0, 2 * float(distribution[fewer]))
    estimate = float(np.median(differences))
    return Shift(estimate, None if low is None else float(low), None if high is None else float(high), p)


@lru_cache(maxsize=64)
def _signed_rank_distribution(size: int) -> Floats:
    """P(T ≤ t) for t from 0: each of the ranks 1 to ``size`` is in the sum T with probability ½."""
    chances = np.zeros(size * (size + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, size + 1):
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    return np.cumsum(chances)


@lru_cache(maxsize=64)
def _rank_sum_distribution(first: int, second: int) -> Floats:
    """P(U ≤ u) for u from 0: U counts the pairs in which the first sample's value is above the second's.

    The largest value of all is of the first sample with probability i / (i + j), and is then above all j of the second.
    """
    without = [np.ones(1) for _ in range(second + 1)]
    for i in range(1, first + 1):
        chances = [np.ones(1)]
        for j in range(1, second + 1):
            both = np.zeros(i * j + 1)
            both[j:] = i / (i + j) * without[j]
            both[: i * (j - 1) + 1] += j / (i + j) * chances[j - 1]
            chances.append(both)
        without = chances
    return np.cumsum(without[second])
