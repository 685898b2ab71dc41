"""The command ``loadgen anomalies``: the probes run one after another, and the matrix of what they found."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadgen.campaign.anomalies_matrix import ProbeRun, read_probe, render, rows_of, to_json, told
from loadgen.dsn import given_dsn
from loadgen.errors import ClusterError, PlanError, StoreError
from loadgen.history.run_directory import RUNS, store_matrix, utc_text
from loadgen.plan import ENGINES, MAX_DURATION_S, engines_asked, parse_duration, parse_isolation
from loadgen.probes.finals import PROBES
from loadgen.verdict import Verdict
from loadgen.workload.probes import STRATEGIES

EXIT_BROKEN, EXIT_UNKNOWN, EXIT_INTERRUPTED = 4, 5, 130
TRIED = {
    "append": ("naive", "pessimistic"),
    "register": ("naive", "pessimistic"),
    "bank": ("naive", "pessimistic", "atomic"),
    "longfork": ("naive",),
}
"""The strategies that make a difference to each probe: plain reads, locking reads, and changes in the database."""
LOAD = ("--headless", "--shape", "closed", "--users", "16", "--skus", "4")
"""So few rows, and so many sessions, that transactions meet: two cores found every anomaly so within seconds."""
OVERHEAD_S = 300.0
"""How long a run may take beyond its load: to start a server, to read the tables and to judge."""
END_WITHIN_S = 60.0
"""How long a run may take to judge its work after it was asked to end."""
DESCRIPTION = (
    "Measure how often each anomaly happens: the probes on each engine, level and strategy, per million transactions."
)
EPILOG = """\
Each cell is a separate run of a few seconds on its own server. Each run leaves its run directory in runs/. Ctrl-C ends
the current run, and the matrix shows the finished ones. The matrix is stored as JSON and as Markdown, with a witness of
each cell. If run directories are named, nothing is run.

exit codes:
  0  all runs judged     4  an anomaly happened that the engine documents as impossible at that level
  2  cannot be run       5  a run could not be made or judged
If both apply, 4 is returned. After Ctrl-C without a violation, the exit code is 130.

