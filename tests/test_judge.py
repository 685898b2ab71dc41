"""The judge: from a run directory to the summary and the exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import StoreError
from loadgen.history.history import write_json
from loadgen.judge.judge import error_of, exit_code, judge
from loadgen.op import Outcome
from loadgen.plan import Plan, parse_slos
from loadgen.schedule import main_kind
from loadgen.shop.catalogue import CHECKS
from loadgen.shop.sale import Answer, Kind
from tests.checks.shop import Run, simulate, small_plan
from tests.plans import sale_plan

STABLE_KEYS = {
    "verdict", "complete", "started_utc", "duration_s", "engine", "orders", "response_time_ms", "service_time_ms",
    "undersell", "errors", "violations", "checks", "slo", "client", "warnings", "seed",
}  # fmt: skip
ENGINE = {"name": "postgres", "version": "18.1", "edition": "", "level": "read committed", "statement_snapshot": True}
BROKEN_PLANS = ["", "[]", "{}", '{"plan": 7}', '{"plan": {"skus": "many"}}', '{"plan": {"skus": 1e9}}']


def store(directory: Path, run: Run, **load: Any) -> Path:
    """Write a run directory."""
    run.write(directory / "history")
    plan_facts = {
        "plan": run.plan.to_json(),
        "started_utc": "2025-11-11T00:00:00Z",
        "engine": {
            "name": "postgres",
            "version": "18.1",
            "edition": "",
            "level": "read committed",
            "statement_snapshot": True,
        },
        "workload": {"name": "flashsale", "checks": list(CHECKS)},
        "warnings": ["fsync is off"],
    }
    write_json(directory / "plan.json", plan_facts)
    client = {"cpu_seconds": 1.5, "saturated_seconds": 0, "peak_rss_mb": 99.0}
    known = {
        "cut_short": "",
        "client": client,
        "died": [],
        "warnings": [],
        "error": "",
        "errors": {"40001": ["conflict", "no"]},
    }
    write_json(directory / "load.json", known | load)
    return directory


def a_run(seed: int = 3, trouble: float = 0.1, **plan: Any) -> Run:
    """A run whose one process ended in order."""
    for attempt in range(seed, seed + 50):
        run = simulate(small_plan(**plan), attempt, processes=1, trouble=trouble)
        if run.closed_at["0"] is not None:
            return run
    raise AssertionError("every process died")


def lose(run: Run) -> None:
    """Lose an acknowledged order."""
    run.tables["orders"].remove(run.row("orders", id=run.done(Answer.PLACED)[0].number))


def test_summary_has_the_stable_keys_and_every_check(tmp_path: Path) -> None:
    """Every violation stands there with its 0, and it all fits into JSON."""
    summary = judge(store(tmp_path, a_run()))

    assert set(summary) >= STABLE_KEYS
    assert summary["verdict"] == "valid" and summary["complete"] is True
    assert summary["violations"] == dict.fromkeys(CHECKS, 0)
    assert [check["name"] for check in summary["checks"]] == list(CHECKS)
    assert summary["engine"] == {
        "name": "postgres", "edition": "", "version": "18.1", "cluster": "embedded", "nodes": 1,
        "isolation": "read committed",
    }  # fmt: skip
    assert summary["client"]["cpu_us_per_order"] == round(1.5e6 / summary["orders"]["started"], 1)
    assert "fsync is off" in summary["warnings"]
    assert any(error["code"] == "40001" and error["class"] == "conflict" for error in summary["errors"])
    assert json.loads(json.dumps(summary)) == summary
    assert exit_code(summary) == 0


def test_reads_from_replicas_are_summed_up_where_there_were_any(tmp_path: Path) -> None:
    """By replica, as plan.json lists them; without --read-from replica there is nothing to say."""
    directory = store(tmp_path, a_run(read_from="replica"))
    facts = json.loads((directory / "plan.json").read_text())
    write_json(directory / "plan.json", {**facts, "replicas": [{"port": 1}, {"port": 2}]})

    reads = judge(directory)["replica_reads"]

    assert reads["reads"] == sum(one["reads"] for one in reads["by_replica"]) > 0
    assert (reads["stale"], len(reads["by_replica"])) == (0, 2)
    assert judge(store(tmp_path / "primary", a_run()))["replica_reads"] is None


def test_violation_is_invalid_with_a_witness_and_beats_everything(tmp_path: Path) -> None:
    """Exit 4, though a process died, an objective is missed, and a stream is torn."""
    run = a_run(slo=parse_slos("order.p99<=0.001ms"))
    lose(run)
    directory = store(tmp_path, run, died=["1"], cut_short="a load process died")
    (directory / "history" / "final.purchases.arrows").write_bytes(b"junk")

    summary = judge(directory)

    assert summary["verdict"] == "invalid" and summary["violations"]["lost-order"] == 1
    check = next(check for check in summary["checks"] if check["name"] == "lost-order")
    assert check["witness"] == check["witnesses"][0] and "is not in orders at the end" in check["witness"]
    assert exit_code(summary) == 4


def test_run_on_whose_tables_somebody_else_worked_proves_nothing(tmp_path: Path) -> None:
    """Whatever the checks found: it is unknown, the reason is told, and what was found is a warning."""
    run = a_run()
    lose(run)
    reason = "the run's lock was taken by another run"
    summary = judge(store(tmp_path / "run", run, interference=[reason]))

    assert (summary["verdict"], exit_code(summary)) == ("unknown", 5)
    assert reason in summary["unknown"]
    assert set(summary["violations"].values()) == {0}
    assert any(warning.startswith(f"set aside, {reason}: lost-order") for warning in summary["warnings"])


def _tear(name: str) -> Callable[[Path], None]:
    def tear(history: Path) -> None:
        data = (history / name).read_bytes()
        (history / name).write_bytes(data[: len(data) // 2])

    return tear


def _no_finals(history: Path) -> None:
    for path in history.glob("final.*.arrows"):
        path.unlink()


def _foreign(history: Path) -> None:
    (history / "other.ops.arrows").write_bytes(b"not arrow at all")


def _no_process(history: Path) -> None:
    for path in history.glob("0.*.arrows"):
        path.unlink()


@pytest.mark.parametrize(
    "spoil",
    [_tear("0.ops.arrows"), _tear("0.invoked.arrows"), _tear("final.orders.arrows"), _no_finals, _foreign, _no_process],
    ids=["torn ops", "torn invoked", "torn final", "no finals", "foreign", "no process"],
)
def test_history_that_is_not_whole_is_unknown_and_says_why(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Never valid, and never a violation that is none."""
    directory = store(tmp_path, a_run())
    spoil(directory / "history")

    summary = judge(directory)

    assert summary["verdict"] == "unknown", summary["violations"]
    assert sum(summary["violations"].values()) == 0
    assert summary["unknown"]
    assert exit_code(summary) == 5


