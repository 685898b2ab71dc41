"""Runs of loadgen as transactions, for its own isolation checker and for others.

A run's history says of each op what it read and wrote: of the probes, everything (see workload/probes.py). An ``info``
op, or a number without a completion, counts with what it would have written. Nothing of a failed op may be visible.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import StoreError
from loadgen.formats.build import Builder, Mop
from loadgen.history.history import History, LoadProcess
from loadgen.isolation.jepsen import Reading
from loadgen.isolation.transactions import ALWAYS, INITIAL, NEVER, READ, UNKNOWN, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.workload import probes
from loadgen.workload.loading import installed_workloads, load_workload

Columns = Mapping[str, NDArray[Any]]
KINDS: Mapping[str, HistoryKind] = {"append": HistoryKind.LIST_APPEND, "longfork": HistoryKind.REGISTER}
"""What the values of these probes say about the order of versions; a register's versions are numbers (_registers)."""
_NUMBER = re.compile(r"\d{1,18}")
FINAL_LABEL = -1
"""By which a witness calls the final read."""


@dataclass(frozen=True, slots=True)
class OpRow:
    """One op of one load process, with its touches; ``slot`` is its place among the invoked numbers."""

    process: LoadProcess
    slot: int
    number: int
    session: int
    sent: int
    done: int
    outcome: Outcome
    answer: int
    touched: Sequence[tuple[int, int, int]]


def transactions_of(workload: str, plan: Plan, history: History, *, replica_reads: bool = True) -> Transactions:
    """The transactions of a run: of a probe its lists or registers, else what its workload says. Raises StoreError.

    Without ``replica_reads`` only those of the writable node.
    """
    clocks = {process.origin.boot_id for process in history.processes}
    if workload not in probes.NAMES and (file := installed_workloads().get(workload)):
        isolation = load_workload(file).isolation
        if isolation is not None and isolation.transactions is not None:
            transactions: Transactions = isolation.transactions(plan, history, replica_reads)
            return transactions
    if workload == "register":
        return _registers(plan, history, timed=len(clocks) <= 1)
    if workload not in KINDS:
        raise StoreError(f"the workload {workload} has no transactions of reads and writes")
    builder = Builder(KINDS[workload], timed=len(clocks) <= 1)
    for row in op_rows(history):
        mops = answered(workload, row) if row.outcome == Outcome.OK else asked(workload, row)
        if mops:
            builder.add(row.session, row.sent, row.done, row.outcome, row.number, mops)
    if workload == "append":
        _add_final(builder, history)
    return builder.build()


