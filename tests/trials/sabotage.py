"""Somebody spoils the tables of a run: every field of every table, changed, swapped, moved, deleted, doubled.

    python -m tests.trials.sabotage [--runs 5000] [--processes 2] [--only NAME]
    python -m tests.trials.sabotage --live 5

Each run is of the correct shop, in every strategy, with ops that fail or end unknown, are skipped, and with processes
that die. One deed (tests/checks/deeds.py) changes what its tables held at the end, or, every other time, what they hold
at some moment of the run, which then goes on. It must be found under one of its names, and a witness must name the
place. What can't be found, because a correct run looks the same, is listed in docs/undetectable.md; such cases are told
apart and counted. Exits with 1 if anything was missed; the last line is JSON.

``--live`` plays tests/test_sabotage.py instead, so often on each of the four engines: real runs on real servers, into
which somebody writes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from loadgen.shop.catalogue import CHECKS, run_checks
from tests.checks.deeds import DEEDS
from tests.checks.shop import Simulation, simulate, small_plan

STRATEGIES = (("atomic", 1), ("pessimistic", 1), ("optimistic", 1), ("bucketed", 3), ("bucketed", 8))
TOLD = 10


def spoil(seed: int, only: str = "") -> tuple[str, str, str]:
    """One deed on one run: its name, what came of it (``found``, ``idle`` or ``missed``), and the whole story."""
    random = Random(seed)
    names = [name for name in DEEDS if only in name]
    name = names[seed % len(names)]
    strategy, buckets = random.choice(STRATEGIES)
    plan = small_plan(strategy=strategy, buckets=buckets, seed=seed, stock=random.choice((12, 40, 1000)))
    how: dict[str, Any] = {"trouble": random.choice((0.0, 0.1, 0.4)), "processes": random.randint(1, 3), "numbers": 150}
    words: list[str] = []

    def strike(simulation: Simulation) -> str:
        held = simulation.held()
        did = DEEDS[name].act(held, random) or ()
        if simulation.put(held.tables):
            words.extend(did)
        return "".join(words)

    in_mid_run = seed // len(names) % 2 and not name.startswith(("nulls", "doubles", "empties"))
    if in_mid_run:
        run = simulate(plan, seed, sabotage=strike, **how)
    else:
        run = simulate(plan, seed, **how)
        words.extend(DEEDS[name].act(run, random) or ())
    if not words:
        return name, "idle", ""
    findings = {finding.name: finding for finding in run_checks(list(CHECKS), run.books())}
    told = [witness for each in DEEDS[name].names for witness in findings[each].witnesses if findings[each].anomalies]
    if any(word in witness for word in words for witness in told):
        return name, "found", ""
    invalid = [finding for finding in findings.values() if finding.anomalies]
    if not invalid and _excused(name, strategy, in_mid_run=in_mid_run):
        return name, "excused", ""
    return name, "missed", f"seed {seed}, {strategy} {buckets}: {words}: {invalid}"


def _excused(name: str, strategy: str, *, in_mid_run: bool) -> bool:
    """Whether a correct run may look the same: see docs/undetectable.md."""
    moved = name in ("swaps stock.bucket", "swaps stock.available", "moves units between buckets")
    undone = name == "deletes a row of purchases" or (
        strategy == "optimistic" and ("stock.available" in name or name.startswith("moves units"))
    )
    return (in_mid_run and undone) or (strategy == "bucketed" and moved)


def main() -> int:
    """Play all; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5_000, help="runs in all")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="only the deeds with this in their name")
    parser.add_argument("--live", type=int, default=0, help="real runs instead, so often on each engine")
    given = parser.parse_args()
    if given.live:
        environment = {**os.environ, "LOADGEN_SABOTAGE_TRIES": str(given.live)}
        chosen = ("-k", given.only) if given.only else ()
        suite = Path(__file__).parents[1] / "test_sabotage.py"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite), *chosen]
        return subprocess.run(command, env=environment, cwd=suite.parents[1], check=False).returncode
    seeds = range(given.first, given.first + given.runs)
    with ProcessPoolExecutor(given.processes) as pool:
        stories = list(pool.map(spoil, seeds, [given.only] * len(seeds), chunksize=20))
    return told(stories)


def told(stories: Iterable[tuple[str, str, str]]) -> int:
    """Print what came of each; 1 if anything was missed."""
    by_name: dict[str, Counter[str]] = {}
    missed = []
    for name, what, story in stories:
        by_name.setdefault(name, Counter())[what] += 1
        if what == "missed":
            missed.append(f"{name}, {story}")
    for name, counts in sorted(by_name.items()):
        print(f"  {name:<44} {', '.join(f'{what} {count:,}' for what, count in sorted(counts.items()))}")
    for story in missed[:TOLD]:
        print(f"  MISSED {story[:1500]}")
    whole = sum(by_name.values(), Counter[str]())
    print(json.dumps({"name": "sabotage", "deeds": len(by_name), **whole}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
