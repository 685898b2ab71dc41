"""The table of seconds: it adds up to the run, and has no gaps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from loadgen.clock import NS_PER_S
from loadgen.errors import StoreError
from loadgen.history.history import History, read_history
from loadgen.op import Outcome
from loadgen.report.seconds import seconds_table, write_seconds
from loadgen.shop import sale
from loadgen.shop.sale import Answer
from tests.stored import ORDERS, plan_facts, write_stored_run

KINDS, ANSWERS = list(sale.KIND_NAMES), list(sale.ANSWER_NAMES)


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A small run of 40 orders, 10 ms apart."""
    return read_history(write_stored_run(tmp_path / "run") / "history")


def test_seconds_add_up_to_the_run(history: History) -> None:
    """Every op stands in exactly one second."""
    ops = history.processes[0].ops
    table = seconds_table(history.processes, sale.FACTS)

    assert table["due"].sum() == ORDERS
    assert table["placed"].sum() == np.count_nonzero(ops["answer"] == Answer.PLACED)
    assert table["pay_ok"].sum() == np.count_nonzero(ops["answer"] == Answer.PAID)
    assert table["skipped"].sum() == 0


def test_a_pause_is_rows_of_zeros_not_a_gap(history: History) -> None:
    """A table laid over a graph must not shift."""
    ops = history.processes[0].ops
    for name in ("due", "sent", "done"):
        times = ops[name].copy()
        times[len(times) // 2 :] += 5 * NS_PER_S
        ops[name] = times
    table = seconds_table(history.processes, sale.FACTS)

    assert list(table["second"]) == list(range(len(table)))
    assert len(table) >= 6
    assert (table["due"] == 0).sum() >= 4
    assert table.loc[table["due"] == 0, "response_p50_ms"].isna().all()
    assert pd.to_datetime(table["utc"]).diff().dropna().eq(pd.Timedelta(seconds=1)).all()


def test_a_skipped_order_stands_in_the_second_it_was_due(history: History) -> None:
    """It was never answered, so it has no other."""
    ops = history.processes[0].ops
    ops["outcome"] = np.full(len(ops["outcome"]), int(Outcome.SKIPPED), dtype=np.uint8)
    ops["done"] = np.zeros(len(ops["done"]), dtype=np.int64)
    table = seconds_table(history.processes, sale.FACTS)

    assert table["skipped"].sum() == ORDERS
    assert len(table) <= 2


def test_a_run_without_ops_has_a_table_without_rows() -> None:
    """Nothing done is nothing told."""
    assert len(seconds_table([], sale.FACTS)) == 0


def test_a_table_that_cannot_be_written_leaves_nothing(history: History, tmp_path: Path) -> None:
    """Whole or not at all; every row names the server with its edition."""
    facts = plan_facts("x")
    facts["engine"] |= {"title": "OceanBase", "edition": "seekdb", "version": "1.4"}
    with pytest.raises(StoreError):
        write_seconds(history.processes, facts, tmp_path / "missing" / "seconds.csv", sale.FACTS)
    write_seconds(history.processes, facts, tmp_path / "seconds.csv", sale.FACTS)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "seconds.csv"]
    assert set(pd.read_csv(tmp_path / "seconds.csv")["server"]) == {"seekdb 1.4 (OceanBase's dialect)"}
