"""Comparisons: the order of runs, the tests and their intervals, and how often they err on a machine that drifts."""

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, wilcoxon

from loadgen.statistics.compare import DRIFT_WARNING, Comparison, Measured, Method, Metric, compare, holm
from loadgen.statistics.pairing import LEAST_PAIRS, adjacent_pairs, balanced_order
from loadgen.statistics.ranks import rank_sum, signed_rank
from tests.statistics.machines import drifting_machine

RATE = Metric("orders_per_second", "/s", higher_is_better=True)
P99 = Metric("order.p99", "ms", higher_is_better=False)
DISTINCT = st.lists(st.floats(-10, 10).map(lambda value: round(value, 3)), min_size=1, max_size=12, unique=True)


def test_the_order_is_abba_and_a_rounds_seed_is_the_same_for_all() -> None:
    """Every second round goes backwards, also with three sides."""
    turns = balanced_order("AB", 4, seed=7)

    assert "".join(turn.side for turn in turns) == "ABBAABBA"
    assert [turn.seed for turn in turns] == [7, 7, 8, 8, 9, 9, 10, 10]
    assert "".join(turn.side for turn in balanced_order("ABC", 2, seed=0)) == "ABCCBA"
    with pytest.raises(ValueError, match="two or more sides"):
        balanced_order("AA", 2, seed=0)


@given(st.integers(1, 20))
def test_a_planned_order_is_recognised_as_pairs(rounds: int) -> None:
    """Each pair has its A first, wherever that stood."""
    sides = [turn.side for turn in balanced_order("AB", rounds, seed=0)]
    pairs = adjacent_pairs(sides)

    assert pairs is not None
    assert [sides[a] + sides[b] for a, b in pairs] == ["AB"] * rounds
    assert sorted(itertools.chain(*pairs)) == list(range(2 * rounds))


@pytest.mark.parametrize("sides", ["AAABBB", "ABABAB", "AABB", "ABB", "AAAA", "", "ABCABC"])
def test_other_orders_are_no_pairs(sides: str) -> None:
    """Blocks, a side that always comes first, and what has no partner."""
    assert adjacent_pairs(sides) is None


@settings(max_examples=150)
@given(DISTINCT)
def test_the_signed_rank_test_is_that_of_scipy(values: list[float]) -> None:
    """Without ties and zeros the p-value is scipy's exact one, and the interval leaves out 0 if and only if p ≤ α."""
    if 0 in values or len({abs(value) for value in values}) < len(values):
        return
    shift = signed_rank(values, 0.05)

    assert shift.p == pytest.approx(wilcoxon(values, method="exact").pvalue)
    if shift.low is None or shift.high is None:
        assert len(values) < LEAST_PAIRS
    else:
        assert shift.low <= shift.estimate <= shift.high
        assert (shift.p <= 0.05) == (not shift.low <= 0 <= shift.high)


@settings(max_examples=150)
@given(DISTINCT, DISTINCT)
def test_the_rank_sum_test_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    """The same of two samples, and the shift turns round with them."""
    if set(first) & set(second):
        return
    shift = rank_sum(first, second, 0.05)
    back = rank_sum(second, first, 0.05)

    assert shift.p == pytest.approx(mannwhitneyu(first, second, method="exact").pvalue)
    assert shift.estimate == -back.estimate
    assert (shift.low is None) == (back.low is None)
    if shift.low is not None and shift.high is not None:
        assert (shift.low, shift.high) == (-(back.high or 0), -(back.low or 0))
        assert (shift.p <= 0.05) == (not shift.low <= 0 <= shift.high)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=30))
def test_ties_and_zeros_only_make_a_claim_rarer(values: list[float]) -> None:
    """What is tied counts for no change: p is no smaller than without the ties, and agrees with the interval."""
    shift = signed_rank(values, 0.05)

    assert 0 < shift.p <= 1
    if not any(values):
        assert shift.p == 1
    if shift.low is not None and shift.high is not None:
        assert (shift.p <= 0.05) == (not shift.low <= 0 <= shift.high)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=6, max_size=20),
    st.floats(0.01, 100),
)
def test_a_ratio_has_no_unit_and_turns_round_with_the_sides(pairs: list[tuple[float, float]], unit: float) -> None:
    """Milliseconds or seconds, B to A or A to B: the same statement."""
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    plain = compare(Measured(P99, a, b), paired=True).primary
    scaled = compare(Measured(P99, [unit * each for each in a], [unit * each for each in b]), paired=True).primary
    turned = compare(Measured(P99, b, a), paired=True).primary

    assert plain.ratio is not None
    assert scaled.ratio == pytest.approx(plain.ratio)
    assert turned.ratio == pytest.approx(1 / plain.ratio)
    assert turned.low is not None
    assert plain.high == pytest.approx(1 / turned.low)
    assert plain.would_be_seen == pytest.approx(turned.would_be_seen)


@pytest.mark.parametrize("pairs", range(1, 9))
def test_below_six_pairs_nothing_is_claimed(pairs: int) -> None:
    """However large the difference is, five pairs have no p-value, no interval, and say why."""
    shown = compare(Measured(RATE, [100.0 + at for at in range(pairs)], [10.0] * pairs), paired=True).primary

    assert shown.shown == shown.worse == (pairs >= LEAST_PAIRS)
    assert (shown.p is None) == (shown.low is None) == (shown.would_be_seen is None) == (pairs < LEAST_PAIRS)
    assert shown.note == ("" if pairs >= LEAST_PAIRS else f"{pairs} pairs show nothing: at least 6 are needed")


