"""The examples of docs/adding.md work: each section's files, changes and commands are taken from the page, and run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sale_runs import FORGOTTEN, KEPT

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding.md"
LIMIT_S = 120
_BLOCK = re.compile(r"^```(python|diff|sh)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(section: str) -> list[tuple[str, str, str]]:
    """``(language, file, text)`` of each code block below a heading of the page."""
    (found,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, file, text) for language, file, text in _BLOCK.findall(found)]


def change(text: str, diff: str) -> str:
    """``text`` with a diff without line numbers applied: what it takes must be there exactly once."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"not there exactly once:\n{old}"
    return text.replace(old, new)


def follow(section: str, place: Path) -> str:
    """Do what a section says, in ``place``: write files, change them, run commands. What the commands printed."""
    environment = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(FORGOTTEN)}
    printed = ""
    for language, file, text in blocks(section):
        if language == "sh":
            for line in text.splitlines():
                command, _, code = line.partition("# exit code")
                words = [sys.executable, "-m", *shlex.split(command)]
                run = subprocess.run(
                    words, cwd=place, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
                )
                assert run.returncode == int(code or 0), run.stdout + run.stderr
                printed += run.stdout
        else:
            path = place / file
            path.write_text(text if language == "python" else change(path.read_text(), text))
    return printed


def summary(place: Path) -> dict[str, Any]:
    """The summary of the newest run in ``place``."""
    told: dict[str, Any] = json.loads((place / "runs" / "latest" / "summary.json").read_text())
    return told


@pytest.mark.server("postgres")
def test_a_workload_a_check_and_a_shape_work_as_the_page_shows_them(tmp_path: Path) -> None:
    """One file, section by section; the seeded bug is found by the new check."""
    workload = follow("A workload", tmp_path)
    assert "claimed" in workload
    assert [slo["met"] for slo in summary(tmp_path)["slo"]] == [True, True]
    assert {"lost-update", "phantom-write"} <= {check["name"] for check in summary(tmp_path)["checks"]}

    check = follow("A check", tmp_path)
    assert "over-issued" in check
    assert {name for name, count in summary(tmp_path)["violations"].items() if count} == {"over-issued"}

    (tmp_path / "coupons.py").write_text(
        (tmp_path / "coupons.py").read_text().replace(":coupon {bumped}", ":coupon AND remaining > 0 {bumped}")
    )
    shape = follow("A shape", tmp_path)
    assert "lunch peak" in shape


@pytest.mark.server("postgres")
def test_an_engine_is_one_file_and_one_line(tmp_path: Path) -> None:
    """In a copy of the package: the run, its list and its report carry the new engine's name."""
    for folder in ("loadgen", "workloads"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))

    assert "Elephant" in follow("An engine", tmp_path)
    assert summary(tmp_path)["engine"]["name"] == "elephant"
