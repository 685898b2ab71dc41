"""The figures of a stored run, as they stand in its summary."""

from collections.abc import Mapping
from typing import Any, Protocol

from loadgen.history.history import History
from loadgen.history.timeline import timeline
from loadgen.measures.errors import count_errors
from loadgen.measures.latency import response_and_service
from loadgen.measures.limit import limit_of
from loadgen.measures.objectives import measured
from loadgen.measures.offered import Offered
from loadgen.measures.probes import count_transactions, times_by_kind
from loadgen.measures.throughput import acknowledged, count_orders, duration_s
from loadgen.plan import Plan
from loadgen.schedule import main_kind
from loadgen.shop import sale
from loadgen.untrusted import mapping, texts
from loadgen.workload import probes


class Stored(Protocol):
    """A run as it was read: its plan, plan.json, load.json (empty if the load was killed) and its history."""

    plan: Plan
    facts: Mapping[str, Any]
    load: Mapping[str, Any]
    history: History
    offered: Offered


def sale_figures(run: Stored) -> dict[str, Any]:
    """The figures of a sale: of its orders."""
    processes = run.offered.processes
    orders = count_orders(processes, timeline(processes))
    response, service = response_and_service(processes)
    figures: dict[str, Any] = {
        **_common_figures(run, orders),
        "orders": orders,
        "response_time_ms": response,
        "service_time_ms": service,
    }
    return {**figures, "slo": [measured(slo, figures) for slo in run.plan.slo]}


def probe_figures(run: Stored) -> dict[str, Any]:
    """The figures of a probe: of its transactions, whatever their kind. It has no objectives."""
    processes = run.offered.processes
    counts = count_transactions(processes, timeline(processes))
    response, service = times_by_kind(processes, texts(mapping(run.facts.get("workload")).get("kinds")))
    return {
        **_common_figures(run, counts),
        "transactions": counts,
        "response_time_ms": response,
        "service_time_ms": service,
        "slo": [{"text": slo.text, "value": None, "met": False} for slo in run.plan.slo],
    }


def _common_figures(run: Stored, counts: Mapping[str, Any]) -> dict[str, Any]:
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
        "main": _main(run),
        **_limit(run, counts),
        "skipped_because": run.offered.skipped_because(0 if "placed" in counts else None),
        "seed": run.plan.seed,
    }


def _limit(run: Stored, counts: Mapping[str, Any]) -> dict[str, Any]:
    processes = run.offered.processes
    limit = limit_of(processes, timeline(processes), run.plan, counts, run.load)
    return {"limited_by": limit.by, "limit": limit.text, "sessions_needed": limit.sessions_needed}


def _main(run: Stored) -> dict[str, Any]:
    """The main kind of op, and how many of it were answered well: not by a refusal."""
    workload = mapping(run.facts.get("workload"))
    kinds = texts(workload.get("kinds")) or list(sale.KIND_NAMES)
    arriving = texts(workload.get("arrivals")) or (["order", "browse"] if "order" in kinds else kinds)
    kind = main_kind(run.plan, arriving)
    refusals = sale.REFUSALS if run.plan.workload == "flashsale" else probes.REFUSALS
    code = kinds.index(kind) if kind in kinds else 0
    return {"kind": kind, "acknowledged": acknowledged(run.history.processes, code, refusals)}


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


def _client(load: Mapping[str, Any], orders: Mapping[str, Any]) -> dict[str, Any]:
    """What the load processes cost. CPU time is divided by the orders that were started, whatever became of them."""
    client = mapping(load.get("client"))
    cpu_seconds = client.get("cpu_seconds")
    per_order = client.get("cpu_us_per_order")
    if per_order is None and isinstance(cpu_seconds, int | float) and orders["started"]:
        per_order = round(cpu_seconds * 1e6 / orders["started"], 1)
    return {
        "cpu_seconds": cpu_seconds,
        "cpu_us_per_order": per_order,
        "saturated_seconds": client.get("saturated_seconds"),
        "peak_rss_mb": client.get("peak_rss_mb"),
    }


def _known_errors(load: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """``{code: (class, sample)}`` as the load side told, as a pair or by name."""
    known = {}
    for code, told in mapping(load.get("errors")).items():
        pair = (told.get("class", ""), told.get("sample", "")) if isinstance(told, dict) else told
        if isinstance(pair, list | tuple) and len(pair) == 2:
            known[str(code)] = (str(pair[0]) or "other", str(pair[1]))
    return known