def bank_reads(history: History) -> list[Reading]:
    """The reads of the bank's whole, and the final one."""
    reads = [
        Reading(row.number, {key // 2: balance for key, balance, _ in row.touched}, row.sent)
        for row in op_rows(history)
        if row.outcome == Outcome.OK and row.touched and row.touched[0][0] % 2 == probes.READ
    ]
    final = history.final.get("accounts")
    if final is not None:
        reads.append(
            Reading(FINAL_LABEL, dict(zip(final["id"].tolist(), final["balance"].tolist(), strict=True)), NEVER)
        )
    return reads


def stale_values(history: History) -> Iterator[str]:
    """Reads of a register that show a value whose transaction failed, in words: values are unique by their op."""
    outcomes = {row.number: row.outcome for row in op_rows(history)}
    for row in op_rows(history):
        for packed, value, _ in row.touched:
            if row.outcome != Outcome.OK or packed % 2 or not value:
                continue
            writer = (value - 1) // probes.MICRO_OPS
            if outcomes.get(writer) == Outcome.FAIL:
                yield f"T{row.number} read {value} of key {packed // 2}, which T{writer} wrote, and T{writer} failed"


def op_rows(history: History) -> Iterator[OpRow]:
    """Every op that was started or may have been, in the order in which they were sent; those with an unknown time
    last."""
    rows: list[OpRow] = []
    for process in history.processes:
        slots = {number: slot for slot, number in enumerate(process.invoked["number"].tolist())}
        told = set()
        for row in _told(process, slots):
            told.add(row.number)
            if row.outcome != Outcome.SKIPPED:
                rows.append(row)
        for number, slot in slots.items():
            if number not in told and (process.closed_at is None or number < process.closed_at):
                rows.append(OpRow(process, slot, number, -1, ALWAYS, NEVER, Outcome.INFO, 0, ()))
    return iter(sorted(rows, key=lambda row: (row.session < 0, row.sent)))


def _told(process: LoadProcess, slots: Mapping[int, int]) -> Iterator[OpRow]:
    ops = process.ops
    names = ("number", "process", "sent", "done", "outcome", "answer")
    touched = list(zip(*(ops[f"touched_{name}"].tolist() for name in ("row", "read", "wrote")), strict=True))
    starts = ops["touched_start"].tolist()
    for index, values in enumerate(zip(*(ops[name].tolist() for name in names), strict=True)):
        number, session, sent, done, outcome, answer = values
        if number not in slots:
            raise StoreError(f"op {number} ended, and was never handed out")
        triples = touched[starts[index] : starts[index + 1]]
        yield OpRow(process, slots[number], number, session, sent, done, Outcome(outcome), answer, triples)


def answered(workload: str, row: OpRow) -> list[Mop]:
    """The micro-operations of a committed transaction, as it reported them."""
    mops: list[Mop] = []
    triples = iter(row.touched)
    for packed, value, _ in triples:
        key, act = divmod(packed, 2)
        if workload == "append" and act == probes.READ:
            held = [each for triple in islice(triples, (value + 1) // 2) for each in triple[1:]]
            if not 0 <= value <= len(held):
                raise StoreError(f"op {row.number} reports a list of {value} elements, and does not hold them")
            elements = held[:value]
            mops.append(Mop(READ, key, elements or None))
        else:
            mops.append(Mop(WRITE if act == probes.WRITE else READ, key, value or None, append=workload == "append"))
    return mops


def asked(workload: str, row: OpRow) -> list[Mop]:
    """What a transaction that failed, or has an unknown outcome, would have read and written."""
    invoked = row.process.invoked
    mops: list[Mop] = []
    for slot in range(probes.MICRO_OPS):
        act, key = int(invoked[f"act_{slot}"][row.slot]), int(invoked[f"key_{slot}"][row.slot])
        if act == probes.READ:
            mops.append(Mop(READ, key, None))
        elif act == probes.WRITE:
            mops.append(Mop(WRITE, key, probes.value_of(row.number, slot), append=workload == "append"))
    return mops


def _registers(plan: Plan, history: History, *, timed: bool) -> Transactions:
    """Registers by their versions, which the database counts. A write learns its version when it is acknowledged.

    So failed writes do not appear here (stale_values judges them), and an ``info`` write has an unknown version.
    """
    told: list[tuple[int, int, int, int, int]] = []
    start, act, key, value = [0], list[int](), list[int](), list[int]()
    for row in op_rows(history):
        if row.outcome == Outcome.OK:
            mops = [(packed % 2, packed // 2, version or INITIAL) for packed, _, version in row.touched]
        elif row.outcome == Outcome.INFO:
            mops = [(WRITE, mop.key, UNKNOWN) for mop in asked("register", row) if mop.act == WRITE]
        else:
            mops = []
        if mops:
            told.append((row.session, row.sent, row.done, int(row.outcome), row.number))
            act += [mop[0] for mop in mops]
            key += [mop[1] for mop in mops]
            value += [mop[2] for mop in mops]
            start.append(len(act))
    table = np.array(told, np.int64).reshape(-1, 5).T
    return Transactions(
        kind=HistoryKind.VERSIONED,
        session=table[0],
        invoked=table[1],
        completed=table[2],
        outcome=table[3].astype(np.uint8),
        label=table[4],
        start=np.array(start, np.int64),
        act=np.array(act, np.uint8),
        key=np.array(key, np.int64),
        value=np.array(value, np.int64),
        length=np.zeros(len(act), np.int64),
        keys=plan.skus,
        timed=timed,
    )


def elements(text: str) -> list[int]:
    """The elements of a list as it is stored; -1, which is never appended, for anything that is not a number."""
    return [int(each) if _NUMBER.fullmatch(each) else -1 for each in text.split(",")]


def _add_final(builder: Builder, history: History) -> None:
    """The final read, as one transaction after all others: no acknowledged append may be missing from it."""
    lists = [columns for name, columns in history.final.items() if name.startswith("append_")]
    mops = [
        Mop(READ, key, elements(text))
        for columns in lists
        for key, text in zip(columns["id"].tolist(), columns["list"].tolist(), strict=True)
    ]
    if mops:
        ends = [int(process.ops["done"].max()) for process in history.processes if len(process.ops["done"])]
        builder.add(-1, max(ends, default=0) + 1, max(ends, default=0) + 2, Outcome.OK, FINAL_LABEL, mops)
