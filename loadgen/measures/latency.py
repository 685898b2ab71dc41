"""How long ops took: response time from the instant they were due, service time from the instant they were sent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.percentiles import percentiles
from loadgen.shop.sale import Answer, Kind

REFUSALS = (Answer.SOLD_OUT, Answer.LIMITED)

Times = dict[str, dict[str, float | int | None]]


def response_and_service(processes: Sequence[LoadProcess]) -> tuple[Times, Times]:
    """``{kind: {p50, p90, p95, p99, p999, max, count}}`` in milliseconds, by response and by service.

    Of every answered op: ``order`` are the placed ones, ``order_refused`` those that were sold out or over the limit.
    What failed or is ``info`` was not answered, and what was skipped was not asked: they count elsewhere.
    """
    response: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _NAMES}
    service: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _NAMES}
    for process in processes:
        ops = process.ops
        ok = ops["outcome"] == Outcome.OK
        for name, kind in _NAMES.items():
            chosen = ok & (ops["kind"] == kind)
            if kind == Kind.ORDER:
                chosen &= np.isin(ops["answer"], REFUSALS) == (name == "order_refused")
            done = ops["done"][chosen]
            response[name].append(done - ops["due"][chosen])
            service[name].append(done - ops["sent"][chosen])
    return (
        {name: percentiles(np.concatenate([*parts, _NONE])) for name, parts in response.items()},
        {name: percentiles(np.concatenate([*parts, _NONE])) for name, parts in service.items()},
    )


_NONE = np.empty(0, np.int64)
_NAMES = {
    "order": Kind.ORDER,
    "order_refused": Kind.ORDER,
    "pay": Kind.PAY,
    "cancel": Kind.CANCEL,
    "release": Kind.RELEASE,
    "browse": Kind.BROWSE,
}
