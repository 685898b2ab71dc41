"""Capacities, comparisons and laws as a person reads them."""

import json
import math

import pytest

from loadgen.statistics.capacity import Ending, broken_off
from loadgen.statistics.compare import Measured, Metric, compare
from loadgen.statistics.search import Search
from loadgen.statistics.text import capacity_text, comparison_text, law_text
from loadgen.statistics.trials import Counts, Settings, Trial, TrialResult
from loadgen.statistics.usl import fit, throughput

RATE = Metric("orders_per_second", "/s", higher_is_better=True)
P99 = Metric("order.p99", "ms", higher_is_better=False)


def run(trial: Trial) -> TrialResult:
    """A server that answers all of 500 arrivals a second in time, and half of more."""
    if trial.rate is None:
        return TrialResult(finished=(1_000,) * trial.counted_s)
    of = round(trial.rate)
    return TrialResult(
        {"order.p99": Counts((0 if trial.rate <= 500 else of // 2,) * trial.counted_s, (of,) * trial.counted_s)}
    )


@pytest.mark.parametrize("quick", [False, True])
def test_a_capacity_is_told_with_its_error_and_what_it_rests_on(quick: bool) -> None:
    """The figure first, then why the search stopped, the bracket and the objective's arrivals."""
    settings = Settings({"order.p99": 0.01}, quick=quick)
    search = Search(settings)
    while (trial := search.next()) is not None:
        search.add(run(trial))
    assert search.capacity is not None

    lines = capacity_text(search.capacity, settings).splitlines()

    error = "one search, so its error is not known" if quick else "496 … 508 with 95 % confidence"
    assert lines[0] == f"Capacity: 496 arrivals a second ({error})"
    assert lines[1] == "  stopped: the next higher rate does not meet the objectives"
    assert ("  3 searches: 496, 496, 496 per second" in lines) is not quick
    assert "  bracket: met at 496/s, not met at 508/s" in lines
    assert "  order.p99: 0 of 9,920 arrivals bad (0 %, 1 % allowed): met, with 99 % confidence" in lines
    assert "  machine: the closed load's rate changed by +0.0 % from first to last" in lines
    assert json.loads(json.dumps(search.capacity.to_json()))["ending"] == "knee"


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (None, None, "no rate met the objectives"),
        (800.0, None, "at least 800 arrivals a second met the objectives"),
        (800.0, 1_200.0, "between 800 and 1,200 arrivals a second"),
    ],
)
def test_without_a_figure_what_is_known_is_told(low: float | None, high: float | None, told: str) -> None:
    """A bracket, a lower bound, or nothing."""
    capacity = broken_off(Ending.VIOLATION, low, high, [], 3, violation="oversell: 3 units")

    lines = capacity_text(capacity, Settings({"order.p99": 0.01})).splitlines()

    assert lines == [
        f"Capacity: no figure ({told})",
        "  stopped: the database broke a promise: oversell: 3 units",
        "  3 trials",
    ]


def test_a_comparison_is_a_table_with_a_tilde_where_nothing_is_shown() -> None:
    """A difference has its size; without one, the smallest change that would have been seen is told."""
    a = [100.0, 103, 98, 101, 99, 102]
    slower = [0.9 * each + at / 10 for at, each in enumerate(a)]
    same = [100.0, 104, 97, 102, 98, 102]

    text = comparison_text(
        compare(
            Measured(RATE, a, slower),
            [Measured(P99, a, same), Measured(Metric("fail"), [0.0] * 6, [0.0] * 6)],
            paired=True,
        ),
        "main",
        "branch",
    )

    assert text.splitlines()[:4] == [
        "                     main  branch  branch to main          interval      p",
        "orders_per_second   100/s  90.6/s    -9.7 % worse  -10.0 % … -9.5 %  0.031",
        "order.p99          100 ms  101 ms               ~   -1.0 % … +1.0 %  1.000",
        "fail                    0       0               -",
    ]
    assert "order.p99: no difference is shown (~); a change of more than ±2.0 % would have been seen" in text
    assert "fail: not compared: a ratio needs values above 0" in text
    assert text.splitlines()[-1] == "6 pairs of runs, intervals at 95 %; the metrics after the first by Holm's rule"


def test_a_comparison_of_blocks_has_the_warning() -> None:
    """It is the line before the last."""
    lines = comparison_text(compare(Measured(RATE, [1.0] * 4, [2.0] * 5), paired=False), "a", "b").splitlines()

    assert lines[-2].startswith("Warning: these runs were not made in pairs (ABBA order)")
    assert lines[-1] == "4 and 5 runs, intervals at 95 %"


def test_a_law_is_told_with_its_residuals_and_a_far_prediction_as_a_range() -> None:
    """Each level has its deviation."""
    levels = (1, 2, 4, 8, 16, 32)
    law = fit(levels, [throughput(level, 1_000, 0.05, 1e-3) * math.exp(level % 3 / 100) for level in levels], seed=1)

    lines = law_text(law, [law.predict(128), law.predict(129)]).splitlines()

    assert lines[4].startswith("  peak at 3")
    assert lines[5].split() == ["sessions", "measured/s", "law/s", "off", "runs"]
    assert [line.split()[0] for line in lines[6:12]] == ["1", "2", "4", "8", "16", "32"]
    assert lines[12].startswith("128 sessions: 5,")
    assert lines[13].startswith("129 sessions: the data allow anything between 5,")
