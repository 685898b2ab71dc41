"""The figures of a stored run, as in its summary."""

from collections.abc import Mapping
from typing import Any, Protocol

from loadgen.history.history import History
from loadgen.history.timeline import Timeline, timeline
from loadgen.measures.errors import count_errors
from loadgen.measures.goodput import goodputs
from loadgen.measures.latency import response_and_service
from loadgen.measures.limit import limit_of
from loadgen.measures.objectives import measured
from loadgen.measures.offered import Offered
from loadgen.measures.phases import figures_by_phase, phases_of
from loadgen.measures.throughput import acknowledged, count_ops, due_s, duration_s
from loadgen.plan import Plan
from loadgen.schedule import main_kind
from loadgen.untrusted import mapping
from loadgen.workload.facts import WorkloadFacts, words_of


class Stored(Protocol):
    """A run as it was read: its plan, plan.json, load.json (empty if the load was killed) and its history."""

    plan: Plan
    facts: Mapping[str, Any]
    load: Mapping[str, Any]
    history: History
    offered: Offered


def figures_of(run: Stored) -> dict[str, Any]:
    """The figures of a run of any workload, under its own names: the main kind's ops are counted under the
    workload's own key, or in ``main`` if it has none."""
    processes, facts = run.offered.processes, facts_of(run)
    main, times = main_kind(run.plan, facts.arrivals), timeline(processes)
    counts = count_ops(processes, times, facts, main)
    response, service = response_and_service(processes, facts)
    figures: dict[str, Any] = {
        **_common_figures(run, facts, main, counts),
        **_limit(run, times, facts, main, counts),
        **({facts.figures: counts} if facts.figures else {}),
        "response_time_ms": response,
        "service_time_ms": service,
        "phases": figures_by_phase(
            phases_of(run.plan, mapping(run.facts.get("workload")), run.load),
            run.plan,
            processes,
            times,
            facts,
            main,
            run.load,
        ),
        "goodput": goodputs(run.plan.slo, processes, facts, due_s(processes, times)),
    }
    return {**figures, "slo": [measured(slo, {**figures, "main": counts}) for slo in run.plan.slo]}


def facts_of(run: Stored) -> WorkloadFacts:
    """The words of a run's workload."""
    return words_of(run.plan.workload, mapping(run.facts.get("workload")))


def _common_figures(run: Stored, facts: WorkloadFacts, main: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of any workload; ``counts`` are those of its main kind of op."""
    processes = run.history.processes
    return {
        "started_utc": run.facts.get("started_utc", ""),
        "duration_s": duration_s(processes, timeline(processes)),
        "engine": _engine(run),
        "errors": count_errors(processes, _known_errors(run.load)),
        "client": _client(run.load, counts),
        "sessions": run.load.get("sessions") or [],
        "acknowledged": acknowledged(processes),
        "main": {
            "kind": main,
            **({} if facts.figures else {"noun": facts.noun, "good": facts.good, **counts}),
            "acknowledged": acknowledged(processes, facts.kinds.index(main), facts.refused_codes),
        },
        "skipped_because": run.offered.skipped_because(None if facts.all_kinds_count else facts.kinds.index(main)),
        "seed": run.plan.seed,
    }


def _limit(run: Stored, times: Timeline, facts: WorkloadFacts, main: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    codes = None if facts.all_kinds_count else facts.main_codes(main)
    limit = limit_of(run.offered.processes, times, run.plan, counts, run.load, noun=f"{facts.noun}s", main=codes)
    return {"limited_by": limit.by, "limit": limit.text, "sessions_needed": limit.sessions_needed}


def _engine(run: Stored) -> dict[str, Any]:
    engine = mapping(run.facts.get("engine"))
    return {
        "name": engine.get("name", run.plan.engine),
        "edition": engine.get("edition", ""),
        **({"fork": engine["fork"]} if engine.get("fork") else {}),
        "version": engine.get("version", ""),
        "cluster": run.plan.cluster,
        "nodes": mapping(run.facts.get("cluster")).get("nodes", run.plan.nodes),
        "isolation": engine.get("level", run.plan.isolation),
    }


def _client(load: Mapping[str, Any], counts: Mapping[str, Any]) -> dict[str, Any]:
    """What the load processes cost. CPU time is divided by the started ops of the main kind, however they ended. The
    name of its key is from the time when the only workload had orders."""
    client = mapping(load.get("client"))
    cpu_seconds = client.get("cpu_seconds")
    per_op = client.get("cpu_us_per_order")
    if per_op is None and isinstance(cpu_seconds, int | float) and counts["started"]:
        per_op = round(cpu_seconds * 1e6 / counts["started"], 1)
    return {
        "cpu_seconds": cpu_seconds,
        "cpu_us_per_order": per_op,
        "saturated_seconds": client.get("saturated_seconds"),
        "peak_rss_mb": client.get("peak_rss_mb"),
    }


def _known_errors(load: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """``{code: (class, sample)}`` as the load side recorded it, as a pair or by name."""
    known = {}
    for code, told in mapping(load.get("errors")).items():
        pair = (told.get("class", ""), told.get("sample", "")) if isinstance(told, dict) else told
        if isinstance(pair, list | tuple) and len(pair) == 2:
            known[str(code)] = (str(pair[0]) or "other", str(pair[1]))
    return known
