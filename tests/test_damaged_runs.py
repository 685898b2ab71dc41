"""Run directories from anywhere: whatever is in them, one line says what is wrong, and nothing is printed raw."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clusters.cluster import Cluster
from loadgen.commands.main import main
from loadgen.errors import StoreError
from loadgen.report.terminal import render
from loadgen.untrusted import one_line, printable, read_json, read_plain
from tests.stored import plan_facts, write_stored_run
from tests.trials import rotating_seed
from tests.trials.damage import DAMAGES, ESCAPE, STRANGE, make_seeds, play

TRIALS = 102
"""Of the long trial, tests/trials/damage.py: each damage a few times."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, postgres_cluster: Cluster) -> list[Path]:
    """Real runs of all five workloads."""
    return make_seeds(tmp_path_factory.mktemp("seeds"), postgres_cluster)


@pytest.mark.server
def test_damaged_run_directories_are_never_valid_and_never_a_traceback(seeds: list[Path], tmp_path: Path) -> None:
    """A sample of the long trial, another one each day."""
    names = list(DAMAGES)
    results = [
        play(names[index % len(names)], f"{rotating_seed()}/{index}", seeds, tmp_path) for index in range(TRIALS)
    ]

    assert [result for result in results if result.wrong] == []


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_printable_text_obeys_no_terminal_and_says_the_same(text: str) -> None:
    """Line ends stay; any other control character stands there as an escape; what is printable is as it was."""
    shown = printable(text)

    assert not any(
        ord(each) < 32 or 127 <= ord(each) < 160 or 0xD800 <= ord(each) < 0xE000 for each in shown.replace("\n", "")
    )
    assert printable(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text
    assert "\n" not in one_line(text)


@pytest.mark.parametrize("name", ["plan.json", "summary.json", "load.json"])
@pytest.mark.parametrize("command", ["check", "report", "list", "export"])
def test_escape_sequences_in_any_text_never_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    """Every text of a file is one that somebody else may have written."""
    run = write_stored_run(tmp_path / "runs" / "run")
    main(["check", str(run), "--json"])
    (run / "summary.json").write_text(capsys.readouterr().out)

    def spoiled(value: object) -> object:
        if isinstance(value, dict):
            return {key: spoiled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spoiled(inner) for inner in value]
        return value + ESCAPE if isinstance(value, str) and value not in ("valid", "flashsale", "double11") else value

    value = json.loads((run / name).read_text())
    plan = value.pop("plan", None) if name == "plan.json" else None
    (run / name).write_text(json.dumps(spoiled(value) | ({"plan": plan} if plan else {})))  # type: ignore[operator]
    main([command, str(run.parent if command == "list" else run)])
    told = capsys.readouterr()

    assert not any(each in told.out + told.err for each in ("\x1b", "\x07", "\u202e", "\x9b"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200_000, "nested too deep"),
        ('{"a":' * 200_000, "nested too deep"),
        ('{"a": NaN}', "NaN"),
        ('{"a": [1, -Infinity]}', "-Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "7" * 6_000 + "}", "digit"),
        ("[]", "does not hold a JSON object"),
        ("", "cannot be read"),
        ('{"a": "\x1b[2J"}', "cannot be read"),
    ],
)
def test_json_that_no_run_wrote_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    """Each by its reason."""
    path = tmp_path / "plan.json"
    path.write_text(text)

    with pytest.raises(StoreError, match=said) as refused:
        read_json(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["pipe", "directory", "/dev/zero", "/dev/tty", "loop", "huge", "missing"])
@pytest.mark.parametrize("command", ["check", "report"])
def test_what_is_no_plain_file_neither_hangs_nor_fills_the_memory(tmp_path: Path, command: str, place: str) -> None:
    """In the place of plan.json and of summary.json: refused in one line, at once."""
    run = write_stored_run(tmp_path / "run")
    for name in ("plan.json", "summary.json"):
        path = run / name
        path.unlink(missing_ok=True)
        if place == "pipe":
            os.mkfifo(path)
        elif place == "directory":
            path.mkdir()
        elif place == "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        elif place != "missing":
            path.symlink_to(path if place == "loop" else place)
    limited = f"ulimit -v 4000000; exec {sys.executable} -m loadgen.commands.main {command} {run}"
    ended = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and ended.stderr.startswith("loadgen: ")


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path: Path) -> None:
    """Not more than its bound is ever read."""
    (tmp_path / "file").write_bytes(b"x" * 100)

    assert read_plain(tmp_path / "file", 100) == b"x" * 100
    with pytest.raises(StoreError, match="more than a run writes"):
        read_plain(tmp_path / "file", 99)


@pytest.mark.parametrize("seed", range(60))
def test_a_report_of_wrong_types_is_refused_or_printed_and_never_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """Any value anywhere in summary.json and plan.json."""
    draw = random.Random(seed)
    run = write_stored_run(tmp_path / "run")
    main(["check", str(run), "--json"])
    summary = json.loads(capsys.readouterr().out)
    facts = plan_facts("run")
    for value in (summary, facts):
        for _ in range(draw.randrange(3)):
            container = value
            while True:
                keys = list(container) if isinstance(container, dict) else list(range(len(container)))
                key = draw.choice(keys)
                if not container[key] or not isinstance(container[key], dict | list) or draw.random() < 0.4:
                    break
                container = container[key]
            container[key] = draw.choice(STRANGE)
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "plan.json").write_text(json.dumps(facts))
    for command in (["report", str(run)], ["list", str(tmp_path)], ["check", str(run)]):
        assert main(command) in {0, 1, 2, 3, 4, 5}
    told = capsys.readouterr()

    assert "\x1b" not in told.out + told.err


def test_a_summary_that_contradicts_itself_is_not_reported_as_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by report nor by list."""
    run = write_stored_run(tmp_path / "runs" / "run")
    main(["check", str(run), "--json"])
    summary = json.loads(capsys.readouterr().out)
    for checks in ([], None, [{"name": "ghost", "verdict": "invalid", "anomalies": 1}]):
        (run / "summary.json").write_text(json.dumps(summary | {"checks": checks}))
        assert main(["report", str(run)]) == 2
        assert "contradicts itself" in capsys.readouterr().err
        main(["list", str(run.parent)])
        assert "broken" in capsys.readouterr().out


def test_a_report_without_any_key_is_printed() -> None:
    """What a broken run lacks is left out."""
    assert render({}, {}, run_dir=ESCAPE).isprintable() is False and "\x1b" not in render({}, {}, run_dir=ESCAPE)
