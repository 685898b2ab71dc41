"""Red packets in one file of somebody else's: valid on every engine, and without a lock they hand out too much."""

from pathlib import Path

import pytest

from loadgen.plan import ENGINES
from tests.workloads.stranger import run_file

FIXTURE = Path(__file__).with_name("red_packet.py")
OPTIONS = ("--packets", "3000", "--shares", "10", "-u", "16")
OWN = {"overpaid", "packet-balance", "double-grab", "lost-grab"}
GENERIC = {"lost-update", "lost-write", "phantom-write", "real-time-order"}


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_no_packet_gives_more_than_it_has_on_every_engine(tmp_path: Path, engine: str) -> None:
    """And every cent is in a grab or left."""
    run, summary = run_file(FIXTURE, tmp_path, engine, *OPTIONS, careful=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert {check["name"] for check in summary["checks"]} == OWN | GENERIC
    assert summary["main"]["kind"] == "grab"
    assert "grabbed" in run.stdout


@pytest.mark.server
def test_packets_that_are_read_without_a_lock_give_too_much(tmp_path: Path) -> None:
    """Two people get the same share."""
    run, summary = run_file(FIXTURE, tmp_path, "postgres", *OPTIONS, careful=False)

    assert run.returncode == 4, run.stdout + run.stderr
    witnesses = {check["name"]: check["witness"] for check in summary["checks"] if check["anomalies"]}
    assert {"overpaid", "packet-balance", "lost-update"} <= set(witnesses) <= OWN | GENERIC
    assert "gave" in witnesses["overpaid"]
    assert "of packets" in witnesses["lost-update"]
