"""Variables that look like ours: those that are none are named, and every command reads LOADGEN_DSN."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.commands.main import main
from loadgen.environment import misspelt
from loadgen.errors import PlanError
from loadgen.load.options import OPTION_NAMES
from loadgen.plan import engines_asked
from loadgen.workload.loading import UNPATCHED, load_workload

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LOADGEN_PEEK_RATE", "LOADGEN_PEAK_RATE"),
        ("LOADGEN_DNS", "LOADGEN_DSN"),
        ("LOADGEN_Dsn", "LOADGEN_DSN"),
        ("loadgen_dsn", "LOADGEN_DSN"),
        ("LOADGEN_ISOLATON", "LOADGEN_ISOLATION"),
        ("LOADGEN_READFROM", "LOADGEN_READ_FROM"),
        ("LOADGEN_TIDBSERVER", "LOADGEN_TIDB_SERVER"),
        ("LOADGEN_DATABASE_URL", "LOADGEN_DSN"),
        ("LOADGEN_FOO", "it changes nothing"),
    ],
)
def test_variable_that_is_none_is_named(variable: str, meant: str) -> None:
    """With the one that was meant, where there is one; its value is not told."""
    (line,) = misspelt({variable: "u://SECRET" if variable == "LOADGEN_DATABASE_URL" else "SECRET"}, OPTION_NAMES)

    assert variable in line
    assert meant in line
    assert "SECRET" not in line


def test_variables_that_are_ours_are_not_named() -> None:
    """Those of options, programs, images and compose files, and what Kubernetes adds for a service of that name."""
    ours = [f"LOADGEN_{name.upper()}" for name in OPTION_NAMES]
    ours += ["LOADGEN_CACHE", "LOADGEN_TOKEN", "LOADGEN_IMAGE_MYSQL", "LOADGEN_PORT_2", "LOADGEN_REQUIRE_ENGINES"]
    ours += ["LOADGEN_SERVICE_HOST", "LOADGEN_PORT_8089_TCP_ADDR", "LOADGEN_PORT", "HOME", "LOADGENERATOR"]

    assert misspelt(dict.fromkeys(ours, "x"), OPTION_NAMES) == []


def test_run_names_them_and_refuses_one_that_was_to_name_a_server(tmp_path: Path) -> None:
    """Before anything starts; what the variable holds is not told."""
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "workloads" / "flashsale.py"), "--headless"]
    command += ["--engine", "nothing"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADGEN_")}
    ended = subprocess.run(
        command, env={**clean, "LOADGEN_PEEK_RATE": "9"}, cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "LOADGEN_PEEK_RATE is no variable of loadgen: did you mean LOADGEN_PEAK_RATE?" in ended.stderr

    environ = {**clean, "LOADGEN_DNS": "postgres://u:SECRET@127.0.0.1:1/d"}
    ended = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "did you mean LOADGEN_DSN?" in ended.stderr
    assert "nothing" not in ended.stderr
    assert "SECRET" not in ended.stderr


@pytest.mark.parametrize("command", [["hermitage"], ["anomalies"], ["clean"], ["hermitage", "--engine", "postgres"]])
def test_every_command_goes_where_the_environment_says(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A DSN that can't be kept is refused by each of them, in the same words: none starts a server of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOADGEN_DSN", "postgres://u:SECRET@127.0.0.1:1/d?require_auth=scram-sha-256")

    assert main(command) == 2
    captured = capsys.readouterr()
    assert "require_auth is not a parameter that loadgen understands" in captured.err
    assert "SECRET" not in captured.err + captured.out


def test_clean_without_a_server_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And PGHOST alone names none."""
    monkeypatch.delenv("LOADGEN_DSN", raising=False)
    monkeypatch.setenv("PGHOST", "127.0.0.1")

    assert main(["clean"]) == 2
    assert "LOADGEN_DSN" in capsys.readouterr().err


def test_engine_of_a_command_is_named_or_that_of_the_dsn() -> None:
    """As on Locust's command line."""
    assert engines_asked(None, "mysql://h/", {}) == ("mysql",)
    assert engines_asked(None, "mysql://h/", {"LOADGEN_ENGINE": "tidb"}) == ("tidb",)
    assert engines_asked(["oceanbase"], "mysql://h/", {"LOADGEN_ENGINE": "tidb"}) == ("oceanbase",)
    assert len(engines_asked(None, "", {})) == 4


def test_doctor_says_where_runs_go_and_which_variable_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the password."""
    monkeypatch.setenv("LOADGEN_DSN", "postgres://u:SECRET@db1,db2/d")
    monkeypatch.setenv("LOADGEN_PEEK_RATE", "1")

    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    seen = {finding["about"]: finding["seen"] for finding in json.loads(text)}
    assert seen["LOADGEN_DSN"] == "every command goes to db1:5432, db2:5432 as u"
    assert "LOADGEN_PEAK_RATE" in seen["environment"]
    assert "SECRET" not in text


def test_importing_a_workload_leaves_the_environment_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Locust that is started afterwards would inherit what the import needs, and hang without its patches."""
    file = tmp_path / "broken.py"
    file.write_text(f"import os\nassert os.environ['{UNPATCHED}']\nraise ValueError('it breaks off')\n")
    for before in (None, "0"):
        monkeypatch.delenv(UNPATCHED, raising=False)
        if before is not None:
            monkeypatch.setenv(UNPATCHED, before)
        with pytest.raises(PlanError, match="it breaks off"):
            load_workload(file)
        assert os.environ.get(UNPATCHED) == before
