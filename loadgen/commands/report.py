"""``loadgen report``: print the summary of a run as it was stored."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.run_directory import LATEST, RUNS, RunDirectory, find_run, read_json, read_plan
from loadgen.report.page import coloured, columns
from loadgen.report.stored import read_summary
from loadgen.report.terminal import render


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``loadgen report``."""
    parser.description = "Print the stored summary of a run."
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, default=RUNS / LATEST, help="a run directory (default: runs/latest)"
    )
    add_workload_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, with the keys of summary.json")
    parser.set_defaults(command=report)


def add_workload_argument(parser: argparse.ArgumentParser) -> None:
    """``--workload``, which is the same for all who judge a stored run."""
    parser.add_argument(
        "--workload", metavar="FILE", type=Path, help="judge the run by this workload file, not by the installed one"
    )


def report(options: argparse.Namespace) -> int:
    """Print the stored summary; with a workload file, what that file finds."""
    run = find_run(options.run)
    if options.workload:
        show(options, run, judged(run, options.workload))
        return 0
    if not run.summary.exists():
        raise StoreError(
            f"{run.path} has no summary. It is still running or was killed. To judge it: loadgen check {run.path}"
        )
    show(options, run, read_summary(run.summary))
    return 0


def judged(run: RunDirectory, file: Path | None, *, trust: bool = False) -> dict[str, Any]:
    """The summary of a stored run, judged again; see ``judge.judge``. Raises StoreError and PlanError."""
    from loadgen.judge.judge import judge
    from loadgen.workload.loading import load_workload

    summary = judge(run.path, load_workload(file) if file else None, trust=trust)
    if run.summary.exists():
        # What only the run itself could know.
        stored = read_json(run.summary)
        summary |= {name: stored[name] for name in ("kept",) if name in stored}
    return summary


def show(options: argparse.Namespace, run: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Print ``summary``: as JSON, or as text for a person. Raises StoreError."""
    if options.json:
        print(json.dumps(summary, indent=2, default=_plain))
        return
    plan_facts = read_plan(run.plan) if run.plan.exists() else {}
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
