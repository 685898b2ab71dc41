"""Figures of small histories, reckoned by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import NS_PER_MS, NS_PER_S, ClockOrigin
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import timeline
from loadgen.measures.errors import count_errors
from loadgen.measures.latency import response_and_service
from loadgen.measures.throughput import acknowledged, count_ops, duration_s
from loadgen.op import Outcome, Stage
from loadgen.percentiles import percentiles
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind

Row = tuple[Kind, int, int, int, Outcome, Answer]
"""Kind, milliseconds due, sent and done, outcome and answer."""


def process(
    *rows: Row, boot: str = "b", wall_ms: int = 0, errors: tuple[tuple[str, Stage, Outcome], ...] = ()
) -> LoadProcess:
    """A load process that did these ops."""
    due, sent, done = (np.array([row[at] for row in rows], dtype=np.int64) * NS_PER_MS for at in (1, 2, 3))
    ops = {
        "number": np.arange(len(rows)),
        "kind": np.array([row[0] for row in rows], dtype=np.uint8),
        "due": due,
        "sent": sent,
        "done": done,
        "outcome": np.array([row[4] for row in rows], dtype=np.uint8),
        "answer": np.array([row[5] for row in rows], dtype=np.uint8),
        "code": np.array([""] * len(rows), dtype=object),
        "stage": np.zeros(len(rows), dtype=np.uint8),
    }
    tries = {
        "code": np.array([code for code, _, _ in errors], dtype=object),
        "stage": np.array([stage for _, stage, _ in errors], dtype=np.uint8),
        "outcome": np.array([outcome for _, _, outcome in errors], dtype=np.uint8),
    }
    return LoadProcess("0", ClockOrigin("h", boot, wall_ms * NS_PER_MS, 0), {}, {}, ops, tries, None)


def placed(due: int, done: int) -> Row:
    """An order that was placed."""
    return Kind.ORDER, due, due + 1, done, Outcome.OK, Answer.PLACED


def test_percentiles_are_by_nearest_rank() -> None:
    """Of 1 .. 1000 ms, the p-th percentile is p times ten."""
    figures = percentiles(np.arange(1, 1001) * NS_PER_MS)

    assert figures == {
        "p50": 500.0, "p90": 900.0, "p95": 950.0, "p99": 990.0, "p999": 999.0, "max": 1000.0, "count": 1000
    }  # fmt: skip


def test_percentiles_of_few_samples_have_no_p999_and_of_none_are_none() -> None:
    """p99.9 of 999 samples would be their maximum by another name."""
    assert percentiles(np.arange(999))["p999"] is None
    assert percentiles(np.array([7 * NS_PER_MS]))["p99"] == 7.0
    assert percentiles(np.empty(0, np.int64)) == {
        **dict.fromkeys(("p50", "p90", "p95", "p99", "p999", "max")),
        "count": 0,
    }


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_percentile_is_a_sample_that_its_share_does_not_exceed(durations: list[int]) -> None:
    """The definition itself."""
    figures = percentiles(np.array(durations))
    times = sorted(round(duration / NS_PER_MS, 3) for duration in durations)

    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert figures[name] in times
        assert sum(time <= figures[name] for time in times) >= share * len(times)


def test_response_counts_from_due_and_service_from_sent_for_each_kind() -> None:
    """Placed and refused orders stand apart; what failed, is open or was skipped is not among them."""
    response, service = response_and_service([
        process(
            placed(0, 10),
            (Kind.ORDER, 0, 5, 7, Outcome.OK, Answer.SOLD_OUT),
            (Kind.ORDER, 0, 5, 9, Outcome.OK, Answer.LIMITED),
            (Kind.ORDER, 0, 5, 99, Outcome.FAIL, Answer.NONE),
            (Kind.PAY, 0, 5, 99, Outcome.INFO, Answer.NONE),
            (Kind.PAY, 0, 1, 3, Outcome.OK, Answer.NOT_RESERVED),
            (Kind.BROWSE, 0, 0, 0, Outcome.SKIPPED, Answer.NONE),
        )
    ], sale.FACTS)  # fmt: skip

    assert (response["order"]["max"], service["order"]["max"]) == (10.0, 9.0)
    assert (response["order_refused"]["p50"], service["order_refused"]["max"]) == (7.0, 4.0)
    assert [response[kind]["count"] for kind in ("order", "order_refused", "pay", "browse")] == [1, 2, 1, 0]
    assert set(response) == set(service) == {"order", "order_refused", "pay", "cancel", "release", "browse"}


def test_orders_are_counted_and_rated_by_the_placed_ones() -> None:
    """Three placed, two of them in one second; only one between the first and the last due, 4 s apart."""
    run = process(
        placed(0, 10),
        placed(3900, 4100),
        placed(4000, 4900),
        (Kind.ORDER, 100, 100, 100, Outcome.SKIPPED, Answer.NONE),
        (Kind.ORDER, 100, 101, 102, Outcome.INFO, Answer.NONE),
        (Kind.ORDER, 100, 101, 102, Outcome.OK, Answer.LIMITED),
        (Kind.PAY, 100, 101, 9000, Outcome.OK, Answer.PAID),
    )

    counts = count_ops([run], timeline([run]), sale.FACTS)

    assert counts == {
        "due": 6, "started": 5, "ok": 4, "placed": 3, "sold_out": 0, "limited": 1, "fail": 0, "info": 1, "skipped": 1,
        "per_second_mean": 0.25, "per_second_peak": 2,
    }  # fmt: skip
    assert acknowledged([run]) == 5
    assert duration_s([run], timeline([run])) == 9.0


def test_no_order_gives_no_rate() -> None:
    """Nothing divided by no time."""
    run = process()

    counts = count_ops([run], timeline([run]), sale.FACTS)

    assert counts["per_second_mean"] is None and counts["per_second_peak"] == 0 and counts["due"] == 0
    assert duration_s([], timeline([])) == 0.0


@pytest.mark.parametrize(("boot", "seconds"), [("b", 1.0), ("c", 5.0)])
def test_one_boot_has_one_clock_and_others_meet_at_the_wall(boot: str, seconds: float) -> None:
    """What the wall says is used between boots only."""
    first, second = process(placed(0, 1), wall_ms=1000), process(placed(1000, 1001), boot=boot, wall_ms=5000)

    times = timeline([first, second])

    assert times.boots == (0, 0 if boot == "b" else 1)
    assert times.seconds(NS_PER_S, 1) == seconds


def test_errors_are_counted_by_code_and_stage_with_what_is_known_of_them() -> None:
    """The most frequent first; a code that nobody told of is of class other."""
    run = process(
        (Kind.ORDER, 0, 0, 0, Outcome.OK, Answer.PLACED),
        errors=(
            ("40001", Stage.STATEMENT, Outcome.FAIL),
            ("40001", Stage.STATEMENT, Outcome.FAIL),
            ("40001", Stage.COMMIT, Outcome.FAIL),
            ("x", Stage.COMMIT, Outcome.INFO),
        ),
    )

    errors = count_errors([run], {"40001": ("conflict", "could not serialize")})

    assert errors[0] == {
        "code": "40001", "class": "conflict", "stage": "statement", "count": 2, "sample": "could not serialize"
    }  # fmt: skip
    assert {(error["code"], error["class"], error["stage"]) for error in errors[1:]} == {
        ("40001", "conflict", "commit"),
        ("x", "other", "commit"),
    }
