"""Whether a run found a limit, and whose it was."""

from typing import Any

import numpy as np
import pytest

from loadgen.clock import NS_PER_S, ClockOrigin
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import timeline
from loadgen.measures.limit import Limit, limit_of
from loadgen.measures.throughput import count_orders
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.shop.sale import Answer, Kind
from tests.plans import sale_plan

PLAN = sale_plan(shape="ramp", duration_s=10.0, sessions=4)


def queue(
    rates: list[int], service_s: list[float], sessions: int = 4, late_s: float = 1.0
) -> tuple[LoadProcess, dict[str, Any]]:
    """Orders at ``rates`` a second, one rate for each second, served by so many sessions one after the other."""
    due = np.concatenate([second + np.arange(rate) / rate for second, rate in enumerate(rates)])
    free = np.zeros(sessions)
    rows = []
    for at in due:
        seat = int(np.argmin(free))
        sent = max(at, free[seat])
        if sent - at > late_s:
            rows.append((at, at, at, Outcome.SKIPPED))
            continue
        free[seat] = done = sent + service_s[min(int(sent), len(service_s) - 1)]
        rows.append((at, sent, done, Outcome.OK))
    return process(rows)


def process(rows: list[tuple[float, float, float, Outcome]]) -> tuple[LoadProcess, dict[str, Any]]:
    """A load process with these rows of orders, and their counts."""
    count = len(rows)
    due, sent, done = ((np.array([row[at] for row in rows]) * NS_PER_S).astype(np.int64) for at in range(3))
    outcome = np.array([row[3] for row in rows], dtype=np.uint8)
    ops = {
        "number": np.arange(count),
        "kind": np.full(count, int(Kind.ORDER), np.uint8),
        "due": due,
        "sent": sent,
        "done": done,
        "outcome": outcome,
        "answer": np.where(outcome == Outcome.OK, int(Answer.PLACED), 0).astype(np.uint8),
        "code": np.array([""] * count, dtype=object),
    }
    made = LoadProcess("0", ClockOrigin("h", "b", 0, 0), {}, {}, ops, {}, count)
    return made, count_orders([made], timeline([made]))


def limit(made: tuple[LoadProcess, dict[str, Any]], plan: Plan = PLAN, **load: Any) -> Limit:
    """What limited a run of that process."""
    return limit_of([made[0]], timeline([made[0]]), plan, made[1], load)


def test_all_that_was_offered_was_served_so_the_limit_lies_higher() -> None:
    """Figures of such a run are the plan's, not the database's."""
    found = limit(queue([50, 100, 150], [0.005] * 3))

    assert found.by is None
    assert "not reached" in found.text and "150 orders/s" in found.text


def test_too_few_sessions_are_told_with_the_number_that_it_needed() -> None:
    """By Little's law: 3,000 orders a second that keep a session for 2 ms each keep six sessions."""
    found = limit(queue([100, 1000, 3000, 3000], [0.002] * 4))

    assert found.by == "sessions"
    assert found.sessions_needed == 6
    assert "too few sessions (4)" in found.text and "3,000 orders/s × 2.0 ms" in found.text and "-u 6" in found.text


@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_sessions_that_were_taken_away_in_mid_run_are_too_few(sessions: int) -> None:
    """What counts is how many there were, not how many were planned."""
    found = limit(queue([100, 1000, 2000, 2000], [0.002] * 4, sessions), PLAN, sessions=[[0, 4], [1, sessions]])

    assert found.by == "sessions"
    assert f"({sessions})" in found.text


def test_a_server_that_gets_slower_is_the_limit() -> None:
    """Ops take four times as long as in calm seconds: more sessions would only wait inside the server."""
    found = limit(queue([100, 400, 1000, 1000, 1000], [0.002, 0.002, 0.008, 0.008, 0.008]))

    assert found.by == "server"
    assert "rose from 2.0 to 8.0 ms" in found.text


def test_a_saturated_client_is_the_limit() -> None:
    """Its own CPU held the arrivals back; where far too few sessions did, its load is beside the point."""
    near, far = queue([100, 3000, 3000], [0.002] * 3), queue([100, 3000, 3000], [0.002] * 3, sessions=2)

    assert limit(near, client={"saturated_seconds": 2}).by == "client"
    assert limit(far, PLAN.with_(sessions=2), client={"saturated_seconds": 2}).by == "sessions"
    assert limit(near, client={"saturated_seconds": 0}).by == "sessions"


def test_a_short_stall_is_no_limit_and_a_long_pause_is_not_the_sessions_fault() -> None:
    """Arrivals that waited for 60 ms were served; those that waited for idle sessions had other reasons."""
    stalled = [(at / 100, at / 100 + (0.06 if 50 < at < 60 else 0), at / 100 + 0.1, Outcome.OK) for at in range(400)]
    paused = [(at / 100, at / 100 + (0.9 if at < 200 else 0), at / 100 + 0.901, Outcome.OK) for at in range(400)]

    assert limit(process(stalled)).by is None
    assert limit(process(paused)).by == "unclear"


def test_errors_and_lost_load_processes_are_no_limit_of_the_server() -> None:
    """What failed, and what nobody drove, is told as what it is."""
    rows = [(at / 100, at / 100, at / 100 + 0.001, Outcome.FAIL if at % 10 else Outcome.OK) for at in range(400)]
    lost, counts = process(
        [(at / 100, at / 100, at / 100, Outcome.SKIPPED if at > 200 else Outcome.OK) for at in range(400)]
    )
    lost.ops["code"][201:] = "worker-lost"

    assert limit(process(rows)).by == "errors"
    assert limit((lost, counts)).by == "load processes"


def test_a_closed_loop_says_how_many_sessions_asked() -> None:
    """It offers as much as is answered, so it is always at the limit of its sessions."""
    found = limit(queue([100], [0.001]), PLAN.with_(shape="closed"))

    assert found.by == "closed" and "4 sessions" in found.text


@pytest.mark.parametrize(
    "load", [{"sessions": 7}, {"sessions": [[0, "x"], 5, []]}, {"client": []}, {"sessions": [[0, 0]]}]
)
def test_whatever_load_json_says_is_no_traceback(load: dict[str, Any]) -> None:
    """A damaged file costs exactness."""
    assert limit(queue([100, 3000], [0.002] * 2), PLAN, **load).by


def test_nothing_due_is_no_limit() -> None:
    """And no text."""
    empty, counts = process([])

    assert limit((empty, counts)) == Limit(None, "")
