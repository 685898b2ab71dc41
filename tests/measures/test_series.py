"""The series of a run: it adds up, tells what the ops tell, and is at most 0.1 % off; kept beside the history."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import NS_PER_S, ClockOrigin
from loadgen.conduct.conclusion import Conclusion
from loadgen.errors import StoreError
from loadgen.history.history import Columns, LoadProcess
from loadgen.history.run_directory import RunDirectory
from loadgen.history.timeline import Timeline, timeline
from loadgen.judge.stored_run import open_run
from loadgen.judge.stored_series import keep_series, read_series, series_of_run
from loadgen.measures import series as series_module
from loadgen.measures.histogram import BUCKETS, LONGEST_NS, Histogram, bucket_middle, bucket_of, histogram_of
from loadgen.measures.latency import response_and_service
from loadgen.measures.series import Series, series_of, with_refused
from loadgen.measures.series_file import load_series, store_series
from loadgen.op import Outcome
from loadgen.percentiles import RANKS, nearest_rank
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind
from tests.stored import ORDERS, load_facts, write_stored_run

FACTS = sale.FACTS
KINDS = series_of([], timeline([]), FACTS).kinds
ANSWERS = {Kind.ORDER: (Answer.PLACED, Answer.SOLD_OUT, Answer.LIMITED), Kind.PAY: (Answer.PAID, Answer.NOT_RESERVED)}


@st.composite
def processes(draw: st.DrawFn) -> LoadProcess:
    """A load process whose ops are due within four seconds, and end within a minute after."""
    count = draw(st.integers(0, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = random.choice([Kind.ORDER, Kind.PAY], count).astype(np.uint8)
    due = random.integers(0, 4 * NS_PER_S, count)
    sent = due + random.integers(0, 10**6, count)
    outcome = random.choice(list(Outcome), count).astype(np.uint8)
    answer = [random.choice(ANSWERS[Kind(each)]) for each in kind]
    ops: Columns = {
        "kind": kind,
        "due": due,
        "sent": sent,
        "done": sent + (60e9 ** random.random(count)).astype(np.int64),
        "outcome": outcome,
        "answer": np.where(outcome == Outcome.OK, answer or kind, 0).astype(np.uint8),
    }
    failed = draw(st.integers(0, 5))
    tries: Columns = {"kind": np.zeros(failed, np.uint8), "done": random.integers(0, 4 * NS_PER_S, failed)}
    return LoadProcess("0", ClockOrigin("h", "b", 0, 0), {}, {}, ops, tries, None)


def same(one: Series, other: Series) -> bool:
    """Whether two series are equal."""
    names = ("start_wall_ns", "kinds", "figures")
    columns = ("second", "kind", "figure", "bucket", "counts")
    return all(getattr(one, name) == getattr(other, name) for name in names) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in columns
    )


def alone(process: LoadProcess, start_ns: int = 0) -> Series:
    """The series of one process of a run whose first op was due at ``start_ns``."""
    return series_of([process], Timeline(start_ns, (-start_ns,), (0,)), FACTS)


@settings(max_examples=60, deadline=None)
@given(one=processes(), two=processes(), three=processes())
def test_series_add_up_in_any_order(one: LoadProcess, two: LoadProcess, three: LoadProcess) -> None:
    """Counting all processes at once is counting each, and adding."""
    together = series_of([one, two, three], Timeline(0, (0, 0, 0), (0, 0, 0)), FACTS)
    first, second, third = alone(one), alone(two), alone(three)

    assert same(together, first + second + third)
    assert same(together, third + (second + first))
    assert same(first + alone(two), alone(two) + first)


@settings(max_examples=40, deadline=None)
@given(process=processes(), part=st.integers(1, 20))
def test_the_parts_in_which_ops_are_counted_do_not_matter(process: LoadProcess, part: int) -> None:
    """Memory is bounded by counting in parts."""
    whole = alone(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_module, "PART", part)
        assert same(alone(process), whole)


@settings(max_examples=60, deadline=None)
@given(process=processes())
def test_the_series_tells_what_the_ops_tell(process: LoadProcess) -> None:
    """due = ok + fail + info + skipped for each kind; ok is the sum of the answers, and of the times."""
    ops, series = process.ops, series_of([process], timeline([process]), FACTS)
    response, service = response_and_service([process], FACTS)
    for kind in series.kinds:
        total = {name: int(series.count(name, [kind]).sum()) for name in series_module.COUNTS}
        answers = [name for name in series.figures if name.startswith(series_module.ANSWER)]
        assert total["due"] == sum(total[name] for name in ("ok", "fail", "info", "skipped"))
        assert total["ok"] == sum(int(series.count(name, [kind]).sum()) for name in answers)
        assert total["ok"] == series.histogram("response", [kind]).count == response[kind]["count"]
        assert total["ok"] == series.histogram("service", [kind]).count == service[kind]["count"]
    assert series.count("due").sum() == len(ops["due"])
    assert series.count("tries_failed", ["order"]).sum() == len(process.tries["done"])
    for outcome in Outcome:
        told = series.count(outcome.name.lower(), with_refused(["order"])).sum()
        assert told == np.count_nonzero((ops["outcome"] == outcome) & (ops["kind"] == Kind.ORDER))
    if len(ops["due"]):
        seconds = (ops["due"] - ops["due"].min()) // NS_PER_S
        assert np.array_equal(series.count("due")[:4], np.bincount(seconds, minlength=series.seconds)[:4])


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.integers(0, 10**13), min_size=1, max_size=300),
    thousandths=st.sampled_from(sorted(RANKS.values())),
)
def test_a_percentile_is_at_most_a_thousandth_off(times: list[int], thousandths: int) -> None:
    """Against sorting, by the same rank."""
    exact = sorted(times)[int(nearest_rank(thousandths, len(times)))]
    told = histogram_of(np.array(times)).percentile(thousandths)

    assert told is not None and abs(told - exact) <= 0.001 * exact


def test_buckets_are_those_of_hdrhistogram() -> None:
    """One for each nanosecond up to 2047, then 1024 for each power of two, and every time in one of them."""
    powers = np.array([2**power + shift for power in range(53) for shift in (-1, 0, 1)])
    times = np.unique(np.concatenate([powers[powers <= LONGEST_NS], np.arange(5000)]))
    buckets = bucket_of(times)

    assert np.array_equal(buckets[:2048], np.arange(2048))
    assert bucket_of(np.array([2048, 2049, 2050, 4095, 4096])).tolist() == [2048, 2048, 2049, 3071, 3072]
    assert (np.diff(buckets) >= 0).all() and buckets[-1] < BUCKETS
    assert (np.abs(bucket_middle(buckets) - times) <= times / 2048).all()
    assert bucket_of(np.array([-5, 2**62])).tolist() == [0, buckets[-1]]


@settings(max_examples=40, deadline=None)
@given(process=processes(), thousandths=st.sampled_from(sorted(RANKS.values())))
def test_percentiles_by_second_are_those_of_the_second(process: LoadProcess, thousandths: int) -> None:
    """Of several kinds together too."""
    series = alone(process)
    for kinds in (["pay"], with_refused(["order"]), None):
        by_second = series.percentiles("response", kinds, thousandths)
        each = [
            series.histogram("response", kinds, (at, at + 1)).percentile(thousandths) for at in range(series.seconds)
        ]
        assert np.array_equal(by_second, np.array(each, dtype=np.float64), equal_nan=True)
        summed = sum((series.histogram("response", kinds, (at, at + 1)) for at in range(series.seconds)), _NOTHING)
        assert summed.count == series.histogram("response", kinds).count


def test_times_within_a_limit_are_counted() -> None:
    """Goodput is asked of a histogram."""
    times = histogram_of(np.array([1, 5, 10, 20]) * 10**6)

    assert [times.within(limit * 10**6) for limit in (0.5, 5, 10.1, 99)] == [0, 2, 3, 4]


@settings(max_examples=20, deadline=None)
@given(process=processes())
def test_a_series_is_read_as_it_was_written(process: LoadProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every row and name."""
    path = tmp_path_factory.mktemp("series") / "series.arrow"
    store_series(alone(process), path, {"of": "a"})

    assert same(load_series(path, {"of": "a"}), alone(process))
    with pytest.raises(StoreError, match="another run"):
        load_series(path, {"of": "b"})


