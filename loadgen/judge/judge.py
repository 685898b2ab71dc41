"""The judge: from a run directory to its summary. Needs no database, and writes nothing.

``summary.json`` holds what ``judge`` answers. Its stable keys: ``verdict complete started_utc duration_s engine
response_time_ms service_time_ms errors violations checks slo client warnings seed``. Beside them: ``cut_short signalled
died lost error exit_reason`` (how the run ended, and why it exits with 1), ``acknowledged`` (answered ops of any kind),
``main {kind, acknowledged}`` (those of the main kind that no refusal answered; with its counts, where the workload has
no key of its own for them), ``skipped_because``, ``limited_by limit sessions_needed`` (measures.limit), ``sessions``
(``[second, how many]`` at each change), ``unknown`` (why the verdict is unknown, where it is), ``lines`` (what the
workload has a person read: ``[label, text, ...]`` for each section of the report), and the workload's own keys.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadgen.isolation.models import MODELS, known_model, weaker
from loadgen.judge.documented import Promise, kept, real_time_reads, undecided
from loadgen.judge.stored_run import StoredRun, open_run
from loadgen.measures.figures import figures_of
from loadgen.untrusted import mapping, texts
from loadgen.verdict import Finding, Verdict, check_safe, doubted, overall
from loadgen.workload.evidence import Contradiction, Evidence
from loadgen.workload.versions import stored_words, version_checks
from loadgen.workload.workload import Check, Workload

EXIT_VALID, EXIT_ERROR, EXIT_SLO_MISSED, EXIT_INVALID, EXIT_UNKNOWN = 0, 1, 3, 4, 5


def judge(run_dir: Path, workload: Workload | None = None, *, trust: bool = False) -> dict[str, Any]:
    """Judge the run in ``run_dir``: its summary. Raises StoreError where there is no run, or its plan is broken.

    ``workload`` judges it, else the installed one of its name, else with ``trust`` the copy in its directory.
    """
    return judge_run(open_run(run_dir, workload, trust=trust))


def judge_run(run: StoredRun) -> dict[str, Any]:
    """Judge an opened run: its summary. What is found is added to the run's doubts and warnings."""
    evidence = _evidence(run)
    examined = _examine(run, evidence)
    promise = _promise(run, evidence)
    findings = [*_check_all(run, evidence if examined else None)]
    if run.file is not None and run.file.isolation is not None:
        if run.file.isolation.decides:
            findings = [*promise.findings, *findings]
        else:
            findings += [finding for finding in promise.findings if finding.anomalies]
    findings = _set_aside(run, findings)
    extras = _extras(run, evidence if examined else None)
    run.warnings += [
        f"{finding.name}: {finding.witnesses[0]}" for finding in findings if finding.witnesses and not finding.anomalies
    ]
    summary = {**_outcome(run, findings), **figures_of(run), "isolation": promise.to_json(_documented(run)), **extras}
    return _with_reason({**summary, "lines": _lines(run, summary), "warnings": run.warnings})


def _evidence(run: StoredRun) -> Evidence:
    """The run as its checks see it; doubts and warnings are the run's own."""
    engine = mapping(run.facts.get("engine"))
    return Evidence(
        run.plan,
        run.history,
        run.facts,
        run.load,
        whole=_vouched(run),
        real_time_reads=real_time_reads(mapping(run.facts.get("cluster")), mapping(run.facts.get("address"))),
        statement_snapshot=bool(engine.get("statement_snapshot", True)),
        transaction_snapshot="snapshot-isolation" in weaker(known_model(_documented(run))),
        doubts=run.doubts,
        warnings=run.warnings,
        lost_numbers=run.lost_numbers,
        workload=run.file or stored_words(mapping(run.facts.get("workload"))),
    )


def _examine(run: StoredRun, evidence: Evidence) -> bool:
    """Whether the run's checks can be held against its evidence."""
    if run.file is None:
        run.doubts.insert(0, run.unjudged)
    if run.refusal:
        return False
    try:
        if run.file is not None and run.file.examine is not None:
            run.file.examine(evidence)
    except Contradiction as contradiction:
        run.doubts.insert(0, f"the history contradicts itself or the plan: {contradiction}")
        return False
    except Exception as error:  # noqa: BLE001 - whatever a damaged history holds, it is undecided and no traceback
        run.doubts.insert(0, f"the history could not be joined: {type(error).__name__}: {error}")
        return False
    run.lost_numbers |= evidence.lost_numbers
    return True