def test_torn_end_of_a_process_that_died_counts_as_info_and_may_be_valid(tmp_path: Path) -> None:
    """Nothing is missing then: what it left open is info."""
    directory = store(tmp_path, a_run(), died=["0"])
    _tear("0.ops.arrows")(directory / "history")

    summary = judge(directory)

    assert summary["verdict"] == "valid" and summary["complete"] is False
    assert exit_code(summary) == 1


def test_history_of_another_plan_is_unknown(tmp_path: Path) -> None:
    """Its tokens are not this plan's."""
    run = a_run()
    directory = store(tmp_path, run)
    facts = json.loads((directory / "plan.json").read_text())
    facts["plan"]["seed"] += 1
    write_json(directory / "plan.json", facts)

    summary = judge(directory)

    assert summary["verdict"] == "unknown" and "contradicts itself or the plan" in summary["unknown"]
    assert exit_code(summary) == 5


def test_killed_run_without_load_json_is_unknown_and_cut_short(tmp_path: Path) -> None:
    """Nobody said that the load had ended."""
    directory = store(tmp_path, a_run())
    (directory / "load.json").unlink()

    summary = judge(directory)

    assert summary["verdict"] == "unknown" and summary["complete"] is False and summary["cut_short"]


@pytest.mark.parametrize(
    ("facts", "code"),
    [({}, 0), ({"error": "disk full"}, 1), ({"died": ["1"]}, 1), ({"cut_short": "Ctrl-C"}, 0)],
)
def test_valid_run_exits_by_how_it_ended(tmp_path: Path, facts: dict[str, Any], code: int) -> None:
    """A run that was cut short exits by its verdict; one that broke exits with 1."""
    summary = judge(store(tmp_path, a_run(), **facts))

    assert summary["verdict"] == "valid"
    assert exit_code(summary) == code
    assert summary["complete"] is (not facts)


def test_run_in_which_nothing_was_acknowledged_exits_with_1(tmp_path: Path) -> None:
    """Valid, and yet nothing was shown."""
    run = a_run()
    run.rows["0"], run.tries["0"] = [], []
    run.closed_at["0"] = 0
    run.tables = {name: [] for name in run.tables} | {"stock": [
        {**row, "available": run.plan.stock, "version": 0} for row in run.tables["stock"]
    ]}  # fmt: skip

    summary = judge(store(tmp_path, run))

    assert summary["verdict"] == "valid" and summary["acknowledged"] == 0
    assert exit_code(summary) == 1


