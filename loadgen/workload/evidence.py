"""Evidence: what a check gets to see of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import History
from loadgen.history.timeline import timeline
from loadgen.op import Outcome
from loadgen.plan import Plan

if TYPE_CHECKING:
    from loadgen.workload.workload import Workload

T = TypeVar("T")
Columns = Mapping[str, NDArray[Any]]
Numbers = NDArray[np.int64]
OPS = ("number", "kind", "answer", "outcome", "due", "sent", "done", "tries")


class Contradiction(Exception):  # noqa: N818 - what a history says, not an error of ours
    """The history contradicts itself or the plan, so that nothing can be proved from it."""


@dataclass
class Evidence:
    """One stored run, as its checks see it. Checks are pure functions of it, except that they may add ``doubts`` and
    ``warnings``."""

    plan: Plan
    history: History
    facts: Mapping[str, Any]
    """plan.json."""
    load: Mapping[str, Any]
    """load.json; empty if the run was killed before it ended."""
    whole: bool = True
    """Whether the history has every number that a load process received."""
    real_time_reads: bool = True
    """Whether the cluster documents that what was acknowledged is seen from then on."""
    statement_snapshot: bool = True
    """Whether the level that the run had promises each statement one snapshot."""
    transaction_snapshot: bool = False
    """Whether the level that the run had promises a whole transaction one snapshot: snapshot isolation and up."""
    doubts: list[str] = field(default_factory=list)
    """Why nothing may be called valid: a check may add one."""
    warnings: list[str] = field(default_factory=list)
    lost_numbers: bool = False
    """Whether a part of what was asked is missing. Data that no op asked for then proves nothing."""
    workload: "Workload | None" = None
    """The workload that names the kinds and answers; None if no names are needed."""
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def doubt(self) -> str:
        """The first doubt, and how many more there are; empty if there is none."""
        more = f" (and {len(self.doubts) - 1} more)" if len(self.doubts) > 1 else ""
        return self.doubts[0] + more if self.doubts else ""

    def derived(self, make: Callable[["Evidence"], T]) -> T:
        """The result of ``make`` for this evidence, computed once for all checks."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    @property
    def ops(self) -> Columns:
        """Every op that ended, of all load processes: the columns OPS, and ``session``, ``process`` (its place
        among the load processes) and ``clock`` (equal where times, in nanoseconds, may be compared)."""
        return self.derived(_ops)

    @property
    def touched(self) -> Columns:
        """What ops did to versioned rows: ``row``, ``read``, ``wrote`` (-1: not), and ``op``, its place in ``ops``."""
        return self.derived(_touched)

    @property
    def invoked(self) -> Columns:
        """The meaning of each number that a load process received: the workload's own columns, by ascending number."""
        return self.derived(_invoked)

    @property
    def final(self) -> Mapping[str, Columns]:
        """The columns of each table as it was at the end."""
        return self.history.final

    def meaning(self, numbers: Numbers) -> Columns:
        """The workload's own columns of these numbers. Raises Contradiction for an unknown number."""
        invoked = self.invoked
        known = invoked.get("number", np.zeros(0, np.int64))
        at = np.searchsorted(known, numbers)
        if (at >= len(known)).any() or (known[at] != numbers).any():
            raise Contradiction("an op ended with a number that no load process received")
        return {name: values[at] for name, values in invoked.items()}

    def acknowledged(self, kind: str, *answers: str) -> Numbers:
        """The numbers whose op of this kind was answered by one of ``answers``; by any that is no refusal, if none."""
        ops, workload = self.ops, self._words()
        wanted = answers or tuple(answer for answer in workload.answers if answer not in workload.refused)
        codes = [workload.answers.index(answer) for answer in wanted]
        mine = (ops["kind"] == workload.kinds.index(kind)) & (ops["outcome"] == Outcome.OK)
        return np.asarray(ops["number"][mine & np.isin(ops["answer"], codes)])

    def may_have_happened(self, kind: str) -> Numbers:
        """The numbers whose op of this kind has an unknown outcome: its end is unknown, or its load process died and
        may have sent it."""
        workload = self._words()
        code = workload.kinds.index(kind)
        parts = [np.zeros(0, np.int64)]
        for process in self.history.processes:
            ops = process.ops
            mine = ops["kind"] == code
            parts.append(ops["number"][mine & (ops["outcome"] == Outcome.INFO)])
            handed = process.invoked.get("number", np.zeros(0, np.int64))
            if kind in workload.arrivals:
                handed = handed[process.invoked["kind"] == code] if "kind" in process.invoked else handed
            if process.closed_at is not None:
                # One that ended in order told of everything that followed, and of what it was handed up to here.
                handed = handed[handed < process.closed_at] if kind in workload.arrivals else handed[:0]
            parts.append(handed[~np.isin(handed, ops["number"][mine])])
        return np.unique(np.concatenate(parts)).astype(np.int64)

    def must_not_exist(self, kind: str) -> Numbers:
        """The numbers whose op of this kind changed nothing for certain: refused, failed or never started."""
        known = self.invoked.get("number", np.zeros(0, np.int64))
        return np.setdiff1d(known, np.concatenate((self.acknowledged(kind), self.may_have_happened(kind))))

    def _words(self) -> "Workload":
        if self.workload is None:
            raise Contradiction("the names of this run's kinds and answers are not known")
        return self.workload


def _joined(parts: list[dict[str, NDArray[Any]]]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _ops(evidence: Evidence) -> Columns:
    processes = evidence.history.processes
    clocks = timeline(processes).boots
    nothing = {name: np.zeros(0, np.int64) for name in (*OPS, "session", "process", "clock")}
    parts = [nothing]
    for index, process in enumerate(processes):
        count = len(process.ops["number"])
        whose = {"process": np.full(count, index), "clock": np.full(count, clocks[index])}
        parts.append({**{name: process.ops[name] for name in OPS}, "session": process.ops["process"], **whose})
    return _joined(parts)


def _touched(evidence: Evidence) -> Columns:
    nothing = {name: np.zeros(0, np.int64) for name in ("row", "read", "wrote", "op")}
    parts, before = [nothing], 0
    for process in evidence.history.processes:
        counts = np.diff(process.ops["touched_start"])
        part = {name: process.ops[f"touched_{name}"] for name in ("row", "read", "wrote")}
        parts.append({**part, "op": before + np.repeat(np.arange(len(counts)), counts)})
        before += len(counts)
    return _joined(parts)


def _invoked(evidence: Evidence) -> Columns:
    told = [dict(process.invoked) for process in evidence.history.processes if len(process.invoked)]
    if any(part.keys() != told[0].keys() for part in told):
        raise Contradiction("load processes received different columns")
    columns = _joined(told)
    if "number" not in columns:
        return columns
    order = np.argsort(columns["number"], kind="stable")
    return {name: values[order] for name, values in columns.items()}