def _check_all(run: StoredRun, evidence: Evidence | None) -> list[Finding]:
    """The findings of every check of the workload, and of those that its tables' versions give it.

    Without the workload's file its own checks are unknown. Those of versions need no code of it.
    """
    told = texts(mapping(run.facts.get("workload")).get("checks"))
    checks = _checks_of(run, evidence)
    # A run of an older version names fewer checks than hold for it; one of a probe named what no function finds.
    decides = run.file is not None and run.file.isolation is not None and run.file.isolation.decides
    names = list(dict.fromkeys([*(() if decides else told), *checks])) or ["workload"]
    if evidence is None:
        return [Finding(name, unknown=run.doubt) for name in names]
    findings = []
    for name in names:
        check = checks.get(name)
        if check is None:
            found = Finding(name, unknown=run.doubt or "no such check is known")
        else:
            found = doubted(check_safe(name, check.find, evidence), run.doubt)
        findings.append(_provable(run, found, alone=check is not None and check.from_rows_alone))
    return findings


def _checks_of(run: StoredRun, evidence: Evidence | None) -> dict[str, Check]:
    if run.file is not None:
        own = {check.name: check for check in run.file.checks}
        return {check.name: check for check in version_checks(run.file, run.plan)} | own
    if evidence is None or evidence.workload is None:
        return {}
    # What followed by a rule of the file is not known to be whole: only what the rows prove by themselves counts.
    return {check.name: check for check in version_checks(evidence.workload, run.plan) if check.from_rows_alone}


def _extras(run: StoredRun, evidence: Evidence | None) -> Mapping[str, Any]:
    return run.file.extras(evidence) if run.file is not None and run.file.extras is not None else {}


def _lines(run: StoredRun, summary: Mapping[str, Any]) -> list[list[str]]:
    """What the workload has a person read about its run."""
    if run.file is None or run.file.lines is None:
        return []
    try:
        return [[str(text) for text in section] for section in run.file.lines(summary)]
    except Exception as error:  # noqa: BLE001 - a report that lacks a line is better than none
        run.warnings.append(f"the workload's own figures are missing: {type(error).__name__}: {error}")
        return []


def _set_aside(run: StoredRun, findings: Sequence[Finding]) -> list[Finding]:
    """The findings. If something else worked on the run's tables, the findings prove nothing about the database, and a
    warning says so."""
    if not (interference := texts(run.load.get("interference"))):
        return list(findings)
    run.warnings += [
        f"set aside, {interference[0]}: {finding.name}: {finding.witnesses[0] if finding.witnesses else ''}"
        for finding in findings
        if finding.anomalies
    ]
    return [Finding(finding.name, unknown=interference[0]) for finding in findings]


def _with_reason(summary: dict[str, Any]) -> dict[str, Any]:
    return {**summary, "exit_reason": error_of(summary)}


def _promise(run: StoredRun, evidence: Evidence) -> Promise:
    isolation = run.file.isolation if run.file is not None else None
    if run.refusal or run.lost_numbers or isolation is None:
        # What an unknown transaction wrote would look like a value from nowhere.
        return undecided(
            _documented(run), run.doubt or "the workload does not say what its transactions read and wrote"
        )
    # Beside checks that decide it is an extra: only what the engine promised, in less time.
    models = MODELS if isolation.decides else ()
    return kept(isolation, evidence, _documented(run), run.doubt, models, isolation.time_limit_s)


def _documented(run: StoredRun) -> str:
    return str(mapping(run.facts.get("engine")).get("means") or "read-committed")


def exit_code(summary: Mapping[str, Any]) -> int:
    """4 consistency violated, 5 verdict unknown, 1 nothing of the main kind acknowledged, cut short by a signal, a load
    process lost or an error in loadgen, 3 an objective missed, 0 otherwise. The first that applies is returned, in this
    order."""
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


def _vouched(run: StoredRun) -> bool:
    """Whether the history has every number that a load process received: all streams of the run, complete and with
    valid checksums."""
    streams = (f"{process.name}.invoked" for process in run.history.processes)
    sealed = isinstance(run.load.get("streams"), dict) and all(run.history.sealed.get(name) for name in streams)
    return sealed and not run.doubts and all(process.closed_at is not None for process in run.history.processes)


def _provable(run: StoredRun, finding: Finding, *, alone: bool) -> Finding:
    """The finding, if it holds although a part of what was asked is missing."""
    stands = not run.refusal and (not run.lost_numbers or alone)
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
