"""Service level objectives: which of them a run can measure, and what it measured."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadgen.percentiles import LEAST_FOR_P999
from loadgen.plan import SLO_PEAK, SLO_SHARES, Plan, Slo
from loadgen.schedule import arrival_profile
from loadgen.shapes import is_closed
from loadgen.workload.facts import REFUSED, WorkloadFacts, words_of


def unmeasurable(
    plan: Plan,
    arriving: Sequence[str],
    duration_s: float,
    words: WorkloadFacts | None = None,
    followed: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """What of the plan's objectives its run can't measure, in one line; empty if it can measure all of them.

    ``arriving`` are the kinds that arrive by themselves, ``duration_s`` is how long they do; ``words`` are the
    workload's own. ``followed`` are the arriving kinds that each of the others follows; if it is not said, the first.
    """
    why_none = (words or words_of(plan.workload, {})).no_objectives
    for slo in plan.slo:
        reason = f"{plan.workload} {why_none}" if why_none else ""
        if reason := reason or _unmeasurable(slo, plan, arriving, duration_s, followed or {}):
            return f"--slo {slo.text!r} can't be measured: {reason}"
    return ""


def measured(slo: Slo, figures: Mapping[str, Any]) -> dict[str, Any]:
    """An objective with the value that a run's ``figures`` have for it: ``{text, value, met}``."""
    value = _value(slo.metric, figures)
    return {"text": slo.text, "value": value, "met": slo.met_by(value)}


def _unmeasurable(
    slo: Slo, plan: Plan, arriving: Sequence[str], duration_s: float, followed: Mapping[str, Sequence[str]]
) -> str:
    weights = dict(plan.kind_weights)
    kind = arriving[0] if "." not in slo.metric else slo.metric.partition(".")[0].removesuffix(REFUSED)
    origins = [kind] if kind in arriving else followed.get(kind, arriving[:1])
    present = [name for name in origins if weights.get(name)]
    if not weights.get(kind):
        return f"no {kind} is in this run's mix (--tags, --exclude-tags)"
    if not present:
        named = " or ".join(origins)
        return f"{kind} follows {named}, and no {named} is in this run's mix (--tags, --exclude-tags)"
    if slo.metric.endswith(".p999") and not is_closed(plan.shape):
        most = sum(_most(name, plan, arriving, duration_s) for name in present)
        if most < LEAST_FOR_P999:
            return f"p99.9 needs {LEAST_FOR_P999:,} samples, and this run has {most:,} at most"
    return ""


def _most(kind: str, plan: Plan, arriving: Sequence[str], duration_s: float) -> int:
    """The most ops of a kind that will arrive, with a chance of one in a million to be exceeded."""
    weights = dict(plan.kind_weights)
    share = weights[kind] / sum(weights.get(name, 0) for name in arriving)
    schedule = arrival_profile(plan, arriving)
    mean = float(schedule.cumulative(np.array(duration_s))) * share
    return math.ceil(mean + 5 * math.sqrt(mean))


def _value(metric: str, figures: Mapping[str, Any]) -> float | None:
    # Without "main": the counts are under the workload's own key.
    counts = figures["main"] if "main" in figures else next(each for each in figures.values() if "due" in each)
    if metric in SLO_SHARES:
        return round(100 * counts[metric] / counts["due"], 4) if counts["due"] else None
    if "." not in metric:
        figure = counts["per_second_peak" if metric == SLO_PEAK else "per_second_mean"]
        return None if figure is None else float(figure)
    kind, *service, percentile = metric.split(".")
    figure = figures["service_time_ms" if service else "response_time_ms"].get(kind, {}).get(percentile)
    return None if figure is None else float(figure)
