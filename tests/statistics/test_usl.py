"""The Universal Scalability Law: its fit, its bounds, and how far it predicts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from loadgen.statistics.usl import Law, UnfitError, fit, throughput

LEVELS = (1, 2, 4, 8, 16, 32)


def sweep(
    seed: int, truth: tuple[float, float, float], noise: float = 0.03, runs: int = 3
) -> tuple[list[int], list[float]]:
    """Runs of a system that follows the law, with noise."""
    random = np.random.default_rng(seed)
    sessions = [level for level in LEVELS for _ in range(runs)]
    return sessions, [throughput(level, *truth) * math.exp(random.normal(0, noise)) for level in sessions]


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e6), st.floats(0, 1), st.floats(0, 0.1))
def test_exact_measurements_give_the_exact_law(gamma: float, alpha: float, beta: float) -> None:
    """Without noise the fit is the truth, its bounds are tight and its residuals are 0."""
    sessions = list(LEVELS)

    law = fit(sessions, [throughput(level, gamma, alpha, beta) for level in sessions], seed=1, resamples=20)

    assert law.gamma.value == pytest.approx(gamma)
    assert law.alpha.value == pytest.approx(alpha, abs=1e-6)
    assert law.beta.value == pytest.approx(beta, abs=1e-8)
    assert law.gamma.low == pytest.approx(law.gamma.high)
    assert all(abs(level.residual) < 1e-6 for level in law.levels)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 1_000), min_size=6, max_size=6))
def test_whatever_was_measured_the_coefficients_keep_their_bounds(throughputs: list[float]) -> None:
    """γ > 0, 0 ≤ α ≤ 1, β ≥ 0, and intervals and bands are no narrower than a point."""
    try:
        law = fit(LEVELS, throughputs, seed=1, resamples=50)
    except UnfitError:
        return

    assert law.gamma.value > 0
    assert 0 <= law.alpha.low <= law.alpha.high <= 1
    assert law.beta.low >= 0
    for sessions in (1, 64, 10_000):
        prediction = law.predict(sessions)
        assert 0 < prediction.low <= prediction.high
        assert (prediction.value is None) == (sessions > 4 * 32)


def test_the_fit_is_that_of_curve_fit() -> None:
    """Scipy's bounded non-linear fit of the relative deviations comes to the same curve."""
    sessions, measured = sweep(1, (1_000, 0.05, 1e-3))

    law = fit(sessions, measured, seed=1, resamples=20)
    other, _ = curve_fit(
        throughput,
        np.array(sessions, dtype=float),
        measured,
        p0=(measured[0], 0.1, 1e-3),
        sigma=measured,
        bounds=([0, 0, 0], [np.inf, 1, 1]),
        x_scale=(1_000, 0.1, 1e-3),
    )

    for level in law.levels:
        assert level.fitted == pytest.approx(throughput(level.sessions, *other), rel=0.01)
    assert law.predict(128).value == pytest.approx(throughput(128, *other), rel=0.03)


def test_known_coefficients_lie_within_their_bounds() -> None:
    """Of 60 sweeps with 3 % noise, each coefficient and the prediction at four times the levels in at least 51."""
    truth = (1_000.0, 0.05, 1e-3)
    held = np.zeros(4)
    for seed in range(60):
        law = fit(*sweep(seed, truth), seed=seed, resamples=200)
        far = law.predict(128)
        bounds = [*((each.low, each.high) for each in (law.gamma, law.alpha, law.beta)), (far.low, far.high)]
        values = [*truth, throughput(128, *truth)]
        held += [low <= value <= high for (low, high), value in zip(bounds, values, strict=True)]

    assert min(held) >= 51


def test_the_peak_is_where_the_throughput_falls() -> None:
    """√((1 − α) / β) sessions, with an interval; none where nothing falls."""
    falling = fit(*sweep(1, (1_000, 0.05, 1e-3)), seed=1)
    rising = fit(LEVELS, [throughput(level, 1_000, 0.05, 0) for level in LEVELS], seed=1, resamples=20)

    assert falling.peak == pytest.approx(math.sqrt(0.95 / 1e-3), rel=0.2)
    assert falling.peak is not None
    assert falling.peak_low is not None
    assert falling.peak_high is not None
    assert falling.peak_low < falling.peak < falling.peak_high
    assert rising.peak is None


def test_a_prediction_far_away_is_a_range_only() -> None:
    """At 128 sessions, four times the highest level, it is a figure; at 129 the data allow a range."""
    law = fit(*sweep(1, (1_000, 0.05, 1e-4)), seed=1)
    near, far = law.predict(128), law.predict(129)

    assert near.value is not None
    assert near.low < near.value < near.high
    assert far.value is None
    assert far.low < throughput(129, 1_000, 0.05, 1e-4) < far.high


def test_the_bounds_depend_on_the_seed_alone() -> None:
    """The same seed gives the same law, and plain JSON."""
    laws: list[Law] = [fit(*sweep(1, (1_000, 0.05, 1e-3)), seed=seed, resamples=50) for seed in (1, 1, 2)]

    assert laws[0] == laws[1] != laws[2]
    assert json.loads(json.dumps(laws[0].to_json()))["levels"][0]["runs"] == 3


def test_fewer_than_six_levels_are_refused() -> None:
    """However many runs they have; so are throughputs of 0, and a fall that no coefficients give."""
    with pytest.raises(UnfitError, match="5 levels"):
        fit([1, 2, 3, 4, 5] * 4, [1.0] * 20, seed=1)
    with pytest.raises(UnfitError, match="above 0"):
        fit(LEVELS, [0.0] * 6, seed=1)
    with pytest.raises(UnfitError, match="falls"):
        fit([2, 3, 4, 5, 6, 7], [1 / (level - 1) for level in range(2, 8)], seed=1)
