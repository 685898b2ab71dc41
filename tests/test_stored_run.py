"""A stored run, opened: what is missing or altered is unknown, and what a dead process left open is info."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.history.history import HistoryWriter, ops_batch, read_history, read_stream, write_final, write_json
from loadgen.judge.judge import exit_code, judge
from loadgen.judge.stored_run import FINAL_TABLES, open_run, plan_checksum
from loadgen.op import Completion, Outcome
from loadgen.shop import sale
from loadgen.shop.asked import read_asked
from loadgen.shop.sale import Answer, Kind
from loadgen.shop.untold import untold_follow_ups
from loadgen.workload import probes
from tests.checks.shop import Run
from tests.plans import sale_plan
from tests.test_history import rewritten, write_unsealed
from tests.test_judge import a_run, lose, store


def closed(directory: Path) -> Path:
    """Give a stored run its closing record: what each stream holds, and how many rows each process made."""
    load = json.loads((directory / "load.json").read_text())
    sealed = read_history(directory / "history").sealed
    load["streams"] = {name: seal.to_json() for name, seal in sealed.items() if seal is not None}
    load["plan_checksum"] = plan_checksum(directory / "plan.json")
    write_json(directory / "load.json", load)
    return directory


def rewrite_load(directory: Path, **changes: Any) -> None:
    """Change load.json."""
    write_json(directory / "load.json", json.loads((directory / "load.json").read_text()) | changes)


def verdict_of(directory: Path) -> tuple[str, int]:
    """The verdict and the exit code."""
    summary = judge(directory)
    return summary["verdict"], exit_code(summary)


def without(path: Path, lost: Callable[[dict[str, Any]], bool], seals: bool) -> int:
    """Take the rows out of an ops stream for which ``lost`` holds; how many. ``seals``: by our own writer, anew."""
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table = reader.read_all()
    rows = table.to_pylist()
    keep = [index for index, row in enumerate(rows) if not lost(row)]
    left = table.take(pa.array(keep, pa.int64()))
    path.unlink()
    if seals:
        path.with_name("0.invoked.arrows").rename(path.with_name("kept"))
        facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        writer = HistoryWriter(path.parent, "0", sale.INVOKED_COLUMNS, facts)
        for batch in left.combine_chunks().to_batches():
            writer.batch(batch.replace_schema_metadata(None))
        writer.close()
        path.with_name("kept").rename(path.with_name("0.invoked.arrows"))
    else:
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(left)
    return len(rows) - len(keep)


@pytest.mark.parametrize("seals", [False, True], ids=["without seals", "with seals of its own"])
@pytest.mark.parametrize("answer", [Answer.PLACED, Answer.PAID, Answer.SEEN, Answer.SOLD_OUT])
def test_answers_taken_out_of_a_stored_stream_are_unknown(tmp_path: Path, answer: Answer, seals: bool) -> None:
    """Without them a lost order would look valid, and a payment like a ghost: the closing record tells."""
    run = a_run(stock=8, skew="one-hot", skus=2, user_limit=50)
    directory = closed(store(tmp_path, run))
    gone = {row.number for row in run.done(answer)[:5]}
    assert gone

    def lost(row: dict[str, Any]) -> bool:
        return row["number"] in gone and row["outcome"] == Outcome.OK and row["answer"] == answer

    without(directory / "history" / "0.ops.arrows", lost, seals)

    assert verdict_of(directory) == ("unknown", 5)


def test_what_something_else_proves_stays_a_violation(tmp_path: Path) -> None:
    """An acknowledged order that is gone is gone, whatever else is missing."""
    run = a_run()
    lose(run)
    for name in ("0.ops", "final.releases", "final.purchases"):
        directory = closed(store(tmp_path / name, run))
        path = directory / "history" / f"{name}.arrows"
        path.write_bytes(path.read_bytes()[:-8])
        summary = judge(directory)

        assert summary["violations"]["lost-order"] == 1 and exit_code(summary) == 4


@pytest.mark.parametrize("name", ["0.ops", "0.invoked", "final.orders", "final.releases"])
def test_a_stream_that_the_closing_record_lists_and_that_is_gone_is_unknown(tmp_path: Path, name: str) -> None:
    """Whichever it is."""
    directory = closed(store(tmp_path, a_run()))
    assert verdict_of(directory) == ("valid", 0)
    (directory / "history" / f"{name}.arrows").unlink()

    assert verdict_of(directory) == ("unknown", 5)


def test_all_streams_of_one_process_gone_is_unknown(tmp_path: Path) -> None:
    """Nothing in the history itself tells of it."""
    run = a_run()
    directory = closed(store(tmp_path, run))
    rewrite_load(
        directory, streams=json.loads((directory / "load.json").read_text())["streams"] | {"1.ops": {"rows": 9}}
    )

    assert "the stream 1.ops is missing" in judge(directory)["unknown"]


def test_a_stream_that_the_closing_record_does_not_list_is_a_warning(tmp_path: Path) -> None:
    """A later version's, or what somebody put there."""
    directory = closed(store(tmp_path, a_run()))
    (directory / "history" / "7.ops.arrows").write_bytes(b"junk")
    (directory / "history" / "samples.arrows").write_bytes(b"junk")
    summary = judge(directory)

    assert summary["verdict"] == "valid"
    assert any("7.ops" in warning for warning in summary["warnings"])
    assert any("samples" in warning for warning in summary["warnings"])


