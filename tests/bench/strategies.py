"""Five strategies on each engine, at its default isolation and at read committed, everybody wanting the same SKU.

``python -m tests.bench.strategies --engine mysql``: embedded, closed, 32 sessions. The stock is for little
more than a thousand orders, as some are given back: orders/s are those up to the thousandth that was placed, undersell
is what was left. A run that places fewer is made again, longer; one that never does has its mean, and is marked.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.clock import NS_PER_S
from loadgen.engines import engine_of
from loadgen.history.history import read_history
from loadgen.op import Outcome
from loadgen.plan import ENGINES
from loadgen.report.edition import engine_title
from loadgen.shop.options import STRATEGIES
from loadgen.shop.sale import Answer, Kind
from tests.sale_runs import EndedRun, run_sale

CROWD = ("--skew", "one-hot", "--shape", "closed", "-u", "32")
EQUAL_LEVEL = "read committed"
WANTED = 1_000
STOCK = 1_000
FIRST_S, LONGEST_S = 8.0, 90.0
RUNS_A_CELL = 3
AROUND_A_RUN_S = 60.0
"""What starting, judging and stopping may take beside the load."""


def cells(engines: list[str]) -> Iterator[tuple[str, str, str]]:
    """Engine, level and strategy of each cell; a default that is read committed comes once."""
    for engine in engines:
        for level in dict.fromkeys((engine_of(engine).default_level, EQUAL_LEVEL)):
            yield from ((engine, level, strategy) for strategy in STRATEGIES)


def run_cell(place: Path, engine: str, level: str, strategy: str) -> dict[str, Any]:
    """One cell's figures, of the first run that placed enough orders or of the last one that was made."""
    duration_s = FIRST_S
    options = ("--engine", engine, "--strategy", strategy, "--isolation", level, *CROWD, "--stock", str(STOCK))
    for turn in range(RUNS_A_CELL):
        directory = place / f"{engine}-{level.replace(' ', '-')}-{strategy}-{turn}"
        directory.mkdir()
        run = run_sale(directory, *options, "--duration", f"{duration_s:g}s", within_s=duration_s + AROUND_A_RUN_S)
        if not run.summary.get("orders"):
            raise SystemExit(f"{engine}, {level}, {strategy}: {run}")
        placed = int(run.summary["orders"]["placed"])
        if placed >= WANTED or duration_s == LONGEST_S:
            break
        duration_s = min(LONGEST_S, duration_s * 2 * WANTED / max(placed, 1))
    return figures(run)


def figures(run: EndedRun) -> dict[str, Any]:
    """What a run shows: rate in placed orders a second, tries that failed, units left, and errors by code."""
    assert run.directory is not None
    (process,) = read_history(run.directory / "history").processes
    ops = process.ops
    placed = ops["done"][(ops["kind"] == Kind.ORDER) & (ops["answer"] == Answer.PLACED)]
    begin = int(ops["due"][ops["kind"] == Kind.ORDER].min())
    enough = len(placed) >= WANTED
    seconds = (int(np.sort(placed)[WANTED - 1]) - begin) / NS_PER_S if enough else run.summary["duration_s"]
    orders, undersell = run.summary["orders"], run.summary["undersell"]
    return {
        "engine": engine_title(run.plan["engine"]),
        "isolation": run.plan["engine"]["level"],
        "strategy": run.plan["plan"]["strategy"],
        "verdict": run.summary["verdict"],
        "orders_per_second": round(min(len(placed), WANTED) / seconds, 1),
        "placed": len(placed),
        "sold_out": orders["sold_out"],
        "failed_tries": int(np.count_nonzero(process.tries["outcome"] == Outcome.FAIL)),
        "fail": orders["fail"],
        "info": orders["info"],
        "undersell": undersell["units"],
        "p99_ms": run.summary["response_time_ms"]["order"]["p99"],
        "duration_s": run.summary["duration_s"],
        "violations": {name: count for name, count in run.summary["violations"].items() if count},
        "errors": {f"{error['code']} at {error['stage']}": error["count"] for error in run.summary["errors"]},
        "undersell_causes": {cause: units for cause, units in undersell["causes"].items() if units},
    }


def line(cell: dict[str, Any]) -> str:
    """A cell in words; ``<`` says that it placed fewer orders than were wanted."""
    few = "" if cell["placed"] >= WANTED else "<"
    told = {**cell["violations"], **cell["errors"], **cell["undersell_causes"]}
    return (
        f"{cell['engine']:<54} {cell['isolation']:<16} {cell['strategy']:<12} {cell['verdict']:<8}"
        f"{cell['orders_per_second']:>9,.1f}{few:<2}{cell['placed']:>7,}{cell['failed_tries']:>9,}{cell['fail']:>6,}"
        f"{cell['undersell']:>10,}{cell['p99_ms'] or 0:>10,.1f}   {', '.join(f'{n} {c:,}' for n, c in told.items())}"
    )


def main() -> None:
    """Measure the engines of the command line and print a line a cell; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, action="append", help="again for each one (all)")
    options = parser.parse_args()
    print(
        f"{'engine':<54} {'isolation':<16} {'strategy':<12} {'verdict':<8}{'orders/s':>9}  {'placed':>7}{'retries':>9}"
        f"{'fail':>6}{'undersell':>10}{'p99 ms':>10}   violations, failed tries by code, causes of undersell"
    )
    measured = []
    with tempfile.TemporaryDirectory() as place:
        for engine, level, strategy in cells(options.engine or list(ENGINES)):
            measured.append(run_cell(Path(place), engine, level, strategy))
            print(line(measured[-1]), flush=True)
    print(json.dumps({"name": "strategies", "placed_wanted": WANTED, "stock": STOCK, "cells": measured}))


if __name__ == "__main__":
    main()
