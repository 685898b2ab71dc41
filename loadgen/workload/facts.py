"""The workload's part of plan.json as one value: everything that figures and reports need to use its words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from loadgen.untrusted import mapping, texts

OLDER_RUNS = Path(__file__).with_name("older_runs.json")
"""What the plan.json of an older version does not say of the workloads of its time, by their names."""
REFUSED = "_refused"
"""The suffix of the name of a kind's refused ops, where they are listed separately."""


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
    titles: Mapping[str, str] = field(default_factory=dict)
    no_objectives: str = ""

    @property
    def refused_codes(self) -> tuple[int, ...]:
        """The codes of the refusals."""
        return tuple(self.answers.index(name) for name in self.refused)

    @property
    def always_told(self) -> tuple[str, ...]:
        """Answers that are listed even if no op got them: the good one, and the refusals that follow it in ``answers``.
        The tables of two runs can then be compared."""
        if not self.good:
            return ()
        told = [self.good]
        for name in self.answers[self.answers.index(self.good) + 1 :]:
            if name not in self.refused:
                break
            told.append(name)
        return tuple(told)

    @property
    def split(self) -> str:
        """The kind whose refused ops have times of their own: the first that arrives; empty if none has."""
        return self.arrivals[0] if self.refused and not self.all_kinds_count else ""

    @property
    def timed(self) -> tuple[str, ...]:
        """What has response times of its own: each kind, and the refused ops of ``split`` right after it."""
        return tuple(
            name for kind in self.kinds for name in ((kind, kind + REFUSED) if kind == self.split else (kind,))
        )

    def title(self, name: str) -> str:
        """What a person reads for the name of a kind or of an answer."""
        return self.titles.get(name, name)

    def main_codes(self, main: str = "") -> list[int]:
        """The codes of the kinds that the figures count; ``main`` is the run's main kind."""
        if self.all_kinds_count:
            return list(range(len(self.kinds)))
        return [self.kinds.index(main or self.arrivals[0])]


def words_of(workload: str, told: Mapping[str, Any]) -> WorkloadFacts:
    """The words of a workload, by its name and its part of plan.json. An older plan.json has only some of them."""
    lacking = any(each.name not in told for each in fields(WorkloadFacts))
    return workload_facts({**(_older_runs().get(workload, {}) if lacking else {}), **told})


def workload_facts(told: Mapping[str, Any]) -> WorkloadFacts:
    """The facts in a "workload" block of plan.json. What makes no sense is left out."""
    kinds, answers = tuple(texts(told.get("kinds"))) or ("op",), tuple(texts(told.get("answers"))) or ("none",)
    arrivals = tuple(name for name in texts(told.get("arrivals")) if name in kinds) or kinds
    good, noun, figures, no_objectives = (
        value if isinstance(value := told.get(name, otherwise), str) else otherwise
        for name, otherwise in (("good", ""), ("noun", "op"), ("figures", ""), ("no_objectives", ""))
    )
    return WorkloadFacts(
        kinds=kinds,
        answers=answers,
        arrivals=arrivals,
        refused=tuple(name for name in texts(told.get("refused")) if name in answers),
        good=good if good in answers else "",
        noun=noun,
        figures=figures,
        all_kinds_count=told.get("all_kinds_count") is True,
        titles={name: title for name, title in mapping(told.get("titles")).items() if isinstance(title, str)},
        no_objectives=no_objectives,
    )


@cache
def _older_runs() -> Mapping[str, Mapping[str, Any]]:
    return {name: mapping(told) for name, told in mapping(json.loads(OLDER_RUNS.read_text("utf-8"))).items()}
