"""What Prometheus is told: every count is that of the rows, times lie in their buckets, and no label is of the data."""

import socket
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import PlanError
from loadgen.history.history import ROW_DONE, ROW_TRY, ops_batch
from loadgen.load.exposition import Collector, Family, Histogram, wants_protobuf
from loadgen.load.metrics import BOUNDS_S, SCHEMA, ZERO_S, Histograms, LoadMetrics, RunMetrics, phase_at
from loadgen.load.metrics_server import check_ports, metrics_place, worker_ports
from loadgen.load.run_controller import Ending
from loadgen.op import Completion, Outcome
from loadgen.schedule import arrival_profile
from loadgen.shop.sale import Answer, Kind
from tests.load.fake_engine import sale_plan
from tests.load.test_live import row
from workloads.flashsale import SALE

Labels = frozenset[tuple[str, str]]


def metrics() -> LoadMetrics:
    """Of a load process that has no part in a run yet."""
    return LoadMetrics(SALE.words, tells_info=False)


def driving(**changes: Any) -> Any:
    """What is asked of a scheduler."""
    facts = {"saturated_seconds": 0}
    usual = {"released": 0, "in_flight": 0, "queued": 0, "connected": 0, "sessions": 0, "errors": {}}
    return SimpleNamespace(client_facts=lambda: facts, **{**usual, **changes})


def series(source: Any) -> dict[str, dict[Labels, Any]]:
    """The value of each series, by name and labels."""
    return {
        family.name: {frozenset(labels.items()): value for labels, value in family.samples}
        for family in source.families()
    }


def value(source: Any, name: str, **labels: str) -> Any:
    """One of them."""
    return series(source)[name][frozenset(labels.items())]


times = st.one_of(st.integers(-10, 100 * 10**9), st.sampled_from([round(b * 1e9) for b in BOUNDS_S]), st.just(10**13))


@given(times_ns=st.lists(times, max_size=80))
def test_each_time_is_in_its_classic_and_in_its_native_bucket(times_ns: list[int]) -> None:
    """A bound is of its own bucket, as "le" says; all are counted in both, and a native bucket holds its times."""
    counted = Histograms(["a", "b"])
    counted.add(np.ones(len(times_ns), np.int64), np.array(times_ns, np.int64))
    told = counted.of("b")

    assert counted.of("a").count == 0
    assert [count for _, count in told.cumulative()] == [
        sum(time <= round(bound * 1e9) for time in times_ns) for bound in BOUNDS_S
    ] + [len(times_ns)]
    assert told.count == len(times_ns) == told.zero_count + sum(told.native)
    assert told.zero_count == sum(time <= ZERO_S * 1e9 for time in times_ns)
    assert told.sum == pytest.approx(sum(max(0, time) for time in times_ns) / 1e9)
    base = 2.0 ** (2.0**-SCHEMA)
    for index in (index for index, count in enumerate(told.native, told.first) if count):
        inside = [t for t in times_ns if base ** (index - 1) * 0.999999 < t / 1e9 <= base**index * 1.000001]
        assert inside or index == told.first + len(told.native) - 1


@given(
    batches=st.lists(
        st.lists(
            st.builds(
                row,
                kind=st.sampled_from(Kind),
                outcome=st.sampled_from(Outcome),
                answer=st.sampled_from([Answer.PLACED, Answer.SOLD_OUT, Answer.LIMITED]),
                took_ms=st.integers(1, 20_000),
                code=st.sampled_from(["", "40001", "1205", "what"]),
            ),
            max_size=30,
        ),
        max_size=3,
    )
)
def test_counts_are_those_of_the_rows(batches: list[list[Completion]]) -> None:
    """By kind, answer and outcome; tries count as failed tries only; refused orders have their times apart."""
    told = metrics()
    errors = {"40001": ("conflict", ""), "1205": ("timeout", "")}
    told.attach(sale_plan(), "run-1", driving(errors=errors), lambda call: call())
    done = [known for batch in batches for known in batch]
    for batch in batches:
        kinds = [ROW_TRY, *([ROW_DONE] * len(batch))]
        told.observe(ops_batch([row(code="40001"), *batch], kinds))

    counted = Counter((Kind(one.kind), Answer(one.answer), Outcome(one.outcome)) for one in done)
    ended = series(told)["loadgen_ops_total"]
    assert sum(ended.values()) == len(done)
    for (kind, answer, outcome), count in counted.items():
        labels = {"kind": SALE.kinds[kind], "answer": SALE.answers[answer], "outcome": outcome.name.lower()}
        assert ended[frozenset(labels.items())] == count
    classes = Counter({"40001": "conflict", "1205": "timeout", "what": "other"}[one.code] for one in done if one.code)
    classes["conflict"] += len(batches)
    assert {dict(labels)["class"]: count for labels, count in series(told)["loadgen_tries_failed_total"].items()} == {
        name: count for name, count in classes.items() if count
    }
    ok = [one for one in done if one.outcome == Outcome.OK]
    refused = [one for one in ok if one.kind == Kind.ORDER and one.answer != Answer.PLACED]
    response = value(told, "loadgen_response_seconds", kind="order_refused")
    assert response.count == len(refused)
    assert response.sum == pytest.approx(sum(one.done - one.due for one in refused) / 1e9)
    pays = [one for one in ok if one.kind == Kind.PAY]
    service = value(told, "loadgen_service_seconds", kind="pay")
    assert (service.count, service.sum) == (len(pays), pytest.approx(sum(one.done - one.sent for one in pays) / 1e9))


