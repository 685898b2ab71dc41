"""The figures of a run's phases: those of its shape and of its workload, and its warm-up.

A phase has the ops that were due in it. Its rate is that of the good answers that came in it, whenever they were due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loadgen.clock import NS_PER_S
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import Timeline
from loadgen.measures.goodput import goodputs
from loadgen.measures.latency import response_and_service
from loadgen.measures.throughput import count_ops, good_ends
from loadgen.plan import Plan
from loadgen.shapes import stored_phases
from loadgen.untrusted import mapping
from loadgen.workload.facts import WorkloadFacts

MOST_PHASES = 100
"""Of more steps than these, the first ones have figures of their own."""
_READ = ("kind", "due", "sent", "done", "outcome", "answer")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run, in seconds since the schedule began. ``of`` is ``shape``, ``workload`` or ``warm-up``."""

    name: str
    of: str
    from_s: float
    to_s: float


def phases_of(plan: Plan, told: Mapping[str, Any], load: Mapping[str, Any]) -> list[Phase]:
    """The phases of a run as far as it came. ``told`` is the workload's part of plan.json, ``load`` is load.json."""
    offered_s = load.get("offered_s")
    end_s = (
        min(plan.duration_s, offered_s) if isinstance(offered_s, int | float) and offered_s >= 0 else plan.duration_s
    )
    shape = {name: begin * plan.duration_s for name, begin in stored_phases(plan.shape, plan.duration_s)}
    own = {name: float(at) for name, at in mapping(told.get("phases")).items() if isinstance(at, int | float)}
    warm_up = {"warm-up": 0.0, "steady": plan.warm_up_s} if plan.warm_up_s else {}
    phases = []
    for of, begins in (("warm-up", warm_up), ("shape", shape), ("workload", own)):
        ordered = sorted(((at, name) for name, at in begins.items() if 0 <= at < end_s), key=lambda each: each[0])
        ends = [*(at for at, _ in ordered), end_s][1:]
        for (at, name), end in zip(ordered, ends, strict=True):
            phases.append(Phase(str(name), of, round(at, 3), round(end, 3)))
    return phases[:MOST_PHASES]


def figures_by_phase(
    phases: Sequence[Phase],
    plan: Plan,
    processes: Sequence[LoadProcess],
    times: Timeline,
    facts: WorkloadFacts,
    main: str,
    load: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Of each phase its bounds, the counts of the main kind and its good answers a second, the times of each kind, and
    the goodput.

    ``processes`` are complete (measures.offered).
    """
    begin_ns = _begin_ns(times, load)
    good = np.sort(np.concatenate([np.empty(0, np.int64), *good_ends(processes, times, facts, main)])) - begin_ns
    told = []
    for phase in phases:
        from_ns, to_ns = (int(at_s * NS_PER_S) for at_s in (phase.from_s, phase.to_s))
        parts = [
            _between(process, from_ns + begin_ns - shift, to_ns + begin_ns - shift)
            for process, shift in zip(processes, times.shifts, strict=True)
        ]
        counts = count_ops(parts, times, facts, main)
        response, service = response_and_service(parts, facts)
        answered = int(np.diff(np.searchsorted(good, (from_ns, to_ns)))[0])
        length_s = phase.to_s - phase.from_s
        told.append(
            {
                "name": phase.name,
                "of": phase.of,
                "from_s": phase.from_s,
                "to_s": phase.to_s,
                **counts,
                "per_second_mean": round(answered / length_s, 2) if length_s > 0 else None,
                "response_time_ms": response,
                "service_time_ms": service,
                "goodput": goodputs(plan.slo, parts, facts, length_s),
            }
        )
    return told


def _begin_ns(times: Timeline, load: Mapping[str, Any]) -> int:
    """When the schedule began, in nanoseconds since the first op was due: 0 or before."""
    told = load.get("start_wall_ns")
    return min(0, told - times.start_wall_ns) if isinstance(told, int) else 0


def _between(process: LoadProcess, from_ns: int, to_ns: int) -> LoadProcess:
    """The process with those of its ops that were due in this time, of its own clock."""
    due = process.ops["due"]
    chosen = (due >= from_ns) & (due < to_ns)
    return replace(process, ops={name: process.ops[name][chosen] for name in _READ})