examples:
  loadgen anomalies                                           every engine that can be started here; takes minutes
  loadgen anomalies --engine mysql --isolation 'repeatable read' --workload register
  loadgen anomalies --engine oceanbase --dsn mysql://root@127.0.0.1:2881/ --duration 60s
  loadgen anomalies runs/*-register                           the matrix of existing runs
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run to make."""

    engine: str
    level: str
    workload: str
    strategy: str

    def __str__(self) -> str:
        return f"{self.engine}, {self.level}, {self.workload}, {self.strategy}"


def add_anomalies_arguments(sub: argparse.ArgumentParser) -> None:
    """Fill the parser of the command."""
    sub.description, sub.epilog = DESCRIPTION, EPILOG
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.add_argument(
        "runs", metavar="RUN", nargs="*", type=Path, help="existing runs of probes to make the matrix from"
    )
    sub.add_argument("--engine", action="append", choices=ENGINES, help="an engine; may be repeated (default: all)")
    sub.add_argument(
        "--dsn", default="", help="an existing server (default: LOADGEN_DSN; without it, each run starts one)"
    )
    sub.add_argument(
        "--isolation", default="", metavar="LEVEL", help="only this level (default: all levels of the engine)"
    )
    sub.add_argument("--workload", action="append", choices=PROBES, help="a probe; may be repeated (default: all)")
    sub.add_argument(
        "--strategy", action="append", choices=STRATEGIES, help="a strategy; may be repeated (default: all)"
    )
    sub.add_argument("--duration", default="5s", help="how long each run generates load (default: 5s)")
    sub.add_argument(
        "--json", type=Path, metavar="FILE", help="where to store the result (default: runs/<utc>-anomalies.json)"
    )
    sub.add_argument("--witnesses", action="store_true", help="print a witness of each cell")
    sub.set_defaults(command=anomalies)


def anomalies(options: argparse.Namespace) -> int:
    """Run the probes, or read the runs given, print the matrix and store it; the exit code.

    Raises PlanError, ClusterError and StoreError.
    """
    wall_s = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_s))
    found: list[ProbeRun] = []
    cut_short = 0
    try:
        # Taken one by one: what was done stays, whatever ends it.
        found.extend(map(read_probe, options.runs) if options.runs else _driven(options, stamp))
    except KeyboardInterrupt:
        cut_short = EXIT_INTERRUPTED
    except ClusterError as error:
        if not found:
            raise
        _say(f"cut short: {error}")
        cut_short = EXIT_UNKNOWN
    if not found:
        raise ClusterError("no run was made, so there is nothing to show")
    rows = rows_of(found)
    sys.stdout.write(render(rows, witnesses=options.witnesses))
    path = options.json or RUNS / f"{stamp}-anomalies.json"
    store_matrix(path, to_json(rows, utc_text(wall_s)), render(rows, witnesses=True))
    _say(f"stored in {path} and {path.with_suffix('.md').name}")
    code = exit_code(found)
    return code if code == EXIT_BROKEN else cut_short or code


def exit_code(runs: Sequence[ProbeRun]) -> int:
    """4 if a documented promise was broken, 5 if a run could not be judged, else 0."""
    if any(run.forbidden for run in runs):
        return EXIT_BROKEN
    return EXIT_UNKNOWN if any(run.verdict == Verdict.UNKNOWN for run in runs) else 0


def trials_of(engine: str, isolation: str, workloads: Sequence[str], strategies: Sequence[str]) -> list[Trial]:
    """What to run on ``engine``: every level, or one, by every probe, or some, in the strategies that matter to it.

    Raises PlanError for a level that the engine does not have, and where no probe knows the strategies.
    """
    from loadgen.engines import engine_of
    from loadgen.engines.engine import level_of

    dialect = engine_of(engine)
    levels = [level_of(dialect, isolation).name] if isolation else list(dialect.levels)
    trials = [
        Trial(engine, level, workload, strategy)
        for level in levels
        for workload in workloads or PROBES
        for strategy in TRIED[workload]
        if not strategies or strategy in strategies
    ]
    if not trials:
        raise PlanError(f"--strategy {', '.join(strategies)} makes no difference to these probes")
    return trials


def _driven(options: argparse.Namespace, stamp: str) -> Iterator[ProbeRun]:
    """Every run that was asked for, in turn. An engine that cannot be started is left out if none is named."""
    duration_s = parse_duration(options.duration, "duration", MAX_DURATION_S)
    isolation = parse_isolation(options.isolation)
    dsn = given_dsn(options.dsn, os.environ)
    engines = list(dict.fromkeys(engines_asked(options.engine, dsn, os.environ)))
    plan: list[Trial] = []
    for engine in engines:
        try:
            plan += trials_of(engine, isolation, options.workload or (), options.strategy or ())
        except PlanError as error:
            if options.engine or dsn:
                raise
            _say(f"{engine} is left out: {error}")
    # Whoever asks us to end means the run too, which is told to and judged.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    left_out: set[str] = set()
    for number, trial in enumerate(plan, 1):
        if trial.engine in left_out:
            continue
        directory = RUNS / f"{stamp}-{trial.engine}-{trial.workload}-{trial.level.replace(' ', '-')}-{trial.strategy}"
        try:
            run, interrupted = drive(trial, duration_s, dsn, directory)
        except ClusterError as error:
            if options.engine or dsn:
                raise
            left_out.add(trial.engine)
            _say(f"{trial.engine} is left out: {error}")
            continue
        found = ", ".join(f"{name} {run.anomalies[name]:,}" for name in told(run.anomalies)) or "no anomaly"
        _say(f"[{number}/{len(plan)}] {trial}: {run.transactions:,} transactions, {found}")
        yield run
        if interrupted:
            raise KeyboardInterrupt


def drive(trial: Trial, duration_s: float, dsn: str, directory: Path) -> tuple[ProbeRun, bool]:
    """Make one run, in a process of its own; what it found, and whether Ctrl-C ended it.

    Raises ClusterError if it left nothing that could be read, KeyboardInterrupt if Ctrl-C was why.
    """
    command = [
        *(sys.executable, "-m", "locust", "-f", str(locustfile(trial.workload)), *LOAD),
        *("--engine", trial.engine, "--isolation", trial.level, "--strategy", trial.strategy),
        *("--duration", f"{duration_s}s", "--run-dir", str(directory)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOADGEN_DSN", "LOCUST_"))}
    if dsn:
        environment["LOADGEN_DSN"] = dsn  # never on a command line: it may hold a password
    # A session of its own, so that Ctrl-C on the terminal reaches the run once, from here.
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        errors, interrupted = _ended(child, duration_s + OVERHEAD_S)
    try:
        return read_probe(directory), interrupted
    except StoreError as error:
        if interrupted:
            raise KeyboardInterrupt from None
        with contextlib.suppress(OSError):
            directory.rmdir()  # empty, where nothing was started
        lines = [line for line in errors.splitlines() if line.startswith("loadgen: ")] or [f"loadgen: {error}"]
        raise ClusterError(f"{trial}: {lines[-1].removeprefix('loadgen: ')}") from None


def _ended(child: "subprocess.Popen[str]", within_s: float) -> tuple[str, bool]:
    """What the run printed when it ended, and whether Ctrl-C ended it. A run that takes too long is ended too."""
    interrupted = False
    for wait_s in (within_s, END_WITHIN_S):
        try:
            return child.communicate(timeout=wait_s)[1], interrupted
        except KeyboardInterrupt:
            interrupted = True
        except subprocess.TimeoutExpired:
            pass
        child.terminate()  # it judges what it did
    child.kill()
    return child.communicate()[1], interrupted


def locustfile(workload: str) -> Path:
    """The probe's file: beside the package in a checkout, inside it in a wheel. Raises ClusterError without."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "workloads", package.parent / "workloads"):
        if (folder / f"{workload}.py").is_file():
            return folder / f"{workload}.py"
    raise ClusterError(f"this installation of loadgen has no workloads (looked beside and in {package})")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
