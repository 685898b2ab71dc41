"""How long ops took: response time from the instant they were due, service time from the instant they were sent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.percentiles import percentiles
from loadgen.shop import sale
from loadgen.workload.facts import WorkloadFacts

REFUSED = "_refused"

Times = dict[str, dict[str, float | int | None]]


def response_and_service(processes: Sequence[LoadProcess], facts: WorkloadFacts = sale.FACTS) -> tuple[Times, Times]:
    """``{kind: {p50, p90, p95, p99, p999, max, count}}`` in milliseconds, by response and by service.

    Of every answered op of each kind; of the first kind that arrives, those that were refused stand apart, under
    ``KIND_refused``. What failed or is ``info`` was not answered, and what was skipped was not asked: they count
    elsewhere.
    """
    split = facts.arrivals[0] if facts.refused and not facts.all_kinds_count else ""
    refusals = np.array(facts.refused_codes, dtype=np.int64)
    response: Times = {}
    service: Times = {}
    for code, kind in enumerate(facts.kinds):
        for name in (kind, kind + REFUSED) if kind == split else (kind,):
            spans: dict[str, list[NDArray[np.int64]]] = {"due": [], "sent": []}
            for process in processes:
                ops = process.ops
                chosen = (ops["outcome"] == Outcome.OK) & (ops["kind"] == code)
                if kind == split:
                    chosen &= np.isin(ops["answer"], refusals) == (name != kind)
                for since, parts in spans.items():
                    parts.append(ops["done"][chosen] - ops[since][chosen])
            response[name] = percentiles(np.concatenate([*spans["due"], _NONE]))
            service[name] = percentiles(np.concatenate([*spans["sent"], _NONE]))
    return response, service


_NONE = np.empty(0, np.int64)
