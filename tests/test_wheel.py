"""What a wheel carries: the package, the workloads and deploy, so that who has no checkout can run."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CARRIED = ("workloads", "deploy", "dashboards")
"""Folders beside the package that a person needs at run time, where they exist."""


def tracked(folder: str) -> set[str]:
    """The files of a folder of the checkout."""
    names = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split() if (ROOT / name).is_file()}


def test_the_wheel_is_told_to_carry_each_folder_that_exists() -> None:
    """In pyproject.toml, below the package."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    wanted = {folder: f"loadgen/{folder}" for folder in CARRIED if (ROOT / folder).is_dir()}
    assert told["packages"] == ["loadgen"]
    assert told["force-include"] == wanted


def test_a_built_wheel_holds_them_and_finds_its_workloads(tmp_path: Path) -> None:
    """Built by hatchling, unpacked beside nothing: the workloads are found inside the package."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)

    carried = [name for folder in CARRIED if (ROOT / folder).is_dir() for name in tracked(folder)]
    assert carried and not [name for name in carried if f"loadgen/{name}" not in names]
    assert "loadgen/workload/older_runs.json" in names
    code = "import sys; sys.path.insert(0, sys.argv[1]); from loadgen.commands.main import main; main(['workloads'])"
    listed = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert str(site / "loadgen" / "workloads" / "flashsale.py") in listed