def test_run_in_which_nothing_of_the_main_kind_was_acknowledged_exits_with_1(tmp_path: Path) -> None:
    """Every order fails and only browses are answered, as on a server that takes no writes: no green smoke test."""
    run = a_run()
    run.rows["0"] = [
        row if row.kind == Kind.BROWSE else row._replace(outcome=Outcome.FAIL, answer=0, touched=(), code="1665")
        for row in run.rows["0"]
        if row.kind in (Kind.ORDER, Kind.BROWSE)
    ]
    run.tries["0"] = []
    run.tables = {name: [] for name in run.tables} | {"stock": [
        {**row, "available": run.plan.stock, "version": 0} for row in run.tables["stock"]
    ]}  # fmt: skip
    for at, row in enumerate(run.rows["0"]):
        if row.kind == Kind.BROWSE and row.outcome == Outcome.OK:
            triples = [(touch[0], 0, -1) for touch in zip(row.touched[::3], row.touched[1::3], strict=True)]
            run.rows["0"][at] = row._replace(touched=tuple(part for triple in triples for part in triple))

    summary = judge(store(tmp_path, run))

    assert summary["acknowledged"] > 0
    assert summary["main"] == {"kind": "order", "acknowledged": 0}
    assert summary["exit_reason"] == "no order was acknowledged"
    assert summary["verdict"] == "valid" and exit_code(summary) == 1


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({}, 0, ""),
        ({"main": {"kind": "order", "acknowledged": 0}}, 1, "no order was acknowledged"),
        ({"main": {"kind": "browse", "acknowledged": 0}}, 1, "no browse was acknowledged"),
        ({"main": {}, "acknowledged": 0}, 1, "no op was acknowledged"),
        ({"signalled": True}, 1, "stopped by a signal"),
        ({"cut_short": "stopped"}, 0, ""),
        ({"cut_short": "cut by -t after 3 s"}, 0, ""),
        ({"died": ["1"]}, 1, "load process 1 was lost"),
        ({"lost": {"1": "it ended"}}, 1, "load process 1 was lost"),
        ({"died": ["0"], "lost": {"1": "it ended"}}, 1, "2 load processes were lost"),
        ({"error": "the disk is full"}, 1, "the disk is full"),
        ({"slo": [{"met": False}]}, 3, ""),
        ({"slo": [{"met": False}], "signalled": True}, 1, "stopped by a signal"),
        ({"verdict": "unknown", "signalled": True}, 5, "stopped by a signal"),
        ({"verdict": "invalid", "signalled": True, "died": ["0"]}, 4, "load process 0 was lost"),
    ],
)
def test_exit_code_is_4_before_5_before_1_before_3(changes: dict[str, Any], code: int, reason: str) -> None:
    """A signal, a lost load process and our own error are 1; -t and the page's Stop keep the verdict's code."""
    summary = {"verdict": "valid", "acknowledged": 9, "main": {"kind": "order", "acknowledged": 5}, **changes}

    assert exit_code(summary) == code
    assert error_of(summary) == reason


@pytest.mark.parametrize(
    ("kinds", "main"),
    [
        ((("order", 10), ("browse", 2)), "order"),
        ((("pay", 1), ("browse", 2)), "browse"),
        ((("order", 0), ("browse", 2)), "browse"),
        ((("order", 1),), "order"),
    ],
)
def test_main_kind_is_the_first_that_arrives_among_those_that_the_tags_leave(
    kinds: tuple[tuple[str, int], ...], main: str
) -> None:
    """What only follows never comes by itself."""
    assert main_kind(sale_plan(kind_weights=kinds), ("order", "browse")) == main


@pytest.mark.parametrize(
    ("slo", "met", "code"),
    [
        ("order.p99<=10s", True, 0),
        ("order.p99<=0.001ms", False, 3),
        ("order.service.max<=10s,skipped<=50%", True, 0),
        ("placed_per_second>=100000", False, 3),
        ("peak_per_second>=1", True, 0),
        ("order.p999<=10s", False, 3),
    ],
)
def test_objectives_are_measured_and_decide_between_0_and_3(tmp_path: Path, slo: str, met: bool, code: int) -> None:
    """p99.9 of a hundred orders cannot be measured, so it is not met."""
    summary = judge(store(tmp_path, a_run(slo=parse_slos(slo))))

    assert [objective["met"] for objective in summary["slo"]] == [met] * len(parse_slos(slo))
    assert exit_code(summary) == code


def test_unit_left_over_for_no_known_cause_is_a_warning_and_no_violation(tmp_path: Path) -> None:
    """Undersell is a figure; what nobody can explain is said aloud."""
    run = a_run(stock=8, skew="one-hot", skus=1, user_limit=50)
    assert run.done(Answer.SOLD_OUT)
    run.tables["stock"][0]["available"] += 50

    summary = judge(store(tmp_path, run))

    assert summary["undersell"]["causes"]["unknown"] >= 40
    assert any(warning.startswith("undersell: ") for warning in summary["warnings"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"plan": 7}', '{"plan": {"skus": "many"}}', '{"plan": {"skus": 1e9}}']
)
def test_plan_that_is_broken_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    """Without a plan there is nothing to judge by."""
    directory = store(tmp_path, a_run())
    (directory / "plan.json").write_text(text)

    with pytest.raises(StoreError, match=r"plan\.json"):
        judge(directory)


def test_directory_without_a_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Neither plan nor history."""
    with pytest.raises(StoreError, match=str(tmp_path)):
        judge(tmp_path)


def test_plan_of_the_tests_is_one_that_the_judge_takes() -> None:
    """The small plan is a plan like any other."""
    assert sale_plan(**{name: getattr(small_plan(), name) for name in Plan.__dataclass_fields__}) == small_plan()
