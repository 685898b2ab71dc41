"""The judge: from a run directory to its summary. Needs no database, and writes nothing.

``summary.json`` holds what ``judge`` answers. Its stable keys: ``verdict complete started_utc duration_s engine orders
response_time_ms service_time_ms undersell errors violations checks slo client warnings seed``. Beside them:
``cut_short signalled died lost error`` (how the run ended), ``acknowledged`` (answered ops of any kind), ``main {kind,
acknowledged}`` (those of the main kind that no refusal answered), ``skipped_because``, ``unknown`` (why the verdict
is unknown, where it is) and ``replica_reads`` (what browses of replicas saw; null without ``--read-from replica``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadgen import probes, sale
from loadgen.checks.asked import Contradiction
from loadgen.checks.books import Books, open_books
from loadgen.checks.catalogue import CHECKS, run_checks
from loadgen.checks.replicas import replica_reads
from loadgen.checks.undersell import UNKNOWN, undersell
from loadgen.errors import PlanError, StoreError
from loadgen.history import History, read_history
from loadgen.interchange.finals import FINAL_TABLES as PROBE_TABLES
from loadgen.interchange.finals import final_findings
from loadgen.measures.errors import count_errors
from loadgen.measures.latency import response_and_service
from loadgen.measures.objectives import measured
from loadgen.measures.offered import Offered, offered
from loadgen.measures.probes import count_transactions, times_by_kind
from loadgen.measures.throughput import acknowledged, count_orders, duration_s
from loadgen.measures.timeline import timeline
from loadgen.plan import MAX_SEED, MAX_SKUS, Plan, plan_from_json
from loadgen.promise import PROBES, Promise, promised, real_time_reads
from loadgen.schedule import main_kind
from loadgen.verdict import Finding, Verdict, overall

EXIT_VALID, EXIT_ERROR, EXIT_SLO_MISSED, EXIT_INVALID, EXIT_UNKNOWN = 0, 1, 3, 4, 5
SALE_ISOLATION_S = 20.0
"""How long the sale's own rows are judged for isolation: beside the ledger it is an extra, and may end unknown."""
MOST_REPLICAS = 100
"""A plan.json that names more was not written by a run: its replicas are not told apart."""
FINAL_TABLES = ("stock", "orders", "purchases", "payments", "releases")


@dataclass(slots=True)
class _Run:
    """A run directory as read."""

    plan: Plan
    facts: Mapping[str, Any]
    """plan.json."""
    load: Mapping[str, Any]
    """load.json; empty if the run was killed before it ended."""
    history: History
    offered: Offered
    """The history's processes with a row for every arrival that was due: what figures are computed from."""
    doubts: list[str] = field(default_factory=list)
    """Why nothing here may be called valid."""
    warnings: list[str] = field(default_factory=list)


def judge(run_dir: Path) -> dict[str, Any]:
    """Judge the run in ``run_dir``: its summary. Raises StoreError where there is no run, or its plan is broken."""
    run = _read(run_dir)
    if run.plan.workload in PROBES:
        return _judge_probe(run)
    books = _join(run)
    # A run of an older version names fewer checks than hold for it.
    names = tuple(dict.fromkeys([*_texts(_mapping(run.facts.get("workload")).get("checks")), *CHECKS]))
    findings = run_checks(names, books, _first(run.doubts))
    # The shop's own rules are judged above at any level; of isolation only what the engine promised.
    promise = _promise(run, models=(), time_limit_s=SALE_ISOLATION_S)
    findings += [finding for finding in promise.findings if finding.anomalies]
    findings = _set_aside(run, findings)
    left = undersell(books) if books is not None else None
    if left is not None and left["causes"][UNKNOWN]:
        run.warnings.append(
            f"undersell: {left['causes'][UNKNOWN]} units were left though buyers were refused, and nothing tells why"
        )
    run.warnings += [
        f"{finding.name}: {finding.witnesses[0]}" for finding in findings if finding.witnesses and not finding.anomalies
    ]
    return {
        **_outcome(run, findings, FINAL_TABLES),
        **_figures(run),
        "isolation": promise.to_json(_documented(run)),
        "undersell": left,
        "replica_reads": _replica_reads(run, books),
        "warnings": run.warnings,
    }


def _set_aside(run: _Run, findings: Sequence[Finding]) -> list[Finding]:
    """The findings; where somebody else worked on the run's tables they prove nothing of the database, whatever is
    found: a warning tells of it."""
    if not (interference := _texts(run.load.get("interference"))):
        return list(findings)
    run.warnings += [
        f"set aside, {interference[0]}: {finding.name}: {finding.witnesses[0] if finding.witnesses else ''}"
        for finding in findings
        if finding.anomalies
    ]
    return [Finding(finding.name, unknown=interference[0]) for finding in findings]


