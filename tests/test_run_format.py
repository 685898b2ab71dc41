"""The version of a run directory: older runs are read, a later version's run is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.commands.main import main
from loadgen.errors import StoreError
from loadgen.history.run_directory import RUN_FORMAT, read_plan
from loadgen.judge.stored_run import open_run
from tests.stored import write_stored_run


def with_format(run: Path, told: Any) -> Path:
    """The run, whose plan.json tells this format."""
    facts = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps({**facts, "format": told}))
    return run


def test_a_run_of_an_older_version_tells_no_format_and_is_judged(tmp_path: Path) -> None:
    """As before."""
    run = write_stored_run(tmp_path / "run")

    assert "format" not in read_plan(run / "plan.json")
    assert not open_run(run).refusal
    assert main(["check", str(run)]) == 0


def test_a_run_of_this_version_is_judged(tmp_path: Path) -> None:
    """By the number that the conductor writes."""
    assert main(["check", str(with_format(write_stored_run(tmp_path / "run"), RUN_FORMAT))]) == 0


@pytest.mark.parametrize("command", ["check", "report", "export"])
def test_a_run_of_a_later_version_is_refused_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says which formats this version reads."""
    run = with_format(write_stored_run(tmp_path / "run"), RUN_FORMAT + 1)
    (run / "summary.json").write_text(json.dumps({"verdict": "invalid", "checks": []}))

    assert main([command, str(run)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert f"later version of loadgen: format {RUN_FORMAT + 1}; this one reads up to {RUN_FORMAT}" in told.err


def test_list_shows_a_run_of_a_later_version_as_broken_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the runs beside it as they are."""
    with_format(write_stored_run(tmp_path / "a"), RUN_FORMAT + 1)
    write_stored_run(tmp_path / "b")

    assert main(["list", str(tmp_path)]) == 0
    _, later, this = capsys.readouterr().out.splitlines()
    assert "broken" in later and "later version of loadgen" in later
    assert "unfinished" in this


@pytest.mark.parametrize("told", ["2", None, True, 1.0, [], -1, 0])
def test_a_format_that_no_run_has_is_a_damaged_plan(told: Any, tmp_path: Path) -> None:
    """Not a version."""
    run = with_format(write_stored_run(tmp_path / "run"), told)

    with pytest.raises(StoreError, match="which no run has"):
        read_plan(run / "plan.json")
