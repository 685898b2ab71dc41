"""``loadgen run`` and ``loadgen workloads``: workloads by name or by file, without importing any of them."""

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from loadgen.commands import run
from loadgen.commands.main import main

EXPECTED = ["append", "bank", "flashsale", "longfork", "register"]


def started_by(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line that ``loadgen run`` becomes."""
    started: list[list[str]] = []

    def note(_: str, words: list[str]) -> NoReturn:
        started.append(words)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", note)
    with pytest.raises(SystemExit):
        main(["run", *words])
    return started[0]


def test_workloads_has_a_line_for_each_with_its_text_and_file(capsys: pytest.CaptureFixture[str]) -> None:
    """The first sentence of each file, and where the file is."""
    assert main(["workloads"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert {line.split()[0] for line in lines} >= set(EXPECTED)
    assert all(Path(line.split()[-1]).is_file() for line in lines)
    assert any("many shoppers" in line for line in lines)


def test_workloads_are_listed_without_being_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that would end the process, one without a docstring, one that is no Python, and one with an escape."""
    (tmp_path / "ends.py").write_text('"""Ends all. Really."""\nraise SystemExit(9)\n')
    (tmp_path / "silent.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def (\n")
    (tmp_path / "hostile.py").write_text('"""A \\x1b[2J text."""\n')
    (tmp_path / "_helper.py").write_text("")
    monkeypatch.setattr(run, "WORKLOADS", (tmp_path, tmp_path / "missing"))

    assert main(["workloads"]) == 0
    out = capsys.readouterr().out
    texts = [line.removesuffix(str(tmp_path / f"{line.split()[0]}.py")).strip() for line in out.splitlines()]
    assert texts == ["broken   (cannot be read)", "ends     Ends all", "hostile  A \\x1b[2J text", "silent"]


def test_an_installation_without_workloads_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line."""
    monkeypatch.setattr(run, "WORKLOADS", (tmp_path,))

    assert main(["workloads"]) == 2
    assert main(["run", "flashsale"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_run_takes_a_file_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anywhere, by its path."""
    file = tmp_path / "tickets.py"
    file.write_text("")

    assert started_by([str(file), "--headless"], monkeypatch)[1:] == ["-m", "locust", "-f", str(file), "--headless"]


def test_run_passes_help_and_any_option_on_to_locust(monkeypatch: pytest.MonkeyPatch) -> None:
    """``loadgen run flashsale --help`` is Locust's."""
    assert started_by(["flashsale", "--help"], monkeypatch)[5:] == ["--help"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "loadgen workloads"),
        (["./missing.py"], "there is no such file"),
        (["--headless", "flashsale"], "before the options"),
    ],
)
def test_run_of_what_is_no_workload_is_one_line_that_helps(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each by its reason."""
    assert main(["run", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and "flashsale" in told and told.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_run_without_a_workload_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And names what there is."""
    assert main(["run", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: loadgen run WORKLOAD") and all(name in out for name in EXPECTED)


def test_commands_that_list_workloads_load_nothing_heavy() -> None:
    """Neither numpy nor Locust: the list is there at once."""
    code = "import sys\nfrom loadgen.commands.main import main\nmain(['workloads'])\n"
    code += (
        "print(' '.join(name for name in ('numpy', 'pyarrow', 'pandas', 'locust', 'gevent') if name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines()[-1] == ""