def _replica_reads(run: _Run, books: Books | None) -> dict[str, Any] | None:
    """What reads from replicas saw; None where there were none, or nothing can be said of them."""
    if books is None or run.plan.read_from != "replica":
        return None
    replicas = run.facts.get("replicas")
    count = len(replicas) if isinstance(replicas, list) else 0
    return replica_reads(books, count if 0 < count <= MOST_REPLICAS else 1)


def _judge_probe(run: _Run) -> dict[str, Any]:
    """A probe's verdict is whether the isolation that the engine documents was kept, and every acknowledged write."""
    promise = _promise(run)
    name, doubt = run.plan.workload, _first(run.doubts)
    kept = final_findings(name, run.history, run.plan.strategy, promise.model, doubt)
    findings = _set_aside(run, [*promise.findings, *kept])
    workload = _mapping(run.facts.get("workload"))
    processes = run.offered.processes
    times = timeline(processes)
    response, service = times_by_kind(processes, _texts(workload.get("kinds")))
    figures = {
        "transactions": count_transactions(processes, times),
        "response_time_ms": response,
        "service_time_ms": service,
    }
    return {
        **_outcome(run, findings, PROBE_TABLES[name]),
        **_common_figures(run, figures["transactions"]),
        **figures,
        "isolation": promise.to_json(_documented(run)),
        "slo": [{"text": slo.text, "value": None, "met": False} for slo in run.plan.slo],
        "warnings": run.warnings,
    }


def _promise(run: _Run, **limits: Any) -> Promise:
    return promised(run.plan.workload, run.plan, run.history, _documented(run), _first(run.doubts), **limits)


def _documented(run: _Run) -> str:
    return str(_mapping(run.facts.get("engine")).get("means") or "read-committed")


def exit_code(summary: Mapping[str, Any]) -> int:
    """4 consistency violated, 5 verdict unknown, 1 nothing of the main kind acknowledged, cut short by a signal, a load
    process lost or our own error, 3 an objective missed, 0 otherwise: in this order, whatever else is true."""
    if summary["verdict"] == Verdict.INVALID:
        return EXIT_INVALID
    if summary["verdict"] != Verdict.VALID:
        return EXIT_UNKNOWN
    # A summary of an older version does not tell kinds apart.
    acknowledged = _mapping(summary.get("main")).get("acknowledged", summary.get("acknowledged"))
    if not acknowledged or any(summary.get(name) for name in ("error", "died", "lost", "signalled")):
        return EXIT_ERROR
    return EXIT_VALID if all(slo["met"] for slo in summary.get("slo", ())) else EXIT_SLO_MISSED


def _read(run_dir: Path) -> _Run:
    facts = _json(run_dir / "plan.json")
    if not isinstance(facts.get("plan"), dict):
        raise StoreError(f"{run_dir / 'plan.json'} holds no plan")
    try:
        plan = plan_from_json(facts["plan"])
        _check_plan(plan)
    except (PlanError, TypeError) as error:
        raise StoreError(f"{run_dir / 'plan.json'}: {error}") from error
    load_path = run_dir / "load.json"
    load = _json(load_path) if load_path.exists() else {}
    history = read_history(run_dir / "history")
    run = _Run(plan, facts, load, history, offered(history.processes, plan, _mapping(facts.get("workload")), load))
    run.warnings += [*_texts(facts.get("warnings")), *_texts(load.get("warnings"))]
    if not load:
        run.doubts.append("the run was killed before its load had ended: there is no load.json")
    run.doubts += _texts(load.get("interference"))
    _weigh_problems(run)
    run.warnings += run.offered.notes
    return run


def _check_plan(plan: Plan) -> None:
    """Refuse a plan that no user could have asked for: its rows could not be joined. Raises PlanError."""
    for name in ("skus", "stock", "buckets", "user_limit", "seed"):
        value = getattr(plan, name)
        if not isinstance(value, int) or not (0 if name == "seed" else 1) <= value <= MAX_SEED:
            raise PlanError(f"{name} is {value!r}, which no run has")
    if plan.skus * plan.buckets > MAX_SKUS:
        raise PlanError(f"it has more than {MAX_SKUS:,} stock rows")


def _weigh_problems(run: _Run) -> None:
    """What is broken in the history casts doubt on everything, but for the torn end of a process known to be gone.

    Of that one, what was handed out and not completed counts as ``info``, so that nothing is missing.
    """
    known_to_be_torn = bool(run.load.get("died") or run.load.get("error"))
    torn = [process.name for process in run.history.processes if process.closed_at is None]
    for problem in run.history.problems:
        of_the_dead = known_to_be_torn and any(
            f"/{name}.{kind}.arrows" in problem for name in torn for kind in ("invoked", "ops")
        )
        (run.warnings if of_the_dead else run.doubts).append(problem)
    for process in run.history.processes:
        if process.closed_at is None:
            run.warnings.append(f"load process {process.name} did not end in order: what it left open counts as info")


