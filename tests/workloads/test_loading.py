"""A workload file is run once in a process, until it changes."""

from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import PlanError
from loadgen.history.history import History
from loadgen.verdict import check_safe
from loadgen.workload import Evidence, Plan
from loadgen.workload.loading import load_workload

TICKETS = Path(__file__).with_name("tickets.py")


def test_a_file_is_run_once_and_again_when_it_changes(tmp_path: Path) -> None:
    """By its path, its time and its size."""
    file = tmp_path / "tickets.py"
    file.write_text(TICKETS.read_text())
    first = load_workload(file)

    assert load_workload(file) is first
    file.write_text(TICKETS.read_text().replace('name="tickets"', 'name="seats_sold"'))
    assert load_workload(file).name == "seats_sold"


def test_the_kinds_of_one_statement_are_those_that_are_marked(tmp_path: Path) -> None:
    """The judge learns it from the class of users."""
    assert load_workload(TICKETS).single_statements == ("look",)


@pytest.mark.parametrize("name", ["none.py", "folder", "text.py"])
def test_what_holds_no_workload_is_told_by_its_path(tmp_path: Path, name: str) -> None:
    """In one line, as often as it is asked."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.py").write_text("WORKLOAD = 1\n")
    for _ in range(2):
        with pytest.raises(PlanError, match=name):
            load_workload(tmp_path / name)


def test_a_check_that_breaks_down_names_its_line(tmp_path: Path) -> None:
    """Nothing is decided, and its author finds where."""
    code = "def broken(evidence):\n    return evidence.final['no such table']\n"
    namespace: dict[str, Any] = {}
    exec(compile(code, str(tmp_path / "mine.py"), "exec"), namespace)
    evidence = Evidence(Plan(), History([], {}), {}, {})

    finding = check_safe("mine", namespace["broken"], evidence)

    assert finding.unknown == "the check itself failed in line 2 of mine.py: KeyError: 'no such table'"
