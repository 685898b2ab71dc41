"""A stored run as DataFrames and as files of tables."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import loadgen
from loadgen.commands.main import main
from loadgen.errors import StoreError
from loadgen.history.history import read_history
from loadgen.shop import sale
from tests.formats.probe_runs import play, probe_plan
from tests.stored import ORDERS, PLAN, write_stored_run

DATA = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A correct run of the sale."""
    return write_stored_run(tmp_path / "run")


def test_ops_have_names_times_and_the_columns_of_their_number(run: Path) -> None:
    """Kinds, answers and outcomes are names; times are UTC; what the workload said of a number stands beside it."""
    ops = loadgen.open_run(run).ops

    assert set(ops["kind"]) == {"order", "pay"} and {"placed", "paid"} <= set(ops["answer"])
    assert set(ops["outcome"]) == {"ok"} and ops["kind"].dtype == "category"
    assert all(str(ops[name].dtype) == "datetime64[ns, UTC]" for name in ("due", "sent", "done"))
    assert (ops["response_ms"] - 2.0).abs().max() < 1e-9
    assert (ops["service_ms"] - 1.9).abs().max() < 1e-9
    assert ((ops["done"] - ops["due"]).dt.total_seconds() * 1000 - ops["response_ms"]).abs().max() < 1e-9
    told = sale.invoked(PLAN, 0, ORDERS)
    for name in ("token", "user", "sku_a", "qty_a", "amount"):
        assert (ops[name].to_numpy() == told[name][ops["number"].to_numpy()]).all()


def test_orders_are_the_ops_of_the_main_kind(run: Path) -> None:
    """By the workload's noun, and always as main."""
    opened = loadgen.open_run(run)

    assert len(opened.orders) == ORDERS and set(opened.orders["kind"]) == {"order"}
    assert opened.orders is opened.main
    with pytest.raises(AttributeError, match="tickets"):
        _ = opened.tickets


def test_times_are_those_of_the_wall_clock(run: Path) -> None:
    """By the pair of both clocks in the stream."""
    (process,) = read_history(run / "history").processes
    shift = process.origin.wall_ns - process.origin.monotonic_ns
    assert loadgen.open_run(run).ops["due"].astype("int64").min() == int(process.ops["due"].min()) + shift


def test_tables_seconds_and_the_rest_are_there(run: Path) -> None:
    """seconds.csv, or the same from the history; what the tables held; what was planned."""
    opened = loadgen.open_run(run)
    counted = opened.seconds

    assert counted["due"].sum() == ORDERS and str(counted["utc"].dtype) == "datetime64[ns, UTC]"
    assert set(opened.tables) == {"stock", "orders", "purchases", "payments", "releases"}
    assert len(opened.tables["orders"]) == (opened.orders["answer"] == "placed").sum()
    assert len(opened.faults) == 0 and len(opened.tries) == 0 and len(opened.invoked) == ORDERS
    assert opened.plan["workload"] == "flashsale" and opened.summary == {} and opened.warnings == []
    counted.assign(utc=counted["utc"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv(run / "seconds.csv", index=False)
    pd.testing.assert_frame_equal(loadgen.open_run(run).seconds, counted, check_dtype=False)


def test_a_probe_has_names_too(tmp_path: Path) -> None:
    """And the ops that failed."""
    opened = loadgen.open_run(play(probe_plan("bank"), 3).write(tmp_path / "bank"))

    assert set(opened.ops["kind"]) == {"transfer", "total"}
    assert set(opened.ops["outcome"]) == {"ok", "fail", "info"}
    assert {"source", "target", "amount"} <= set(opened.ops.columns)


def test_names_that_a_plan_lacks_are_codes(run: Path) -> None:
    """An older run that did not tell them."""
    facts = json.loads((run / "plan.json").read_text())
    del facts["workload"]["answers"]
    (run / "plan.json").write_text(json.dumps(facts))
    opened = loadgen.open_run(run)

    assert set(opened.ops["answer"]) <= {str(code) for code in range(9)}
    assert set(opened.ops["kind"]) == {"order", "pay"}


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.9])
def test_of_a_cut_run_what_is_whole_is_there(run: Path, cut: float) -> None:
    """And the warnings say what is not."""
    path = next((run / "history").glob("*.ops.arrows"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    (run / "load.json").unlink()
    (run / "history" / "final.orders.arrows").write_bytes(b"")
    opened = loadgen.open_run(run)

    assert opened.warnings
    assert list(opened.ops.columns[:2]) == ["number", "kind"] and len(opened.invoked) == ORDERS
    assert "orders" not in opened.tables and "stock" in opened.tables


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    """A missing directory, and an empty one."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StoreError) as refused:
            loadgen.open_run(path)
        assert "\n" not in str(refused.value)


def test_importing_the_package_is_cheap() -> None:
    """Neither numpy nor pandas comes with it; open_run brings them, and neither Locust nor a workload."""
    code = (
        "import sys, loadgen; assert not {'numpy', 'pandas', 'pyarrow'} & set(sys.modules); loadgen.open_run; "
        "assert not {'locust', 'gevent', 'flashsale', 'loadgen.load', 'loadgen.engines'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_column_is_documented(run: Path) -> None:
    """In docs/data.md."""
    text = DATA.read_text()
    assert [name for name in loadgen.open_run(run).ops.columns if f"`{name}`" not in text] == []


@pytest.mark.parametrize("style", ["parquet", "csv"])
def test_exported_tables_hold_what_the_run_holds(
    style: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file for each table, named with its rows; none is left half."""
    out = tmp_path / "out"
    assert main(["export", str(run), "--format", style, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    names = {path.name for path in out.iterdir()}

    read = pd.read_parquet if style == "parquet" else pd.read_csv
    opened = loadgen.open_run(run)
    tables = {"ops": opened.ops, **{f"table.{name}": table for name, table in opened.tables.items()}}
    assert names == {f"{name}.{style}" for name in (*tables, "tries", "invoked", "seconds", "faults")}
    assert all(name in said for name in names)
    for name, table in tables.items():
        back = read(out / f"{name}.{style}")
        assert list(back.columns) == list(table.columns) and len(back) == len(table)
    ops = read(out / f"ops.{style}")
    assert list(ops["kind"].astype(str)) == list(opened.ops["kind"].astype(str))
    assert (pd.to_datetime(ops["due"]) == opened.ops["due"]).all()


def test_export_overwrites_only_when_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there stays, whole, and nothing else is written beside it."""
    words = ["export", str(run), "--format", "csv", "-o", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "seconds.csv").write_text("mine")

    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seconds.csv"]
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "out" / "seconds.csv").read_text() != "mine"


def test_export_of_a_damaged_run_says_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, and writes what is whole."""
    (run / "history" / "final.orders.arrows").write_bytes(b"")

    assert main(["export", str(run), "--format", "csv", "-o", str(tmp_path / "out")]) == 0
    assert "not whole" in capsys.readouterr().err


def test_export_goes_through_memory_in_parts(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of seven rows make the same tables."""
    whole = loadgen.open_run(run).ops
    monkeypatch.setattr("loadgen.report.frames.CHUNK_ROWS", 7)

    assert main(["export", str(run), "--format", "parquet", "-o", str(tmp_path / "out")]) == 0
    pd.testing.assert_frame_equal(loadgen.open_run(run).ops, whole)
    assert len(pd.read_parquet(tmp_path / "out" / "ops.parquet")) == len(whole)
