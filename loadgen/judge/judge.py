"""The judge: from a run directory to its summary. Needs no database, and writes nothing.

``summary.json`` holds what ``judge`` answers. Its stable keys: ``verdict complete started_utc duration_s engine orders
response_time_ms service_time_ms undersell errors violations checks slo client warnings seed``. Beside them:
``cut_short signalled died lost error exit_reason`` (how the run ended, and why it exits with 1), ``acknowledged``
(answered ops of any kind), ``main {kind, acknowledged}`` (those of the main kind that no refusal answered),
``skipped_because``, ``limited_by limit sessions_needed`` (measures.limit), ``sessions`` (``[second, how many]`` at each
change), ``unknown`` (why the verdict is unknown, where it is) and ``replica_reads`` (what browses of replicas saw; null
without ``--read-from replica``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadgen.judge.documented import PROBES, Promise, promised, real_time_reads, undecided
from loadgen.judge.finals import final_findings
from loadgen.judge.stored_run import StoredRun, open_run
from loadgen.measures.figures import figures_of
from loadgen.shop.asked import Contradiction
from loadgen.shop.books import Books, open_books
from loadgen.shop.catalogue import CHECKS, run_checks
from loadgen.shop.replicas import replica_reads
from loadgen.shop.undersell import UNKNOWN, undersell
from loadgen.untrusted import mapping, texts
from loadgen.verdict import Finding, Verdict, overall

EXIT_VALID, EXIT_ERROR, EXIT_SLO_MISSED, EXIT_INVALID, EXIT_UNKNOWN = 0, 1, 3, 4, 5
SALE_ISOLATION_S = 20.0
"""How long the sale's own rows are judged for isolation: beside the ledger it is an extra, and may end unknown."""
STANDS_ALONE = frozenset(
    {
        *("oversell", "negative-stock", "duplicate-token", "user-limit", "lost-order", "lost-payment"),
        *("altered-row", "double-payment", "paid-cancelled", "double-release", "fractured-read", "lost-update"),
        "real-time-order",
    }
)
"""Checks whose proof needs nothing but the rows and the answers in it. The others rest on what nobody asked for."""
MOST_REPLICAS = 100
"""A plan.json that names more was not written by a run: its replicas are not told apart."""


def judge(run_dir: Path) -> dict[str, Any]:
    """Judge the run in ``run_dir``: its summary. Raises StoreError where there is no run, or its plan is broken."""
    run = open_run(run_dir)
    if run.plan.workload in PROBES:
        return _judge_probe(run)
    books = _join(run)
    # A run of an older version names fewer checks than hold for it.
    names = tuple(dict.fromkeys([*texts(mapping(run.facts.get("workload")).get("checks")), *CHECKS]))
    findings = [_provable(run, finding) for finding in run_checks(names, books, run.doubt)]
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
    return _with_reason(
        {
            **_outcome(run, findings),
            **figures_of(run),
            "isolation": promise.to_json(_documented(run)),
            "undersell": left,
            "replica_reads": _replica_reads(run, books),
            "warnings": run.warnings,
        }
    )


def _set_aside(run: StoredRun, findings: Sequence[Finding]) -> list[Finding]:
    """The findings; where somebody else worked on the run's tables they prove nothing of the database, whatever is
    found: a warning tells of it."""
    if not (interference := texts(run.load.get("interference"))):
        return list(findings)
    run.warnings += [
        f"set aside, {interference[0]}: {finding.name}: {finding.witnesses[0] if finding.witnesses else ''}"
        for finding in findings
        if finding.anomalies
    ]
    return [Finding(finding.name, unknown=interference[0]) for finding in findings]


def _replica_reads(run: StoredRun, books: Books | None) -> dict[str, Any] | None:
    """What reads from replicas saw; None where there were none, or nothing can be said of them."""
    if books is None or run.plan.read_from != "replica":
        return None
    replicas = run.facts.get("replicas")
    count = len(replicas) if isinstance(replicas, list) else 0
    return replica_reads(books, count if 0 < count <= MOST_REPLICAS else 1)


def _judge_probe(run: StoredRun) -> dict[str, Any]:
    """A probe's verdict is whether the isolation that the engine documents was kept, and every acknowledged write."""
    promise = _promise(run)
    try:
        kept = final_findings(run.workload, run.history, run.plan.strategy, promise.model, run.doubt)
    except Exception as error:  # noqa: BLE001 - whatever a damaged history holds, it is undecided and no traceback
        kept = [Finding("lost-write", unknown=f"the check itself failed: {type(error).__name__}: {error}")]
    findings = _set_aside(run, [*promise.findings, *(_provable(run, finding) for finding in kept)])
    return _with_reason(
        {
            **_outcome(run, findings),
            **figures_of(run),
            "isolation": promise.to_json(_documented(run)),
            "warnings": run.warnings,
        }
    )


