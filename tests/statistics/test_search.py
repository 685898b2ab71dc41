"""The capacity search: its steps, its endings, its bounds, and how near it comes to a known capacity."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.statistics.capacity import Capacity, Ending
from loadgen.statistics.proportion import Decision
from loadgen.statistics.search import Search
from loadgen.statistics.trials import Counts, Purpose, Settings, Trial, TrialResult, judge_trial
from tests.statistics.queues import OBJECTIVE, OneServer

P99 = {OBJECTIVE: 0.01}
ROOT = Path(__file__).parent.parent.parent
MOST_TRIALS = 900
"""More than any search can take."""


def answer(trial: Trial, bad_share: float, **said: object) -> TrialResult:
    """A trial of even seconds, with the same share of bad arrivals in each; 1,000 a second in the closed loop."""
    if trial.rate is None:
        return TrialResult(finished=(1_000,) * trial.counted_s, **said)  # type: ignore[arg-type]
    of = round(trial.rate)
    counts = Counts((math.ceil(of * bad_share),) * trial.counted_s, (of,) * trial.counted_s)
    return TrialResult({OBJECTIVE: counts}, **said)  # type: ignore[arg-type]


def sharp(knee: float) -> Callable[[Trial], TrialResult]:
    """A server on which all is good up to a rate, and half is bad above it."""
    return lambda trial: answer(trial, 0.0 if trial.rate is None or trial.rate <= knee else 0.5)


def driven(search: Search, run: Callable[[Trial], TrialResult]) -> tuple[Capacity, list[Trial], list[TrialResult]]:
    """The whole search, its trials and their results."""
    trials: list[Trial] = []
    results: list[TrialResult] = []
    while (trial := search.next()) is not None:
        assert len(trials) < MOST_TRIALS
        trials.append(trial)
        results.append(run(trial))
        search.add(results[-1])
    assert search.capacity is not None
    return search.capacity, trials, results


def test_a_sharp_knee_is_found_to_the_width_of_the_bracket() -> None:
    """The figure is below the knee by less than the width, three times the same, and the error is the bracket's."""
    capacity, trials, _ = driven(Search(Settings(P99)), sharp(777))

    assert capacity.ending is Ending.KNEE
    assert capacity.rate is not None
    assert 777 / 1.05 < capacity.rate <= 777
    assert capacity.low == capacity.high == capacity.rate
    assert capacity.anchor_change == 0
    assert [found.low for found in capacity.found] == [capacity.rate] * 3
    assert all(found.low <= 777 < found.high <= 1.05 * found.low for found in capacity.found)
    assert capacity.error_low == pytest.approx(capacity.rate)
    assert capacity.error_high == pytest.approx(capacity.found[0].high)
    assert trials[0].purpose is trials[-1].purpose is Purpose.ANCHOR
    assert trials[0].rate is trials[-1].rate is None
    assert trials[1].rate == 250
    assert sum(trial.purpose is Purpose.ANCHOR for trial in trials) == 2
    assert {trial.repeat for trial in trials} == {1, 2, 3}
    assert capacity.trials == len(trials)


def test_a_quick_search_is_one_search_and_says_no_error() -> None:
    """Its bracket is what it knows."""
    capacity, trials, _ = driven(Search(Settings(P99, quick=True)), sharp(777))

    assert capacity.rate == capacity.low
    assert capacity.rate is not None
    assert capacity.high is not None
    assert capacity.rate <= 777 < capacity.high
    assert (capacity.error_low, capacity.error_high) == (None, None)
    assert {trial.repeat for trial in trials} == {1}


def test_a_knee_below_the_start_is_found_too() -> None:
    """The closed loop can be far faster than what meets the objective: the climb goes down."""
    capacity, _, _ = driven(Search(Settings(P99)), sharp(40))

    assert capacity.ending is Ending.KNEE
    assert capacity.rate is not None
    assert 40 / 1.06 < capacity.rate <= 40


