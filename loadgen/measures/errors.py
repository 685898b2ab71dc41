"""What went wrong, by code and stage: failed tries that were tried again, and ops that ended in fail or info."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadgen.history.history import LoadProcess
from loadgen.op import Outcome, Stage


def count_errors(processes: Sequence[LoadProcess], known: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """``[{code, class, stage, count, sample}]``, the most frequent first. ``known`` maps a code to class and sample."""
    counts: Counter[tuple[str, int]] = Counter()
    for process in processes:
        for rows in (process.ops, process.tries):
            went_wrong = np.flatnonzero((rows["outcome"] == Outcome.FAIL) | (rows["outcome"] == Outcome.INFO))
            codes, stages = rows["code"][went_wrong].tolist(), rows["stage"][went_wrong].tolist()
            counts.update(zip(codes, stages, strict=True))
    return [
        {
            "code": code,
            "class": known.get(code, ("other", ""))[0],
            "stage": _stage(stage),
            "count": count,
            "sample": known.get(code, ("other", ""))[1],
        }
        for (code, stage), count in counts.most_common()
    ]


def _stage(code: int) -> str:
    return Stage(code).name.lower() if code < len(Stage) else str(code)
