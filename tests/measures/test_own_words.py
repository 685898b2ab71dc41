"""A workload of a user's own is counted, timed and told in its own words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loadgen.clock import NS_PER_MS, ClockOrigin
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import timeline
from loadgen.measures.latency import response_and_service
from loadgen.measures.objectives import measured, unmeasurable
from loadgen.measures.throughput import count_ops
from loadgen.op import Outcome
from loadgen.plan import Plan, parse_slos
from loadgen.report.seconds import write_seconds
from loadgen.report.terminal import render
from loadgen.workload.facts import WorkloadFacts, workload_facts

TOLD = {
    "name": "tickets",
    "kinds": ["reserve", "refund", "look"],
    "answers": ["none", "reserved", "full", "refunded", "not_held", "seen"],
    "arrivals": ["reserve", "look"],
    "refused": ["full", "not_held"],
    "good": "reserved",
    "noun": "reservation",
}
FACTS = workload_facts(TOLD)
RESERVED, FULL, REFUNDED, SEEN = 1, 2, 3, 5


def tickets() -> LoadProcess:
    """Three reservations, one of them skipped, one refused; a refund and a look. All due in one second."""
    ok, skipped = Outcome.OK, Outcome.SKIPPED
    rows = [(0, 0, 10, ok, RESERVED), (0, 100, 130, ok, FULL), (0, 200, 200, skipped, 0), (0, 500, 509, ok, RESERVED),
            (1, 300, 320, ok, REFUNDED), (2, 400, 405, ok, SEEN)]  # fmt: skip
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    due = columns[1].astype(np.int64) * NS_PER_MS
    ops: dict[str, Any] = {
        "number": np.arange(len(rows)),
        "kind": columns[0].astype(np.uint8),
        "due": due,
        "sent": due,
        "done": columns[2].astype(np.int64) * NS_PER_MS,
        "outcome": columns[3].astype(np.uint8),
        "answer": columns[4].astype(np.uint8),
        "code": np.array([""] * len(rows), dtype=object),
    }
    return LoadProcess("0", ClockOrigin("h", "b", 0, 0), {}, {}, ops, {"done": np.empty(0, np.int64)}, 6)


def counted() -> dict[str, Any]:
    """The counts of the reservations."""
    return count_ops([tickets()], timeline([tickets()]), FACTS)


def test_the_main_kind_is_counted_by_its_own_answers() -> None:
    """The rate is that of the good answer; what followed, and looks, are not among them."""
    assert counted() == {
        "due": 4, "started": 3, "ok": 3, "reserved": 2, "full": 1, "fail": 0, "info": 0, "skipped": 1,
        "per_second_mean": 2.0, "per_second_peak": 2,
    }  # fmt: skip


def test_each_kind_has_times_and_refused_arrivals_stand_apart() -> None:
    """No kind of another workload is among them."""
    response, _ = response_and_service([tickets()], FACTS)

    assert {kind: times["max"] for kind, times in response.items()} == {
        "reserve": 10.0, "reserve_refused": 30.0, "refund": 20.0, "look": 5.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("slo", "value", "met"),
    [
        ("reserve.p50<=10ms", 9.0, True),
        ("reserve_refused.max<=1ms", 30.0, False),
        ("reserved_per_second>=2", 2.0, True),
        ("peak_per_second>=3", 2.0, False),
        ("skipped<=25%", 25.0, True),
    ],
)
def test_objectives_are_measured(slo: str, value: float, met: bool) -> None:
    """By the workload's own kinds and rates."""
    (objective,) = parse_slos(slo)
    response, service = response_and_service([tickets()], FACTS)
    figures = {"main": counted(), "response_time_ms": response, "service_time_ms": service}

    assert measured(objective, figures) == {"text": slo, "value": value, "met": met}


def test_an_objective_on_what_never_comes_is_refused_in_its_own_words() -> None:
    """A refund follows a reservation."""
    plan = Plan(workload="tickets", slo=parse_slos("refund.p99<=1s"), kind_weights=(("refund", 1), ("look", 1)))

    assert "refund follows reserve, and no reserve is in this run's mix" in unmeasurable(plan, FACTS.arrivals, 10.0)


def test_the_report_speaks_of_reservations() -> None:
    """Headings and answers are the workload's, and no word of the sale is in it."""
    response, service = response_and_service([tickets()], FACTS)
    main = {"kind": "reserve", "noun": "reservation", "good": "reserved", **counted(), "acknowledged": 2}
    summary = {"verdict": "valid", "main": main, "response_time_ms": response, "service_time_ms": service}
    report = render(summary, {}, run_dir="runs/1")

    assert "reserved reservations only" in report
    assert "due 4 = started 3 + skipped 1" in report
    assert "(reserved 2, full 1)" in report
    assert "reserve_refus" in report
    assert not [word for word in ("order", "placed", "sold", "pay") if word in report.lower()]


def test_seconds_have_the_columns_of_the_workload(tmp_path: Path) -> None:
    """The answers of the main kind, and the others kinds' ops."""
    write_seconds([tickets()], {}, tmp_path / "seconds.csv", facts=FACTS)
    table = pd.read_csv(tmp_path / "seconds.csv")

    assert {"due", "skipped", "reserved", "full", "refund_ok", "look_ok"} <= set(table)
    assert not {"placed", "sold_out", "reserve_ok"} & set(table)
    assert (table["due"].sum(), table["reserved"].sum(), table["look_ok"].sum()) == (4, 2, 1)


@pytest.mark.parametrize("damaged", [{}, {"kinds": 3, "answers": None, "good": ["x"], "arrivals": ["nothing"]}])
def test_a_block_that_makes_no_sense_gives_plain_words(damaged: dict[str, Any]) -> None:
    """plan.json may come from anybody."""
    assert workload_facts(damaged) == WorkloadFacts(("op",), ("none",), ("op",))
