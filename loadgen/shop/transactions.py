"""The sale's own versioned rows as transactions: isolation judged on every op of a run, with no probe beside it.

Each op that touched rows is a transaction that read and wrote versions (see ``op.Touch``). A row's version 0 is the
one that it was made with.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import Columns, History, LoadProcess
from loadgen.isolation.check import judge
from loadgen.isolation.judgement import Judgement
from loadgen.isolation.transactions import ALWAYS, NEVER, READ, UNKNOWN, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.workload.evidence import Evidence


def sale_isolation(evidence: Evidence, models: Sequence[str], time_limit_s: float) -> Judgement:
    """Judge the sale's versioned rows. What a level documents holds on one node: replicas are measured elsewhere."""
    return judge(stored_transactions(evidence.plan, evidence.history, False), models, time_limit_s)


def stored_transactions(plan: Plan, history: History, replica_reads: bool) -> Transactions:
    """The transactions of a stored sale, with what was read from replicas or without."""
    return sale_transactions(history, browses=replica_reads or plan.read_from != "replica")


def sale_transactions(history: History, *, browses: bool = True) -> Transactions:
    """The ops of ``history`` that touched rows, as transactions of kind VERSIONED, with their ``browses`` or without.

    A number without a completion may have touched any row. It is left out, and the versions that it may have written
    are gaps that the judge ignores.
    """
    told = [process for process in history.processes if len(process.ops["number"])]
    if not told:
        return _empty()
    parts = [process.ops for process in told]
    most = np.array([0, *(int(part["process"].max()) + 1 for part in parts)])
    # Sessions of two load processes are two sessions, whatever their numbers.
    sessions = [part["process"].astype(np.int64) + base for part, base in zip(parts, np.cumsum(most)[:-1], strict=True)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in ("number", "sent", "done", "outcome")}
    order = np.argsort(columns["sent"], kind="stable")
    outcome = columns["outcome"][order].astype(np.uint8)
    mops = _micro_operations(parts, order, browses=browses)
    unsure = outcome[mops["txn"]] == Outcome.INFO
    txns = Transactions(
        kind=HistoryKind.VERSIONED,
        session=np.concatenate(sessions)[order],
        invoked=np.where(columns["sent"][order] > 0, columns["sent"][order], ALWAYS),
        completed=np.where(outcome == Outcome.INFO, NEVER, columns["done"][order]),
        outcome=outcome,
        label=columns["number"][order].astype(np.int64),
        start=np.concatenate(([0], np.cumsum(np.bincount(mops["txn"], minlength=len(order))))),
        act=mops["act"].astype(np.uint8),
        key=mops["key"],
        value=np.where(unsure & (mops["act"] == READ), UNKNOWN, mops["value"]),
        length=np.zeros(len(mops["key"]), np.int64),
        keys=int(mops["key"].max(initial=-1)) + 1,
    )
    txns.timed = len({process.origin.boot_id for process in history.processes}) == 1
    txns.gaps = bool(history.problems) or any(_incomplete(process) for process in history.processes)
    if not txns.timed:
        txns.warnings.append("load processes ran on different hosts or boots: real-time order is not judged")
    return txns


def _micro_operations(
    parts: Sequence[Columns], order: NDArray[np.int64], *, browses: bool
) -> dict[str, NDArray[np.int64]]:
    """``txn``, ``act``, ``key`` and ``value`` of every read and write, by transaction in ``order``.

    A touch is up to two micro-operations: a read, then a write. Only ops with an answer have reads.
    """
    touches = np.concatenate([np.diff(part["touched_start"]) for part in parts])
    first, count = (np.cumsum(touches) - touches)[order], touches[order]
    owner = np.repeat(np.arange(len(order)), count)
    # Each transaction's touches lie together: moved there as ranges, they need no sort.
    moved = np.arange(len(owner)) + (first - (np.cumsum(count) - count))[owner]
    row, read, wrote = (
        np.concatenate([part[f"touched_{name}"] for part in parts]).astype(np.int64)[moved]
        for name in ("row", "read", "wrote")
    )
    # Who orders and reads a row also writes it: only a browse reads and does not.
    reads, writes = (read >= 0) & (browses | (wrote >= 0)), wrote >= 0
    at = np.flatnonzero(np.stack((reads, writes), axis=1))
    touch, is_write = at // 2, at % 2 == 1
    return {
        "txn": owner[touch],
        "act": np.where(is_write, WRITE, READ),
        "key": row[touch],
        "value": np.where(is_write, wrote[touch], read[touch]),
    }


def _incomplete(process: LoadProcess) -> bool:
    """Whether an op may have written a version without an acknowledgement: ``info``, or no completion."""
    return not process.told_all() or bool((process.ops["outcome"] == Outcome.INFO).any())


def _empty() -> Transactions:
    nothing = np.zeros(0, np.int64)
    flags = np.zeros(0, np.uint8)
    start = np.zeros(1, np.int64)
    txns = Transactions(
        HistoryKind.VERSIONED, nothing, nothing, nothing, flags, nothing, start, flags, nothing, nothing
    )
    txns.unfit = "no op touched a row"
    return txns
