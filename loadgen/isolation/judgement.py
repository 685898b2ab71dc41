"""What the isolation checker answers: for each model what is known, and all the anomalies found on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.models import strongest, weakest
from loadgen.verdict import Verdict


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What is known of one model: ``anomalies`` are the names that rule it out."""

    verdict: Verdict
    anomalies: tuple[str, ...] = ()
    why: str = ""
    """Why it is unknown."""


@dataclass(slots=True)
class Judgement:
    """The answers for one history, and all the anomalies found on the way."""

    answers: dict[str, ModelAnswer]
    anomalies: Anomalies = field(default_factory=Anomalies)
    warnings: Sequence[str] = ()
    orderless: bool = False
    """Whether the history is of a sort that shows no real-time order, or no sessions."""
    kind: str = ""
    """What the history was read as."""

    @property
    def ruled_out(self) -> list[str]:
        """The weakest models that the history breaks."""
        return weakest(self._with(Verdict.INVALID))

    @property
    def kept(self) -> list[str]:
        """The strongest models that are proved to hold."""
        return strongest(self._with(Verdict.VALID))

    def _with(self, verdict: Verdict) -> list[str]:
        return [model for model, answer in self.answers.items() if answer.verdict == verdict]