def test_confirming_arrivals_pass_by_the_exact_rule() -> None:
    """Every objective's share is shown, with the arrivals of the looks that confirmed the rate."""
    capacity, trials, _ = driven(Search(Settings(P99)), sharp(777))

    for found in capacity.found:
        share = found.shares[OBJECTIVE]
        looks = [trial for trial in trials if trial.purpose is Purpose.CONFIRM and trial.rate == found.low]
        assert share.decision is Decision.PASS
        assert share.of == round(found.low) * sum(trial.counted_s for trial in looks) // 3


def test_too_few_arrivals_for_the_exact_rule_are_told() -> None:
    """At 3 a second no look is long enough for 99 %: the figure stands, and its share says that it is undecided."""
    capacity, _, _ = driven(Search(Settings(P99)), sharp(3.4))

    assert capacity.rate is not None
    assert capacity.found[0].shares[OBJECTIVE].decision is Decision.UNDECIDED


def test_a_failure_in_the_climb_is_asked_again() -> None:
    """One stall on the way up doesn't end the climb: the search finds the knee above it."""
    knee = sharp(777)
    stalled: list[Trial] = []

    def run(trial: Trial) -> TrialResult:
        if trial.purpose is Purpose.CLIMB and trial.rate == 250 and not stalled:
            stalled.append(trial)
            return answer(trial, 0.2)
        return knee(trial)

    capacity, _, _ = driven(Search(Settings(P99, quick=True)), run)

    assert stalled
    assert capacity.rate is not None
    assert capacity.rate > 777 / 1.05


def test_a_refused_confirmation_steps_down_by_one_width() -> None:
    """A rate that passed by luck is asked three times, and then the next lower rate is."""
    knee = sharp(777)

    def run(trial: Trial) -> TrialResult:
        if trial.purpose is Purpose.CONFIRM and trial.rate is not None and trial.rate > 700:
            return answer(trial, 0.2)
        return knee(trial)

    capacity, trials, _ = driven(Search(Settings(P99, quick=True)), run)

    confirmed = [trial.rate for trial in trials if trial.purpose is Purpose.CONFIRM]
    assert capacity.rate == confirmed[-1]
    assert confirmed[0] == pytest.approx(confirmed[-1] * 1.05 ** (len(set(confirmed)) - 1))
    assert confirmed.count(confirmed[0]) == 2
    assert capacity.high == pytest.approx(capacity.rate * 1.05)


@pytest.mark.parametrize(
    ("bad_share", "ending"), [(0.0, Ending.NEVER_FAILED), (0.5, Ending.NEVER_MET)], ids=["good", "bad"]
)
def test_a_server_without_a_knee_ends_the_climb(bad_share: float, ending: Ending) -> None:
    """Where nothing fails, or nothing passes, there is no figure, and the bracket is open."""
    capacity, _, _ = driven(Search(Settings(P99)), lambda trial: answer(trial, bad_share))

    assert capacity.ending is ending
    assert capacity.rate is None
    assert (capacity.low is None) == (ending is Ending.NEVER_MET)
    assert (capacity.high is None) == (ending is Ending.NEVER_FAILED)


def test_a_closed_loop_without_an_answer_ends_at_once() -> None:
    """There is nothing to start from."""
    capacity, trials, _ = driven(Search(Settings(P99)), lambda trial: TrialResult(finished=(0,) * trial.counted_s))

    assert capacity.ending is Ending.NOTHING_FINISHED
    assert len(trials) == 1


def test_a_limited_client_leaves_a_lower_bound_and_no_figure() -> None:
    """From 600 a second on the client is the limit: the climb goes near it, and stops with what passed."""
    knee = sharp(777)

    def run(trial: Trial) -> TrialResult:
        if trial.rate is not None and trial.rate > 600:
            return answer(trial, 0.3, client_limited=True)
        return knee(trial)

    capacity, trials, _ = driven(Search(Settings(P99)), run)

    assert capacity.ending is Ending.CLIENT
    assert capacity.rate is None
    assert [round(trial.rate or 0) for trial in trials] == [0, 250, 375, 562, 844, 689, 623, 592, 623]
    assert capacity.low == trials[-2].rate
    assert capacity.high is None