def test_a_difference_has_its_size_and_direction() -> None:
    """B takes 10 % longer in all ten pairs: shown, worse, and 1.1 in the interval."""
    random = np.random.default_rng(3)
    a = (50 * np.exp(random.normal(0, 0.05, 10))).tolist()
    b = [1.1 * each * math.exp(random.normal(0, 0.01)) for each in a]

    shown = compare(Measured(P99, a, b), paired=True).primary

    assert (shown.method, shown.runs) == (Method.PAIRS, (10, 10))
    assert shown.shown
    assert shown.worse
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low <= 1.1 <= shown.high
    assert shown.would_be_seen == pytest.approx(shown.high / shown.low - 1)
    assert not compare(Measured(P99, b, a), paired=True).primary.worse
    assert not compare(Measured(Metric("x"), a, b), paired=True).primary.worse
    assert json.loads(json.dumps(shown.to_json()))["worse"]


def test_runs_in_blocks_are_compared_with_a_warning() -> None:
    """Four and four can show a difference, three and five can't; the warning speaks of drift."""
    a, b = [1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3]

    compared = compare(Measured(P99, a, b), paired=False)
    few = compare(Measured(P99, a[:3], [*b, 2.4]), paired=False)

    assert compared.warning == DRIFT_WARNING
    assert compared.primary.shown
    assert compared.primary.method is Method.BLOCKS
    assert not few.primary.shown
    assert few.primary.note == "3 and 5 runs show nothing: at least 4 a side are needed"
    assert compare(Measured(P99, a, b), paired=True).warning == ""


def test_values_without_a_ratio_are_not_compared() -> None:
    """A metric that is 0 or missing everywhere has a note; a run without a value leaves out its pair."""
    zero = compare(Measured(P99, [0.0] * 6, [1.0] * 6), paired=True).primary
    missing = compare(Measured(P99, [None] * 6, [1.0] * 6), paired=True).primary
    partly = compare(Measured(P99, [None, *[1.0] * 6], [1.0] * 7), paired=True).primary

    assert zero.note == "not compared: a ratio needs values above 0"
    assert missing.note == "not compared: no values on both sides"
    assert partly.runs == (6, 6)
    assert partly.ratio == 1
    with pytest.raises(ValueError, match="don't make pairs"):
        compare(Measured(P99, [1.0], [1.0, 2.0]), paired=True)
    with pytest.raises(ValueError, match="alpha"):
        compare(Measured(P99, [1.0], [1.0]), paired=True, alpha=0.0)


def test_a_level_that_so_few_runs_cannot_reach_is_told() -> None:
    """Six pairs can show something at 5 %, and nothing at 1 %."""
    few = compare(Measured(P99, [1.0] * 6, [2.0 + at for at in range(6)]), paired=True, alpha=0.01).primary

    assert not few.shown
    assert few.note == "so few runs can't show anything at a level of 0.01"


def test_secondary_metrics_are_held_to_holm() -> None:
    """The smallest of three p-values counts threefold, and what is shown alone needn't be shown among many."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}
    barely = ([1.0] * 6, [1.1 + at / 100 for at in range(6)])
    one = compare(Measured(RATE, *barely), [Measured(P99, *barely)], paired=True)
    two = compare(Measured(RATE, *barely), [Measured(P99, *barely)] * 2, paired=True)

    assert one.primary.shown
    assert one.secondary[0].shown
    assert two.primary.shown
    assert [(each.p, each.shown) for each in two.secondary] == [(0.0625, False)] * 2


def simulated(seed: int, effect: float, pairs: int = 10) -> Comparison:
    """A set of runs on a drifting machine, in the planned order, compared as stored runs are."""
    sides = [turn.side for turn in balanced_order("AB", pairs, seed=0)]
    values = drifting_machine(np.random.default_rng(seed), len(sides))
    return compared_in_order(
        sides, [value * (effect if side == "B" else 1) for value, side in zip(values, sides, strict=True)]
    )


def compared_in_order(sides: Sequence[str], values: Sequence[float]) -> Comparison:
    """Values in the order of their runs, compared as pairs."""
    pairs = adjacent_pairs(sides)
    assert pairs is not None
    return compare(Measured(P99, [values[a] for a, _ in pairs], [values[b] for _, b in pairs]), paired=True).primary


def test_a_set_compared_with_itself_differs_in_at_most_twelve_of_a_hundred() -> None:
    """At the 5 % level 5 are expected; 10 pairs each, 5 % slow drift, 2 % noise."""
    assert sum(simulated(seed, 1.0).shown for seed in range(100)) <= 12


def test_a_planted_slowdown_of_ten_percent_is_found_with_its_size() -> None:
    """Ten pairs find it in each of 100 sets, and the interval holds 10 % in about 95."""
    sets = [simulated(1_000 + seed, 1.1) for seed in range(100)]

    assert sum(each.worse for each in sets) >= 99
    assert sum((each.low or 0) <= 1.1 <= (each.high or 0) for each in sets) >= 88


def test_a_change_that_would_be_seen_is_seen() -> None:
    """A change as large as what identical sets say would have been seen is found in nine of ten."""
    smallest = float(np.median([simulated(seed, 1.0).would_be_seen or 0 for seed in range(50)]))

    assert 0.03 < smallest < 0.08
    assert sum(simulated(2_000 + seed, 1 + smallest).shown for seed in range(100)) >= 90
