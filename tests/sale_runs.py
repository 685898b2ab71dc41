"""Real runs of the sale for tests: ``locust -f workloads/flashsale.py`` as a process, bounded, and what it left."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from loadgen.clusters.binaries import SERVER_BINARIES
from loadgen.engines.engine import Address
from loadgen.history.history import read_history
from loadgen.shop.sale import CHECKS, KIND_NAMES, State

ROOT = Path(__file__).resolve().parents[1]
LOCUSTFILE = ROOT / "workloads" / "flashsale.py"
START_WITHIN_S = 60.0
"""How long a run may take to its first arrival on a busy machine."""
END_WITHIN_S = 90.0
"""How long a run of a few seconds may take in all on a busy machine."""
POLL_S = 0.02
FORGOTTEN = ("LOADGEN_", "LOCUST_", "PG", "MYSQL_", "COLUMNS")
"""Variables that begin so would change what a run does: none of the caller's reach it,"""
KEPT = ("LOADGEN_CACHE", *(server.variable for server in SERVER_BINARIES.values()))
"""but for those that say where the servers' programs are."""

PRESSURE = ("--skew", "one-hot", "--shape", "closed", "-u", "32", "--isolation", "read committed")
"""Everybody wants the same SKU, and each session orders again at once."""
STABLE_KEYS = {
    *("verdict", "complete", "started_utc", "duration_s", "engine", "orders", "response_time_ms", "service_time_ms"),
    *("undersell", "errors", "violations", "checks", "slo", "client", "warnings", "seed"),
}
ORDER_KEYS = {
    *("due", "started", "ok", "placed", "sold_out", "limited", "fail", "info", "skipped"),
    *("per_second_mean", "per_second_peak"),
}
TIME_KINDS = {"order", "order_refused", "pay", "cancel", "release", "browse"}


@dataclass(frozen=True)
class EndedRun:
    """What a run left: ``directory`` is None where there is none, ``plan`` and ``summary`` are empty then."""

    exit_code: int
    stdout: str
    stderr: str
    directory: Path | None
    plan: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"exit code {self.exit_code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    @property
    def told(self) -> str:
        """Everything that the run printed."""
        return self.stdout + self.stderr

    def check(self, name: str) -> Mapping[str, Any]:
        """One of the summary's checks."""
        return next(check for check in self.summary["checks"] if check["name"] == name)

    @property
    def found(self) -> set[str]:
        """The names of the checks that found something."""
        return {name for name, count in self.summary["violations"].items() if count}


class RunningSale:
    """A run that goes on in the background. Use ``sale`` to start one that cannot be left behind."""

    def __init__(
        self,
        cwd: Path,
        options: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        before_exec: Callable[[], None] | None = None,
        workload: str = "flashsale",
    ) -> None:
        self._cwd = cwd
        self._options = options
        inherited = {
            name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(FORGOTTEN)
        }

        def prepare() -> None:
            # A test suite may itself be a background job or run under nohup, whose children ignore these signals.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
            if before_exec is not None:
                before_exec()

        serial = len(list(cwd.glob("stdout-*")))
        self._stdout, self._stderr = cwd / f"stdout-{serial}", cwd / f"stderr-{serial}"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE.with_name(f"{workload}.py")), *options],
                cwd=cwd,
                env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=prepare,
            )

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has printed to standard error so far."""
        return self._stderr.read_text(errors="replace")

    @property
    def directory(self) -> Path | None:
        """Its run directory, once there is one."""
        if "--run-dir" in self._options:
            named = self._cwd / self._options[self._options.index("--run-dir") + 1]
            return named if named.is_dir() else None
        runs = self._cwd / "runs"
        made = sorted(
            (path for path in runs.glob("2*") if not path.is_symlink()), key=lambda path: path.stat().st_ctime
        )
        return made[-1] if made else None

    @property
    def plan(self) -> dict[str, Any]:
        """Its plan.json; empty while there is none."""
        return _json(self.directory, "plan.json")

    def wait_until(self, reached: Callable[[], object], what: str, within_s: float = START_WITHIN_S) -> None:
        """Return once ``reached`` answers true. Fails the test if the run ends before, or takes too long."""
        deadline = time.monotonic() + within_s
        while not reached():
            ended = self.process.poll()
            told = f"\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
            assert ended is None, f"the run ended with {ended} before {what}{told}"
            assert time.monotonic() < deadline, f"the run did not reach {what} within {within_s:g} s{told}"
            time.sleep(POLL_S)

    def wait_for_progress(self, second: int = 1) -> None:
        """Return once the line of progress of ``second`` is printed: the load goes on."""
        self.wait_until(lambda: self.progress_lines() >= second, f"second {second} of the load")

    def progress_lines(self) -> int:
        """How many lines of progress it has printed."""
        return len(re.findall(r"^ *\d+s due ", self.stdout, re.MULTILINE))

    def processes(self) -> list[psutil.Process]:
        """Every process that it has started so far, down to the servers'."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, within_s: float = END_WITHIN_S) -> EndedRun:
        """Wait for its end. Fails the test if that does not come within ``within_s``."""
        try:
            exit_code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            told = f"\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
            raise AssertionError(f"the run did not end within {within_s:g} s{told}") from None
        directory = self.directory
        plan, summary = _json(directory, "plan.json"), _json(directory, "summary.json")
        return EndedRun(exit_code, self.stdout, self.stderr, directory, plan, summary)

    def destroy(self) -> None:
        """End what is still there of it. The conductor ends by itself when its standard input does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def sale(cwd: Path, *options: str, **how: Any) -> Iterator[RunningSale]:
    """A run in the background in the directory ``cwd``, gone at the end of the block."""
    running = RunningSale(cwd, options, **how)
    try:
        yield running
    finally:
        running.destroy()


def run_sale(cwd: Path, *options: str, within_s: float = END_WITHIN_S, **how: Any) -> EndedRun:
    """Run the sale without Locust's page, from begin to end."""
    with sale(cwd, "--headless", *options, **how) as running:
        return running.end(within_s)


