"""Where runs are put: never over another, and found again."""

import os
from pathlib import Path

import pytest

from loadgen.errors import PlanError, StoreError
from loadgen.history.run_directory import (
    RUNS,
    discard,
    find_run,
    make_run_directory,
    point_latest,
    run_directories,
    utc_text,
)
from tests.plans import sale_plan

WALL_S = 1_735_689_600.25


@pytest.fixture(autouse=True)
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made under the current directory."""
    monkeypatch.chdir(tmp_path)


def test_runs_of_one_second_get_directories_of_their_own() -> None:
    """Two runs never share a directory."""
    names = [make_run_directory(sale_plan(), WALL_S).path.name for _ in range(3)]

    assert names == [f"20250101T000000Z-postgres-flashsale{suffix}" for suffix in ("", "-2", "-3")]


def test_latest_points_at_the_newest_run_and_stays_when_moved(tmp_path: Path) -> None:
    """The link is relative: the whole of runs/ can be moved."""
    first, second = make_run_directory(sale_plan(), WALL_S), make_run_directory(sale_plan(), WALL_S)
    assert point_latest(first) == ""
    assert point_latest(second) == ""

    assert (RUNS / "latest").readlink() == Path(second.path.name)
    assert [run.path.name for run in run_directories(RUNS)] == [first.path.name, second.path.name]


def test_a_directory_in_the_place_of_latest_is_left_alone() -> None:
    """It is the user's, and no reason not to run."""
    (RUNS / "latest").mkdir(parents=True)
    (RUNS / "latest" / "file").write_text("mine")

    assert "could not be pointed" in point_latest(make_run_directory(sale_plan(), WALL_S))
    assert (RUNS / "latest" / "file").read_text() == "mine"


def test_a_named_directory_is_the_run_itself_and_the_latest(tmp_path: Path) -> None:
    """``--run-dir DIR`` is DIR, new or empty."""
    (tmp_path / "empty").mkdir()
    for name in ("new/deep", "empty"):
        run = make_run_directory(sale_plan(run_dir=name), WALL_S)
        assert run.path == tmp_path / name
        assert point_latest(run) == ""
        assert (RUNS / "latest").resolve() == run.path


@pytest.mark.parametrize("place", ["full", "file", "dangling"])
def test_a_named_directory_that_holds_something_is_refused(place: str, tmp_path: Path) -> None:
    """Nothing is ever written over."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")

    with pytest.raises(PlanError, match=place):
        make_run_directory(sale_plan(run_dir=place), WALL_S)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    """The message names it."""
    (tmp_path / "closed").mkdir(mode=0o500)

    with pytest.raises(PlanError, match="closed"):
        make_run_directory(sale_plan(run_dir="closed"), WALL_S)


def test_a_run_that_never_started_is_gone_but_a_named_directory_stays_empty() -> None:
    """The same command can be given again."""
    numbered, named = make_run_directory(sale_plan(), WALL_S), make_run_directory(sale_plan(run_dir="named"), WALL_S)
    discard(numbered, keep_itself=False, but_logs=True)
    discard(named, keep_itself=True, but_logs=True)

    assert not numbered.path.exists()
    assert list(named.path.iterdir()) == []


def test_a_run_that_never_started_keeps_what_its_server_said() -> None:
    """A server that would not start has told why in its log."""
    run = make_run_directory(sale_plan(), WALL_S)
    (run.logs / "postgres.log").write_text("FATAL: no")
    discard(run, keep_itself=False, but_logs=True)

    assert (run.logs / "postgres.log").exists()
    assert not run.reserve.exists()


def test_what_is_not_a_run_is_not_found(tmp_path: Path) -> None:
    """Each mistake has its own message."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, reason in (("file", "a file"), ("empty", "neither"), ("missing", "no such"), ("runs/latest", "no run")):
        with pytest.raises(StoreError, match=reason):
            find_run(Path(name))


def test_utc_text_has_milliseconds() -> None:
    """ISO 8601."""
    assert utc_text(WALL_S) == "2025-01-01T00:00:00.250Z"


@pytest.mark.parametrize("inside", [True, False])
def test_latest_points_at_a_run_that_lies_elsewhere(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """--run-dir: what ``loadgen check`` judges next is the newest run, wherever it is."""
    monkeypatch.chdir(tmp_path)
    where = tmp_path if inside else tmp_path_factory.mktemp("far")
    run = make_run_directory(sale_plan(run_dir=str(where / "out" / "mine")), WALL_S)

    assert point_latest(run) == ""
    assert (RUNS / "latest").resolve() == run.path.resolve()


def test_latest_of_a_run_elsewhere_needs_no_right_to_write_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said: nobody asked for it."""
    (tmp_path / "runs").write_text("a file")
    monkeypatch.chdir(tmp_path)

    assert point_latest(make_run_directory(sale_plan(run_dir=str(tmp_path / "mine")), WALL_S)) == ""
    assert (tmp_path / "runs").read_text() == "a file"
