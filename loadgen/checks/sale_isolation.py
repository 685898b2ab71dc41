"""The sale's own versioned rows as transactions: isolation judged on every op of a run, with no probe beside it.

Each op that touched rows is a transaction that read and wrote versions (see ``op.Touch``). A row's version 0 is the
one that it was made with.
"""

import numpy as np

from loadgen.checks.transactions import ALWAYS, NEVER, READ, UNKNOWN, WRITE, Kind, Transactions
from loadgen.history import History, LoadProcess
from loadgen.op import Outcome


def sale_transactions(history: History) -> Transactions:
    """The ops of ``history`` that touched rows, as transactions of kind VERSIONED.

    A number that was handed out and has no completion touched nobody knows what: it is left out, and the versions
    that it may have written are gaps that the judge passes over.
    """
    parts = [process.ops for process in history.processes if len(process.ops["number"])]
    session = []
    base = 0
    for process in history.processes:
        if len(process.ops["number"]):
            session.append(process.ops["process"].astype(np.int64) + base)
            base += int(process.ops["process"].max()) + 1
    if not parts:
        return _empty()
    names = ("number", "sent", "done", "outcome")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    touches = np.concatenate([np.diff(part["touched_start"]) for part in parts])
    row, read, wrote = (
        np.concatenate([part[f"touched_{name}"] for part in parts]).astype(np.int64)
        for name in ("row", "read", "wrote")
    )
    sessions = np.concatenate(session)
    order = np.argsort(columns["sent"], kind="stable")
    owner = np.repeat(np.arange(len(touches)), touches)
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    # A touch is up to two micro-operations: a read, then a write. Reads are told only by those who got an answer.
    mop_txn = np.concatenate((turn[owner[read >= 0]], turn[owner[wrote >= 0]]))
    place = np.concatenate((2 * np.flatnonzero(read >= 0), 2 * np.flatnonzero(wrote >= 0) + 1))
    key = np.concatenate((row[read >= 0], row[wrote >= 0]))
    value = np.concatenate((read[read >= 0], wrote[wrote >= 0]))
    act = np.concatenate((np.full(int((read >= 0).sum()), READ), np.full(int((wrote >= 0).sum()), WRITE)))
    sort = np.lexsort((place, mop_txn))
    outcome = columns["outcome"][order].astype(np.uint8)
    unsure = outcome[mop_txn[sort]] == Outcome.INFO
    counts = np.bincount(mop_txn, minlength=len(order))
    txns = Transactions(
        kind=Kind.VERSIONED,
        session=sessions[order],
        invoked=np.where(columns["sent"][order] > 0, columns["sent"][order], ALWAYS),
        completed=np.where(outcome == Outcome.INFO, NEVER, columns["done"][order]),
        outcome=outcome,
        label=columns["number"][order].astype(np.int64),
        start=np.concatenate(([0], np.cumsum(counts))),
        act=act[sort].astype(np.uint8),
        key=key[sort],
        value=np.where(unsure & (act[sort] == READ), UNKNOWN, value[sort]),
        length=np.zeros(len(sort), np.int64),
        keys=int(key.max(initial=-1)) + 1,
    )
    txns.timed = len({process.origin.boot_id for process in history.processes}) == 1
    txns.gaps = bool(history.problems) or any(_incomplete(process) for process in history.processes)
    if not txns.timed:
        txns.warnings.append("load processes ran on different hosts or boots: real-time order is not judged")
    return txns


def _incomplete(process: LoadProcess) -> bool:
    """Whether an op may have written a version that nobody was told: an ``info``, or one without a completion."""
    if process.closed_at is None or (process.ops["outcome"] == Outcome.INFO).any():
        return True
    numbers = process.invoked.get("number", np.zeros(0, np.int64))
    return not np.isin(numbers[numbers < process.closed_at], process.ops["number"]).all()


def _empty() -> Transactions:
    nothing = np.zeros(0, np.int64)
    flags = np.zeros(0, np.uint8)
    start = np.zeros(1, np.int64)
    txns = Transactions(Kind.VERSIONED, nothing, nothing, nothing, flags, nothing, start, flags, nothing, nothing)
    txns.unfit = "no op touched a row"
    return txns
