"""Whether a run kept the isolation that its engine documents for the level it ran at.

An anomaly that the documented model forbids is a violation. An anomaly that the model allows, such as write skew under
snapshot isolation, is reported with its witness and is not a violation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.history import History
from loadgen.isolation.check import TIME_LIMIT_S
from loadgen.isolation.judgement import Judgement, ModelAnswer
from loadgen.isolation.models import MODELS, known_model, strongest, weakest
from loadgen.plan import Plan
from loadgen.verdict import Finding, Verdict
from loadgen.workload.evidence import Evidence
from loadgen.workload.loading import installed_workloads, load_workload
from loadgen.workload.workload import Isolation

ISOLATION = "isolation"
"""The name of the check as a whole; what it proves is named by the anomaly."""


def real_time_reads(cluster: Mapping[str, Any], address: Mapping[str, Any]) -> bool:
    """Whether a cluster (plan.json's ``cluster`` and ``address``) documents that every acknowledged write is visible
    from then on.

    One node does. Several nodes do if they agree before they acknowledge, whichever of them continues after a failure.
    A group or a standby that applies later does not, and neither do several hosts whose replication is unknown.
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
        """One finding for each anomaly that the model forbids, or one that says that there is none, or why that is
        unknown."""
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
    """Judge the transactions of a run of an installed workload; ``kept`` says how."""
    path = installed_workloads().get(workload)
    isolation = load_workload(path).isolation if path else None
    return kept(isolation, Evidence(plan, history, {}, {}), documented, doubt, models, time_limit_s)


def kept(
    isolation: Isolation | None,
    evidence: Evidence,
    documented: str,
    doubt: str = "",
    models: Iterable[str] = MODELS,
    time_limit_s: float = TIME_LIMIT_S,
) -> Promise:
    """Judge a run's transactions by the documented model and ``models``, within the time limit.

    With a ``doubt`` about the history, what proves nothing is unknown.
    """
    model = known_model(documented)
    asked = {*models, model}
    if isolation is None:
        return undecided(documented, doubt or "the workload says of no transactions what they read and wrote")
    try:
        judgement = isolation.judge(evidence, tuple(asked), time_limit_s)
    except StoreError as error:
        judgement, doubt = Judgement({name: ModelAnswer(Verdict.VALID) for name in asked}), doubt or str(error)
    except Exception as error:  # noqa: BLE001 - what a damaged history holds is undecided, and no traceback
        why = f"its transactions could not be judged: {type(error).__name__}: {error}"
        judgement, doubt = Judgement({name: ModelAnswer(Verdict.VALID) for name in asked}), doubt or why
    if doubt:
        for name, answer in judgement.answers.items():
            if answer.verdict == Verdict.VALID:
                judgement.answers[name] = ModelAnswer(Verdict.UNKNOWN, (), doubt)
    return Promise(model, judgement)


def undecided(documented: str, doubt: str) -> Promise:
    """The promise of a run that cannot be judged at all."""
    answers = {name: ModelAnswer(Verdict.UNKNOWN, (), doubt) for name in (*MODELS, known_model(documented))}
    return Promise(known_model(documented), Judgement(answers))
