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


def test_what_can_run_without_anything_is_said(tmp_path: Path) -> None:
    """A server of one's own needs nothing; nor does a server's program that is here need what would install it."""
    server = tmp_path / "tidb-server"
    server.write_text("#!/bin/sh\necho 'Release Version: v8'\n")
    server.chmod(0o755)

    result = doctor(tmp_path, LOADGEN_TIDB_SERVER=str(server))

    assert "can run now: any server that --dsn names" in result.stdout
    assert "--engine tidb" in result.stdout
    assert "install Go" not in result.stdout


def test_fork_on_path_is_named_and_no_engine(tmp_path: Path) -> None:
    """MariaDB has a ``mysqld`` too."""
    (tmp_path / "empty").mkdir()
    other = tmp_path / "empty" / "mysqld"
    other.write_text(
        "#!/bin/sh\necho 'mysqld  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian)'\n"
    )
    other.chmod(0o755)

    result = doctor(tmp_path)

    assert "no  mysql, embedded" in result.stdout and f"{other} is MariaDB 10.11.19" in result.stdout
    assert "--engine mysql" not in result.stdout and "loadgen install mysql" in result.stdout


def test_folder_that_cannot_be_written_to_is_a_finding(tmp_path: Path) -> None:
    """The folder of installed servers, when it is no folder."""
    (tmp_path / "cache").write_text("")

    result = doctor(tmp_path, LOADGEN_CACHE=str(tmp_path / "cache" / "below"))

    assert result.returncode == 0
    assert "no  cache folder" in result.stdout


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