@pytest.mark.parametrize("cut", [0, 7, 200, -9])
def test_a_damaged_series_is_refused(tmp_path: Path, cut: int) -> None:
    """In one line, whatever is left of it."""
    path = tmp_path / "series.arrow"
    keep = read_series(write_stored_run(tmp_path / "run"))
    store_series(keep, path, {})
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(StoreError):
        load_series(path, {})


def test_a_run_keeps_its_series_and_one_that_lacks_it_is_counted_again(tmp_path: Path) -> None:
    """At the end of a run it is written; without it, with a broken one or with one of other records it is made anew."""
    directory = write_stored_run(tmp_path / "run")
    kept = RunDirectory(directory).series
    counted = read_series(directory)
    assert counted.count("due", with_refused(["order"])).sum() == ORDERS and not kept.exists()

    conclusion = Conclusion(RunDirectory(directory), load_facts(), lambda _: None)
    conclusion.judge()
    conclusion.done()
    assert kept.is_file() and same(read_series(directory), counted)

    other = alone(open_run(directory).history.processes[0], start_ns=-NS_PER_S)
    keep_series(other, directory)
    assert same(read_series(directory), other)
    (directory / "load.json").write_text((directory / "load.json").read_text() + "\n")
    assert same(read_series(directory), counted)

    kept.write_bytes(b"nothing")
    assert same(read_series(directory), counted)
    assert same(series_of_run(open_run(directory)), counted)


_NOTHING = Histogram(np.empty(0, np.int64), np.empty(0, np.int64))
