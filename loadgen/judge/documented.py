"""Whether a run kept the isolation that its engine documents for the level it ran at.

What breaks the documented model is a violation. What goes beyond it, such as write skew under snapshot isolation, the
engine never promised to prevent: it is told, with its witness, and violates nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.history import History
from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.check import TIME_LIMIT_S, judge
from loadgen.isolation.jepsen import FORBIDDEN_BY, check_bank, check_long_fork
from loadgen.isolation.judgement import Answer, Judgement
from loadgen.isolation.models import MODELS, strongest, weakest
from loadgen.isolation.observed import observe
from loadgen.probes.transactions import bank_reads, stale_values, transactions_of
from loadgen.plan import Plan
from loadgen.verdict import Finding, Verdict
from loadgen.workload.probes import ACCOUNTS, TOTAL

ISOLATION = "isolation"
"""The name of the check as a whole; what it proves is named by the anomaly."""
NEAREST: Mapping[str, str] = {"monotonic-atomic-view": "read-committed", "cursor-stability": "read-committed"}
"""Documented models that the checker does not know, and the strongest known one that they imply."""
PROBES = ("append", "register", "bank", "longfork")
"""The workloads whose verdict is this check's."""


def real_time_reads(cluster: Mapping[str, Any], address: Mapping[str, Any]) -> bool:
    """Whether a cluster (plan.json's ``cluster`` and ``address``) documents that all acknowledged is seen from then on.

    One node does. So do several that agree before they acknowledge, whichever of them goes on after a failure. A group
    or a standby that applies later does not, nor several hosts of which nobody said how they replicate.
    """
    replication = cluster.get("replication")
    kind = str(replication.get("kind", "")) if isinstance(replication, dict) else ""
    if kind.startswith("synchronous standbys"):
        return str(replication.get("synchronous_commit", "")) in ("on", "remote_apply")  # type: ignore[union-attr]
    if kind:
        return kind.startswith(("Raft", "one server"))
    several = "," in str(address.get("host") or "")
    nodes = cluster.get("nodes")
    return not several and not (isinstance(nodes, int) and nodes > 1)


@dataclass(frozen=True, slots=True)
class Promise:
    """The documented model of a run, and what was found of it."""

    model: str
    judgement: Judgement

    @property
    def findings(self) -> list[Finding]:
        """One finding for each anomaly that the model forbids, or one that says there is none, or why nobody knows."""
        answer = self.judgement.answers[self.model]
        found = self.judgement.anomalies
        if answer.verdict == Verdict.INVALID:
            return [
                Finding(name, max(1, found.count.get(name, 0)), tuple(found.witnesses.get(name, ())))
                for name in answer.anomalies
            ]
        return [Finding(ISOLATION, unknown=answer.why if answer.verdict == Verdict.UNKNOWN else "")]

    def to_json(self, documented: str) -> dict[str, Any]:
        """What ``summary.json`` says under ``isolation``."""
        answers, found = self.judgement.answers, self.judgement.anomalies
        forbidden = set(answers[self.model].anomalies)
        return {
            "documented": documented,
            "model": self.model,
            "verdict": str(answers[self.model].verdict),
            "why": answers[self.model].why,
            "ruled_out": weakest(name for name, answer in answers.items() if answer.verdict == Verdict.INVALID),
            "kept": strongest(name for name, answer in answers.items() if answer.verdict == Verdict.VALID),
            "anomalies": dict(found.count),
            "beyond": {name: found.witnesses[name][0] for name in found.names() if name not in forbidden},
        }


def promised(
    workload: str,
    plan: Plan,
    history: History,
    documented: str,
    doubt: str = "",
    models: Iterable[str] = MODELS,
    time_limit_s: float = TIME_LIMIT_S,
) -> Promise:
    """Judge a run's transactions by the documented model and ``models``, within the time limit.

    With a ``doubt`` about the history, what proves nothing is unknown.
    """
    model = _known(documented)
    asked = {*models, model}
    try:
        judgement = (
            _bank(history) if workload == "bank" else _transactions(workload, plan, history, asked, time_limit_s)
        )
    except StoreError as error:
        judgement, doubt = Judgement({name: Answer(Verdict.VALID) for name in asked}), doubt or str(error)
    except Exception as error:  # noqa: BLE001 - what a damaged history holds is undecided, and no traceback
        why = f"its transactions could not be judged: {type(error).__name__}: {error}"
        judgement, doubt = Judgement({name: Answer(Verdict.VALID) for name in asked}), doubt or why
    if doubt:
        for name, answer in judgement.answers.items():
            if answer.verdict == Verdict.VALID:
                judgement.answers[name] = Answer(Verdict.UNKNOWN, (), doubt)
    return Promise(model, judgement)


def undecided(documented: str, doubt: str) -> Promise:
    """The promise of a run that cannot be judged at all."""
    answers = {name: Answer(Verdict.UNKNOWN, (), doubt) for name in (*MODELS, _known(documented))}
    return Promise(_known(documented), Judgement(answers))


def _known(documented: str) -> str:
    """The model that is judged for the documented one."""
    model = NEAREST.get(documented, documented)
    return model if model in MODELS else "read-committed"


def _transactions(workload: str, plan: Plan, history: History, models: Iterable[str], time_limit_s: float) -> Judgement:
    # What the level documents holds on one node; what replicas showed is measured (checks/replicas.py tells why).
    transactions = transactions_of(workload, plan, history, replica_reads=False)
    judgement = judge(transactions, models, time_limit_s)
    if workload == "longfork" and not transactions.unfit:
        _rule_out(judgement, check_long_fork(observe(transactions)), FORBIDDEN_BY)
    if workload == "register":
        aborted = Anomalies()
        for witness in stale_values(history):
            aborted.add("G1a", witness)
        _rule_out(judgement, aborted, {"G1a": frozenset(MODELS) - {"read-uncommitted"}})
    return judgement


def _bank(history: History) -> Judgement:
    reads = bank_reads(history)
    verdict = Answer(Verdict.VALID) if reads else Answer(Verdict.UNKNOWN, (), "nobody ever read the bank")
    judgement = Judgement(dict.fromkeys(MODELS, verdict))
    _rule_out(judgement, check_bank(reads, set(range(ACCOUNTS)), total=TOTAL, negative=False), FORBIDDEN_BY)
    return judgement


def _rule_out(judgement: Judgement, found: Anomalies, forbidden_by: Mapping[str, frozenset[str]]) -> None:
    judgement.anomalies.merge(found)
    for name, answer in judgement.answers.items():
        broken = {anomaly for anomaly in found.names() if name in forbidden_by[anomaly]}
        if broken:
            judgement.answers[name] = Answer(Verdict.INVALID, tuple(sorted({*answer.anomalies, *broken})))
