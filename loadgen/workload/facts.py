"""What plan.json says of a workload, as one value: all that figures and reports need to speak in its words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.untrusted import texts


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """The words of one workload; the meaning of each is that of the same name in ``Workload``."""

    kinds: tuple[str, ...]
    answers: tuple[str, ...]
    arrivals: tuple[str, ...]
    refused: tuple[str, ...] = ()
    good: str = ""
    noun: str = "op"
    figures: str = ""
    all_kinds_count: bool = False

    @property
    def refused_codes(self) -> tuple[int, ...]:
        """The codes of the refusals."""
        return tuple(self.answers.index(name) for name in self.refused)

    @property
    def always_told(self) -> tuple[str, ...]:
        """Answers that are counted even where nobody got them: the good one, and the refusals that follow it in
        ``answers``. So the tables of two runs compare."""
        if not self.good:
            return ()
        told = [self.good]
        for name in self.answers[self.answers.index(self.good) + 1 :]:
            if name not in self.refused:
                break
            told.append(name)
        return tuple(told)

    def main_codes(self, main: str = "") -> list[int]:
        """The codes of the kinds that the figures count; ``main`` is the run's main kind."""
        if self.all_kinds_count:
            return list(range(len(self.kinds)))
        return [self.kinds.index(main or self.arrivals[0])]


def workload_facts(told: Mapping[str, Any], default: WorkloadFacts | None = None) -> WorkloadFacts:
    """The facts in a "workload" block of any version. What it lacks comes from ``default``; what makes no sense is
    left out."""
    kinds = tuple(texts(told.get("kinds"))) or (default.kinds if default else ("op",))
    answers = tuple(texts(told.get("answers"))) or (default.answers if default else ("none",))
    arrivals = tuple(texts(told.get("arrivals"))) or (default.arrivals if default else kinds)
    refused = tuple(texts(told.get("refused"))) if "refused" in told else default.refused if default else ()

    def text(name: str, otherwise: str) -> str:
        value = told.get(name, getattr(default, name) if default else otherwise)
        return value if isinstance(value, str) else otherwise

    good, count_all = text("good", ""), told.get("all_kinds_count", default.all_kinds_count if default else False)
    return WorkloadFacts(
        kinds=kinds,
        answers=answers,
        arrivals=tuple(name for name in arrivals if name in kinds) or kinds,
        refused=tuple(name for name in refused if name in answers),
        good=good if good in answers else "",
        noun=text("noun", "op"),
        figures=text("figures", ""),
        all_kinds_count=count_all is True,
    )