def assert_adds_up(run: EndedRun) -> None:
    """The accounting identities of a run, in its summary and against its history."""
    orders = run.summary["orders"]
    assert run.summary.keys() >= STABLE_KEYS
    assert orders.keys() >= ORDER_KEYS
    assert orders["due"] == orders["started"] + orders["skipped"]
    assert orders["started"] == orders["ok"] + orders["fail"] + orders["info"]
    assert orders["ok"] == orders["placed"] + orders["sold_out"] + orders["limited"]
    assert set(run.summary["violations"]) == set(CHECKS) == {check["name"] for check in run.summary["checks"]}
    for times in ("response_time_ms", "service_time_ms"):
        assert run.summary[times].keys() >= TIME_KINDS
        for kind in TIME_KINDS:
            assert run.summary[times][kind].keys() >= {"p50", "p90", "p99", "p999", "max", "count"}
    assert run.summary["response_time_ms"]["order"]["count"] == orders["placed"]
    assert run.summary["response_time_ms"]["order_refused"]["count"] == orders["sold_out"] + orders["limited"]
    assert run.directory is not None
    assert (run.directory / "seconds.csv").is_file()
    history = read_history(run.directory / "history")
    assert not history.problems
    completed = sum(int((process.ops["kind"] == KIND_NAMES.index("order")).sum()) for process in history.processes)
    assert completed == orders["due"]


def best_sellers_sold(run: EndedRun) -> int:
    """How many units of SKU 0, the one that everybody wants, live orders hold at the end, by the final reads."""
    assert run.directory is not None
    orders = read_history(run.directory / "history").final["orders"]
    live = (orders["state"] <= State.PAID) & (orders["sku_a"] == 0)
    return int(orders["qty_a"][live].sum())


def dsn_of(address: Address, engine: str, **changes: str) -> str:
    """The DSN of a server on a unix socket; ``changes`` are other values of ``user``, ``password``, ``database``."""
    parts = {"user": address.user, "password": address.password, "database": address.database, **changes}
    user = quote(parts["user"], safe="") + (f":{quote(parts['password'], safe='')}" if parts["password"] else "")
    socket = quote(address.socket, safe="")
    if engine == "postgres":
        return f"postgres://{user}@/{parts['database']}?host={socket}"
    return f"mysql://{user}@localhost/{parts['database']}?unix_socket={socket}"


def wait_gone(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those of ``processes`` that still run after ``within_s`` seconds; zombies have ended."""
    deadline = time.monotonic() + within_s
    while left := [process for process in processes if _runs(process)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(POLL_S)
    return []


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _json(directory: Path | None, name: str) -> dict[str, Any]:
    path = directory / name if directory is not None else None
    if path is None or not path.is_file():
        return {}
    value: dict[str, Any] = json.loads(path.read_text())
    return value
