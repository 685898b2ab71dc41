"""Checks of the version witness that every table with a version column gets without code.

Each write of such a row takes the next version, from 1 on, and its row is never deleted. A body reports in
Reply.touched which row it touched (``versioned_row``), the version that its write was computed from (-1: none), and the
version that it wrote (-1: none). An op with an unknown outcome can account for versions, and is never reported as a
violation.

fractured-read holds the kinds in Workload.snapshot_reads to one snapshot where the level promises one: to the whole
transaction from snapshot isolation up, to a single statement from read committed up.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import PlanError
from loadgen.history.history import History
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.untrusted import mapping, texts
from loadgen.verdict import Finding
from loadgen.workload.evidence import Evidence
from loadgen.workload.facts import workload_facts
from loadgen.workload.fractures import Fracture, Versions, fractures
from loadgen.workload.table import TABLE_BITS, Table, versioned_row
from loadgen.workload.witness import (
    FinalVersions,
    Witness,
    below_known,
    first_to_end,
    known_versions,
    times_written,
    twins,
)
from loadgen.workload.workload import Check, Workload

MOST_WITNESSES = 20


def version_checks(workload: Workload, plan: Plan) -> tuple[Check, ...]:
    """The generic checks of a workload's tables with a version column; none where it has none."""
    tables = tuple(table for table in workload.tables(plan) if table.version)
    if not tables:
        return ()
    judged = _Judged(workload, tables)
    fractured = Check(
        "fractured-read",
        judged.fractured_read,
        "A reader saw one half of what another transaction wrote, and not the other.",
        True,
    )
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
        *((fractured,) if workload.snapshot_reads else ()),
    )


def stored_words(told: Mapping[str, Any]) -> Workload | None:
    """A workload with the words and the versioned tables in plan.json, and no code; None if plan.json has none that can
    be used."""
    listed = [mapping(each) for each in told.get("versions") or () if isinstance(each, dict)]
    named = [{name: str(each.get(name) or "") for name in ("table", "version", "row")} for each in listed]
    tables = tuple(
        Table(each["table"], "", {}, version=each["version"], row=each["row"]) for each in named if each["version"]
    )
    words = workload_facts(told)
    try:
        return Workload(
            name=str(told.get("name")),
            kinds=words.kinds,
            answers=words.answers,
            arrivals=words.arrivals,
            refused=words.refused,
            tables=lambda _plan: tables,
            invoked_types={},
            invoked=lambda _plan, _first, _count: {},
            ops=lambda _plan, _columns: (),
            snapshot_reads=tuple(texts(told.get("snapshot_reads"))),
            single_statements=tuple(texts(told.get("single_statements"))),
        )
    except PlanError:
        return None