def cut(history: Path, name: str, draw: Callable[[int], int]) -> int:
    """Cut a stream at ``draw(size)``; how many of its rows are left whole."""
    path = history / f"{name}.arrows"
    path.write_bytes(path.read_bytes()[: draw(path.stat().st_size)])
    sealed = read_stream(path).sealed
    return sealed.rows if sealed is not None else 0


def write_batched(run: Run, directory: Path, rows: int = 7) -> None:
    """Write the streams of a run in batches of a few rows."""
    run.write(directory)
    path = directory / "0.ops.arrows"
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table = reader.read_all().replace_schema_metadata(None).combine_chunks()
    (directory / "0.invoked.arrows").rename(directory / "kept")
    path.unlink()
    writer = HistoryWriter(directory, "0", sale.INVOKED_COLUMNS, run.clocks["0"])
    for batch in table.to_batches(max_chunksize=rows):
        writer.batch(batch)
    writer.close()
    (directory / "kept").rename(directory / "0.invoked.arrows")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(1, 40), share=st.floats(0.0, 1.0))
def test_a_cut_stream_of_a_dead_process_leaves_info_for_the_numbers_without_an_ending(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float
) -> None:
    """Of a process that is known to be dead; of one that is not, the same cut is unknown. Neither is a violation."""
    run = a_run(seed, trouble=0.05)
    directory = store(tmp_path_factory.mktemp("cut"), run, died=["0"])
    for path in (directory / "history").glob("0.*"):
        path.unlink()
    for path in (directory / "history").glob("final.*"):
        path.unlink()
    write_batched(run, directory / "history")
    whole = read_history(directory / "history").processes[0]
    left = cut(directory / "history", "0.ops", lambda size: int((size - 1) * share))
    stored = open_run(directory)
    (process,) = stored.history.processes
    summary = judge(directory)

    assert len(process.ops["number"]) + len(process.tries["number"]) == min(
        left, len(whole.ops["number"]) + len(whole.tries["number"])
    )
    assert process.closed_at is None
    assert summary["verdict"] == "valid" and not stored.doubts
    ended = set(zip(process.ops["number"].tolist(), process.ops["kind"].tolist(), strict=True))
    asked = process.invoked["number"][process.invoked["kind"] == Kind.ORDER]
    open_orders = [number for number in asked.tolist() if (number, int(Kind.ORDER)) not in ended]
    assert read_asked([process], run.plan).never_completed == len(open_orders)

    rewrite_load(directory, died=[])
    assert judge(directory)["verdict"] == "unknown"


