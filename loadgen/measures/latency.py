"""How long ops took: response time from the instant they were due, service time from the instant they were sent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.percentiles import percentiles
from loadgen.workload.facts import REFUSED, WorkloadFacts

Times = dict[str, dict[str, float | int | None]]


def response_and_service(processes: Sequence[LoadProcess], facts: WorkloadFacts) -> tuple[Times, Times]:
    """``{kind: {p50, p90, p95, p99, p999, max, count}}`` in milliseconds, by response and by service.

    Of every answered op of each kind; of the first kind that arrives, those that were refused stand apart, under
    ``KIND_refused``. What failed or is ``info`` was not answered, and what was skipped was not asked: they count
    elsewhere.
    """
    names = {
        name: (facts.kinds.index(kind), name != kind)
        for name in facts.timed
        for kind in (name if name in facts.kinds else name.removesuffix(REFUSED),)
    }
    refusals = np.array(facts.refused_codes, dtype=np.int64)
    response: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    service: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    for process in processes:
        ops = process.ops
        ok = ops["outcome"] == Outcome.OK
        for name, (code, refused) in names.items():
            chosen = ok & (ops["kind"] == code)
            if facts.kinds[code] == facts.split:
                chosen &= np.isin(ops["answer"], refusals) == refused
            done = ops["done"][chosen]
            response[name].append(done - ops["due"][chosen])
            service[name].append(done - ops["sent"][chosen])
    return (
        {name: percentiles(np.concatenate([*parts, _NONE])) for name, parts in response.items()},
        {name: percentiles(np.concatenate([*parts, _NONE])) for name, parts in service.items()},
    )


_NONE = np.empty(0, np.int64)