def test_counters_go_on_over_the_runs_of_a_process() -> None:
    """A reset would look like a restart, and the rate of a second run would begin with that of the first."""
    told = metrics()
    first = driving(released=100, in_flight=3)
    told.attach(sale_plan(), "run-1", first, lambda call: call())
    told.observe(ops_batch([row(outcome=Outcome.SKIPPED), *[row()] * 90]))
    assert value(told, "loadgen_ops_due_total") == 100
    assert value(told, "loadgen_ops_started_total") == 93

    first.in_flight = 0
    assert value(told, "loadgen_ops_started_total") == 93, "rows that were not counted yet took none back"
    told.attach(sale_plan(), "run-2", driving(released=5), lambda call: call())
    assert value(told, "loadgen_ops_due_total") == 105


def test_an_exposition_is_read_as_it_was_meant() -> None:
    """In both text formats, by prometheus_client's own parsers; labels are words of the workload only."""
    parse_text = pytest.importorskip("prometheus_client.parser").text_string_to_metric_families
    parse_openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser").text_string_to_metric_families
    told = metrics()
    told.attach(sale_plan(), "run-1", driving(errors={"40001": ("conflict", "Alice's order")}), lambda call: call())
    told.observe(ops_batch([row(code="40001", outcome=Outcome.FAIL), row(took_ms=2), row(took_ms=7)]))
    collector = Collector([told])

    for accept, parse in (("", parse_text), ("application/openmetrics-text; version=1.0.0", parse_openmetrics)):
        body, content_type = collector.text(accept)
        assert content_type.partition(";")[0] == (accept.partition(";")[0] or "text/plain")
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse(body.decode())
            for sample in family.samples
        }
        order = ("kind", "order")
        assert samples["loadgen_response_seconds_bucket", frozenset([order, ("le", "0.002")])] == 1
        assert samples["loadgen_response_seconds_bucket", frozenset([order, ("le", "1.0")])] == 2
        assert samples["loadgen_response_seconds_bucket", frozenset([order, ("le", "+Inf")])] == 2
        assert samples["loadgen_response_seconds_count", frozenset([order])] == 2
        assert samples["loadgen_tries_failed_total", frozenset([("class", "conflict")])] == 1
        words = {*SALE.kinds, "order_refused", *SALE.answers, *(each.name.lower() for each in Outcome), "conflict"}
        assert {text for _, labels in samples for name, text in labels if name != "le"} <= words


def test_protocol_buffers_are_asked_for_by_preference() -> None:
    """Prometheus sends them first where it wants native histograms, and not at all where it does not."""
    protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

    assert wants_protobuf(f"{protobuf};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2")
    assert wants_protobuf(f"{protobuf},text/plain;version=0.0.4;q=0.9")
    assert not wants_protobuf(f"application/openmetrics-text;version=1.0.0,{protobuf};q=0.4")
    assert not wants_protobuf("application/vnd.google.protobuf;encoding=text,text/plain;q=0.1")
    for accept in ("", "*/*", "text/plain;q=x", ";;,q"):
        assert not wants_protobuf(accept)


def test_protocol_buffers_hold_the_whole_histogram() -> None:
    """Read field by field: the deltas of the native buckets add up to the counts, at the places that the spans say."""
    native = [0, 3, 5, 0, 0, 7]
    told = Histogram((0.1, 1.0), (3, 5, 8), 9.5, 4, ZERO_S, 1, -10, native)

    class Source:
        def families(self) -> list[Family]:
            return [Family("times_seconds", "histogram", "Times.", [({"kind": "order"}, told)])]

    (family,) = messages(Collector([Source()]).protobuf())
    assert (family[1][0], family[3][0]) == (b"times_seconds", 4)
    metric = fields(family[4][0])
    assert fields(metric[1][0]) == {1: [b"kind"], 2: [b"order"]}
    histogram = fields(metric[7][0])
    assert (histogram[1], zigzag(histogram[5][0]), histogram[7]) == ([16], 4, [1])
    assert [fields(bucket).get(1) for bucket in histogram[3]] == [[3], [8], [16]]
    counts, at, deltas, last = {}, 0, iter(map(zigzag, histogram[13])), 0
    for span in map(fields, histogram[12]):
        at += zigzag(span[1][0])
        for _ in range(span[2][0]):
            last += next(deltas)
            counts[at], at = last, at + 1
    assert counts == {-10 + index: count for index, count in enumerate(native) if count}


