"""The command ``loadgen``: its verbs, each in a file of its own that is imported only for it.

Nothing here needs a database, Locust or pandas, and nothing writes into a run directory.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from loadgen.databases import SERVER_BINARIES
from loadgen.errors import LoadgenError
from loadgen.report.page import fit_streams
from loadgen.untrusted import one_line

EXIT_USAGE = 2
COMMANDS = {
    "check": ("loadgen.commands.check", "add_check_arguments", "judge a stored run again, without a database"),
    "report": ("loadgen.commands.report", "add_report_arguments", "print the stored summary of a run"),
    "list": ("loadgen.commands.list_runs", "add_list_arguments", "list the runs, one line each"),
    "workloads": ("loadgen.commands.run", "add_workloads_arguments", "list the installed workloads, one line each"),
    "options": (
        "loadgen.load.options",
        "add_options_arguments",
        "list the options of a run (Locust's --help does not show them)",
    ),
    "doctor": (
        "loadgen.commands.doctor",
        "add_doctor_arguments",
        "show what can run on this machine, and what to install",
    ),
    "install": (
        "loadgen.clusters.install",
        "add_install_arguments",
        f"install a server program: {', '.join(SERVER_BINARIES)}",
    ),
    "up": ("loadgen.commands.standing", "add_up_arguments", "start a replicated cluster and leave it running"),
    "status": ("loadgen.commands.standing", "add_status_arguments", "show the clusters that 'up' started"),
    "down": ("loadgen.commands.standing", "add_down_arguments", "remove these clusters and their data"),
    "clean": ("loadgen.commands.clean", "add_clean_arguments", "remove the schema that runs left on a server"),
    "hermitage": (
        "loadgen.hermitage.command",
        "add_hermitage_arguments",
        "test which anomalies each isolation level prevents",
    ),
    "anomalies": ("loadgen.campaign.anomalies", "add_anomalies_arguments", "measure how often each anomaly happens"),
    "export": (
        "loadgen.commands.export",
        "add_export_arguments",
        "write a run in Elle's format, or as Parquet or CSV tables",
    ),
}
"""The commands, each imported only for itself: module, what fills the parser, help."""
EXIT_PIPE_CLOSED = 141
"""What a shell reports for a process that SIGPIPE ended."""

TOP_HELP = """\
Start a run with Locust, from a checkout:

  locust -f workloads/flashsale.py                             opens Locust's web page
  locust -f workloads/flashsale.py --headless                  embedded PostgreSQL, about a minute
  locust -f workloads/flashsale.py --headless --engine oceanbase --strategy pessimistic --duration 90s

or from the installed package:

  loadgen run flashsale --headless                             the same run
  loadgen workloads                                            all workloads
  loadgen options                                              all options of a run

A run writes the directory runs/<utc>-<engine>-<workload>. These commands read it:

  loadgen list                     all runs, one line each
  loadgen report                   the summary of the newest run
  loadgen check runs/latest        judge the stored history again, without a database
  loadgen check --json | jq .violations
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
        # Its words are Locust's: no parser of ours may read them.
        from loadgen.commands.run import run_workload

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
    """The reader is gone. Python would fail again when it flushes at its exit."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"loadgen {version('loadgen')}")
        parser.exit()


def _parser(named: str) -> argparse.ArgumentParser:
    """The parser. Only the command that is ``named`` is imported."""
    parser = argparse.ArgumentParser(
        prog="loadgen",
        description="Run workloads against a database, and judge and compare the stored runs.",
        epilog=TOP_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    commands.add_parser("run", help="run a workload (the same as locust -f)", add_help=False)
    for name, (module, filler, help_text) in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text)
        if name == named:
            getattr(importlib.import_module(module), filler)(sub)
    return parser


if __name__ == "__main__":
    sys.exit(main())
