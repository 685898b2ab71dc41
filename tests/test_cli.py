"""The command line on stored runs: no database, no network, and at once."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from loadgen.commands.main import main
from loadgen.shop.sale import CHECKS
from loadgen.workload.loading import installed_workloads
from tests.stored import lose_an_order, write_stored_run

SUMMARY_KEYS = {
    "verdict", "complete", "started_utc", "duration_s", "engine", "orders", "response_time_ms", "service_time_ms",
    "undersell", "errors", "violations", "checks", "slo", "client", "warnings", "seed",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A correct run without a summary."""
    return write_stored_run(tmp_path / "runs" / "20250101T000000Z-postgres-flashsale")


@pytest.fixture
def broken_run(tmp_path: Path) -> Path:
    """A run whose database lost an acknowledged order."""
    return write_stored_run(tmp_path / "runs" / "20250101T000001Z-postgres-flashsale", lose_an_order)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file under ``directory``."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def store_summary(run: Path) -> None:
    """Give a run a summary with some figures."""
    summary = {
        "verdict": "invalid",
        "orders": {"placed": 1200, "per_second_mean": 12.5},
        "response_time_ms": {"order": {"p50": 0.7, "p99": 3.0}},
        "violations": {"oversell": 2, "ghost": 1},
    }
    (run / "summary.json").write_text(json.dumps(summary))


