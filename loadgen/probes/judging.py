"""How the probes are judged: their transactions by consistency models, and their tables at the end."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from loadgen.history.history import History
from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.check import judge
from loadgen.isolation.jepsen import FORBIDDEN_BY, check_bank, check_long_fork
from loadgen.isolation.judgement import Judgement, ModelAnswer
from loadgen.isolation.models import MODELS, known_model
from loadgen.isolation.observed import observe
from loadgen.probes.finals import GHOST, LOST, PHANTOM, final_findings
from loadgen.probes.transactions import bank_reads, stale_values, transactions_of
from loadgen.untrusted import mapping
from loadgen.verdict import Finding, Verdict
from loadgen.workload.evidence import Evidence
from loadgen.workload.probes import ACCOUNTS, TOTAL
from loadgen.workload.workload import Check, Isolation

TEXTS: Mapping[str, str] = {
    LOST: "A write was acknowledged and is not in the tables at the end.",
    GHOST: "A value is in the tables at the end, and the transaction that wrote it failed.",
    PHANTOM: "A version has no writer in the run.",
}


def probe_isolation() -> Isolation:
    """The verdict of a probe is whether the isolation that the engine documents was kept."""
    return Isolation(judge_probe, decides=True, time_limit_s=60.0)


def probe_checks(*names: str) -> tuple[Check, ...]:
    """The checks of a probe's tables at the end."""
    return tuple(Check(name, _finder(name), TEXTS[name], from_rows_alone=False) for name in names)


def judge_probe(evidence: Evidence, models: Iterable[str], time_limit_s: float) -> Judgement:
    """Judge a probe's transactions. Raises StoreError for a history that no run wrote."""
    name, plan, history = evidence.plan.workload, evidence.plan, evidence.history
    if name == "bank":
        return _bank(history)
    # What the level documents holds on one node; what replicas showed is measured.
    transactions = transactions_of(name, plan, history, replica_reads=False)
    judgement = judge(transactions, models, time_limit_s)
    if name == "longfork" and not transactions.unfit:
        _rule_out(judgement, check_long_fork(observe(transactions)), FORBIDDEN_BY)
    if name == "register":
        aborted = Anomalies()
        for witness in stale_values(history):
            aborted.add("G1a", witness)
        _rule_out(judgement, aborted, {"G1a": frozenset(MODELS) - {"read-uncommitted"}})
    return judgement


def _finder(name: str) -> Callable[[Evidence], Finding]:
    return lambda evidence: next(each for each in evidence.derived(_finals) if each.name == name)


def _finals(evidence: Evidence) -> Sequence[Finding]:
    documented = str(mapping(evidence.facts.get("engine")).get("means") or "read-committed")
    plan = evidence.plan
    return final_findings(plan.workload, evidence.history, plan.strategy, known_model(documented), evidence.doubt)


def _bank(history: History) -> Judgement:
    reads = bank_reads(history)
    verdict = ModelAnswer(Verdict.VALID) if reads else ModelAnswer(Verdict.UNKNOWN, (), ("the bank was never read"))
    judgement = Judgement(dict.fromkeys(MODELS, verdict))
    _rule_out(judgement, check_bank(reads, set(range(ACCOUNTS)), total=TOTAL, negative=False), FORBIDDEN_BY)
    return judgement


def _rule_out(judgement: Judgement, found: Anomalies, forbidden_by: Mapping[str, frozenset[str]]) -> None:
    judgement.anomalies.merge(found)
    for name, answer in judgement.answers.items():
        broken = {anomaly for anomaly in found.names() if name in forbidden_by[anomaly]}
        if broken:
            judgement.answers[name] = ModelAnswer(Verdict.INVALID, tuple(sorted({*answer.anomalies, *broken})))
