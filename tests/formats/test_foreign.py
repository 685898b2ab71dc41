"""Histories of other tools whose shape could be taken for more than it says: order, kind, sessions, invariants."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.commands.check_files import check_files
from loadgen.errors import PlanError

REALTIME = {"strict-serializable", "strong-snapshot-isolation"}


def answers(path: Path, text: str, model: str | None = "all", kind: str | None = None) -> dict[str, Any]:
    """What one check says as JSON: exit code, verdicts by model, and the rest."""
    path.write_text(text)
    out, errors = io.StringIO(), io.StringIO()
    code = check_files([path], model, kind, True, 20, out, errors)
    told = json.loads(out.getvalue())
    verdicts = {name: answer["valid"] for name, answer in told["models"].items()}
    whys = {name: answer.get("why", "") for name, answer in told["models"].items()}
    return {**told, "code": code, "verdicts": verdicts, "whys": whys, "errors": errors.getvalue()}


def op(kind: str, value: str, process: int | str | None = None, f: str = "txn", **more: int) -> str:
    """One operation in EDN."""
    who = "" if process is None else f":process {process} "
    rest = " ".join(f":{name} {each}" for name, each in more.items())
    return f"{{:type :{kind} :f :{f} {who}:value {value} {rest}}}\n"


def both(value: str, process: int | str | None = None, f: str = "txn", asked: str = "") -> str:
    """An invocation and its completion."""
    return op("invoke", asked or value, process, f) + op("ok", value, process, f)


@pytest.mark.parametrize(
    "text",
    [
        op("info", "[[:append x 1]]", 0, index=0) + op("ok", "[[:r x [1]]]", 0, index=1),
        op("info", "[[:w x 1]]", 0) + op("ok", "[[:r x 1]]", 0),
        op("ok", "[[:r x nil]]", 0) + op("info", "[[:append x 1]]", 0) + op("ok", "[[:r x [1]]]", 0),
        op("ok", "[[:r x [1]]]", 0, index=7) + op("info", "[[:append x 1]]", 0, index=3),
    ],
)
def test_order_of_a_file_without_invocations_is_its_sessions_order(tmp_path: Path, text: str) -> None:
    """An info stands where the file has it, and what it wrote may be seen by what comes after it in its process."""
    told = answers(tmp_path / "history.edn", text)

    assert {model for model, valid in told["verdicts"].items() if valid is not True} == REALTIME
    assert "real-time order was not judged" in told["whys"]["strict-serializable"]


def test_order_of_a_file_without_invocations_is_still_judged(tmp_path: Path) -> None:
    """A process that reads back what it saw before is caught, and the default model is one that can be judged."""
    text = op("ok", "[[:append x 1]]", 0) + op("ok", "[[:r x [1]]]", 1) + op("ok", "[[:r x []]]", 1)
    told = answers(tmp_path / "history.edn", text, None)

    assert told["code"] == 4
    assert answers(tmp_path / "history.edn", text[: text.rindex("{")], None)["verdicts"] == {
        "strong-session-serializable": True
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (op("ok", "{0 1}", 0, "inc") + op("ok", "{0 1, 1 0}", 1, "read"), ["inc"]),
        (both("[[:append x 1]]", 0) + op("ok", "{:note 1}", 1, "debug"), ["debug"]),
        (both("[[:append x 1]]", 0) + op("ok", "3", 1, "sleep") + op("ok", "4", 1, "wake"), ["sleep", "wake"]),
        (both("1", 0, "enqueue") + both("1", 0, "dequeue"), ["enqueue", "dequeue"]),
        (both("1", 0, "write") + both("1", 1, "read") + both("[1 2]", 1, "cas"), ["write", "cas"]),
        (both("1", 0, "add") + both("1", 1, "read"), ["read"]),
        (
            both("{:from 0 :to 1 :amount 2}", 0, "transfer") + both("{0 1 1 1}", 0, "read") + both("1", 0, "open"),
            ["open"],
        ),
        (op("fail", "nil", 0, "drop") + both("[[:w x 1]]", 1), ["drop"]),
    ],
)
def test_operation_of_no_kind_makes_the_history_unknown_by_its_name(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    """No operation is passed over because the others look like something."""
    told = answers(tmp_path / "history.edn", text)

    assert set(told["verdicts"].values()) == {"unknown"}
    assert all(name in told["whys"]["serializable"] for name in names)
    assert told["anomalies"] == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (both("[[:append x 1]]", 0), "list-append"),
        (both("[[:w x 1]]", 0), "rw-register"),
        (both("[[:r x 1]]", 0), "rw-register"),
        (op("info", '"timed out"', 0) + both("[[:append x 1]]", 1), "list-append"),
        (both("[[:r x 1]]", 0, "read"), "long-fork"),
        (both("1", 0, "add") + both("[1]", 1, "read"), "set"),
        (both("{0 5, 1 5}", 0, "read") + op("fail", "nil", 1, "transfer"), "bank"),
    ],
)
def test_kind_of_a_history_is_said(tmp_path: Path, text: str, kind: str) -> None:
    """As JSON and in words."""
    assert answers(tmp_path / "history.edn", text)["kind"] == kind
    out = io.StringIO()
    check_files([tmp_path / "history.edn"], "serializable", out=out)
    assert f"read as {kind}" in out.getvalue()


TRANSFER = both("{:from 0 :to 1 :amount 2}", 1, "transfer")


def bank(*reads: str, between: str = TRANSFER) -> str:
    """Reads of one process, with transfers between them."""
    return between.join(op("invoke", "nil", 0, "read") + op("ok", read, 0, "read") for read in reads)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (bank("{0 10, 1 10}", "{0 8, 1 12}"), ""),
        (bank("{0 10, 1 10}", "{0 8}"), ""),
        (bank("{0 10, 1 10, 2 5}", "{0 8, 1 12}"), ""),
        (bank("{0 10, 1 10, 2 5}", "{0 8, 1 12}", "{0 6, 1 13}"), "wrong-total"),
        (bank("{0 10, 1 10}", "{0 3, 1 17}"), "wrong-balance"),
        (bank("{0 10, 1 10}", "{0 10, 1 10}"), "wrong-balance-realtime"),
        (bank("{0 10, 1 10}", "{0 9, 1 11}"), "wrong-balance-realtime"),
        (bank("{0 10, 1 10}", "{0 10}", "{1 17}"), "wrong-balance"),
        (bank("{0 10}", "{1 10}", between=""), ""),
        (bank("{0 10, 1 10}", "{0 8, 1 12}", between=op("info", "nil", 1, "transfer")), ""),
    ],
)
def test_bank_is_judged_by_its_transfers_and_partial_reads_have_no_total(
    tmp_path: Path, text: str, broken: str
) -> None:
    """What no transfers explain is wrong; what they explain proves no model."""
    told = answers(tmp_path / "history.edn", text)

    assert True not in told["verdicts"].values()
    assert broken in {"", *(each["name"] for each in told["anomalies"])}
    assert (False in told["verdicts"].values()) == bool(broken)
    assert broken or "the invariant held" in told["whys"]["serializable"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (both("[[:r x 1] [:r y nil]]", 0, "read") + both("[[:r x 1] [:r y 2]]", 0, "read"), "the invariant held"),
        (both("1", 0, "add") + both("[1]", 1, "read"), "the invariant held"),
        (both("[1]", 1, "read") + op("info", "nil", 1, "add"), "the invariant held"),
    ],
)
def test_invariant_that_holds_proves_no_model(tmp_path: Path, text: str, why: str) -> None:
    """Long fork without writes, and a set, show nothing of the order of transactions."""
    told = answers(tmp_path / "history.edn", text.replace("[1]", "[]") if "nil 1" in text else text)

    assert True not in told["verdicts"].values()


def test_set_without_adds_is_unknown(tmp_path: Path) -> None:
    """What was read may have been added before the file begins."""
    told = answers(tmp_path / "history.edn", both("[1]", 1, "read", "nil"), kind="set")

    assert set(told["verdicts"].values()) == {"unknown"}


@pytest.mark.parametrize(
    "text",
    [
        op("invoke", "[[:r x nil]]")
        + both("[[:w x 1]]")
        + op("invoke", "[[:r x nil]]")
        + op("ok", "[[:r x 1]]")
        + op("ok", "[[:r x nil]]"),
        op("invoke", "[[:r x nil]]")
        + both("[[:append x 1]]")
        + op("invoke", "[[:r x nil]]")
        + op("ok", "[[:r x [1]]]")
        + op("ok", "[[:r x []]]"),
        op("invoke", "[[:r x nil]]")
        + op("invoke", "[[:r y nil]]")
        + both("[[:w x 1]]")
        + op("invoke", "[[:r x nil]]")
        + op("ok", "[[:r x nil]]")
        + op("ok", "[[:r y nil]]")
        + op("ok", "[[:r x 1]]"),
    ],
)
def test_pairing_that_is_ambiguous_proves_nothing(tmp_path: Path, text: str) -> None:
    """Without processes a completion may belong to any open invocation of its shape."""
    told = answers(tmp_path / "history.edn", text)

    assert False not in told["verdicts"].values()
    assert all(told["verdicts"][model] == "unknown" for model in REALTIME)
    assert told["verdicts"]["serializable"] is True


def test_pairing_without_processes_that_is_clear_is_judged(tmp_path: Path) -> None:
    """A stale read of its own shape is one."""
    text = both("[[:w x 1]]") + both("[[:r x nil]]") + both("[[:r y nil] [:r x 1]]")

    assert answers(tmp_path / "history.edn", text)["verdicts"]["strict-serializable"] is False


@pytest.mark.parametrize("process", ["0", "-3", '"a"', ":client"])
def test_two_open_invocations_of_one_process_are_refused(tmp_path: Path, process: str) -> None:
    """One process does one thing at a time: which completion is whose is not known."""
    text = op("invoke", "[[:r x nil]]", process) * 2 + op("ok", "[[:r x nil]]", process)
    told = answers(tmp_path / "history.edn", text)

    assert told["code"] == 2
    assert "still open" in told["errors"]


def test_completion_of_another_operation_than_was_invoked_is_unknown(tmp_path: Path) -> None:
    """The lines between them were lost."""
    text = op("invoke", "[[:append x 1]]", 0) + op("ok", "[[:append y 2]]", 0)

    assert set(answers(tmp_path / "history.edn", text)["verdicts"].values()) == {"unknown"}


def test_lines_that_are_missing_by_index_make_the_history_unknown(tmp_path: Path) -> None:
    """An operation without its other half, and a gap in the indexes: something was lost."""
    lines = [
        op("invoke", "[[:append x 1]]", 0, index=0),
        op("ok", "[[:append x 1]]", 0, index=1),
        op("invoke", "[[:r x nil]]", 0, index=2),
        op("ok", "[[:r x [1]]]", 0, index=3),
    ]
    path = tmp_path / "history.edn"

    assert answers(path, "".join(lines))["verdicts"]["strict-serializable"] is True
    assert set(answers(path, "".join(lines[:1] + lines[2:3] + lines[3:]), None)["verdicts"].values()) == set()
    assert set(answers(path, "".join(lines[:2] + lines[3:]))["verdicts"].values()) == {"unknown"}


@pytest.mark.parametrize(("one", "two"), [("-1", "0"), ("a", "b"), ("1", "01"), ("-2", "1")])
def test_sessions_of_plain_text_are_names(tmp_path: Path, one: str, two: str) -> None:
    """A stale read in another session is no violation of session order."""
    text = f"w(1,5,{one},1)\nr(1,0,{two},2)\n"

    assert answers(tmp_path / "h.txt", text)["verdicts"]["strong-session-serializable"] is True
    assert answers(tmp_path / "h.txt", text.replace(f",{two},2", f",{one},2"))["code"] == 0
    assert answers(tmp_path / "h.txt", text.replace(f",{two},2", f",{one},2"))["verdicts"]["causal"] is False


def test_processes_of_maps_are_names(tmp_path: Path) -> None:
    """A keyword, a string and a negative number are clients; only the nemesis is none."""
    text = "".join(both(f"[[:append x {n}]]", who) for n, who in enumerate((":n1", '"n1"', "-1", "1")))
    told = answers(tmp_path / "h.edn", text + both("[[:r x [0 1 2 3]]]", 2) + op("info", "nil", ":nemesis", "kill"))

    assert told["verdicts"]["strict-serializable"] is True


def test_plain_text_says_that_real_time_was_not_judged(tmp_path: Path) -> None:
    """And the default model is then one that needs no times."""
    told = answers(tmp_path / "h.txt", "w(1,5,0,1)\nr(1,5,1,2)\n", None)

    assert told["verdicts"] == {"strong-session-serializable": True}
    assert "real-time order was not judged" in told["notes"][0]
    assert answers(tmp_path / "h.txt", "w(1,5,0,1)\n", "strict-serializable")["code"] == 5


@pytest.mark.parametrize(
    ("model", "code", "name"),
    [
        ("monotonic-atomic-view", 0, "monotonic-atomic-view"),
        ("PL-SI", 0, "snapshot-isolation"),
        ("PL-2+", 0, "consistent-view"),
        (":cursor-stability", 0, "cursor-stability"),
        ("Parallel Snapshot Isolation", 0, "parallel-snapshot-isolation"),
        ("forward_consistent_view", 0, "forward-consistent-view"),
        ("prefix", 0, "prefix"),
        ("update-serializable", 5, "update-serializable"),
        ("linearizable", 5, "linearizable"),
    ],
)
def test_models_of_elle_are_taken_by_their_names(tmp_path: Path, model: str, code: int, name: str) -> None:
    """Of write skew: what follows from snapshot isolation holds; what only serializability implies is not known."""
    text = op("invoke", "[[:r :x nil] [:append :y 1]]", 0) + op("invoke", "[[:r :y nil] [:append :x 1]]", 1)
    text += op("ok", "[[:r :x []] [:append :y 1]]", 0) + op("ok", "[[:r :y []] [:append :x 1]]", 1)
    told = answers(tmp_path / "skew.edn", text, model)

    assert told["code"] == code
    assert list(told["verdicts"]) == [name]
    aborted = op("fail", "[[:append x 1]]", 0) + op("ok", "[[:r x [1]]]", 1)
    if code == 0:
        assert answers(tmp_path / "aborted.edn", aborted, model)["code"] == 4


def test_model_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """With the names that there are."""
    with pytest.raises(PlanError, match="strict-serializable"):
        check_files([tmp_path], "perfect")
