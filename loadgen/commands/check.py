"""``loadgen check``: judge a stored run again, or other tools' histories, without a database."""

import argparse
from pathlib import Path

from loadgen.commands.report import add_workload_argument, judged, show
from loadgen.errors import StoreError
from loadgen.history.run_directory import LATEST, RUNS, find_run

CHECK_HELP = """\
The checks run on the stored history and print the same summary as the run did. The files of the run do not change.

exit codes:
  0  valid, and every objective is met        3  an objective (--slo) was missed
  1  no op was acknowledged, a load process   4  a consistency violation is proved
     died, or loadgen failed                  5  the verdict is unknown
  2  not a run directory
If several apply, the first of 4, 5, 1, 3 is returned.

examples:
  loadgen check                                       the newest run
  loadgen check runs/20250101T000000Z-postgres-flashsale --json
  loadgen check runs/latest --model all               every model that its transactions rule out
  loadgen check history.edn --model serializable      a history of another tool, such as Jepsen
  loadgen check *.json --model all --json             one line for each file
"""


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``loadgen check``."""
    parser.description = "Judge a stored run again, without a database."
    parser.epilog = CHECK_HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "paths",
        metavar="RUN|FILE",
        nargs="*",
        type=Path,
        help="a run directory (default: runs/latest), or history files of other tools: Elle's operation maps as EDN or "
        "JSON, or text with a line r(k,v,session,txn) or w(...) for each operation",
    )
    parser.add_argument(
        "--model",
        help="the consistency model to judge by, such as serializable or snapshot-isolation, or 'all' (default: what "
        "the engine documents; for files: strict-serializable)",
    )
    parser.add_argument("--kind", help="the kind of operations: list-append, rw-register, bank, long-fork or set")
    parser.add_argument(
        "--time-limit", type=float, default=60.0, help="seconds for one history; after that it is unknown (default: 60)"
    )
    add_workload_argument(parser)
    parser.add_argument(
        "--trust-workload",
        action="store_true",
        help="if the workload is not installed, run the copy of its file in the run directory. Use it only on "
        "runs that you trust",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, with the keys of summary.json")
    parser.set_defaults(command=check)


def check(options: argparse.Namespace) -> int:
    """Judge a stored history again and print the summary; with a model, or of other tools' files, their isolation."""
    runs = options.paths or [RUNS / LATEST]
    if options.model or options.kind or len(runs) > 1 or _foreign(runs[0]):
        from loadgen.commands.check_files import check_files

        return check_files(runs, options.model, options.kind, options.json, options.time_limit)
    from loadgen.judge.judge import exit_code

    run = find_run(runs[0])
    summary = judged(run, options.workload, trust=options.trust_workload)
    show(options, run, summary)
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
