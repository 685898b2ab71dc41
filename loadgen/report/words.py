"""The words of a run's report: its workload's own, from summary.json and plan.json of any version."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from loadgen.errors import LoadgenError
from loadgen.plan import DEFAULTS
from loadgen.untrusted import mapping, texts
from loadgen.workload.facts import WorkloadFacts, words_of
from loadgen.workload.loading import installed_workloads, load_workload
from loadgen.workload.workload import Workload

Facts = Mapping[str, Any]


def words_in(summary: Facts, plan_facts: Facts) -> WorkloadFacts:
    """The words of the run's workload. Without plan.json, they come from the summary, or the default."""
    name = mapping(plan_facts.get("plan")).get("workload") or DEFAULTS.workload
    words = words_of(str(name), mapping(plan_facts.get("workload")))
    main = mapping(summary.get("main"))
    return replace(words, noun=str(main.get("noun") or words.noun), good=str(main.get("good", words.good)))


def own_lines(summary: Facts, plan_facts: Facts) -> list[list[str]]:
    """The sections that only the workload knows: as the summary has them, in an older one as its workload says."""
    told = summary.get("lines")
    if told is None and summary and (workload := _installed(str(mapping(plan_facts.get("plan")).get("workload")))):
        told = workload.lines(summary) if workload.lines is not None else None
    sections = [texts(list(each)) for each in told if isinstance(each, list | tuple)] if told else []
    return [section for section in sections if len(section) > 1]


@cache
def _installed(name: str) -> Workload | None:
    try:
        return load_workload(file) if (file := installed_workloads().get(name)) else None
    except LoadgenError:
        return None


def counts_in(summary: Facts, words: WorkloadFacts) -> Facts:
    """The counts of the main kind: those under the workload's own key, or in ``main``; empty if there are none."""
    own, main = mapping(summary.get(words.figures)), mapping(summary.get("main"))
    return own or (main if "due" in main else {})