def test_a_process_without_a_last_word_that_nobody_saw_die_is_unknown(tmp_path: Path) -> None:
    """Its streams end in order, and the row that says so is not among them."""
    run = a_run()
    run.closed_at["0"] = None
    directory = store(tmp_path, run)
    assert "no last word" in judge(directory)["unknown"]
    rewrite_load(directory, died=["0"])

    assert judge(directory)["verdict"] == "valid"


def test_rows_that_were_made_and_not_written_are_unknown(tmp_path: Path) -> None:
    """The process counted them, and so did who wrote them."""
    directory = closed(store(tmp_path, a_run()))
    rewrite_load(directory, processes={"0": {"made": 200, "written": 200}})
    assert judge(directory)["verdict"] == "valid"
    rewrite_load(directory, processes={"0": {"made": 205, "written": 200}})

    assert "made 205 rows, and 200 were written" in judge(directory)["unknown"]


@pytest.mark.parametrize(("died", "verdict"), [(["0"], "valid"), ([], "unknown")])
def test_only_a_dead_process_need_not_say_how_many_rows_it_made(tmp_path: Path, died: list[str], verdict: str) -> None:
    """It had no time to; one that ended in order had."""
    directory = closed(store(tmp_path, a_run()))
    rewrite_load(directory, processes={"0": {"lost": "it died", "made": None, "written": 200}}, died=died)

    assert judge(directory)["verdict"] == verdict


@pytest.mark.parametrize("field", ["stock", "user_limit", "skus", "seed"])
def test_a_plan_that_is_not_the_one_that_was_run_proves_nothing(tmp_path: Path, field: str) -> None:
    """One figure of it would make violations of a sale that was right."""
    directory = closed(store(tmp_path, a_run()))
    facts = json.loads((directory / "plan.json").read_text())
    facts["plan"][field] -= 1
    write_json(directory / "plan.json", facts)
    summary = judge(directory)

    assert summary["verdict"] == "unknown" and sum(summary["violations"].values()) == 0
    assert "checksum" in summary["unknown"]


def test_runs_of_an_older_version_stay_judgeable(tmp_path: Path) -> None:
    """Without seals and without a closing record: valid, and a lost order is a violation."""
    run = a_run()
    directory = store(tmp_path / "right", run)
    write_unsealed(directory / "history")
    lose(run)
    wrong = store(tmp_path / "wrong", run)
    write_unsealed(wrong / "history")

    assert verdict_of(directory) == ("valid", 0)
    assert verdict_of(wrong) == ("invalid", 4)


@pytest.mark.parametrize("kind", [Kind.PAY, Kind.CANCEL])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_follow_up_that_was_due_and_has_no_row_is_unknown_and_no_ghost(
    tmp_path: Path, kind: Kind, sealed: bool
) -> None:
    """Of a process that ended in order: a batch of its answers was lost, with or without checksums."""
    run = a_run()
    last = max(row.due for row in run.rows["0"])
    placed = {row.number: row.done for row in run.done(Answer.PLACED)}
    kinds, delays = sale.first_follow_ups(run.plan, np.array(list(placed), dtype=np.int64))
    due = {
        number: done + int(delay)
        for (number, done), which, delay in zip(placed.items(), kinds.tolist(), delays.tolist(), strict=True)
        if which == kind
    }
    lost = [row for row in run.rows["0"] if row.kind == kind and due.get(row.number, last) < last - 1]
    if len(lost) < 2:
        pytest.skip("no such follow-up in this run")
    run.rows["0"].remove(lost[0])
    directory = store(tmp_path, run)
    if not sealed:
        write_unsealed(directory / "history")
    summary = judge(directory)

    assert summary["verdict"] == "unknown" and sum(summary["violations"].values()) == 0
    assert "does not tell how 1 payment" in summary["unknown"]


@pytest.mark.parametrize("seed", range(12))
def test_a_whole_history_lacks_no_follow_up(seed: int) -> None:
    """Whatever the run: what became due left a row."""
    run = a_run(10 * seed)
    assert [untold_follow_ups(process, run.plan) for process in run.history().processes] == [0]


