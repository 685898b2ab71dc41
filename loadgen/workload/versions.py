"""Checks of the version witness that every table with a version column gets without code.

Each write of such a row takes the next version, from 1 on, and its row is never deleted. A body tells in Reply.touched
which row it touched (``versioned_row``), the version that its write was computed from (-1: none), and the version that
it wrote (-1: none). What may or may not have happened explains versions and is never accused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import History
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.verdict import Finding
from loadgen.workload.evidence import Evidence
from loadgen.workload.table import TABLE_BITS, Table, versioned_row
from loadgen.workload.workload import Check, Workload

MOST_WITNESSES = 20
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Witness:
    """Every acknowledged write of a versioned row, flat, and what is open."""

    number: Numbers
    kind: Numbers
    clock: Numbers
    sent: Numbers
    done: Numbers
    row: Numbers
    read: Numbers
    wrote: Numbers
    own: Numbers
    """How many writes the same op made of the same row."""
    known: frozenset[tuple[int, int]]
    """``(row, version)`` of the writes of info ops that told them."""
    open_ops: int
    """Ops that may have happened and did not tell what they wrote: each explains ``most`` versions of any row."""
    most: int


def version_checks(workload: Workload, plan: Plan) -> tuple[Check, ...]:
    """The generic checks of a workload's tables with a version column; none where it has none."""
    tables = tuple(table for table in workload.tables(plan) if table.version)
    if not tables:
        return ()
    judged = _Judged(workload, tables)
    return (
        Check(
            "lost-update",
            judged.lost_update,
            "A write was computed from a version that another write had replaced, or two writes have one version.",
            True,
        ),
        Check("lost-write", judged.lost_write, "An acknowledged write is missing from its row's versions.", True),
        Check("phantom-write", judged.phantom_write, "A version has no writer in the run. Counts versions."),
        Check(
            "real-time-order",
            judged.real_time_order,
            "A write was acknowledged before another was sent, and yet it has the larger version of the row.",
            True,
        ),
    )


