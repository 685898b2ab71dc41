"""Goodput: of what was due, how much was answered within the time that an objective allows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadgen.clock import NS_PER_MS
from loadgen.history.history import LoadProcess
from loadgen.measures.latency import chosen_ops
from loadgen.plan import Slo
from loadgen.workload.facts import WorkloadFacts


def goodputs(
    slos: Sequence[Slo], processes: Sequence[LoadProcess], facts: WorkloadFacts, length_s: float | None
) -> list[dict[str, Any]]:
    """``[{objective, kind, limit_ms, within, due, share, per_second}]`` of each objective that limits a time.

    ``within`` ops of the kind were answered within the limit, of those ``due``: what failed, is ``info`` or was skipped
    is late too. ``length_s`` is how long they were due (None: no time at all). ``processes`` are complete.
    """
    told = []
    for slo in slos:
        kind, *service, _ = slo.metric.split(".") if "." in slo.metric else ("", "")
        if kind not in facts.timed or not slo.relation.startswith("<"):
            continue
        since = "sent" if service else "due"
        within = due = 0
        for process in processes:
            of_kind, answered = chosen_ops(process, facts, kind)
            due += int(of_kind.sum())
            took = (process.ops["done"] - process.ops[since])[answered]
            within += int(np.count_nonzero(took <= slo.bound * NS_PER_MS))
        told.append(
            {
                "objective": slo.text,
                "kind": kind,
                "limit_ms": slo.bound,
                "within": within,
                "due": due,
                "share": round(within / due, 6) if due else None,
                "per_second": round(within / length_s, 2) if length_s else None,
            }
        )
    return told
