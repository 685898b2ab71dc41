"""Evidence: what a check gets to see of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from loadgen.history.history import History
from loadgen.plan import Plan

T = TypeVar("T")


class Contradiction(Exception):  # noqa: N818 - what a history says, not an error of ours
    """The history contradicts itself or the plan, so that nothing can be proved from it."""


@dataclass
class Evidence:
    """One stored run, as its checks see it. They are pure functions of it, but for ``doubts`` and ``warnings``."""

    plan: Plan
    history: History
    facts: Mapping[str, Any]
    """plan.json."""
    load: Mapping[str, Any]
    """load.json; empty if the run was killed before it ended."""
    whole: bool = True
    """Whether the history tells of every number that was handed out."""
    real_time_reads: bool = True
    """Whether the cluster documents that what was acknowledged is seen from then on."""
    statement_snapshot: bool = True
    """Whether the level that the run had promises each statement one snapshot."""
    doubts: list[str] = field(default_factory=list)
    """Why nothing may be called valid: a check may add one."""
    warnings: list[str] = field(default_factory=list)
    lost_numbers: bool = False
    """Whether a part of what was asked is missing: then what nobody asked for proves nothing."""
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def derived(self, make: Callable[["Evidence"], T]) -> T:
        """What ``make`` makes of this evidence, made once for all checks."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made
