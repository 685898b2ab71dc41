"""TPC-C's new-order and payment in one file of somebody else's: valid on every engine, and its own bug is found."""

from pathlib import Path

import pytest

from loadgen.plan import ENGINES
from tests.workloads.stranger import run_file

FIXTURE = Path(__file__).with_name("tpcc.py")
OPTIONS = ("--warehouses", "1", "-u", "16")
OWN = {"condition-1", "condition-2", "condition-3", "condition-4", "lost-order", "order-amount"}
GENERIC = {"lost-update", "lost-write", "phantom-write", "real-time-order", "fractured-read"}


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_new_order_and_payment_are_consistent_on_every_engine(tmp_path: Path, engine: str) -> None:
    """Conditions 1 to 4 hold at the end, and who looks in one statement sees whole payments."""
    run, summary = run_file(FIXTURE, tmp_path, engine, *OPTIONS, careful=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert {check["name"] for check in summary["checks"]} == OWN | GENERIC
    assert {"new_order", "payment", "look"} <= set(summary["response_time_ms"])
    assert summary["main"]["kind"] == "new_order"


@pytest.mark.server
def test_payments_that_are_read_and_written_back_break_the_first_condition(tmp_path: Path) -> None:
    """The warehouse loses payments that its districts have."""
    run, summary = run_file(FIXTURE, tmp_path, "postgres", *OPTIONS, careful=False)

    assert run.returncode == 4, run.stdout + run.stderr
    witnesses = {check["name"]: check["witness"] for check in summary["checks"] if check["anomalies"]}
    assert set(witnesses) == {"condition-1", "lost-update"}
    assert "warehouse 1 was paid" in witnesses["condition-1"]
    assert "of warehouse" in witnesses["lost-update"]
