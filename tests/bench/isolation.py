"""How fast and in how much memory histories are judged. That the judge is right is another bench: simulator.py.

``python -m tests.bench.isolation [--transactions N] [--only NAME…]``: each history is made, written in our
own format, and judged in a fresh process, whose wall time, CPU time and peak memory are told.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.clock import clock_origin
from loadgen.formats.streams import SUFFIX
from loadgen.history.history import History, LoadProcess
from loadgen.isolation.check import judge
from loadgen.isolation.transactions import HistoryKind
from loadgen.shop.transactions import sale_transactions
from tests.simulation.bulk import Bulk, write_bulk

_CHILD = """
import json, resource, sys, time
begin = time.monotonic()
from pathlib import Path
from loadgen.commands.check_files import check_file, to_json
judgement = check_file(Path(sys.argv[1]), sys.argv[2].split(","), None, float(sys.argv[3]))
answer = to_json(sys.argv[1], judgement)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"answer": answer, "rss_mb": usage.ru_maxrss // 1024, "cpu_s": usage.ru_utime + usage.ru_stime}))
"""
# name, kind, models, snapshots, stale, seconds asked, megabytes asked
_CASES: tuple[tuple[str, HistoryKind, str, bool, bool, float, int], ...] = (
    ("list_append", HistoryKind.LIST_APPEND, "snapshot-isolation,serializable", False, False, 10, 2000),
    ("list_append_snapshots", HistoryKind.LIST_APPEND, "snapshot-isolation,serializable", True, False, 10, 2000),
    ("versioned", HistoryKind.VERSIONED, "snapshot-isolation,serializable", False, False, 10, 2000),
    ("read_atomic", HistoryKind.REGISTER, "read-atomic", False, False, 15, 3000),
    ("causal", HistoryKind.REGISTER, "causal", False, False, 15, 3000),
    ("list_append_anomaly", HistoryKind.LIST_APPEND, "snapshot-isolation,serializable", False, True, 15, 2000),
    ("versioned_anomaly", HistoryKind.VERSIONED, "snapshot-isolation,serializable", False, True, 15, 2000),
    ("causal_anomaly", HistoryKind.REGISTER, "causal", False, True, 15, 3000),
)


def judge_file(path: Path, models: str) -> dict[str, Any]:
    """Judge ``path`` in a fresh process: its answer, seconds and megabytes."""
    begin = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), models, "60"], check=True, capture_output=True, text=True
    )
    return {**json.loads(child.stdout), "seconds": time.monotonic() - begin}


def bulk_case(
    case: tuple[str, HistoryKind, str, bool, bool, float, int], transactions: int, folder: Path
) -> dict[str, Any]:
    """One large history."""
    name, kind, models, snapshots, stale, asked_s, asked_mb = case
    path = folder / f"{name}{SUFFIX}"
    write_bulk(path, Bulk(kind, transactions, snapshots=snapshots), stale_at=transactions // 2 if stale else -1)
    told = judge_file(path, models)
    path.unlink()
    answers = {model: answer["valid"] for model, answer in told["answer"]["models"].items()}
    print(
        f"{name}: {transactions} transactions in {told['seconds']:.1f} s (asked {asked_s:g}), "
        f"cpu {told['cpu_s']:.1f} s, {told['rss_mb']} MB (asked {asked_mb}): {answers}"
    )
    for anomaly in told["answer"]["anomalies"][:1]:
        print(f"  {anomaly['name']}: {anomaly['witness'][:300]}")
    return {
        "seconds": round(told["seconds"], 2),
        "cpu_s": round(told["cpu_s"], 2),
        "rss_mb": told["rss_mb"],
        "valid": answers,
    }


def ring(folder: Path) -> dict[str, Any]:
    """10,000 transactions in one cycle, each reading what the next one appended."""
    count = 10_000
    path = folder / "ring.json"
    with path.open("w") as out:
        for txn in range(count):
            value = [["append", txn, 1], ["r", (txn + 1) % count, [1]]]
            out.write(json.dumps({"type": "ok", "process": txn, "f": "txn", "value": value}) + "\n")
    told = judge_file(path, "serializable")
    print(f"ring of {count}: {told['seconds']:.1f} s (asked 60): {told['answer']['models']}")
    return {"seconds": round(told["seconds"], 2), "models": told["answer"]["models"]}


def start_up(folder: Path) -> dict[str, Any]:
    """From start to verdict on ten transactions, the best of five."""
    path = folder / "ten.edn"
    path.write_text("".join(f"{{:type :ok :process {n} :f :txn :value [[:append :x {n}]]}}\n" for n in range(10)))
    seconds = min(judge_file(path, "serializable")["seconds"] for _ in range(5))
    print(f"start-up on 10 transactions: {seconds:.2f} s (asked 0.7)")
    return {"seconds": round(seconds, 3)}


def sale(transactions: int) -> dict[str, Any]:
    """The sale's history: orders that deduct one row, a tenth of them two, on 1,000 rows."""
    rng = np.random.default_rng(2)
    rows = np.sort(rng.zipf(1.3, (transactions, 2)) % 1000, axis=1)
    two = (rng.random(transactions) < 0.1) & (rows[:, 0] != rows[:, 1])
    counts = 1 + two
    row = np.concatenate([rows[:, :1], np.where(two, rows[:, 1], -1)[:, None]], axis=1).ravel()
    row = row[row >= 0]
    order = np.argsort(row, kind="stable")
    wrote = np.empty(len(row), np.int64)
    wrote[order] = np.arange(len(row)) - np.searchsorted(row[order], row[order]) + 1
    at = np.arange(transactions) * 100_000
    ops: dict[str, Any] = {
        "number": np.arange(transactions),
        "process": np.arange(transactions) % 32,
        "sent": at,
        "done": at + rng.integers(1, 1_500_000, transactions),
        "outcome": np.zeros(transactions, np.uint8),
        "touched_start": np.concatenate(([0], np.cumsum(counts))),
        "touched_row": row,
        "touched_read": wrote - 1,
        "touched_wrote": wrote,
    }
    history = History([LoadProcess("0", clock_origin(), {}, {}, ops, {}, transactions)])
    begin, cpu = time.monotonic(), time.process_time()
    judgement = judge(sale_transactions(history), ["strict-serializable"])
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    verdict = judgement.answers["strict-serializable"].verdict.value
    print(f"sale: {transactions} orders in {seconds:.1f} s (asked 5), cpu {cpu:.1f} s: strict-serializable {verdict}")
    return {"seconds": round(seconds, 2), "cpu_s": round(cpu, 2), "verdict": verdict}


def main() -> None:
    """Run what was asked for and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    figures: dict[str, Any] = {"name": "isolation", "transactions": given.transactions}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs: dict[str, Callable[[], dict[str, Any]]] = {
            case[0]: lambda case=case: bulk_case(case, given.transactions, folder)  # type: ignore[misc]
            for case in _CASES
        }
        jobs |= {
            "ring": lambda: ring(folder),
            "start_up": lambda: start_up(folder),
            "sale": lambda: sale(given.transactions),
        }
        for job, run in jobs.items():
            if not given.only or job in given.only:
                figures[job] = run()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
