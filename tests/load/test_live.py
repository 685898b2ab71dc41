"""The live view: Locust's statistics in bulk say what they would say op by op, and the line of progress fits."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust.stats import RequestStats

from loadgen.clock import NS_PER_MS, NS_PER_S, now_ns
from loadgen.history.history import ROW_DONE, ROW_TRY, ops_batch
from loadgen.load.live_view import LiveView, LocustView, Progress, histogram, percentile_ms, short
from loadgen.op import Completion, Outcome, Stage
from loadgen.shop.sale import Answer, Kind
from tests.load.fake_engine import sale_plan
from workloads.flashsale import SALE


def row(
    number: int = 1,
    kind: Kind = Kind.ORDER,
    outcome: Outcome = Outcome.OK,
    answer: Answer = Answer.PLACED,
    *,
    took_ms: float = 5.0,
    lag_ms: float = 1.0,
    code: str = "",
    stage: Stage = Stage.NONE,
) -> Completion:
    """A row that ends now."""
    done = now_ns()
    due = done - int(took_ms * NS_PER_MS)
    return Completion(number, kind, 1, due, due + int(lag_ms * NS_PER_MS), done, outcome, answer, 1, stage, code, ())


rows_of_any_kind = st.lists(
    st.builds(
        row,
        kind=st.sampled_from(Kind),
        outcome=st.sampled_from([Outcome.OK, Outcome.FAIL, Outcome.INFO]),
        answer=st.sampled_from([Answer.PLACED, Answer.SOLD_OUT, Answer.LIMITED]),
        took_ms=st.integers(0, 20_000),
        code=st.sampled_from(["", "40001", "1205"]),
    ),
    max_size=60,
)


@given(batches=st.lists(rows_of_any_kind, max_size=4))
def test_locust_view_counts_as_locust_does(batches: list[list[Completion]]) -> None:
    """Entries, total and errors are those of log_request and log_error for each op."""
    ours, locusts = RequestStats(), RequestStats()
    view = LocustView(SALE, ours)
    for batch in batches:
        view.record(batch, [ROW_DONE] * len(batch))
        for known in batch:
            refused = known.kind == Kind.ORDER and known.outcome == Outcome.OK and known.answer != Answer.PLACED
            name = SALE.kinds[known.kind] + ("_refused" if refused else "")
            locusts.log_request("op", name, (known.done - known.due) // NS_PER_MS, 0)
            if known.outcome != Outcome.OK:
                error = f"{known.code} at none: {known.outcome.name.lower()}"
                locusts.log_error("op", name, error)

    assert set(ours.entries) == set(locusts.entries)
    for key, entry in [*locusts.entries.items(), (None, locusts.total)]:
        mine = ours.total if key is None else ours.entries[key]
        for name in ("num_requests", "num_failures", "min_response_time", "max_response_time", "response_times"):
            assert getattr(mine, name) == getattr(entry, name), name
        assert mine.total_response_time == pytest.approx(entry.total_response_time)
        assert sum(mine.num_reqs_per_sec.values()) == mine.num_requests
        assert sum(mine.num_fail_per_sec.values()) == mine.num_failures
    assert {key: error.occurrences for key, error in ours.errors.items()} == {
        key: error.occurrences for key, error in locusts.errors.items()
    }


def test_locust_view_leaves_out_tries_and_skipped_ops() -> None:
    """A failed try is not a request, nor is what was never sent."""
    stats = RequestStats()
    view = LocustView(SALE, stats)
    view.record([row(outcome=Outcome.FAIL), row(), row(outcome=Outcome.SKIPPED)], [ROW_TRY, ROW_DONE, ROW_DONE])

    assert stats.num_requests == 1
    assert stats.num_failures == 0
    assert list(stats.entries) == [("order", "op")]


def test_locust_view_keeps_each_second_for_the_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a second is over, what stood at its end is kept: the chart of percentiles is made of it."""
    stats = RequestStats()
    view = LocustView(SALE, stats)
    begun = time.time()
    view.record([row()], [ROW_DONE])
    monkeypatch.setattr(time, "time", lambda: begun + 1)
    view.record([row(), row()], [ROW_DONE] * 2)

    assert stats.total.response_times_cache is not None
    assert stats.total.response_times_cache[int(begun)].num_requests == 1
    assert stats.total.last_request_timestamp == begun + 1


def test_locust_view_goes_on_after_locust_replaced_its_objects() -> None:
    """A new run clears the statistics: the view writes to the new objects."""
    stats = RequestStats()
    view = LocustView(SALE, stats)
    view.record([row()], [ROW_DONE])
    stats.clear_all()
    view.record([row(outcome=Outcome.FAIL, code="x", answer=Answer.NONE)], [ROW_DONE])

    assert stats.num_requests == stats.num_failures == 1
    assert len(stats.errors) == 1