def test_a_client_that_is_limited_far_above_the_knee_does_no_harm() -> None:
    """A step of the climb goes beyond what the client can do; a smaller one finds the knee below that."""
    knee = sharp(600)

    def run(trial: Trial) -> TrialResult:
        if trial.rate is not None and trial.rate > 700:
            return answer(trial, 0.3, client_limited=True)
        return knee(trial)

    capacity, _, _ = driven(Search(Settings(P99)), run)

    assert capacity.ending is Ending.KNEE
    assert capacity.rate is not None
    assert 600 / 1.05 < capacity.rate <= 600


def test_a_client_that_is_limited_at_the_start_ends_the_search() -> None:
    """Nothing is known then."""
    capacity, trials, _ = driven(Search(Settings(P99)), lambda trial: answer(trial, 0, client_limited=True))

    assert capacity.ending is Ending.CLIENT
    assert (capacity.low, capacity.high) == (None, None)
    assert len(trials) == 2


def test_the_first_violation_ends_the_search() -> None:
    """It is named, and the bracket is what was clean below it."""
    knee = sharp(777)

    def run(trial: Trial) -> TrialResult:
        if trial.rate is not None and trial.rate > 500:
            return TrialResult(violation="oversell: 3 units")
        return knee(trial)

    capacity, _, _ = driven(Search(Settings(P99)), run)

    assert capacity.ending is Ending.VIOLATION
    assert capacity.rate is None
    assert "oversell: 3 units" in capacity.why
    assert (capacity.low, capacity.high) == (375, 562.5)


def test_a_machine_that_moved_gets_a_bracket_and_no_figure() -> None:
    """The closed loop finishes 10 % less at the end: the answers are told as a bracket."""
    knee = sharp(777)
    anchors: list[Trial] = []

    def run(trial: Trial) -> TrialResult:
        if trial.rate is None:
            anchors.append(trial)
            return TrialResult(finished=(1_000 if len(anchors) == 1 else 900,) * trial.counted_s)
        return knee(trial)

    capacity, _, _ = driven(Search(Settings(P99)), run)

    assert capacity.ending is Ending.MOVED
    assert capacity.rate is None
    assert "10 % less" in capacity.why
    assert capacity.low is not None
    assert 740 < capacity.low <= 777


def test_answers_that_lie_apart_are_no_figure() -> None:
    """A knee that is elsewhere in each search is a wandering machine."""
    capacity, _, _ = driven(
        Search(Settings(P99)), lambda trial: sharp((0, 700, 800, 900)[trial.repeat] if trial.rate else 0)(trial)
    )

    assert capacity.ending is Ending.APART
    assert capacity.rate is None
    assert capacity.low is not None
    assert capacity.high is not None
    assert capacity.low < 700
    assert capacity.high > 850


def test_all_objectives_must_be_met() -> None:
    """Of two objectives the one that fails first makes the knee."""
    allowed = {**P99, "pay.p90": 0.1}

    def run(trial: Trial) -> TrialResult:
        if trial.rate is None:
            return answer(trial, 0)
        return TrialResult({**sharp(777)(trial).counts, "pay.p90": sharp(400)(trial).counts[OBJECTIVE]})

    capacity, _, _ = driven(Search(Settings(allowed, quick=True)), run)

    assert capacity.rate is not None
    assert 400 / 1.05 < capacity.rate <= 400
    assert set(capacity.found[0].shares) == set(allowed)


