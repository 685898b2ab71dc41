"""Trust in the judge: thousands of simulated runs of correct stores, and of every seeded bug and sabotage.

    python -m tests.bench.simulator [--correct 10800] [--bugs 100] [--sales 1000] [--acts 25] [--probes 1000]
        [--processes 2]

``--correct`` runs are shared out among three levels and three kinds of data; each store has sessions, keys, length and
lost connections (so ``info``) of its own, by its seed. No run may be invalid at the level that its store keeps.
``--bugs`` runs play each seeded bug: it must be found, and by its name. ``--sales`` runs are of the correct shop in all
strategies, ``--acts`` of each sabotage of it: found in every run in which it struck, by its name and its place.
``--probes`` runs are of the probes' final tables: as many lost commits are found as were told.
Exits with 1 if anything was judged wrongly; the last line is JSON.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from loadgen.isolation.check import judge
from loadgen.isolation.transactions import HistoryKind
from loadgen.op import Outcome
from loadgen.probes.finals import final_findings
from loadgen.shop.catalogue import CHECKS, run_checks
from loadgen.verdict import Verdict
from tests.checks.sabotage import ACTS
from tests.checks.shop import simulate as sell
from tests.checks.shop import small_plan
from tests.checks.test_no_false_alarms import STRATEGIES
from tests.checks.test_sabotage import NEAR
from tests.formats.probe_runs import NAMES as PROBES
from tests.formats.probe_runs import play as play_probe
from tests.formats.probe_runs import probe_plan
from tests.simulation.bugs import BUGS
from tests.simulation.bugs import simulate as play
from tests.simulation.stores import Level, Store

STORES = [(level, kind) for level in Level for kind in HistoryKind]
CHUNK = 20
"""Runs that a process is given at a time."""
WRONG_TOLD = 5
"""How many wrong judgements are told in words."""

Told = tuple[str, Counter[str], str]
"""One run: what it was of, its counts, and what was judged wrongly in words."""


def correct(seed: int) -> Told:
    """A correct store at its own level."""
    level, kind = STORES[seed % len(STORES)]
    draw = random.Random(seed)
    store = Store(level, kind, seed, keys=draw.randint(2, 8), sessions=draw.randint(2, 8))
    store.run(draw.randint(10, 45), lost=draw.choice((0.0, 0.05, 0.2)))
    store.final_reads()
    history = store.history()
    judgement = judge(history, [level.value])
    answer = judgement.answers[level.value]
    counts = Counter({answer.verdict.value: 1})
    counts["transactions"] = history.count
    counts["info"] = int((history.outcome == Outcome.INFO).sum())
    wrong = f"seed {seed}: {judgement.anomalies.witnesses}" if answer.verdict != Verdict.VALID else ""
    return f"{level.value}, {kind.value}", counts, wrong


def bug(seed: int) -> Told:
    """A store with a seeded bug, which acts in every run: found, and named rightly."""
    seeded = BUGS[seed % len(BUGS)]
    answers = judge(play(seeded, seed).history(), {seeded.breaks, "strict-serializable"}).answers
    found = answers[seeded.breaks].verdict == Verdict.INVALID
    named = bool(seeded.names & set(answers["strict-serializable"].anomalies))
    wrong = "" if found and named else f"seed {seed}: {answers}"
    return seeded.name, Counter(acted=1, found=found, named=named), wrong


def sale(seed: int) -> Told:
    """A correct sale: every check holds."""
    draw = random.Random(seed)
    strategy, buckets = STRATEGIES[seed % len(STRATEGIES)]
    plan = small_plan(strategy=strategy, buckets=buckets, seed=seed, stock=draw.choice((8, 12, 40, 1000)))
    run = sell(plan, seed, trouble=draw.choice((0.0, 0.05, 0.3, 0.7)), processes=draw.randint(1, 3))
    if draw.random() < 0.25:
        # A process died, and the last of what it had told never reached the disk.
        run.rows["0"] = run.rows["0"][: int(draw.random() * len(run.rows["0"]))]
        run.closed_at["0"] = None
    wrong = [finding for finding in run_checks(list(CHECKS), run.books()) if finding.verdict != Verdict.VALID]
    verdict = "valid" if not wrong else "invalid" if any(finding.anomalies for finding in wrong) else "unknown"
    return f"{strategy}, {buckets} buckets", Counter({verdict: 1}), f"seed {seed}: {wrong}" if wrong else ""


def probe(seed: int) -> Told:
    """A correct run of a probe: what was acknowledged is in its tables, at every level; or one that lies of commits."""
    draw = random.Random(seed)
    name, lies = PROBES[seed % len(PROBES)], seed // len(PROBES) % 2 == 1
    plan = probe_plan(name, seed=seed, strategy=draw.choice(("atomic", "pessimistic", "naive")))
    trouble = 0.0 if lies else draw.choice((0.0, 0.1, 0.5))
    run = play_probe(plan, seed, numbers=80, trouble=trouble, lie=lambda _: "lost" * (lies and draw.random() < 0.1))
    with tempfile.TemporaryDirectory() as directory:
        history = run.history(Path(directory) / "run")
    findings = final_findings(name, history, plan.strategy, draw.choice(("read-committed", "serializable")))
    lost = sum(finding.anomalies for finding in findings)
    right = lost == run.lies and all(finding.verdict != Verdict.UNKNOWN for finding in findings)
    counts = Counter(told=run.lies, found=lost, right=right)
    return f"{name}{', lying' if lies else ''}", counts, "" if right else f"seed {seed}: {run.lies} lies, {findings}"


def act(seed: int) -> Told:
    """A sale into which somebody else writes; a strike that found no chance in its run is not counted as one."""
    deed = list(ACTS)[seed % len(ACTS)]
    strike, names = ACTS[deed]
    strategy, buckets = STRATEGIES[1:][seed // len(ACTS) % len(STRATEGIES[1:])]
    plan = small_plan(strategy=strategy, buckets=buckets, seed=seed, stock=30)
    run = sell(plan, seed, trouble=0.2, sabotage=strike, numbers=150)
    if not run.sabotaged:
        return deed, Counter(acted=0), ""
    findings = {finding.name: finding for finding in run_checks(list(CHECKS), run.books())}
    near = NEAR.get(deed, names)
    found = any(finding.anomalies for finding in findings.values())
    named = all(findings[name].anomalies for name in names)
    placed = all(any(run.sabotaged in witness for witness in findings[name].witnesses) for name in near)
    wrong = (
        "" if found and named and placed else f"seed {seed}: {run.sabotaged!r} {[f for f in findings.values() if f]}"
    )
    return deed, Counter(acted=1, found=found, named=named, placed=placed), wrong


def trial(pool: ProcessPoolExecutor, title: str, one: Callable[[int], Told], seeds: Iterable[int]) -> dict[str, Any]:
    """All runs of one sort: their counts by what they were of, printed, and how many were judged wrongly."""
    begin = time.monotonic()
    rows: dict[str, Counter[str]] = {}
    wrongs: list[str] = []
    for name, counts, wrong in pool.map(one, seeds, chunksize=CHUNK):
        rows.setdefault(name, Counter()).update(counts)
        if wrong:
            wrongs.append(f"{name}, {wrong}")
    print(f"{title}, {time.monotonic() - begin:.0f} s:")
    for name, counts in rows.items():
        print(f"  {name:<42} {', '.join(f'{what} {count:,}' for what, count in counts.items())}")
    for wrong in wrongs[:WRONG_TOLD]:
        print(f"  WRONG {wrong[:2000]}")
    whole = sum(rows.values(), Counter[str]())
    return {"of": len(rows), **whole, "wrong": len(wrongs)}


def main() -> int:
    """Run all five trials; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--correct", type=int, default=10_800, help="runs of correct stores")
    parser.add_argument("--bugs", type=int, default=100, help="runs of each seeded bug")
    parser.add_argument("--sales", type=int, default=1_000, help="runs of the correct shop")
    parser.add_argument("--acts", type=int, default=25, help="runs of each sabotage")
    parser.add_argument("--probes", type=int, default=1_000, help="runs of the probes, one half of them with lies")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        figures = {
            "correct": trial(pool, "correct stores", correct, range(given.correct)),
            "bugs": trial(pool, "seeded bugs", bug, range(given.bugs * len(BUGS))),
            "sales": trial(pool, "correct sales", sale, range(given.sales)),
            "acts": trial(pool, "sabotages", act, range(given.acts * len(ACTS))),
            "probes": trial(pool, "probes", probe, range(given.probes)),
        }
    print(json.dumps({"name": "simulator", **figures}))
    return int(any(figure["wrong"] for figure in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
