"""What the generic checks of versions cost on a large history of somebody else's workload.

    python -m tests.bench.versions [--ops 1000000]

One op in two writes two rows, one in two reads four of them in one snapshot; each row's versions follow each other.
The history is made in memory. Seconds are of the wall, for each check, with what they share made before.
"""

import argparse
import time

import numpy as np

from loadgen.clock import ClockOrigin
from loadgen.history.history import History, LoadProcess
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.workload.evidence import Evidence
from loadgen.workload.table import Table
from loadgen.workload.versions import version_checks
from loadgen.workload.workload import Workload

ROWS = 10_000
WORKLOAD = Workload(
    name="rows",
    kinds=("change", "look"),
    answers=("none", "done"),
    arrivals=("change", "look"),
    followed_on=1,
    tables=lambda plan: (Table("rows", "", {}, version="version", row="id"),),
    invoked_types={"number": "int64"},
    invoked=lambda plan, first, count: {},
    ops=lambda plan, columns: [],
    snapshot_reads=("look",),
    single_statements=("look",),
)


def evidence_of(ops: int) -> Evidence:
    """A correct history of so many ops."""
    random = np.random.default_rng(1)
    number = np.arange(ops)
    kind = number % 2
    sizes = np.where(kind == 0, 2, 4)
    start = np.concatenate(([0], np.cumsum(sizes)))
    op = np.repeat(number, sizes)
    # Different rows in one op: neighbours of one that was drawn.
    row = (np.repeat(random.integers(0, ROWS, ops), sizes) + np.arange(len(op)) - start[op]) % ROWS
    writes = kind[op] == 0
    order = np.argsort(row, kind="stable")
    counted = np.cumsum(writes[order])
    first = np.concatenate(([True], row[order][1:] != row[order][:-1]))
    before = np.maximum.accumulate(np.where(first, counted - writes[order], 0))
    version = np.empty(len(op), np.int64)
    version[order] = counted - before
    columns = {
        "number": number,
        "kind": kind,
        "due": 10 * number,
        "sent": 10 * number,
        "done": 10 * number + 500,
        "answer": np.ones(ops, int),
        "outcome": np.full(ops, int(Outcome.OK)),
        "tries": np.ones(ops, int),
        "process": number % 64,
        "touched_start": start,
        "touched_row": row,
        "touched_read": np.where(writes, version - 1, version),
        "touched_wrote": np.where(writes, version, -1),
    }
    process = LoadProcess("load-0", ClockOrigin("host", "boot", 0, 0), {}, {"number": number}, columns, {}, ops)
    final = {"id": np.arange(ROWS), "version": np.bincount(row[writes], minlength=ROWS)}
    return Evidence(Plan(), History([process], {"rows": final}), {}, {}, workload=WORKLOAD)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", type=int, default=1_000_000)
    options = parser.parse_args()
    evidence = evidence_of(options.ops)
    begun = time.perf_counter()
    assert len(evidence.ops["number"]) == options.ops
    assert len(evidence.touched["row"])
    print(f"versions: {options.ops:,} ops; ops and touches joined in {time.perf_counter() - begun:.2f} s")
    for check in version_checks(WORKLOAD, evidence.plan):
        begun = time.perf_counter()
        finding = check.find(evidence)
        print(f"  {check.name:16} {time.perf_counter() - begun:6.2f} s  {finding.verdict}, {finding.anomalies} found")


if __name__ == "__main__":
    main()