def test_a_search_goes_on_from_its_stored_results() -> None:
    """Wherever it was interrupted, it asks for the same trials and comes to the same answer."""
    whole, trials, results = driven(Search(Settings(P99)), OneServer(np.random.default_rng(4)).run)
    stored = [TrialResult.from_json(json.loads(json.dumps(result.to_json()))) for result in results]

    assert stored == results
    for at in range(0, len(results), 7):
        search = Search(Settings(P99), stored[:at])
        assert search.next() == search.next() == trials[at]
        rest = iter(stored[at:])
        assert driven(search, lambda _, rest=rest: next(rest))[0] == whole  # type: ignore[misc]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_trials_give_the_search_ends(data: st.DataObject) -> None:
    """Every loop is bounded, a bracket is a bracket, and a figure lies between its ends."""
    quick, wild = data.draw(st.booleans()), data.draw(st.sampled_from([0.0, 0.02, 0.3]))
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    knee = data.draw(st.floats(0.5, 5_000))

    def run(trial: Trial) -> TrialResult:
        if random.random() < wild:
            strange = {"client_limited": bool(random.random() < 0.05)}
            return answer(trial, float(random.choice([0, 0.009, 0.011, 0.5])), **strange)
        return sharp(knee)(trial)

    capacity, trials, _ = driven(Search(Settings(P99, quick=quick)), run)

    assert all(trial.rate is None or trial.rate > 0 for trial in trials)
    if capacity.low is not None and capacity.high is not None:
        assert capacity.low <= capacity.high
    if capacity.rate is not None:
        assert capacity.ending is Ending.KNEE
        assert capacity.low is not None
        assert capacity.high is not None
        assert capacity.low <= capacity.rate <= capacity.high
    assert capacity.why


def test_the_room_loads_nothing_heavy_before_it_is_needed() -> None:
    """Scipy is imported by the first figure that needs it."""
    code = "import sys, loadgen.statistics.text, loadgen.statistics.search; print('scipy' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert loaded == "False\n"


def test_results_that_nobody_awaits_or_that_lack_an_objective_are_refused() -> None:
    """They are errors of the caller."""
    search = Search(Settings(P99))
    search.add(TrialResult(finished=(1_000,) * 20))
    with pytest.raises(ValueError, match="no counts of order"):
        search.add(TrialResult())
    driven(search, sharp(777))
    with pytest.raises(ValueError, match="has ended"):
        search.add(TrialResult())
    with pytest.raises(ValueError, match="no more are bad"):
        Counts((2,), (1,))
    with pytest.raises(ValueError, match="objectives"):
        Settings({})


@pytest.mark.parametrize(
    ("bad", "decision"),
    [
        ((0, 0, 0, 0), Decision.PASS),
        ((9, 9, 10, 9), Decision.PASS),
        ((80, 70, 90, 80), Decision.FAIL),
        ((0, 0, 0, 300), Decision.UNDECIDED),
    ],
)
def test_a_trial_is_judged_three_ways_by_its_batches(bad: tuple[int, ...], decision: Decision) -> None:
    """Four batches of 5,000 arrivals, of which 50 may be bad: a burst in one batch leaves it open."""
    seconds = tuple(each for batch in bad for each in (batch, 0, 0, 0, 0))

    assert judge_trial({OBJECTIVE: Counts(seconds, (1_000,) * 20)}, P99) is decision


def test_the_search_is_within_five_percent_of_a_queues_capacity_in_nineteen_of_twenty() -> None:
    """Twenty M/M/1 queues with a seed each: their capacity at "p99 at most 50 ms" is known exactly."""
    near, inside = 0, 0
    for seed in range(20):
        server = OneServer(np.random.default_rng(seed))
        capacity, _, _ = driven(Search(Settings(P99)), server.run)
        assert capacity.ending is Ending.KNEE
        assert capacity.rate is not None
        assert capacity.error_low is not None
        assert capacity.error_high is not None
        near += abs(capacity.rate / server.capacity - 1) <= 0.05
        inside += capacity.error_low <= server.capacity <= capacity.error_high

    assert near >= 19
    assert inside >= 19


def test_a_queue_that_speeds_up_gets_no_figure() -> None:
    """15 % in ten minutes: the anchor tells it in at least nine of ten."""
    endings = [
        driven(Search(Settings(P99)), OneServer(np.random.default_rng(seed), drift=0.15 / 600).run)[0].ending
        for seed in range(10)
    ]

    assert sum(ending in (Ending.MOVED, Ending.APART) for ending in endings) >= 9
