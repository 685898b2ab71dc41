"""A workload of somebody else's, in a directory of its own: it runs, is judged and reported by its own names."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loadgen.plan import ENGINES
from tests.workloads.stranger import run_file, run_words

FIXTURE = Path(__file__).with_name("tickets.py")
OBJECTIVES = ("--slo", "reserve.p99<60s, reserved_per_second>1")


def load(directory: Path, engine: str, *, careful: bool) -> tuple[subprocess.CompletedProcess[str], Mapping[str, Any]]:
    """Run the file with one venue and 32 sessions, so that people meet."""
    return run_file(FIXTURE, directory, engine, "-u", "32", "--venues", "1", *OBJECTIVES, careful=careful)


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_tickets_are_valid_on_every_engine_and_told_by_their_own_names(tmp_path: Path, engine: str) -> None:
    """Exit code 0; figures, objectives and seconds.csv speak of reserve and refund."""
    run, summary = load(tmp_path, engine, careful=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert summary["verdict"] == "valid"
    assert {check["name"] for check in summary["checks"]} == {
        *("double-booking", "lost-update", "lost-write", "phantom-write", "real-time-order")
    }
    assert {"reserve", "refund", "look"} <= set(summary["response_time_ms"])
    assert not {"order", "pay"} & set(summary["response_time_ms"])
    assert [slo["met"] for slo in summary["slo"]] == [True, True]
    header = (tmp_path / "run" / "seconds.csv").read_text().splitlines()[0]
    assert "reserve" in header
    assert "refund" in run.stdout


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_a_seeded_bug_is_a_double_booking_and_a_lost_update(tmp_path: Path, engine: str) -> None:
    """Who reads without a lock, and then writes, takes a seat that somebody else has just taken."""
    run, summary = load(tmp_path, engine, careful=False)

    assert run.returncode == 4, run.stdout + run.stderr
    witnesses = {check["name"]: check["witness"] for check in summary["checks"] if check["anomalies"]}
    assert set(witnesses) == {"double-booking", "lost-update"}
    assert "was reserved" in witnesses["double-booking"]
    assert "computed from version" in witnesses["lost-update"]
    assert "of seats" in witnesses["lost-update"]


@pytest.mark.server
def test_what_versions_prove_is_judged_without_the_workload_s_file(tmp_path: Path) -> None:
    """Its own check is unknown then, and the lost updates are the same."""
    _, summary = load(tmp_path, "postgres", careful=False)
    again = run_words(["loadgen", "check", "run", "--json"], tmp_path)
    bare = json.loads(again.stdout)

    assert again.returncode == 4, again.stdout + again.stderr
    assert bare["violations"]["lost-update"] == summary["violations"]["lost-update"] > 0
    verdicts = {check["name"]: check["verdict"] for check in bare["checks"]}
    assert verdicts == {
        **dict.fromkeys(("lost-write", "real-time-order", "double-booking"), "unknown"),
        "lost-update": "invalid",
    }


@pytest.mark.server
def test_check_judges_a_foreign_run_only_by_a_file_that_somebody_names_or_trusts(tmp_path: Path) -> None:
    """Unknown without one, and the same verdict as the run's own with it. What the run holds is not run unasked."""
    load(tmp_path, "postgres", careful=True)
    bare = run_words(["loadgen", "check", "run"], tmp_path)
    named = run_words(["loadgen", "check", "run", "--workload", "tickets.py"], tmp_path)
    trusted = run_words(["loadgen", "check", "run", "--trust-workload"], tmp_path)

    assert bare.returncode == 5, bare.stdout + bare.stderr
    assert "--trust-workload" in bare.stdout
    assert "reserve" in bare.stdout
    assert named.returncode == 0, named.stdout + named.stderr
    assert trusted.returncode == 0, trusted.stdout + trusted.stderr
    copy = tmp_path / "run" / "history" / "workload.py"
    copy.write_text("from pathlib import Path\nPath('ran').touch()\n" + copy.read_text())
    assert run_words(["loadgen", "check", "run"], tmp_path).returncode == 5
    assert not (tmp_path / "ran").exists()