def messages(data: bytes) -> list[dict[int, list[Any]]]:
    """Delimited messages, each as its fields."""
    found, at = [], 0
    while at < len(data):
        size, at = varint(data, at)
        found.append(fields(data[at : at + size]))
        at += size
    return found


def fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of one message, by number."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            content, at = varint(data, at)
        else:
            size, at = varint(data, at) if key & 7 == 2 else (8, at)
            content, at = cast(Any, data[at : at + size]), at + size
        found.setdefault(key >> 3, []).append(content)
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return number, at


def zigzag(number: int) -> int:
    """A signed number."""
    return number >> 1 if not number & 1 else -(number + 1 >> 1)


@pytest.mark.parametrize(
    ("shape", "phases"),
    [
        ("constant", {0.0: "plateau", 59.0: "plateau"}),
        ("ramp", {0.0: "preheat", 30.0: "ramp", 59.9: "plateau"}),
        ("double11", {1.0: "preheat", 5.5: "ramp", 8.0: "plateau", 30.0: "decay"}),
        ("spike:at=30s,for=5s,base=0.05", {1.0: "preheat", 32.0: "plateau", 40.0: "decay"}),
        ("steps:100,200,400@20s", {1.0: "ramp", 30.0: "ramp", 50.0: "plateau"}),
    ],
)
def test_phases_of_shapes(shape: str, phases: dict[float, str]) -> None:
    """Of 60 s each: the plateau is the whole of what lies at the peak."""
    plan = SALE.parse({"shape": shape, "duration": "60s"})
    profile = arrival_profile(plan, SALE.arrivals)

    assert {at: phase_at(profile, at) for at in phases} == phases


def run_of(**changes: Any) -> Any:
    """What is asked of a run's controller."""
    plan = SALE.parse({"shape": "constant", "peak_rate": "200"}).with_(kind_weights=(("order", 10),))
    usual = {"begun": False, "ending": False, "ready": {}, "elapsed_s": 0.0, "ended": None}
    return SimpleNamespace(plan=plan, workload=SALE, **{**usual, **changes})


def ended_run() -> Any:
    """A run that has ended, and was valid."""
    return run_of(begun=True, ending=True, ready={"run_id": "run-7"}, ended=Ending(0, "", "valid"))


def test_the_head_tells_where_the_run_stands_and_what_was_found() -> None:
    """Nothing is claimed of checks that found nothing, but where the run is valid."""
    run = run_of()
    known: list[Any] = []
    head = RunMetrics(lambda: known[0] if known else None)
    assert value(head, "loadgen_run_state", state="idle") == 1
    known.append(run)
    run.ready = {"run_id": "run-7"}
    assert value(head, "loadgen_run_state", state="ready") == 1
    (info,) = series(head)["loadgen_run_info"]
    assert {("run_id", "run-7"), ("engine", "postgres"), ("shape", "constant"), ("strategy", "atomic")} <= info

    run.begun, run.elapsed_s = True, 3.0
    assert value(head, "loadgen_phase", phase="plateau") == 1
    assert value(head, "loadgen_arrivals_planned_per_second") == pytest.approx(200)
    run.ending = True
    assert value(head, "loadgen_run_state", state="ending") == 1
    assert not any(series(head)["loadgen_phase"].values()) and "loadgen_verdict" not in series(head)
    run.ended = Ending(4, "", "invalid", found=[{"name": "oversell", "anomalies": 12, "witnesses": []}])
    assert value(head, "loadgen_verdict", verdict="invalid") == 1 and value(head, "loadgen_exit_code") == 4
    assert series(head)["loadgen_violations"] == {frozenset([("check", "oversell")]): 12}
    run.ended = Ending(0, "", "valid")
    assert set(series(head)["loadgen_violations"].values()) == {0}
    assert len(series(head)["loadgen_violations"]) == len(SALE.checks)


def test_ports_that_are_none_or_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started; with --processes also those of the workers."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert metrics_place({}) is None and metrics_place({"metrics_port": ""}) is None
    assert metrics_place({"metrics_port": "0", "metrics_host": "::1"}) == ("::1", 0)
    for text in ("x", "-1", "65536", "9,1"):
        with pytest.raises(PlanError, match="is not a port"):
            metrics_place({"metrics_port": text})
    with pytest.raises(PlanError, match="is not a port"):
        metrics_place({"metrics_port": "65535", "processes": 1})
    assert list(worker_ports(9100, 2)) == [9101, 9102] and list(worker_ports(0, 2)) == [0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PlanError, match=f"{port} cannot be listened on: Address already in use"):
            check_ports("127.0.0.1", port, 0)
        with pytest.raises(PlanError, match=f"{port} cannot be listened on"):
            check_ports("127.0.0.1", port - 1, 1)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is said to who asks for no metrics."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert metrics_place({"metrics_port": ""}) is None
    with pytest.raises(PlanError, match=r"pip install 'loadgen\[metrics\]'"):
        metrics_place({"metrics_port": "9100"})
