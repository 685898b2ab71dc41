"""``loadgen list``: one line for each run."""

import argparse
import json
import sys
from pathlib import Path

from loadgen.history.run_directory import RUNS, RunDirectory, run_directories
from loadgen.report.listing import as_json, as_markdown, as_text, listing
from loadgen.report.page import terminal_columns


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``loadgen list``."""
    parser.description = "List the runs, one line each, oldest first."
    parser.add_argument(
        "directories",
        metavar="DIR",
        nargs="*",
        type=Path,
        default=[RUNS],
        help="a directory of runs, or a run (default: runs)",
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", action="store_true", help="print a JSON list, with the exit code of each run")
    parser.set_defaults(command=list_runs)


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
