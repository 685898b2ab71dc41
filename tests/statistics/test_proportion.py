"""Shares, percentile objectives and percentiles with their intervals."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from loadgen.percentiles import nearest_rank
from loadgen.statistics.proportion import (
    Decision,
    design_effect,
    judge_share,
    least_arrivals,
    least_samples,
    percentile,
    percentile_ranks,
    share_interval,
)

COUNTS = st.integers(0, 5_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of)))
ALLOWED = st.sampled_from([0.5, 0.1, 0.05, 0.01, 0.001])
NORMAL_P99 = 2.3263478740408408
THOUSANDTHS = st.sampled_from([500, 900, 950, 990, 999])


@pytest.mark.parametrize(
    ("allowed", "least"),
    [
        (0.1, [44, 64, 127, 325]),
        (0.01, [459, 662, 1_307, 3_304]),
        (0.001, [4_603, 6_636, 13_105, 33_097]),
    ],
)
def test_the_fewest_arrivals_of_a_pass_are_those_of_the_binomial(allowed: float, least: list[int]) -> None:
    """0, 1, 5 and 20 bad ones pass from so many arrivals on, and from no fewer."""
    assert [least_arrivals(allowed, bad=bad) for bad in (0, 1, 5, 20)] == least
    for bad, arrivals in zip((0, 1, 5, 20), least, strict=True):
        assert judge_share(bad, arrivals, allowed).decision is Decision.PASS
        assert judge_share(bad, arrivals - 1, allowed).decision is not Decision.PASS


@settings(max_examples=200)
@given(COUNTS, ALLOWED)
def test_a_share_passes_and_fails_by_the_exact_binomial_rule(counts: tuple[int, int], allowed: float) -> None:
    """The decision is that of scipy's binomial distribution, and it agrees with the bounds that are given."""
    bad, of = counts
    few, many = binom.cdf(bad, of, allowed), binom.sf(bad - 1, of, allowed)
    assume(min(abs(few - 0.01), abs(many - 0.01)) > 1e-9)  # 2 of 2 at 10 % are just on the edge

    share = judge_share(bad, of, allowed)

    passes, fails = of > 0 and few <= 0.01, of > 0 and many <= 0.01
    assert share.decision == (Decision.PASS if passes else Decision.FAIL if fails else Decision.UNDECIDED)
    assert 0 <= share.low <= (bad / of if of else 0.5) <= share.high <= 1
    assert (share.decision is Decision.PASS) == (share.high <= allowed)
    assert (share.decision is Decision.FAIL) == (share.low >= allowed)


@settings(max_examples=100)
@given(COUNTS, ALLOWED, st.floats(1, 20))
def test_bursts_only_make_a_decision_less_sure(counts: tuple[int, int], allowed: float, effect: float) -> None:
    """With a design effect the bounds widen, and no undecided share becomes decided."""
    bad, of = counts
    plain, burst = judge_share(bad, of, allowed), judge_share(bad, of, allowed, design_effect=effect)

    assert burst.low <= plain.low + 1e-9
    assert burst.high >= plain.high - 1e-9
    if of:
        assert burst.decision in (plain.decision, Decision.UNDECIDED)


def test_an_interval_of_a_share_without_a_sample_is_everything() -> None:
    """Nothing is known, and nothing is claimed."""
    assert share_interval(0, 0) == (0.0, 1.0)
    assert judge_share(0, 0, 0.01).decision is Decision.UNDECIDED


@pytest.mark.parametrize(("bad", "of", "allowed"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)])
def test_counts_that_cannot_be_are_refused(bad: int, of: int, allowed: float) -> None:
    """More bad ones than arrivals, or an objective that allows nothing or everything, is an error of the caller."""
    with pytest.raises(ValueError, match=r"can't be|allowed share"):
        judge_share(bad, of, allowed)


def test_independent_arrivals_have_no_design_effect_and_bursts_do() -> None:
    """The factor is near 1 for independent arrivals, and near the size of the bursts for bursts."""
    random = np.random.default_rng(1)
    of = np.full(400, 500)
    independent = random.binomial(500, 0.01, 400)
    bursts = 10 * random.binomial(50, 0.01, 400)

    assert design_effect(independent, of) == pytest.approx(1, abs=0.5)
    assert design_effect(bursts, of) == pytest.approx(10, rel=0.4)
    assert design_effect([0] * 30, [100] * 30) == 1
    assert design_effect([100] * 30, [100] * 30) == 1


@pytest.mark.parametrize(("thousandths", "least"), [(500, 6), (900, 36), (990, 368), (999, 3_688)])
def test_a_percentile_is_told_from_the_sample_on_that_holds_its_bounds(thousandths: int, least: int) -> None:
    """One sample fewer, and its upper bound is beyond the largest of them."""
    assert least_samples(thousandths) == least
    assert percentile_ranks(thousandths, least) is not None
    assert percentile_ranks(thousandths, least - 1) is None
    assert percentile_ranks(thousandths, 2 * least, design_effect=2.1) is None


@settings(max_examples=200)
@given(THOUSANDTHS, st.integers(1, 100_000))
def test_the_bounds_of_a_percentile_cover_it_by_the_binomial(thousandths: int, count: int) -> None:
    """The probability that the percentile lies between the two order statistics is at least 95 %, and not far more."""
    ranks = percentile_ranks(thousandths, count)
    if ranks is None:
        assert count < least_samples(thousandths)
        return
    low, at, high = ranks

    assert 0 <= low <= at <= high < count
    assert at == nearest_rank(thousandths, count)
    # Rank ``low`` (from 0) is at most the percentile if more than ``low`` samples are below it.
    share = thousandths / 1000
    covered = binom.cdf(high, count, share) - binom.cdf(low, count, share)
    assert covered >= 0.95 - 1e-9
    assert binom.sf(high, count, share) <= 0.025 + 1e-9
    assert binom.cdf(low - 1, count, share) <= 0.025 + 1e-9


def test_intervals_of_percentiles_hold_the_truth_as_often_as_they_say() -> None:
    """Of 400 samples of a log-normal distribution, p99's interval holds its p99 in about 95 of 100."""
    random = np.random.default_rng(2)
    truth = math.exp(NORMAL_P99)
    held = 0
    for _ in range(400):
        told = percentile(np.sort(random.lognormal(size=2_000)), 990)
        assert told is not None
        held += told.low <= truth <= told.high

    assert 370 <= held <= 396


def test_a_percentile_of_too_small_a_sample_is_not_told() -> None:
    """p99 of 300 samples is None, p90 is told with its interval."""
    ordered = np.arange(1, 301)

    told = percentile(ordered, 900)

    assert percentile(ordered, 990) is None
    assert told is not None
    assert (told.low, told.value, told.high, told.count) == (259, 270, 281, 300)