class _Judged:
    """The versioned tables of one workload."""

    def __init__(self, workload: Workload, tables: tuple[Table, ...]) -> None:
        self._workload = workload
        self._tables = tables

    def witness(self, evidence: Evidence) -> Witness:
        """The versions in the history."""
        return evidence.derived(self._witness)

    def lost_update(self, evidence: Evidence) -> Finding:
        """Two writes from one version, or a write that is not the next one after the version that it read."""
        seen = self.witness(evidence)
        # An op that writes a row twice may tell the same read with both.
        stale = (seen.read >= 0) & ((seen.wrote <= seen.read) | (seen.wrote > seen.read + seen.own))
        first, second = twins(seen)
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
        ends = final.of(seen.row)
        gone = np.flatnonzero(seen.wrote > ends) if not lack else np.zeros(0, np.int64)
        first, second = twins(seen)
        blind = (seen.read[first] < 0) | (seen.read[second] < 0)
        words = [
            f"{self._op(seen, at)} wrote version {seen.wrote[at]} of {self._row(seen.row[at])}, "
            f"which ends at {ends[at]}"
            for at in gone[:MOST_WITNESSES].tolist()
        ] + [self._both(seen, a, b) for a, b in zip(first[blind].tolist(), second[blind].tolist(), strict=True)]
        return Finding("lost-write", len(gone) + int(blind.sum()), tuple(words[:MOST_WITNESSES]), lack)

    def phantom_write(self, evidence: Evidence) -> Finding:
        """More versions than acknowledged and open writes explain. Counts versions.

        An open op that was sent after a version was acknowledged explains no version below that one: so what is missing
        below each known version is counted, too.
        """
        seen = self.witness(evidence)
        final, lack = self._final(evidence)
        if lack:
            return Finding("phantom-write", unknown=lack)
        known = known_versions(seen, final)
        missing, opened = below_known(seen, known)
        below = missing - opened * seen.most
        told = np.bincount(known.place, minlength=len(final.row))
        spare = final.version - told - seen.open_ops * seen.most
        highest = spare.copy()
        np.maximum.at(highest, known.place, below)
        guilty = np.flatnonzero(highest > 0)
        words = [
            f"{self._row(final.row[at])} ends at version {final.version[at]}, and {told[at]} known and "
            f"{seen.open_ops} open writes explain no more"
            for at in guilty[:MOST_WITNESSES].tolist()
        ]
        for index, at in enumerate(guilty[:MOST_WITNESSES].tolist()):
            if highest[at] > spare[at]:
                early = int(np.argmax(np.where(known.place == at, below, np.iinfo(np.int64).min)))
                words[index] += (
                    f": {missing[early]} versions before {known.wrote[early]} have no known "
                    f"writer, and {opened[early]} open ops were sent before that one was acknowledged"
                )
        return Finding("phantom-write", int(highest[guilty].sum()), tuple(words))

    def real_time_order(self, evidence: Evidence) -> Finding:
        """A write that ended before another was sent, on one clock, and has the larger version of the row.

        For each write, only the larger version of the row that ended first matters: a suffix minimum, so n log n.
        """
        seen = self.witness(evidence)
        order = np.lexsort((seen.wrote, seen.row, seen.clock))
        row, clock, wrote = seen.row[order], seen.clock[order], seen.wrote[order]
        done, sent = seen.done[order], seen.sent[order]
        count = len(order)
        starts = np.concatenate(([True], (row[1:] != row[:-1]) | (clock[1:] != clock[:-1])))[:count]
        group = np.cumsum(starts, dtype=np.int64)
        # The first position after each one that has another version, or is of another group.
        new = np.concatenate((starts[1:] | (wrote[1:] != wrote[:-1]), [True]))[:count]
        after = np.minimum.accumulate(np.where(new, np.arange(1, count + 1), count)[::-1])[::-1]
        inside = after < count
        inside[inside] = group[after[inside]] == group[inside]
        late = np.flatnonzero(inside)
        earliest = first_to_end(group, done)[after[late]]
        broken = done[earliest] < sent[late]
        words = [
            f"{self._op(seen, first)} ended before {self._op(seen, second)} was sent, and yet it wrote version "
            f"{seen.wrote[first]} of {self._row(seen.row[second])}, and the other {seen.wrote[second]}"
            for first, second in zip(
                order[earliest[broken]][:MOST_WITNESSES].tolist(),
                order[late[broken]][:MOST_WITNESSES].tolist(),
                strict=True,
            )
        ]
        return Finding("real-time-order", int(broken.sum()), tuple(words))

    def fractured_read(self, evidence: Evidence) -> Finding:
        """A reader that saw one write of a transaction and, of another row, an older version than the same one wrote.

        If the level promises no snapshot to a statement, fractured reads of single statements are reported and are not
        violations.
        """
        workload, ops = self._workload, evidence.ops
        single = [kind for kind in workload.snapshot_reads if kind in workload.single_statements]
        kinds = workload.snapshot_reads if evidence.transaction_snapshot else single
        reader = self._fine(evidence) & np.isin(ops["kind"], [workload.kinds.index(kind) for kind in kinds])
        writes, reads = evidence.touched, evidence.touched
        wrote = self._fine(evidence)[writes["op"]] & (writes["wrote"] >= 0)
        read = reader[reads["op"]] & (reads["read"] >= 0) & (reads["wrote"] < 0)
        count, found, left = fractures(
            Versions(*(writes[name][wrote].astype(np.int64) for name in ("op", "row", "wrote"))),
            Versions(*(reads[name][read].astype(np.int64) for name in ("op", "row", "read"))),
            MOST_WITNESSES,
        )
        if left:
            evidence.warnings.append(f"fractured-read: {left} ops were left out because they are too many to compare")
        words = [self._fracture(evidence, each) for each in found]
        if evidence.transaction_snapshot or evidence.statement_snapshot or not count:
            return Finding("fractured-read", count, tuple(words))
        promise = (
            f"{count} fractured reads; no violation, because this level does not promise a snapshot to a statement"
        )
        return Finding("fractured-read", 0, (promise, *words)[:MOST_WITNESSES])

    def _witness(self, evidence: Evidence) -> Witness:
        ops, touched = evidence.ops, evidence.touched
        mine = self._fine(evidence)[touched["op"]] & (touched["wrote"] >= 0)
        owner = touched["op"][mine]
        joined = {name: ops[name][owner].astype(np.int64) for name in ("number", "kind", "clock", "sent", "done")}
        joined |= {name: touched[name][mine].astype(np.int64) for name in ("row", "read", "wrote")}
        info = ops["outcome"] == Outcome.INFO
        told = info[touched["op"]] & (touched["wrote"] >= 0)
        # What a body told before its end was lost may be less than it wrote: every open op explains more.
        readers = {*self._workload.snapshot_reads, *self._workload.single_statements}
        writing = [kind for kind in self._workload.kinds if kind not in readers]
        infos = info & np.isin(ops["kind"], [self._workload.kinds.index(kind) for kind in writing])
        untold = sum(
            len(np.setdiff1d(evidence.may_have_happened(kind), ops["number"][infos & (ops["kind"] == code)]))
            for code, kind in enumerate(self._workload.kinds)
            if kind in writing
        )
        alone = len(np.unique(ops["clock"])) == 1
        own = times_written(joined["number"], joined["row"])
        return Witness(
            **joined,
            own=own,
            known_row=touched["row"][told].astype(np.int64),
            known_wrote=touched["wrote"][told].astype(np.int64),
            open_ops=untold + int(infos.sum()),
            open_sent=np.sort(ops["sent"][infos & alone].astype(np.int64)),
            most=max(2, int(own.max(initial=1))),
        )

    def _fine(self, evidence: Evidence) -> NDArray[np.bool_]:
        """By op: whether it was acknowledged, and no refusal."""
        refused = [self._workload.answers.index(answer) for answer in self._workload.refused]
        fine = (evidence.ops["outcome"] == Outcome.OK) & ~np.isin(evidence.ops["answer"], refused)
        return np.asarray(fine)

    def _final(self, evidence: Evidence) -> tuple["FinalVersions", str]:
        return evidence.derived(self._finals)

    def _finals(self, evidence: Evidence) -> tuple["FinalVersions", str]:
        """Each row's version at the end; why that is not known, if it is not."""
        rows, versions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for index, table in enumerate(self._tables):
            if lack := _lack(evidence.history, table):
                return FinalVersions(rows[0], versions[0]), lack
            columns = evidence.history.final[table.name]
            if not callable(table.row) and table.row not in columns:
                return FinalVersions(rows[0], versions[0]), f"only the workload's file numbers the rows of {table.name}"
            numbers = table.row(evidence.plan, columns) if callable(table.row) else columns[table.row]
            rows.append(np.asarray(numbers).astype(np.int64) + versioned_row(index, 0))
            versions.append(np.asarray(columns[table.version]).astype(np.int64))
        row, place = np.unique(np.concatenate(rows), return_index=True)
        return FinalVersions(row, np.concatenate(versions)[place]), ""

    def _fracture(self, evidence: Evidence, torn: Fracture) -> str:
        kinds, ops = self._workload.kinds, evidence.ops
        reader, writer = (f"{kinds[ops['kind'][at]]} {ops['number'][at]}" for at in (torn.reader, torn.writer))
        return (
            f"{reader} saw {self._row(torn.row)} at version {torn.saw} and {self._row(torn.other_row)} at "
            f"{torn.other_saw}, but {writer} wrote version {torn.wrote} of the one and {torn.other_wrote} of the other "
            f"in one transaction"
        )

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


def _lack(history: History, table: Table) -> str:
    if table.name not in history.final or f"final.{table.name}" in history.damaged:
        return f"the final read of {table.name} is not there"
    if history.final_facts.get(table.name, {}).get("gone"):
        return f"the table {table.name} was dropped"
    return ""