def probe_run(directory: Path, workload: str, final: bool = True) -> Path:
    """A stored run of a probe that read and wrote nothing wrong, with its final reads or without."""
    plan = sale_plan(workload=workload, skus=4, duration_s=1.0, kind_weights=(("transfer", 1), ("total", 1)))
    bank = workload == "bank"
    columns = (probes.bank_columns if bank else probes.register_columns)(plan, 0, 16)
    number = int(np.argmax(columns["kind"] == probes.TOTAL_READ)) if bank else 0
    types = probes.BANK_COLUMNS if bank else probes.TRANSACTION_COLUMNS
    (directory / "history").mkdir(parents=True)
    writer = HistoryWriter(directory / "history", "0", types, {"run_id": "r"})
    writer.invoked(columns)
    touched = tuple(value for account in range(8) for value in (2 * account, 100, -1)) if bank else (0, 0, 0)
    row = Completion(number, int(bank), 0, 1, 2, 3, int(Outcome.OK), 1, 1, 0, "", touched)
    writer.batch(ops_batch([row]))
    writer.closed(number + 1)
    writer.close()
    rows = {"accounts": {"id": np.arange(8), "balance": np.full(8, 100)}}
    for table in FINAL_TABLES[workload] if final else ():
        empty = {"id": np.arange(0), "value": np.arange(0), "version": np.arange(0), "list": np.arange(0)}
        columns = rows.get(table, empty)
        kinds = {name: "string" if name == "list" else "int64" for name in columns}
        write_final(directory / "history", table, columns, kinds)
    kinds = ["transfer", "total"] if bank else ["transaction"]
    facts = {"plan": plan.to_json(), "run_id": "r", "engine": {"means": "read-committed"}}
    write_json(directory / "plan.json", {**facts, "workload": {"name": workload, "kinds": kinds}})
    write_json(directory / "load.json", {"died": [], "error": "", "client": {}})
    return directory


@pytest.mark.parametrize("workload", ["append", "register", "bank", "longfork"])
def test_a_probe_without_its_final_reads_is_unknown(tmp_path: Path, workload: str) -> None:
    """Its server may have died, and with it what was acknowledged."""
    summary = judge(probe_run(tmp_path, workload, final=False))

    assert summary["verdict"] == "unknown" and exit_code(summary) == 5
    assert "final read" in summary["unknown"]
    assert summary["complete"] is False


@pytest.mark.parametrize("workload", ["register", "bank"])
def test_a_probe_with_its_final_reads_is_judged(tmp_path: Path, workload: str) -> None:
    """The same run, whole."""
    assert judge(probe_run(tmp_path, workload))["verdict"] == "valid"


@pytest.mark.parametrize("table", ["stock", "orders", "purchases", "payments", "releases"])
def test_a_sale_that_lacks_one_final_read_is_unknown(tmp_path: Path, table: str) -> None:
    """Whichever table it is, closing record or not."""
    directory = store(tmp_path, a_run())
    (directory / "history" / f"final.{table}.arrows").unlink()

    assert verdict_of(directory) == ("unknown", 5)


def test_a_table_that_plan_json_lists_has_to_be_read(tmp_path: Path) -> None:
    """Of a workload that this version does not know, too."""
    directory = store(tmp_path, a_run())
    facts = json.loads((directory / "plan.json").read_text())
    facts["workload"]["tables"] = ["stock", "tickets"]
    write_json(directory / "plan.json", facts)

    assert "no whole final read of tickets" in judge(directory)["unknown"]


def test_a_lost_block_of_numbers_accuses_nobody(tmp_path: Path) -> None:
    """What its ops did would look like ghosts and phantoms."""
    run = a_run()
    directory = store(tmp_path, run)
    run.handed["0"] = [(first, 30) for first in range(0, 120, 30)]
    for path in (directory / "history").glob("*"):
        path.unlink()
    run.write(directory / "history")
    rewritten(directory / "history" / "0.invoked.arrows", lambda parts: parts[:1] + parts[2:])
    summary = judge(directory)

    assert summary["verdict"] == "unknown" and sum(summary["violations"].values()) == 0