def test_live_view_counts_an_interval() -> None:
    """Each number of the line is that of the rows since the last one, over all processes."""
    view = LiveView(sale_plan(), SALE)
    start = now_ns()
    view.begin(start)
    rows = [
        *(row(number, took_ms=10) for number in range(8)),
        row(8, answer=Answer.SOLD_OUT),
        row(9, outcome=Outcome.FAIL, answer=Answer.NONE, code="40001"),
        row(10, outcome=Outcome.SKIPPED, answer=Answer.NONE),
        row(0, Kind.PAY, Outcome.INFO, Answer.NONE, code="57P01", stage=Stage.COMMIT),
        row(11, Kind.BROWSE, answer=Answer.SEEN),
        row(12, outcome=Outcome.FAIL, answer=Answer.NONE),
    ]
    view.observe(ops_batch(rows, [ROW_DONE] * 13 + [ROW_TRY]), "0", in_flight=3, queued=1)
    view.observe(ops_batch([]), "1", in_flight=4, queued=0)
    progress = view.interval(start + 2 * NS_PER_S)

    assert progress == Progress(
        second=2.0,
        due_per_second=5.5,  # of the orders, as in the report: a browse is none, nor is a payment
        placed_per_second=4.0,
        refused={"sold_out": 1},
        fail=1,
        info=0,
        skipped=1,
        in_flight=7,
        queued=1,
        response_p50_ms=pytest.approx(10, rel=0.02),
        response_p99_ms=pytest.approx(10, rel=0.02),
        lag_p99_ms=pytest.approx(1, rel=0.02),
    )
    assert view.totals["tries"] == 1
    assert view.totals["placed"] == 8
    later = view.interval(start + 3 * NS_PER_S)
    assert later.due_per_second == later.placed_per_second == later.fail == later.response_p50_ms == 0
    assert later.refused == {"sold_out": 0}


def test_live_view_counts_much_at_once_without_waiting_for_a_line() -> None:
    """What is pending stays bounded however rarely a line is asked for."""
    view = LiveView(sale_plan(), SALE)
    view.begin(now_ns())
    batch = ops_batch([row(number) for number in range(2_000)])
    for _ in range(10):
        view.observe(batch, "0", in_flight=0, queued=0)

    assert view._pending_rows < 10_000
    assert view.interval(now_ns()).placed_per_second > 0
    assert view.totals["due"] == 20_000


@given(
    second=st.floats(0, 9_999),
    rate=st.floats(0, 9_999),
    counts=st.lists(st.integers(0, 99), min_size=7, max_size=7),
    ms=st.lists(st.floats(0, 99_999), min_size=3, max_size=3),
)
def test_progress_line_fits_a_terminal(second: float, rate: float, counts: list[int], ms: list[float]) -> None:
    """One line of at most 120 columns, up to 9,999 orders a second and 99 refused in an interval."""
    refused = dict(zip(("sold_out", "limited"), counts[:2], strict=True))
    line = str(Progress(second, rate, rate, refused, *counts[2:], *ms))

    assert "\n" not in line
    assert len(line) <= 120


@given(number=st.floats(0, 9e11))
def test_short_number_has_at_most_four_characters(number: float) -> None:
    """A number never pushes the line apart."""
    assert len(short(number)) <= 4


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (0.42, "0.4"), (9.96, "10"), (999.6, "1.0k"), (12_345, "12k"), (1_250_000, "1.2M")]
)
def test_short_number_keeps_its_size(number: float, text: str) -> None:
    """The unit follows the size, also where rounding reaches the next one."""
    assert short(number) == text


@given(times_us=st.lists(st.integers(1, 3_600_000_000), min_size=1, max_size=200), share=st.sampled_from([0.5, 0.99]))
def test_percentile_is_within_two_percent_of_the_exact_one(times_us: list[int], share: float) -> None:
    """The histogram's percentile is that of the sorted times, within its step."""
    times = np.array(times_us, dtype=np.int64) * 1_000
    exact_ms = float(np.percentile(times, share * 100, method="inverted_cdf")) / NS_PER_MS

    assert percentile_ms(histogram(times), share) == pytest.approx(exact_ms, rel=0.02)


def test_percentile_of_nothing_is_zero() -> None:
    """An interval without an op has no times."""
    assert percentile_ms(histogram(np.array([], dtype=np.int64)), 0.99) == 0