def _join(run: _Run) -> Books | None:
    snapshot = bool(_mapping(run.facts.get("engine")).get("statement_snapshot", True))
    real_time = real_time_reads(_mapping(run.facts.get("cluster")), _mapping(run.facts.get("address")))
    try:
        books = open_books(run.history, run.plan, statement_snapshot=snapshot, real_time_reads=real_time)
    except Contradiction as contradiction:
        run.doubts.insert(0, f"the history contradicts itself or the plan: {contradiction}")
        return None
    run.doubts += [
        f"the table {table} was dropped, and is judged as an empty one: {reason}"
        for table, reason in books.final.gone.items()
    ]
    orders = books.final.orders
    if orders is not None and orders.unheard.any():
        count = int(orders.unheard.sum())
        run.doubts.append(f"a part of the history is missing: it does not tell of {count} orders that the tables hold")
    return books


def _outcome(run: _Run, findings: Sequence[Finding], final_tables: Sequence[str]) -> dict[str, Any]:
    verdict = overall(findings)
    cut_short, error = str(run.load.get("cut_short") or ""), str(run.load.get("error") or "")
    died = _texts(run.load.get("died"))
    lost = {name: text for name, text in _lost(run.load).items() if name not in died}
    reasons = (
        []
        if verdict != Verdict.UNKNOWN
        else list(dict.fromkeys(finding.unknown for finding in findings if finding.unknown))
    )
    summary: dict[str, Any] = {
        "verdict": str(verdict),
        "complete": bool(run.load)
        and not (cut_short or error or died or lost)
        and set(final_tables) <= set(run.history.final),
        "cut_short": cut_short or ("" if run.load else "the run was killed before its load had ended"),
        "died": died,
        "lost": lost,
        "signalled": bool(run.load.get("signalled")),
        "error": error,
        "unknown": "; ".join([*_texts(run.load.get("final_reads")), *reasons][:3]) if reasons else "",
        "violations": {finding.name: finding.anomalies for finding in findings},
        "checks": [_check_json(finding) for finding in findings],
    }
    return summary


def _lost(load: Mapping[str, Any]) -> dict[str, str]:
    """Why load processes ended before the run did, by name."""
    told = {name: _mapping(facts).get("lost") for name, facts in _mapping(load.get("processes")).items()}
    return {str(name): text for name, text in told.items() if isinstance(text, str) and text}


def _check_json(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "verdict": str(finding.verdict),
        "anomalies": finding.anomalies,
        "witness": finding.witnesses[0] if finding.witnesses else None,
        "witnesses": list(finding.witnesses),
        "unknown": finding.unknown,
    }


def _figures(run: _Run) -> dict[str, Any]:
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


def _common_figures(run: _Run, counts: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of any workload; ``counts`` are those of its main kind of op."""
    processes = run.history.processes
    return {
        "started_utc": run.facts.get("started_utc", ""),
        "duration_s": duration_s(processes, timeline(processes)),
        "engine": _engine(run),
        "errors": count_errors(processes, _known_errors(run.load)),
        "client": _client(run.load, counts),
        "acknowledged": acknowledged(processes),
        "main": _main(run),
        "skipped_because": run.offered.skipped_because(0 if "placed" in counts else None),
        "seed": run.plan.seed,
    }


def _main(run: _Run) -> dict[str, Any]:
    """The main kind of op, and how many of it were answered well: not by a refusal."""
    workload = _mapping(run.facts.get("workload"))
    kinds = _texts(workload.get("kinds")) or list(sale.KIND_NAMES)
    arriving = _texts(workload.get("arrivals")) or (["order", "browse"] if "order" in kinds else kinds)
    kind = main_kind(run.plan, arriving)
    refusals = sale.REFUSALS if run.plan.workload not in PROBES else probes.REFUSALS
    code = kinds.index(kind) if kind in kinds else 0
    return {"kind": kind, "acknowledged": acknowledged(run.history.processes, code, refusals)}


def _engine(run: _Run) -> dict[str, Any]:
    engine = _mapping(run.facts.get("engine"))
    return {
        "name": engine.get("name", run.plan.engine),
        "edition": engine.get("edition", ""),
        "version": engine.get("version", ""),
        "cluster": run.plan.cluster,
        "nodes": _mapping(run.facts.get("cluster")).get("nodes", run.plan.nodes),
        "isolation": engine.get("level", run.plan.isolation),
    }


def _client(load: Mapping[str, Any], orders: Mapping[str, Any]) -> dict[str, Any]:
    """What the load processes cost. CPU time is divided by the orders that were started, whatever became of them."""
    client = _mapping(load.get("client"))
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
    for code, told in _mapping(load.get("errors")).items():
        pair = (told.get("class", ""), told.get("sample", "")) if isinstance(told, dict) else told
        if isinstance(pair, list | tuple) and len(pair) == 2:
            known[str(code)] = (str(pair[0]) or "other", str(pair[1]))
    return known


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"cannot read {path}: {reason}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} does not hold an object")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [str(text) for text in value] if isinstance(value, list | tuple) else []


def _first(doubts: Sequence[str]) -> str:
    more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
    return doubts[0] + more if doubts else ""
