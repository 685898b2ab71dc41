"""The command ``loadgen``: look at runs, and judge them again. Runs themselves are started by Locust.

Nothing here needs a database, Locust or pandas, and nothing writes into a run directory.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadgen.errors import LoadgenError, PlanError, StoreError
from loadgen.history.run_directory import LATEST, RUNS, RunDirectory, find_run, read_json, run_directories
from loadgen.report.listing import as_json, as_markdown, as_text, listing
from loadgen.report.page import coloured, columns, fit_streams, terminal_columns
from loadgen.report.stored import read_summary
from loadgen.report.terminal import render
from loadgen.untrusted import one_line

EXIT_USAGE = 2
LAZY_COMMANDS = {
    "options": ("loadgen.load.options", "add_options_arguments", "the options of a run, which Locust's --help lacks"),
    "doctor": ("loadgen.commands.doctor", "add_doctor_arguments", "what can run on this machine, and what to install"),
    "install": ("loadgen.clusters.install", "add_install_arguments", "get a server's program: mysql, tidb"),
    "up": ("loadgen.commands.standing", "add_up_arguments", "start a replicated cluster that stays"),
    "status": ("loadgen.commands.standing", "add_status_arguments", "show the clusters that stay"),
    "down": ("loadgen.commands.standing", "add_down_arguments", "remove them"),
    "clean": ("loadgen.commands.clean", "add_clean_arguments", "remove what runs left on a server"),
    "hermitage": ("loadgen.hermitage.command", "add_hermitage_arguments", "what each isolation level really prevents"),
    "anomalies": ("loadgen.campaign.anomalies", "add_anomalies_arguments", "how often each anomaly happens"),
    "export": ("loadgen.commands.export", "add_export_arguments", "write a run's history as Elle's operation maps"),
}
"""The commands whose code is imported only for them: module, what fills the parser, help."""
_PACKAGE = Path(__file__).resolve().parent.parent
WORKLOADS = (_PACKAGE / "workloads", _PACKAGE.parent / "workloads")
"""Where workloads are: inside the package of a wheel, beside it in a checkout."""
EXIT_PIPE_CLOSED = 141
"""What a shell reports for a process that SIGPIPE ended."""

TOP_HELP = """\
A run is made by Locust:

  locust -f workloads/flashsale.py                             Locust's web page
  locust -f workloads/flashsale.py --headless                  embedded PostgreSQL, about a minute
  locust -f workloads/flashsale.py --headless --engine oceanbase --strategy pessimistic --duration 90s
  loadgen options                                              every option of a run
  loadgen run flashsale --headless                             the same without a checkout, from the package

and leaves a directory runs/<utc>-<engine>-<workload>, which these commands read:

  loadgen list                     every run, one line each
  loadgen report                   the summary of the newest run, as it was printed at its end
  loadgen check runs/latest        judge the stored history again; no database is needed
  loadgen check --json | jq .violations
"""
CHECK_HELP = """\
The checks run on the stored history and print the same summary as the run did. The run's files stay as they are.

exit codes:
  0  valid, and every objective met           3  an objective (--slo) missed
  1  no op was acknowledged, a load process   4  consistency violated
     died, or an error of loadgen itself      5  verdict unknown
  2  not a run directory
4 beats 5 beats 1 beats 3.

examples:
  loadgen check                                       the newest run
  loadgen check runs/20250101T000000Z-postgres-flashsale --json
  loadgen check runs/latest --model all               which models its transactions rule out
  loadgen check history.edn --model serializable      another tool's history, such as Jepsen's
  loadgen check *.json --model all --json             one line a file
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    fit_streams()
    try:
        code = _command(words)
        sys.stdout.flush()
    except LoadgenError as error:
        return _complain(str(error))
    except BrokenPipeError:
        _leave_quietly()
        return EXIT_PIPE_CLOSED
    except OSError as error:
        # Of a file of the user's: a name that is too long, a directory without the right to look into it.
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130
    return code