def test_check_of_a_correct_run_is_valid_and_exits_0(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A correct shop gets no violation."""
    assert main(["check", str(run)]) == 0
    assert capsys.readouterr().out.startswith("VALID ")


def test_check_of_a_run_that_lost_an_order_exits_4_and_names_it(
    broken_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The violation, its count and its witness are on the screen."""
    assert main(["check", str(broken_run)]) == 4
    printed = capsys.readouterr().out
    assert printed.startswith("INVALID ")
    assert "✗ lost-order 1: " in printed


def test_check_as_json_has_the_keys_of_the_summary(broken_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every check that ran is listed, those that found nothing with 0."""
    assert main(["check", str(broken_run), "--json"]) == 4
    summary = json.loads(capsys.readouterr().out)
    assert summary["verdict"] == "invalid"
    assert set(summary["violations"]) == set(CHECKS)
    assert summary["violations"]["lost-order"] == 1
    assert set(summary) >= SUMMARY_KEYS


def test_check_leaves_the_run_as_it_was(broken_run: Path) -> None:
    """Judging again is a question, not a change."""
    before = contents(broken_run)
    main(["check", str(broken_run)])

    assert contents(broken_run) == before


def test_check_without_final_reads_is_unknown_and_exits_5(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not read at the end cannot be called valid."""
    for path in (run / "history").glob("final.*"):
        path.unlink()

    assert main(["check", str(run)]) == 5
    assert capsys.readouterr().out.startswith("UNKNOWN ")


def test_the_newest_run_is_the_one_that_is_meant(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without RUN it is runs/latest."""
    (run.parent / "latest").symlink_to(run.name)
    monkeypatch.chdir(run.parent.parent)

    assert main(["check"]) == 0


@pytest.mark.parametrize("command", ["check", "report"])
@pytest.mark.parametrize("kind", ["missing", "file", "empty", "latest"])
def test_what_is_not_a_run_is_told_in_one_line_and_exits_2(
    command: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, whatever the path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()

    assert main([command] if kind == "latest" else [command, kind]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("loadgen")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"plan": 1}', '{"plan": {"skus": "many"}}', "\0"])
def test_a_plan_that_is_damaged_is_told_in_one_line(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged plan.json is never a traceback, and the run is never called valid."""
    (run / "plan.json").write_text(text)

    assert main(["check", str(run)]) in (2, 5)
    assert capsys.readouterr().err.count("\n") <= 1


def test_report_shows_the_stored_summary(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was stored is shown, not judged anew."""
    (run / "summary.json").write_text(json.dumps({"verdict": "invalid", "checks": []}))

    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.startswith("INVALID ")


def test_report_of_a_run_without_summary_says_how_to_get_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was killed can still be judged."""
    assert main(["report", str(run)]) == 2
    assert f"loadgen check {run}" in capsys.readouterr().err


def test_report_by_a_workload_file_judges_anew(broken_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the file finds is shown, not what was stored; without a summary, too."""
    file = str(installed_workloads()["flashsale"])
    assert main(["report", str(broken_run), "--workload", file]) == 0
    assert capsys.readouterr().out.startswith("INVALID ")
    store_summary(broken_run)

    assert main(["report", str(broken_run), "--workload", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["violations"]["lost-order"] == 1


@pytest.mark.parametrize("command", ["check", "report"])
def test_a_workload_file_of_another_run_or_none_is_told_in_one_line(
    command: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same words for both."""
    other = installed_workloads()["append"]
    for file, words in ((other, "the file holds append"), (run / "none.py", "there is no such workload file")):
        assert main([command, str(run), "--workload", str(file)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_list_has_a_line_for_every_run_also_for_broken_ones(
    run: Path, broken_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged run directory is listed as such."""
    store_summary(run)
    (broken_run / "summary.json").write_text("{")
    (run.parent / "empty").mkdir()
    (run.parent / "strange").mkdir()
    (run.parent / "strange" / "plan.json").write_text('{"plan": []}')
    (run.parent / "refused" / "logs").mkdir(parents=True)
    (run.parent / "latest").symlink_to(run.name)

    assert main(["list", str(run.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    first = lines[1].split()
    assert first[:2] == ["2025-01-01", "00:00:00"]
    assert "PostgreSQL 18.6" in lines[1]
    assert first[-7:] == ["invalid", "3", "1,200", "12.5", "0.7", "3.0", str(run)]
    assert sum("broken" in line for line in lines) == 3
    assert sum("not started" in line and "logs tells why" in line for line in lines) == 1


def test_list_as_markdown_has_a_row_for_each_run_that_is_named(
    run: Path, broken_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table for a README: runs by name, what the nodes promise each other, and nobody's directories."""
    store_summary(run)
    plan = json.loads((run / "plan.json").read_text())
    plan["cluster"] |= {"nodes": 2, "replication": {"kind": "primary and standby, asynchronous: the last are lost"}}
    (run / "plan.json").write_text(json.dumps(plan))

    assert main(["list", "--markdown", str(run), str(broken_run)]) == 0
    head, rule, first, second = capsys.readouterr().out.splitlines()
    assert [line.count("|") for line in (head, rule, first, second)] == [13] * 4
    assert first == (
        "| 2025-01-01 00:00:00 | PostgreSQL 18.6 | embedded, 2 nodes: primary and standby, asynchronous "
        "| flashsale | atomic | read committed | invalid | 3 | 1,200 | 12.5 | 0.7 | 3.0 |"
    )
    assert "unfinished" in second


@pytest.mark.parametrize(
    ("title", "edition", "shown"),
    [
        ("TiDB", "unistore", "unistore 8.5 (TiDB's dialect)"),
        ("TiDB", "tikv", "TiDB 8.5 (tikv)"),
        ("OceanBase", "seekdb", "seekdb 8.5 (OceanBase's dialect)"),
        ("OceanBase", "oceanbase-ce", "OceanBase 8.5 (oceanbase-ce)"),
    ],
)
def test_list_names_the_edition(
    title: str, edition: str, shown: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No figure of a lesser edition stands beside the whole's name."""
    plan = json.loads((run / "plan.json").read_text())
    plan["engine"] |= {"title": title, "edition": edition, "version": "8.5"}
    (run / "plan.json").write_text(json.dumps(plan))

    assert main(["list", str(run)]) == 0
    assert f"  {shown}  " in capsys.readouterr().out


def test_list_of_a_directory_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is not an error; a directory that is not there is one."""
    assert main(["list", str(tmp_path)]) == 0
    assert main(["list", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["check"], ["report"], ["list"]])
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])

    assert ended.value.code == 0
    assert "loadgen" in capsys.readouterr().out


VALID = {"verdict": "valid", "checks": [{"name": "oversell", "verdict": "valid", "anomalies": 0}]}
READERS = ["check RUN", "report RUN", "list RUNS", "list --json RUNS", "--help", "check --help", "options", "doctor"]
READERS += ["run", "--version", "check nowhere 2>&1"]


@pytest.mark.parametrize("command", READERS)
def test_a_reader_that_goes_away_is_no_traceback(command: str, run: Path) -> None:
    """``loadgen check | head -1`` ends quietly, whatever it prints, and wherever."""
    (run / "summary.json").write_text(json.dumps({**VALID, "acknowledged": 1}))
    words = command.replace("RUNS", str(run.parent)).replace("RUN", str(run))
    shell = f"{sys.executable} -m loadgen {words} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)

    assert ended.stderr == ""
    assert ended.returncode in (0, 2, 141)


def test_a_terminal_without_utf_8_gets_other_signs(run: Path) -> None:
    """The report is readable in any encoding, and what holds is not a question mark."""
    ended = subprocess.run(
        [sys.executable, "-m", "loadgen", "check", str(run)],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(b"VALID ")
    assert b"+ oversell" in ended.stdout
    assert b"?" not in ended.stdout


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As installed."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert re.fullmatch(r"loadgen \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"acknowledged": 0}, 1, "valid, exit 1"),
        ({"acknowledged": 5, "died": ["worker-1"]}, 1, "valid, exit 1"),
        ({"acknowledged": 5, "slo": [{"text": "x", "met": False}]}, 3, "valid, exit 3: an objective was missed"),
        ({"acknowledged": 5, "slo": [{"text": "x", "met": True}]}, 0, "valid "),
        ({"verdict": "invalid"}, 4, "invalid"),
        ({"verdict": "unknown"}, 5, "unknown"),
    ],
)
def test_list_tells_the_exit_codes_apart(
    changes: dict[str, Any], code: int, told: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A valid run that ended with 1 or 3 is not listed like one that ended with 0; as JSON the code is there."""
    (run / "summary.json").write_text(json.dumps({**VALID, **changes}))

    assert main(["list", str(run)]) == 0
    assert told in capsys.readouterr().out
    assert main(["list", "--json", str(run)]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["exit_code"], record["run"]) == (code, str(run))


def test_list_as_json_has_a_record_for_broken_runs_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And an empty list for no runs."""
    store_summary(run)
    (run.parent / "strange").mkdir()
    (run.parent / "strange" / "plan.json").write_text("{")
    (run.parent / "void").mkdir()
    assert main(["list", "--json", str(run.parent)]) == 0
    good, broken, _ = json.loads(capsys.readouterr().out)
    assert (good["orders"], good["p99_ms"], good["violations"]) == (1200, 3.0, 3)
    assert (broken["verdict"], broken["exit_code"]) == ("broken", None)
    assert main(["list", "--json", str(run.parent / "void" / "..")]) == 0


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_list_leaves_columns_out_where_there_is_no_room(
    columns: int, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays fits, and the verdict stays."""
    store_summary(run)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.chdir(run.parent.parent)

    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "verdict" in lines[0]
    assert max(map(len, lines)) <= max(columns, 90)


def test_run_becomes_locust_on_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is found beside the package or inside it, and the options go on."""
    started: list[list[str]] = []

    def note(_: str, words: list[str]) -> NoReturn:
        started.append(words)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", note)
    with pytest.raises(SystemExit):
        main(["run", "append", "--headless", "-t", "5s"])

    (words,) = started
    assert words[1:4] == ["-m", "locust", "-f"]
    assert Path(words[4]).name == "append.py"
    assert words[5:] == ["--headless", "-t", "5s"]


@pytest.mark.parametrize("name", ["nothing", "../loadgen/cli", "flashsale.py", "__init__"])
def test_run_of_no_workload_names_those_that_there_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A path is none."""
    assert main(["run", name]) == 2
    assert "flashsale" in capsys.readouterr().err
