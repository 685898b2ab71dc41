"""The Universal Scalability Law: how throughput grows with concurrency, and how far it may be foretold.

X(N) = γN / (1 + α(N − 1) + βN(N − 1)), with γ the throughput of one session, α the contention (what is done one after
the other) and β the coherency (what sessions do for each other's sake): Gunther, Guerrilla Capacity Planning, 2007,
chapters 4-6. A fit says little far beyond what was measured. In simulation with noise of 3 %, predictions at four times
the highest level lay between 0.4 and 1.3 times the truth, and at N = 1,000 between 0.01 and 6 times. So a prediction is
a figure up to four times the highest level, and beyond that only a range.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import LoadgenError

LEAST_LEVELS = 6
"""Fewer levels of concurrency don't tell three coefficients."""
FARTHEST = 4
"""Up to so many times the highest measured level a prediction is a figure."""
RESAMPLES = 1_000
CONFIDENCE = 0.95
NEARLY_NOTHING = 1e-12

Floats = NDArray[np.float64]


class UnfitError(LoadgenError):
    """Measurements from which no law may be fitted."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its bootstrap interval (95 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Level:
    """A measured level: its runs, their median throughput, what the law says, and by how much the median differs (0.03
    is 3 % above the law).
    """

    sessions: int
    runs: int
    measured: float
    fitted: float
    residual: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Throughput at a number of sessions. Too far from what was measured ``value`` is None: only the range is known."""

    sessions: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law. ``peak`` is the number of sessions with the highest throughput, √((1 − α) / β).

    It, or an end of its interval, is None where it lies farther from what was measured than a prediction may.
    """

    gamma: Estimate
    alpha: Estimate
    beta: Estimate
    peak: float | None
    peak_low: float | None
    peak_high: float | None
    levels: Sequence[Level]
    _resampled: Floats = field(repr=False, compare=False)
    """The coefficients of each resample: a row of γ, α, β."""

    def predict(self, sessions: int) -> Prediction:
        """The throughput at a number of sessions, with its bootstrap band; no single figure far beyond the levels."""
        low, high = _interval(throughput(sessions, *self._resampled.T))
        value = float(throughput(sessions, self.gamma.value, self.alpha.value, self.beta.value))
        told = sessions <= FARTHEST * self.levels[-1].sessions
        return Prediction(sessions, value if told else None, min(low, value), max(high, value))

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the resamples."""
        estimates = {name: asdict(getattr(self, name)) for name in ("gamma", "alpha", "beta")}
        peak = {"value": self.peak, "low": self.peak_low, "high": self.peak_high}
        return {**estimates, "peak": peak, "levels": [asdict(level) for level in self.levels]}


def throughput(sessions: Any, gamma: Any, alpha: Any, beta: Any) -> Any:
    """What the law says; of numbers or of arrays."""
    return gamma * sessions / (1 + alpha * (sessions - 1) + beta * sessions * (sessions - 1))


def fit(sessions: Sequence[int], throughputs: Sequence[float], *, seed: int, resamples: int = RESAMPLES) -> Law:
    """Fit the law to runs: ``throughputs`` at so many ``sessions`` each, several runs a level being welcome.

    N / X is linear in 1/γ, α/γ and β/γ, so that the best fit (of relative deviations, with γ, β ≥ 0 and 0 ≤ α ≤ 1) is
    a linear problem with one answer (Lawson and Hanson: Solving Least Squares Problems, 1974, chapter 23). The bounds
    come from resampled residuals (Efron and Tibshirani: An Introduction to the Bootstrap, 1993, section 9.4), drawn by
    the seed. Raises UnfitError below six levels, for throughputs that aren't above 0, and if they fall too fast.
    """
    at, measured = np.asarray(sessions, dtype=np.float64), np.asarray(throughputs, dtype=np.float64)
    levels = sorted(set(sessions))
    if len(levels) < LEAST_LEVELS:
        raise UnfitError(f"{len(levels)} levels of concurrency are too few for a law: measure at least {LEAST_LEVELS}")
    if levels[0] < 1 or not np.all(np.isfinite(measured) & (measured > 0)):
        raise UnfitError("a law needs levels of at least one session, and throughputs above 0")
    best = _coefficients(at, measured)
    fitted = throughput(at, *best)
    deviations = np.log(measured / fitted) * _inflation(len(at), len(best))
    drawn = np.random.default_rng(seed).choice(deviations, size=(resamples, len(at)))
    rows = np.array([_coefficients(at, fitted * np.exp(row)) for row in drawn])
    gamma, alpha, beta = (
        Estimate(float(value), *_interval(column)) for value, column in zip(best, rows.T, strict=True)
    )
    peak_low, peak_high = _interval(np.array([_peak(*row) for row in rows]))
    return Law(
        gamma=gamma,
        alpha=alpha,
        beta=beta,
        peak=_seen(_peak(*best), levels[-1]),
        peak_low=_seen(peak_low, levels[-1]),
        peak_high=_seen(peak_high, levels[-1]),
        levels=[_level(level, at, measured, best) for level in levels],
        _resampled=rows,
    )


def _inflation(runs: int, coefficients: int) -> float:
    """By how much residuals are too small, as the fit went near their runs, and what Student's t adds for so few."""
    from scipy.special import ndtri, stdtrit

    free, end = runs - coefficients, (1 + CONFIDENCE) / 2
    return math.sqrt(runs / free) * float(stdtrit(free, end) / ndtri(end))


def _coefficients(sessions: Floats, throughputs: Floats) -> Floats:
    """γ, α, β of the best fit: N / X = (1 − α)/γ + (α/γ) N + (β/γ) N(N − 1), each of the three at least 0."""
    from scipy.optimize import nnls

    terms = np.stack([np.ones_like(sessions), sessions, sessions * (sessions - 1)], axis=1)
    weights = throughputs / sessions
    (apart, shared, crossed), _ = nnls(terms * weights[:, None], np.ones_like(sessions))
    inverse = apart + shared
    if inverse <= NEARLY_NOTHING * crossed:
        raise UnfitError("throughput falls faster with the sessions than the law allows")
    return np.array([1 / inverse, shared / inverse, crossed / inverse])


def _level(level: int, at: Floats, measured: Floats, best: Floats) -> Level:
    own = measured[at == level]
    middle, said = float(np.median(own)), float(throughput(level, *best))
    return Level(level, len(own), middle, said, middle / said - 1)


def _peak(_gamma: float, alpha: float, beta: float) -> float:
    return math.sqrt((1 - alpha) / beta) if beta > 0 else math.inf


def _seen(peak: float, highest: int) -> float | None:
    return float(peak) if peak <= FARTHEST * highest else None


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return float(low), float(high)
