"""Tables that are gone, emptied or full of holes: each check is judged on what is there."""

from pathlib import Path

import numpy as np
import pytest

from loadgen.engines.columns import as_column
from loadgen.engines.engine import FinalReads
from loadgen.history.history import read_history, write_final, write_json
from loadgen.judge.judge import exit_code, judge
from loadgen.shop.catalogue import CHECKS, run_checks
from loadgen.shop.sale import Answer
from loadgen.verdict import Finding, Verdict
from loadgen.workload import Table
from tests.checks.shop import Run, simulate, small_plan
from tests.stored import FINAL_COLUMNS, write_stored_run

NOTHING = {table: {name: np.empty(0, np.int64) for name in names} for table, names in FINAL_COLUMNS.items()}
PROVED = {
    "stock": ("stock-not-conserved", "lost-write"),
    "orders": ("lost-order",),
    "purchases": ("user-limit",),
    "payments": ("lost-payment",),
}


def drop(run: Path, table: str, reason: str = "there is no such table") -> None:
    """Let a stored run have been read when ``table`` was gone."""
    (run / "history" / f"final.{table}.arrows").unlink()
    types = dict.fromkeys(FINAL_COLUMNS[table], "int64")
    write_final(run / "history", table, NOTHING[table], types, {"gone": reason})


@pytest.mark.parametrize("table", PROVED)
def test_table_that_was_dropped_proves_the_loss_of_what_it_held(tmp_path: Path, table: str) -> None:
    """The others are judged as ever."""
    run = write_stored_run(tmp_path / "run")
    assert exit_code(judge(run)) == 0
    drop(run, table)

    summary = judge(run)

    assert exit_code(summary) == 4
    assert all(summary["violations"][name] for name in PROVED[table])
    assert summary["violations"]["ghost"] == summary["violations"]["real-time-order"] == 0


def test_dropped_table_that_held_nothing_leaves_a_doubt(tmp_path: Path) -> None:
    """Nothing is proved, and nothing is called valid."""
    run = write_stored_run(tmp_path / "run")
    drop(run, "releases", "who took it?")

    summary = judge(run)

    assert exit_code(summary) == 5
    assert "the table releases was dropped" in summary["unknown"] and "who took it?" in summary["unknown"]


@pytest.mark.parametrize("table", PROVED)
def test_table_that_was_not_read_spoils_no_other(tmp_path: Path, table: str) -> None:
    """An order that is lost is proved beside a table that nobody could read."""
    run = write_stored_run(tmp_path / "run", lambda rows: rows["orders"].pop(0) and None)
    (run / "history" / f"final.{table}.arrows").unlink()

    summary = judge(run)

    assert any(check["verdict"] == "unknown" for check in summary["checks"])
    assert exit_code(summary) == (5 if table == "orders" else 4)
    assert summary["violations"]["lost-order"] == (table != "orders")


def test_best_sellers_row_deleted_in_mid_run_leaves_the_other_checks_their_proof() -> None:
    """What is returned finds no row, and says so; an order that is lost as well is found."""
    run = simulate(small_plan(stock=1000, skew="one-hot"), 7, trouble=0.0, processes=1, sabotage=_delete_best_seller)
    run.tables["orders"].remove(run.row("orders", id=run.done(Answer.PLACED)[0].number))

    findings = _findings(run)

    assert findings["stock-not-conserved"].anomalies == 1 and "its stock row is gone" in _witness(findings, "stock-not")
    assert "found no row of SKU 0 in stock to write to" in findings["lost-write"].witnesses[0]
    assert "SKU 0, whose row is gone" in findings["lost-write"].witnesses[-1]
    assert findings["lost-order"].anomalies == 1
    assert [finding for finding in findings.values() if finding.verdict == Verdict.UNKNOWN] == []


def test_version_set_below_zero_in_mid_run_is_somebody_elses_write() -> None:
    """A version that no count of writes reaches is no contradiction of ours."""
    run = simulate(small_plan(stock=1000, skew="one-hot"), 3, trouble=0.0, processes=1, sabotage=_rewind_far)

    findings = _findings(run)

    assert findings["phantom-write"].anomalies > 0
    assert "which no count of writes reaches" in findings["phantom-write"].witnesses[-1]
    assert [finding for finding in findings.values() if finding.verdict == Verdict.UNKNOWN] == []


def test_columns_tell_apart_what_is_no_number_of_ours() -> None:
    """NULL, fractions, texts and numbers too large are the least number of the type."""
    least = -(2**63)
    column = as_column([None, 5, "5", "5.00", 5.5, "x", 2**70, b"5", "NaN", True, False], "int64")

    assert column.tolist() == [least, 5, 5, 5, least, least, least, least, least, least, least]
    assert as_column([1, 2**40], "int32").tolist() == [1, -(2**31)]
    assert as_column([], "int32").dtype == np.int32
    assert as_column(["a", None], "string").tolist() == ["a", ""]


def test_conclusion_stores_the_tables_that_are_there(tmp_path: Path) -> None:
    """One that was dropped as an empty one that says so, one that was not read not at all."""
    from loadgen.conduct.conclusion import Conclusion
    from loadgen.history.run_directory import RunDirectory

    run = RunDirectory(write_stored_run(tmp_path / "run"))
    for path in run.history.glob("final.*"):
        path.unlink()
    found = FinalReads()
    found.update({name: dict(NOTHING[name]) for name in ("stock", "orders", "purchases")})
    found.gone["payments"], found.unread["releases"] = "dropped by somebody", "its column id is gone"
    tables = tuple(Table(name, "", dict.fromkeys(columns, "int64")) for name, columns in FINAL_COLUMNS.items())
    load = {"died": [], "error": "", "cut_short": ""}
    write_json(run.load, load)

    conclusion = Conclusion(run, load, lambda _: None)
    conclusion.final_reads(tables, lambda: found)

    history = read_history(run.history)
    assert set(history.final) == {"stock", "orders", "purchases", "payments"}
    assert history.final_facts["payments"]["gone"] == "dropped by somebody"
    assert "dropped by somebody" in load["final_reads"] and "its column id is gone" in load["final_reads"]


def _findings(run: Run) -> dict[str, Finding]:
    assert run.sabotaged
    return {finding.name: finding for finding in run_checks(list(CHECKS), run.books())}


def _witness(findings: dict[str, Finding], name: str) -> str:
    return next(finding.witnesses[0] for finding in findings.values() if finding.name.startswith(name))


def _delete_best_seller(simulation: object) -> str | None:
    stock = simulation.store.tables["stock"]  # type: ignore[attr-defined]
    if not simulation.acknowledged(Answer.PLACED):  # type: ignore[attr-defined]
        return None
    del stock[0, 0]
    return "SKU 0"


def _rewind_far(simulation: object) -> str | None:
    row = simulation.store.tables["stock"][0, 0]  # type: ignore[attr-defined]
    if row["version"] < 3:
        return None
    row["version"] = -10
    return "SKU 0"


def test_versions_that_are_no_numbers_of_ours_are_recorded() -> None:
    """NULL, and what the MySQL wire makes of a version below zero, must not stop the recorder."""
    from loadgen.history.arrays import of_touched

    touched = of_touched([(1, -1, 2**64 - 4), (2, 3, None), ()])  # type: ignore[list-item]

    assert touched.to_pylist()[0] == [{"row": 1, "read": -1, "wrote": -4}]
    assert touched.to_pylist()[1] == [{"row": 2, "read": 3, "wrote": -(2**63)}]
