"""The statistical matrix: out of summaries as they stand, and out of runs on real servers."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.campaign import anomalies as command
from loadgen.campaign.anomalies import Trial, drive, exit_code, trials_of
from loadgen.campaign.anomalies_matrix import read_probe, render, rows_of
from loadgen.commands.main import main
from loadgen.errors import ClusterError, PlanError

DURATION_S = 3.0
SKEW, LOST = "G2-item", "lost-update"
PROVED: dict[tuple[str, str], tuple[set[str], set[str] | None]] = {
    ("postgres", "repeatable read"): ({SKEW}, {LOST, "G-single"}),
    ("postgres", "serializable"): (set(), None),
    ("mysql", "repeatable read"): ({SKEW, LOST}, {"G0", "G1a"}),
    ("mysql", "serializable"): (set(), None),
    ("tidb", "repeatable read"): ({SKEW, LOST}, {"G0", "G1a"}),
    ("tidb", "repeatable read optimistic"): ({SKEW}, {LOST, "G-single"}),
    ("oceanbase", "repeatable read"): ({SKEW}, {LOST, "G-single"}),
    ("oceanbase", "serializable"): ({SKEW}, {LOST, "G-single"}),
}
"""What registers show at each level: what must be found, and what must not be (None: nothing at all)."""


def _stored(directory: Path, workload: str, count: int, **changes: Any) -> Path:
    """A run's directory, with as much as the matrix reads of it."""
    engine = {"name": "mysql", "title": "MySQL", "version": "9.7.4", "edition": "community"}
    engine |= {"level": changes.get("level", "repeatable read"), "means": "monotonic-atomic-view"}
    plan = {"workload": workload, "strategy": changes.get("strategy", "naive")}
    checks = [{"name": name, "anomalies": 1, "witness": f"{name} broke"} for name in changes.get("broken", ())]
    summary = {
        "transactions": {"ok": 500_000},
        "checks": checks or [{"name": "isolation", "anomalies": 0, "witness": None}],
        "isolation": {
            "verdict": changes.get("verdict", "valid"),
            "anomalies": {LOST: count, SKEW: 1, "G2-item-realtime": 9},
            "beyond": {LOST: f"{workload} lost it", SKEW: "skewed"},
        },
    }
    directory.mkdir()
    (directory / "plan.json").write_text(json.dumps({"plan": plan, "engine": engine}))
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def test_runs_of_one_row_are_added_up(tmp_path: Path) -> None:
    """Counts and transactions of all probes make the rate, and each cell has a witness and its run."""
    paths = [_stored(tmp_path / "a", "append", 0), _stored(tmp_path / "r", "register", 3)]

    (row,) = rows_of(map(read_probe, paths))

    assert row.transactions == 1_000_000
    assert row.anomalies[LOST] == 3
    assert row.per_million(LOST) == 3.0
    assert row.witness(SKEW)[1].workload == "append"


def test_rows_stand_by_level_and_strategy(tmp_path: Path) -> None:
    """The weakest level and the most naive strategy first, whatever order the runs are given in."""
    wanted = [("read committed", "naive"), ("read committed", "atomic"), ("serializable", "naive")]
    paths = [
        _stored(tmp_path / str(place), "bank", 1, level=level, strategy=strategy)
        for place, (level, strategy) in enumerate(reversed(wanted))
    ]

    rows = rows_of(map(read_probe, paths))

    assert [(row.runs[0].level, row.runs[0].strategy) for row in rows] == wanted


def test_matrix_marks_a_broken_promise_and_leaves_out_real_time(tmp_path: Path) -> None:
    """What the engine documents as impossible has a mark and decides the exit code; so does what nobody could judge."""
    broken = read_probe(_stored(tmp_path / "b", "register", 2, broken=[LOST], verdict="invalid"))
    unsure = read_probe(_stored(tmp_path / "u", "append", 2, verdict="unknown", strategy="pessimistic"))

    text = render(rows_of([broken, unsure]), witnesses=True)

    assert "| 4 (2) !" in text
    assert "500,000 ?" in text
    assert "realtime" not in text
    assert "repeatable read, naive, lost-update: lost-update broke" in text
    assert [exit_code([broken, unsure]), exit_code([unsure])] == [4, 5]


def test_command_makes_the_matrix_of_runs_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is run, and both files hold what was printed."""
    stored = tmp_path / "matrix.json"

    code = main(["anomalies", str(_stored(tmp_path / "r", "register", 3)), "--json", str(stored)])

    (row,) = json.loads(stored.read_text())["rows"]
    assert code == 0
    assert row["anomalies"][LOST] == {
        "count": 3,
        "per_million": 6.0,
        "forbidden": False,
        "witness": "register lost it",
        "run": str(tmp_path / "r"),
    }
    assert "6 (3)" in capsys.readouterr().out
    assert "register lost it" in stored.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no such directory"),
        (["sale"], "is a run of flashsale, not of a probe"),
        (["broken"], "lacks what its plan.json and summary.json should hold"),
        (["--isolation", "serializable", "--engine", "tidb"], "TiDB does not have it"),
        (["--engine", "mysql", "--strategy", "bucketed"], "makes no difference to these probes"),
        (["--dsn", "mysql://h/", "--engine", "tidb", "--engine", "mysql"], "name one --engine"),
        (["--duration", "soon"], "is not a time"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 before anything runs."""
    monkeypatch.chdir(tmp_path)
    _stored(tmp_path / "sale", "flashsale", 1)
    _stored(tmp_path / "broken", "register", 1, level="chaos")

    code = main(["anomalies", *arguments])

    error = capsys.readouterr().err
    assert code == 2
    assert told in error
    assert len(error.splitlines()) == 1


def test_what_was_done_before_a_server_was_lost_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that cannot be read ends the matrix, not what it holds so far."""
    runs = iter([read_probe(_stored(tmp_path / "r", "register", 3))])

    def driven(*_: Any) -> tuple[Any, bool]:
        if (run := next(runs, None)) is None:
            raise ClusterError("the server is gone")
        return run, False

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "drive", driven)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)

    code = main(["anomalies", "--engine", "mysql"])

    told = capsys.readouterr()
    assert code == 5
    assert "6 (3)" in told.out
    assert "cut short: the server is gone" in told.err


def test_trials_are_every_level_by_every_probe() -> None:
    """A level that the engine lacks is refused, and only strategies that matter to a probe are tried."""
    trials = trials_of("tidb", "", ("bank", "longfork"), ())

    assert [trial.strategy for trial in trials if trial.level == "read committed"] == [
        *("naive", "pessimistic", "atomic"),
        "naive",
    ]
    assert {trial.level for trial in trials} == {"read committed", "repeatable read", "repeatable read optimistic"}
    with pytest.raises(PlanError, match="serializable"):
        trials_of("tidb", "serializable", (), ())


@pytest.mark.server
@pytest.mark.parametrize(("engine", "level"), PROVED)
def test_registers_show_what_a_level_really_keeps(engine: str, level: str, tmp_path: Path) -> None:
    """Write skew and lost updates where they are known to be, with witnesses, and nowhere else."""
    found, missing = PROVED[engine, level]

    run, _ = drive(Trial(engine, level, "register", "naive"), DURATION_S, "", tmp_path / "run")

    assert run.transactions > 100
    assert found <= set(run.anomalies)
    assert all(run.witnesses[name] for name in found)
    assert not (set(run.anomalies) & missing if missing is not None else run.anomalies), run.witnesses
    assert run.forbidden == frozenset()
