"""Think time: a session waits after its answer before it asks again, and no response time knows of it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import NS_PER_MS, NS_PER_S, pause_words
from loadgen.draws import Draws
from loadgen.errors import PlanError
from loadgen.load.scheduler import THINK
from loadgen.op import Outcome
from loadgen.plan import MAX_THINK_TIME_S, Plan, parse_plan, plan_from_json
from tests.workloads.test_follow_ups import CHAIN, KINDS, FollowUp, drive, expected, workload


@pytest.mark.parametrize(
    ("text", "think_time_s", "words"),
    [
        ("", (0.0, 0.0), ""),
        ("2s", (2.0, 2.0), "2 s after each answer"),
        ("250ms-1m30s", (0.25, 90.0), "0.25 to 90 s after each answer"),
        (" 1s - 3s ", (1.0, 3.0), "1 to 3 s after each answer"),
        ("1e-3-2", (0.001, 2.0), "0.001 to 2 s after each answer"),
    ],
)
def test_a_think_time_is_a_time_or_a_range_and_is_kept(
    text: str, think_time_s: tuple[float, float], words: str
) -> None:
    """In the plan, in plan.json where there is one, and in words."""
    plan = parse_plan({"shape": "closed", "think_time": text})

    assert plan.think_time_s == think_time_s
    assert pause_words(plan.think_time_s) == words
    assert ("think_time_s" in plan.to_json()) == bool(text)
    assert plan_from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["0s", "3s-1s", "1s-2s-3s", "soon", "-1s", "1s-", "2h"])
def test_what_is_no_think_time_is_refused(text: str) -> None:
    """By the option's name."""
    with pytest.raises(PlanError, match="--think-time"):
        parse_plan({"shape": "closed", "think_time": text})


@pytest.mark.parametrize("shape", ["double11", "steps:100,200@30s"])
def test_think_time_with_arrivals_is_refused_with_what_to_use(shape: str) -> None:
    """Arrivals are due whatever sessions do."""
    with pytest.raises(PlanError) as refused:
        parse_plan({"shape": shape, "think_time": "1s"})

    assert "--shape closed" in str(refused.value) and "--peak-rate" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("told", [5, [1], ["a", "b"], [3, 1], [-1, 1], [0, 2 * MAX_THINK_TIME_S], [0, float("nan")]])
def test_a_stored_plan_with_a_think_time_that_no_run_has_is_refused(told: Any) -> None:
    """Whatever a file says."""
    with pytest.raises(PlanError):
        plan_from_json({**Plan().to_json(), "think_time_s": told})


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**62), sessions=st.integers(1, 8))
def test_a_session_asks_again_no_sooner_than_it_has_thought(seed: int, sessions: int) -> None:
    """Each pause is that of the number before it; response times have none of it, and what follows does not wait."""
    plan = Plan(shape="closed", duration_s=0.3, seed=seed, think_time_s=(0.01, 0.04), late_limit_s=1.0)
    rules = (CHAIN[0], *(FollowUp("deposit", "refused", kind, share=0.5) for kind in KINDS[3:]), CHAIN[3])
    day = drive(workload(*rules), plan, sessions=sessions)
    last = max(row.due for row in day.rows)

    assert {row.outcome for row in day.rows} == {Outcome.OK}
    assert len({(row.number, row.kind) for row in day.rows}) == len(day.rows)
    for process in {row.process for row in day.rows}:
        arrivals = sorted((row for row in day.rows if row.process == process and row.kind < 2), key=lambda row: row.due)
        draws = Draws(seed, np.array([row.number for row in arrivals])).uniform(THINK)
        for before, after, draw in zip(arrivals, arrivals[1:], draws.tolist(), strict=False):
            assert after.due - before.done >= int(NS_PER_S * 0.01) + int(draw * NS_PER_S * 0.03)
        assert len(arrivals) <= 0.3 / 0.01 + 1
        assert len(arrivals) >= 2
    told = {(row.number, row.kind): row.due for row in day.rows if row.kind >= 2}
    assert told.items() <= expected(day).items()
    assert {key for key, due in expected(day).items() if due < last} <= told.keys()
    waits = sorted(row.sent - row.due for row in day.rows)
    assert waits[len(waits) // 2] < 10 * NS_PER_MS, "a thinking session takes what follows at once"
