"""The directory of one run: where it is made, what it holds, and how one is found again.

``runs/<utc>-<engine>-<workload>/`` under the current directory, with ``runs/latest`` pointing at the newest run, or
exactly the directory that ``--run-dir`` names.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.errors import PlanError, StoreError
from loadgen.plan import Plan
from loadgen.untrusted import read_json as read_json

RUN_FORMAT = 1
"""The version of the run directory, which plan.json has as its ``format``. Runs of older versions have none."""
RUNS = Path("runs")
LATEST = "latest"
NAME_TRIES = 1000
"""How many runs may start in the same second before we give up naming them apart."""
RESERVE_BYTES = 1 << 20
"""Room set aside while the load runs, so that a full disk still takes the summary."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The paths of one run's files."""

    path: Path

    @property
    def history(self) -> Path:
        """The history's streams."""
        return self.path / "history"

    @property
    def logs(self) -> Path:
        """Logs of the conductor and of the servers that it started."""
        return self.path / "logs"

    @property
    def plan(self) -> Path:
        """What was planned, resolved."""
        return self.path / "plan.json"

    @property
    def workload(self) -> Path:
        """A copy of the workload's file, whose SHA-256 is in plan.json."""
        return self.history / "workload.py"

    @property
    def load(self) -> Path:
        """What the load side said at its end."""
        return self.path / "load.json"

    @property
    def summary(self) -> Path:
        """The verdict and the figures."""
        return self.path / "summary.json"

    @property
    def seconds(self) -> Path:
        """One row for each second."""
        return self.path / "seconds.csv"

    @property
    def series(self) -> Path:
        """The counts and times of each second, made from the streams beside it."""
        return self.history / "series.arrow"

    @property
    def reserve(self) -> Path:
        """Room that is given back before the summary is written."""
        return self.path / ".reserve"


def make_run_directory(plan: Plan, wall_s: float) -> RunDirectory:
    """Make the directory of a run that starts at ``wall_s`` (seconds since the epoch), ready to be written to.

    Raises PlanError if ``--run-dir`` names something that is not new or empty, or if it cannot be written.
    """
    directory = Path(plan.run_dir).absolute() if plan.run_dir else RUNS.absolute()
    try:
        run = RunDirectory(_named(directory) if plan.run_dir else _numbered(directory, plan, wall_s))
        for made in (run.history, run.logs):
            made.mkdir()
        with run.reserve.open("xb") as reserve:
            reserve.write(bytes(RESERVE_BYTES))
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "choose another" if plan.run_dir else "name one with --run-dir"
        raise PlanError(
            f"the run directory {error.filename or directory} cannot be written: {reason}; {hint}"
        ) from error
    return run


def point_latest(run: RunDirectory) -> str:
    """Let ``runs/latest`` point at ``run``, in any directory. The reason if that fails, or an empty string.

    For a run in another directory, the link is created only if this directory is writable.
    """
    runs = RUNS.absolute()
    inside = run.path.parent == runs
    temporary = runs / f".{LATEST}-{os.getpid()}-{run.path.name}"
    try:
        if not inside:
            runs.mkdir(exist_ok=True)
        within = run.path.is_relative_to(runs.parent)
        temporary.symlink_to(run.path.name if inside else os.path.relpath(run.path, runs) if within else run.path)
        temporary.replace(runs / LATEST)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return f"{runs / LATEST} could not be pointed at this run: {error.strerror or error}" if inside else ""
    return ""


def discard(run: RunDirectory, *, keep_itself: bool, but_logs: bool) -> None:
    """Remove a run that never started; ``but_logs``: keep it if a server left logs in it that may say why."""
    told = [path for path in run.logs.glob("*") if path.name != "conductor.log"] if run.logs.is_dir() else []
    run.reserve.unlink(missing_ok=True)
    if but_logs and any(path.stat().st_size for path in told if path.is_file()):
        return
    if keep_itself:
        for directory in (run.history, run.logs):
            shutil.rmtree(directory, ignore_errors=True)
    else:
        shutil.rmtree(run.path, ignore_errors=True)


def store_matrix(path: Path, value: Any, markdown: str) -> None:
    """Write ``value`` as JSON to ``path`` and ``markdown`` beside it, each whole. Raises PlanError."""
    texts = {path: json.dumps(value, indent=1, ensure_ascii=False) + "\n", path.with_suffix(".md"): markdown}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, text in texts.items():
            temporary = target.with_name(target.name + ".partial")
            temporary.write_text(text)
            temporary.replace(target)
    except OSError as error:
        raise PlanError(f"{path} cannot be written: {error.strerror or error}") from error


def find_run(path: Path) -> RunDirectory:
    """The run in ``path``. Raises StoreError if it is not the directory of a run."""
    if not _there(path):
        hint = "no run has been made here" if path == RUNS / LATEST else "there is no such directory"
        raise StoreError(f"{path}: {hint}")
    if not path.is_dir():
        raise StoreError(f"{path} is not a run directory but a file")
    run = RunDirectory(path)
    if not run.plan.exists() and not run.history.is_dir():
        raise StoreError(f"{path} is not a run directory: it holds neither plan.json nor history/")
    return run


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def read_plan(path: Path) -> dict[str, Any]:
    """The contents of a run's plan.json. Raises StoreError if it can't be read, or if a later version made the run."""
    facts = read_json(path)
    told = facts.get("format", RUN_FORMAT)
    if type(told) is not int or told < 1:
        raise StoreError(f"{path}: its format is {str(told)[:40]!r}, which no run has")
    if told > RUN_FORMAT:
        raise StoreError(
            f"{path.parent} was made by a later version of loadgen: format {told}; this one reads up to {RUN_FORMAT}: "
            "use that version, or a newer one"
        )
    return facts


def run_directories(parent: Path) -> list[RunDirectory]:
    """Every directory in ``parent`` that is, or was to be, a run's, oldest first. Raises StoreError if unreadable."""
    try:
        children = sorted(child for child in parent.iterdir() if child.is_dir() and not child.is_symlink())
    except OSError as error:
        raise StoreError(f"{parent} cannot be listed: {error.strerror or error}") from error
    return [RunDirectory(child) for child in children if not child.name.startswith(".")]


def utc_text(wall_s: float) -> str:
    """``wall_s`` as ISO 8601 in UTC, to the millisecond."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_s)) + f".{int(wall_s * 1000) % 1000:03d}Z"


def _named(directory: Path) -> Path:
    if directory.is_symlink() or directory.exists():
        if not directory.is_dir():
            raise PlanError(f"--run-dir {directory} is a file, not a directory")
        if any(directory.iterdir()):
            raise PlanError(f"--run-dir {directory} is not empty: name a new or an empty directory")
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PlanError(f"--run-dir {directory} is not writable")
    return directory


def _numbered(runs: Path, plan: Plan, wall_s: float) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(wall_s))}-{plan.engine}-{plan.workload}"
    for number in range(1, NAME_TRIES):
        path = runs / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise PlanError(f"{runs} already holds {NAME_TRIES} runs of this second")


def new_run_id(name: str) -> str:
    """An id that no other run has, on any host. Run directories may have the same name."""
    return f"{re.sub(r'[^A-Za-z0-9.-]', '-', name)[:60]}-{secrets.token_hex(4)}"
