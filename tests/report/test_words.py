"""The report and the list of runs speak the words of any workload, whole."""

import json
from typing import Any

import pytest

from loadgen.report.terminal import render
from loadgen.workload.facts import words_of

RESERVATIONS = {
    "name": "tickets",
    "kinds": ["reserve", "refund"],
    "answers": ["none", "reserved", "taken"],
    "arrivals": ["reserve"],
    "refused": ["taken"],
    "good": "reserved",
    "noun": "reservation",
}
COUNTS = {
    "due": 9,
    "started": 9,
    "ok": 9,
    "reserved": 7,
    "taken": 2,
    "fail": 0,
    "info": 0,
    "skipped": 0,
    "per_second_mean": None,
}
TIMES = {"p50": 1.2, "p95": 3.4, "p99": 22.1, "p999": 101.2, "max": 1543.2, "count": 7}


def summary(**changes: Any) -> dict[str, Any]:
    """The summary of a run of reservations."""
    main = {"kind": "reserve", "noun": "reservation", "good": "reserved", **COUNTS}
    return {
        "verdict": "valid",
        "main": main,
        "checks": [],
        "response_time_ms": {"reserve": TIMES, "reserve_refused": TIMES, "refund": TIMES},
        "service_time_ms": {"reserve": TIMES, "reserve_refused": TIMES, "refund": TIMES},
        "lines": [],
        **changes,
    }


@pytest.mark.parametrize("width", [40, 60, 80, 100, 110])
def test_long_labels_are_whole_where_there_is_room(width: int) -> None:
    """The column of labels is as wide as the longest, and that of kinds too."""
    report = render(summary(), {"workload": RESERVATIONS}, run_dir="runs/x", width=width, height=99)

    assert max(len(line) for line in report.splitlines() if "loadgen check" not in line) <= width
    if width >= 80:
        assert "\nReservations/s " in report
        assert "\nReservations   due 9 = started 9" in report
    assert "reserve_refused " in report


def test_a_kind_of_a_very_long_name_leaves_its_figures_in_their_columns() -> None:
    """It is cut, with a sign that it is."""
    kind = "reserve_every_seat_of_a_whole_row_at_once"
    report = render(
        summary(response_time_ms={kind: TIMES}, service_time_ms={kind: TIMES}), {}, run_dir="runs/x", width=110
    )

    assert max(map(len, report.splitlines())) <= 110
    assert "reserve_every_seat_of_a_" in report and "…" in report
    assert "22.1" in report


def test_what_a_workload_says_of_its_run_is_printed_as_it_is() -> None:
    """A section for each of the summary's lines; what is no line is passed over."""
    told = [["Seats", "3 were sold twice", "seat 7 first"], ["Nothing"], 3, ["Many", "word " * 200]]
    report = render(summary(lines=told), {"workload": RESERVATIONS}, run_dir="runs/x", width=110)

    assert "\nSeats          3 were sold twice\n               seat 7 first\n" in report
    assert "Nothing" not in report
    assert "\nMany           word" in report


@pytest.mark.parametrize("name", ["flashsale", "append", "bank", "longfork", "register"])
def test_the_words_of_older_runs_are_those_of_the_installed_workload(name: str) -> None:
    """Objectives apart: what the words of an older plan.json were is in one data file."""
    from loadgen.workload.loading import installed_workloads, load_workload

    workload = load_workload(installed_workloads()[name])
    told = json.loads(json.dumps(workload.facts(workload.parse({}))))

    older, now = words_of(name, {}), words_of(name, told)
    assert now == workload.words
    for field in ("kinds", "answers", "arrivals", "refused", "good", "noun", "figures", "all_kinds_count", "titles"):
        assert getattr(older, field) == getattr(now, field)
    assert bool(older.no_objectives) is bool(now.no_objectives)


def test_a_block_of_plan_json_keeps_what_it_says() -> None:
    """Only what it lacks is filled in."""
    words = words_of("flashsale", {"kinds": ["order", "look"], "noun": "purchase"})

    assert words.kinds == ("order", "look")
    assert words.arrivals == ("order",)
    assert (words.noun, words.good, words.figures) == ("purchase", "placed", "orders")