def _with_reason(summary: dict[str, Any]) -> dict[str, Any]:
    return {**summary, "exit_reason": error_of(summary)}


def _promise(run: StoredRun, **limits: Any) -> Promise:
    if run.refusal or run.lost_numbers:
        # What an unknown transaction wrote would look like a value from nowhere.
        return undecided(_documented(run), run.doubt)
    return promised(run.plan.workload, run.plan, run.history, _documented(run), run.doubt, **limits)


def _documented(run: StoredRun) -> str:
    return str(mapping(run.facts.get("engine")).get("means") or "read-committed")


def exit_code(summary: Mapping[str, Any]) -> int:
    """4 consistency violated, 5 verdict unknown, 1 nothing of the main kind acknowledged, cut short by a signal, a load
    process lost or our own error, 3 an objective missed, 0 otherwise: in this order, whatever else is true."""
    if summary["verdict"] == Verdict.INVALID:
        return EXIT_INVALID
    if summary["verdict"] != Verdict.VALID:
        return EXIT_UNKNOWN
    if error_of(summary):
        return EXIT_ERROR
    return EXIT_VALID if all(slo["met"] for slo in summary.get("slo", ())) else EXIT_SLO_MISSED


def error_of(summary: Mapping[str, Any]) -> str:
    """Why a run exits with 1 if it is neither invalid nor unknown, in one line; empty if it does not."""
    main = mapping(summary.get("main"))
    gone = [*texts(summary.get("died")), *mapping(summary.get("lost"))]
    # A summary of an older version does not tell kinds apart.
    if not main.get("acknowledged", summary.get("acknowledged")):
        return f"no {main.get('kind', 'op')} was acknowledged"
    if summary.get("error"):
        return str(summary["error"])
    if gone:
        return f"load process {', '.join(gone)} was lost" if len(gone) == 1 else f"{len(gone)} load processes were lost"
    return "stopped by a signal" if summary.get("signalled") else ""


def _join(run: StoredRun) -> Books | None:
    if run.refusal:
        return None
    snapshot = bool(mapping(run.facts.get("engine")).get("statement_snapshot", True))
    real_time = real_time_reads(mapping(run.facts.get("cluster")), mapping(run.facts.get("address")))
    try:
        books = open_books(
            run.history, run.plan, statement_snapshot=snapshot, real_time_reads=real_time, whole=_vouched(run)
        )
    except Contradiction as contradiction:
        run.doubts.insert(0, f"the history contradicts itself or the plan: {contradiction}")
        return None
    except Exception as error:  # noqa: BLE001 - whatever a damaged history holds, it is undecided and no traceback
        run.doubts.insert(0, f"the history could not be joined: {type(error).__name__}: {error}")
        return None
    run.doubts += [
        f"the table {table} was dropped, and is judged as an empty one: {reason}"
        for table, reason in books.final.gone.items()
    ]
    orders = books.final.orders
    if orders is not None and orders.unheard.any():
        count = int(orders.unheard.sum())
        run.doubts.append(f"a part of the history is missing: it does not tell of {count} orders that the tables hold")
        run.lost_numbers = True
    return books


def _vouched(run: StoredRun) -> bool:
    """Whether the history tells of every number that was handed out: whole streams, sealed, all that the run wrote."""
    streams = (f"{process.name}.invoked" for process in run.history.processes)
    sealed = isinstance(run.load.get("streams"), dict) and all(run.history.sealed.get(name) for name in streams)
    return sealed and not run.doubts and all(process.closed_at is not None for process in run.history.processes)


def _provable(run: StoredRun, finding: Finding) -> Finding:
    """The finding, if it stands although a part of what was asked is missing."""
    stands = not run.refusal and (not run.lost_numbers or finding.name in STANDS_ALONE)
    if stands or not finding.anomalies:
        return finding
    return Finding(finding.name, unknown=run.doubt)


def _outcome(run: StoredRun, findings: Sequence[Finding]) -> dict[str, Any]:
    verdict = overall(findings)
    cut_short, error = str(run.load.get("cut_short") or ""), str(run.load.get("error") or "")
    died = texts(run.load.get("died"))
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
        and set(run.tables) <= set(run.history.final),
        "cut_short": cut_short or ("" if run.load else "the run was killed before its load had ended"),
        "died": died,
        "lost": lost,
        "signalled": bool(run.load.get("signalled")),
        "error": error,
        "unknown": "; ".join([*texts(run.load.get("final_reads")), *reasons][:3]) if reasons else "",
        "violations": {finding.name: finding.anomalies for finding in findings},
        "checks": [_check_json(finding) for finding in findings],
    }
    return summary


def _lost(load: Mapping[str, Any]) -> dict[str, str]:
    """Why load processes ended before the run did, by name."""
    told = {name: mapping(facts).get("lost") for name, facts in mapping(load.get("processes")).items()}
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