class _Judged:
    """The versioned tables of one workload."""

    def __init__(self, workload: Workload, tables: tuple[Table, ...]) -> None:
        self._workload = workload
        self._tables = tables

    def witness(self, evidence: Evidence) -> Witness:
        """What the history tells of versions."""
        return evidence.derived(self._witness)

    def lost_update(self, evidence: Evidence) -> Finding:
        """Two writes from one version, or a write that is not the next one after the version that it read."""
        seen = self.witness(evidence)
        # An op that writes a row twice may tell the same read with both.
        stale = (seen.read >= 0) & ((seen.wrote <= seen.read) | (seen.wrote > seen.read + seen.own))
        first, second = _twins(seen)
        same = (seen.read[first] >= 0) & (seen.read[second] >= 0) & ~stale[first] & ~stale[second]
        words = [
            f"{self._op(seen, at)} computed from version {seen.read[at]} of {self._row(seen.row[at])} and wrote "
            f"{seen.wrote[at]}{self._between(seen, at)}"
            for at in np.flatnonzero(stale)[:MOST_WITNESSES].tolist()
        ] + [self._both(seen, a, b) for a, b in zip(first[same].tolist(), second[same].tolist(), strict=True)]
        return Finding("lost-update", int(stale.sum() + same.sum()), tuple(words[:MOST_WITNESSES]))

    def lost_write(self, evidence: Evidence) -> Finding:
        """An acknowledged version beyond the final one, or two writes with one version."""
        seen = self.witness(evidence)
        final, lack = self._final(evidence)
        rows = np.array(sorted(final), np.int64)
        versions = np.array([final[row] for row in rows.tolist()], np.int64)
        ends = np.zeros(len(seen.row), np.int64)
        if len(rows):
            at = np.minimum(np.searchsorted(rows, seen.row), len(rows) - 1)
            ends = np.where(rows[at] == seen.row, versions[at], 0)
        gone = np.flatnonzero(seen.wrote > ends) if not lack else np.zeros(0, np.int64)
        first, second = _twins(seen)
        blind = (seen.read[first] < 0) | (seen.read[second] < 0)
        words = [
            f"{self._op(seen, at)} wrote version {seen.wrote[at]} of {self._row(seen.row[at])}, "
            f"which ends at {ends[at]}"
            for at in gone[:MOST_WITNESSES].tolist()
        ] + [self._both(seen, a, b) for a, b in zip(first[blind].tolist(), second[blind].tolist(), strict=True)]
        return Finding("lost-write", len(gone) + int(blind.sum()), tuple(words[:MOST_WITNESSES]), lack)

    def phantom_write(self, evidence: Evidence) -> Finding:
        """More versions than acknowledged and open writes explain. Counts versions."""
        seen = self.witness(evidence)
        final, lack = self._final(evidence)
        if lack:
            return Finding("phantom-write", unknown=lack)
        told: dict[int, set[int]] = {}
        for row, version in [*zip(seen.row.tolist(), seen.wrote.tolist(), strict=True), *seen.known]:
            if 1 <= version <= final.get(row, 0):
                told.setdefault(row, set()).add(version)
        count, words = 0, []
        for row, version in final.items():
            spare = version - len(told.get(row, ())) - seen.open_ops * seen.most
            if spare > 0:
                count += spare
                words.append(
                    f"{self._row(row)} ends at version {version}, and {len(told.get(row, ()))} known and "
                    f"{seen.open_ops} open writes explain no more"
                )
        return Finding("phantom-write", count, tuple(words[:MOST_WITNESSES]))

    def real_time_order(self, evidence: Evidence) -> Finding:
        """A write that ended before another was sent, on one clock, and has the larger version of the row."""
        seen = self.witness(evidence)
        order = np.lexsort((seen.wrote, seen.row, seen.clock))
        words, count = [], 0
        earliest, group, pending = -1, (-1, -1), list[int]()
        # From the largest version down: the earliest end of all larger ones tells.
        for at in order[::-1].tolist():
            key = int(seen.clock[at]), int(seen.row[at])
            if key != group:
                earliest, group, pending = -1, key, []
            if pending and seen.wrote[pending[0]] != seen.wrote[at]:
                earliest = min(
                    [*pending, *([earliest] if earliest >= 0 else [])], key=lambda each: int(seen.done[each])
                )
                pending = []
            if earliest >= 0 and seen.done[earliest] < seen.sent[at]:
                count += 1
                words.append(
                    f"{self._op(seen, earliest)} ended before {self._op(seen, at)} was sent, and yet it wrote version "
                    f"{seen.wrote[earliest]} of {self._row(seen.row[at])}, and the other {seen.wrote[at]}"
                )
            pending.append(at)
        return Finding("real-time-order", count, tuple(words[:MOST_WITNESSES]))

    def _witness(self, evidence: Evidence) -> Witness:
        refused = [self._workload.answers.index(answer) for answer in self._workload.refused]
        ops, touched = evidence.ops, evidence.touched
        fine = (ops["outcome"] == Outcome.OK) & ~np.isin(ops["answer"], refused)
        mine = fine[touched["op"]] & (touched["wrote"] >= 0)
        owner = touched["op"][mine]
        joined = {name: ops[name][owner].astype(np.int64) for name in ("number", "kind", "clock", "sent", "done")}
        joined |= {name: touched[name][mine].astype(np.int64) for name in ("row", "read", "wrote")}
        info = ops["outcome"] == Outcome.INFO
        told = info[touched["op"]] & (touched["wrote"] >= 0)
        known = set(zip(touched["row"][told].tolist(), touched["wrote"][told].tolist(), strict=True))
        # What a body told before its end was lost may be less than it wrote: every open op explains more.
        open_ops = sum(len(evidence.may_have_happened(kind)) for kind in self._workload.kinds)
        pairs = np.stack((joined["number"], joined["row"]))
        _, inverse, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        own = counts[inverse.ravel()] if len(joined["row"]) else np.zeros(0, np.int64)
        return Witness(
            **joined, own=own, known=frozenset(known), open_ops=open_ops, most=max(2, int(own.max(initial=1)))
        )

    def _final(self, evidence: Evidence) -> tuple[dict[int, int], str]:
        return evidence.derived(self._finals)

    def _finals(self, evidence: Evidence) -> tuple[dict[int, int], str]:
        """Each row's version at the end; why that is not known, if it is not."""
        final: dict[int, int] = {}
        for index, table in enumerate(self._tables):
            if lack := _lack(evidence.history, table):
                return {}, lack
            columns = evidence.history.final[table.name]
            rows = table.row(evidence.plan, columns) if callable(table.row) else columns[table.row]
            numbers = (np.asarray(rows).astype(np.int64) + versioned_row(index, 0)).tolist()
            final |= dict(zip(numbers, columns[table.version].tolist(), strict=True))
        return final, ""

    def _op(self, seen: Witness, at: int) -> str:
        return f"{self._workload.kinds[int(seen.kind[at])]} {seen.number[at]}"

    def _row(self, row: Any) -> str:
        index = int(row) >> TABLE_BITS
        name = self._tables[index].name if 0 <= index < len(self._tables) else "an unknown table"
        return f"row {int(row) & ((1 << TABLE_BITS) - 1)} of {name}"

    def _both(self, seen: Witness, one: int, other: int) -> str:
        what = f"version {seen.wrote[one]} of {self._row(seen.row[one])}"
        return f"{self._op(seen, one)} and {self._op(seen, other)} both wrote {what}"

    def _between(self, seen: Witness, at: int) -> str:
        over = np.flatnonzero(
            (seen.row == seen.row[at]) & (seen.wrote > seen.read[at]) & (seen.wrote < seen.wrote[at])
        )[:3]
        return (
            ", over " + ", ".join(f"{seen.wrote[each]} by {self._op(seen, each)}" for each in over.tolist())
            if len(over)
            else ""
        )


def _twins(seen: Witness) -> tuple[Numbers, Numbers]:
    """Neighbours among the writes with one version of one row, by different ops."""
    order = np.lexsort((seen.done, seen.wrote, seen.row))
    first, second = order[:-1], order[1:]
    same = (seen.row[first] == seen.row[second]) & (seen.wrote[first] == seen.wrote[second])
    same &= seen.number[first] != seen.number[second]
    return first[same], second[same]


def _lack(history: History, table: Table) -> str:
    if table.name not in history.final or f"final.{table.name}" in history.damaged:
        return f"the final read of {table.name} is not there"
    if history.final_facts.get(table.name, {}).get("gone"):
        return f"the table {table.name} was dropped"
    return ""