def _command(words: Sequence[str]) -> int:
    if words[:1] == ["run"]:
        return run_workload(words[1:])
    try:
        options = _parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    except SystemExit:
        # Of --help and --version: what they printed may have no reader.
        sys.stdout.flush()
        raise
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _complain(text: str) -> int:
    try:
        print(f"loadgen: {one_line(text)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _leave_quietly()
    return EXIT_USAGE


def _leave_quietly() -> None:
    """Nobody reads any more; Python would complain again when it flushes at its exit."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_workload(words: Sequence[str]) -> int:
    """``loadgen run WORKLOAD [options]``: become ``locust -f`` on a workload that is installed. Raises LoadgenError."""
    known = sorted(path.stem for folder in WORKLOADS for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: loadgen run WORKLOAD [options of locust and of a run]\n\nworkloads: {', '.join(known)}")
        return 0
    for folder in WORKLOADS:
        file = folder / f"{words[0]}.py"
        if words[0] in known and file.is_file():
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, "-m", "locust", "-f", str(file), *words[1:]])
    raise PlanError(f"run {words[0]!r}: the workloads are {', '.join(known) or 'missing from this installation'}")


def check(options: argparse.Namespace) -> int:
    """Judge a stored history again and print the summary; with a model, or of other tools' files, their isolation."""
    runs = options.paths or [RUNS / LATEST]
    if options.model or options.kind or len(runs) > 1 or _foreign(runs[0]):
        from loadgen.commands.check_files import check_files

        return check_files(runs, options.model, options.kind, options.json, options.time_limit)
    from loadgen.judge.judge import exit_code, judge

    run = find_run(runs[0])
    summary = judge(run.path)
    if run.summary.exists():
        # What only the run itself could know.
        stored = read_json(run.summary)
        summary |= {name: stored[name] for name in ("kept",) if name in stored}
    _show(options, run, summary)
    return exit_code(summary)


def _foreign(path: Path) -> bool:
    """Whether ``path`` is no run, but a file, a store folder of Jepsen, or what the reader of files refuses by name."""
    try:
        if not path.is_dir():
            return path.exists()
        run = any((path / name).exists() for name in ("plan.json", "history"))
        return not run and any((path / name).exists() for name in ("history.edn", "test.jepsen", "latest/history.edn"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def report(options: argparse.Namespace) -> int:
    """Print the stored summary."""
    run = find_run(options.run)
    if not run.summary.exists():
        raise StoreError(
            f"{run.path} has no summary: the run goes on, or was killed; judge it: loadgen check {run.path}"
        )
    _show(options, run, read_summary(run.summary))
    return 0


def list_runs(options: argparse.Namespace) -> int:
    """Print one line for each run."""
    runs = [run for path in options.directories for run in _runs_in(path)]
    if not runs and not options.json:
        print(f"no runs in {', '.join(map(str, options.directories))}")
        return 0
    if options.markdown or not options.json:
        rows = listing(runs)
        print(
            as_markdown(rows) if options.markdown else as_text(rows, terminal_columns() if sys.stdout.isatty() else 0)
        )
    else:
        print(json.dumps(as_json(runs), indent=2))
    return 0


def _runs_in(path: Path) -> list[RunDirectory]:
    run = RunDirectory(path)
    return [run] if run.plan.exists() or run.history.is_dir() else run_directories(path)


def _show(options: argparse.Namespace, run: RunDirectory, summary: Mapping[str, Any]) -> None:
    if options.json:
        print(json.dumps(summary, indent=2, default=_plain))
        return
    plan_facts = read_json(run.plan) if run.plan.exists() else {}
    try:
        text = render(summary, plan_facts, run_dir=str(run.path), width=columns())
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
        # render takes any keys to be missing; values of other types are no run's.
        raise StoreError(
            f"{run.path}: its files hold values that no run wrote ({type(error).__name__}: {error})"
        ) from None
    wants_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(coloured(text) if wants_colour else text, end="")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="RUN|FILE",
        nargs="*",
        type=Path,
        help="a run directory (default: runs/latest), or histories of any tool: Elle's operation maps as EDN or JSON, "
        "plain r(k,v,session,txn) and w(...) lines",
    )
    parser.add_argument(
        "--model",
        help="the consistency model to judge by, such as serializable or snapshot-isolation, or 'all' "
        "(files: strict-serializable)",
    )
    parser.add_argument("--kind", help="what the operations are: list-append, rw-register, bank, long-fork or set")
    parser.add_argument(
        "--time-limit", type=float, default=60.0, help="seconds for one history; then it is unknown (60)"
    )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"loadgen {version('loadgen')}")
        parser.exit()


def _parser(named: str) -> argparse.ArgumentParser:
    """The parser. What starts servers is imported only for the command that is ``named``."""
    parser = argparse.ArgumentParser(
        prog="loadgen",
        description="Look at the runs of the load tester, and judge them again.",
        epilog=TOP_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command, help_text, epilog in (
        ("check", check, "judge a stored run again, without a database", CHECK_HELP),
        ("report", report, "print the summary of a run as it was stored", ""),
    ):
        sub = commands.add_parser(
            name, help=help_text, description=help_text, epilog=epilog, formatter_class=parser.formatter_class
        )
        if name == "check":
            _add_check_arguments(sub)
        else:
            sub.add_argument(
                "run", metavar="RUN", nargs="?", type=Path, default=RUNS / LATEST, help="a run directory (runs/latest)"
            )
        sub.add_argument("--json", action="store_true", help="print the summary as JSON, with the keys of summary.json")
        sub.set_defaults(command=command)
    sub = commands.add_parser("list", help="one line for each run", description="One line for each run, oldest first.")
    sub.add_argument(
        "directories", metavar="DIR", nargs="*", type=Path, default=[RUNS], help="where runs are, or a run (runs)"
    )
    sub.add_argument("--markdown", action="store_true", help="a Markdown table")
    sub.add_argument("--json", action="store_true", help="a JSON list, with each run's exit code")
    sub.set_defaults(command=list_runs)
    for name, (module, filler, help_text) in LAZY_COMMANDS.items():
        sub = commands.add_parser(name, help=help_text)
        if name == named:
            getattr(importlib.import_module(module), filler)(sub)
    return parser


if __name__ == "__main__":
    sys.exit(main())
