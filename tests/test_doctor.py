"""``loadgen doctor`` helps on a machine that has nothing, and never fails."""

import os
import subprocess
import sys
from pathlib import Path


def doctor(tmp_path: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run it as a person would, on a machine without Docker, Go or Debian's tools."""
    empty = tmp_path / "empty"
    empty.mkdir(exist_ok=True)
    environment = {
        "PATH": str(empty),
        "HOME": str(tmp_path),
        "LOADGEN_CACHE": str(tmp_path / "cache"),
        "DOCKER_HOST": f"unix://{empty}/docker.sock",
        **({"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}),
        **changes,
    }
    command = [sys.executable, "-m", "loadgen", "doctor", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_bare_machine_gets_help_and_exit_0(tmp_path: Path) -> None:
    """What is missing is said with what to install, without a traceback."""
    result = doctor(tmp_path)

    assert result.returncode == 0
    assert result.stderr == ""
    for said in ("no  tidb, embedded", "no  docker ", "to have the rest:", "loadgen install tidb", "install Go"):
        assert said in result.stdout


def test_wrong_variable_is_a_finding_not_a_failure(tmp_path: Path) -> None:
    """A variable that names no program shows as what is wrong with that engine."""
    result = doctor(tmp_path, LOADGEN_MYSQLD="/nowhere/mysqld")

    assert result.returncode == 0
    assert "LOADGEN_MYSQLD=/nowhere/mysqld is not a program" in result.stdout


def test_program_that_does_not_run_is_a_finding(tmp_path: Path) -> None:
    """A program for another machine, or a broken one, is said to be so."""
    broken = tmp_path / "mysqld"
    broken.write_text("not a program")
    broken.chmod(0o755)

    result = doctor(tmp_path, LOADGEN_MYSQLD=str(broken))

    assert result.returncode == 0
    assert "cannot be run" in result.stdout


def test_json_holds_every_finding(tmp_path: Path) -> None:
    """The same for a program to read."""
    import json

    findings = json.loads(doctor(tmp_path, "--json").stdout)

    assert {"machine", "docker", "mysql, embedded"} <= {finding["about"] for finding in findings}
    assert all(finding["good"] or finding["seen"] for finding in findings)
