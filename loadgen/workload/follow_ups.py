"""Follow-ups as data: rules from an answer to further ops of the same number, and the named phases of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadgen.errors import PlanError
from loadgen.plan import MAX_DURATION_S, Plan

if TYPE_CHECKING:
    from loadgen.workload.workload import Workload

ROUNDING = 1e-9
"""How much the sum of shares may exceed 1 by rounding."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One rule: after an op of the kind ``of`` got the answer ``after``, an op of ``kind`` is due, of the same number.

    ``share`` is the share of these answers to which the rule applies, above 0 and at most 1. Rules with the same ``of``
    and ``after`` divide the answers among them; the remaining answers have no follow-up. ``delay`` is in seconds, or
    ``(least, most)``, drawn evenly. It counts from the answer. With ``at`` it counts from the begin of that phase, and
    an op that would be due before the answer is due at once. An op that would be due after the end of the load never
    is.
    """

    of: str
    after: str
    kind: str
    share: float = 1.0
    delay: float | tuple[float, float] = 0.0
    at: str = ""

    @property
    def delays(self) -> tuple[float, float]:
        """The shortest and the longest delay, in seconds."""
        return (self.delay, self.delay) if isinstance(self.delay, int | float) else self.delay

    def __str__(self) -> str:
        return f"{self.of} {self.after} -> {self.kind}"


@dataclass(frozen=True, slots=True)
class Phase:
    """A named part of a run. ``at`` says when it begins: a share of the run's duration, from 0 to below 1, or a
    function of the plan that returns seconds since the begin of the load."""

    name: str
    at: float | Callable[[Plan], float]

    def begins_s(self, plan: Plan) -> float:
        """Seconds from the begin of the load to that of the phase. Raises PlanError if that is not within the run."""
        try:
            at_s = float(self.at(plan)) if callable(self.at) else self.at * plan.duration_s
        except Exception as error:  # the workload's own function
            what = f"{type(error).__name__}: {error}"
            raise PlanError(f"phase {self.name} does not say when it begins: {what}") from error
        if not 0 <= at_s < plan.duration_s:
            raise PlanError(f"phase {self.name} begins at {at_s:g} s, and the run lasts {plan.duration_s:g} s")
        return at_s


def origins(workload: "Workload", kind: str) -> tuple[str, ...]:
    """The arriving kinds from which the rules lead to ``kind``."""
    found = {kind}
    while more := {rule.of for rule in workload.follow_ups if rule.kind in found} - found:
        found |= more
    return tuple(name for name in workload.arrivals if name in found)


def check_follow_ups(workload: "Workload") -> None:
    """Refuse rules and phases that no run could follow. Raises PlanError, in one line."""
    phases = [phase.name for phase in workload.phases]
    for phase in workload.phases:
        if phases.count(phase.name) != 1 or not phase.name.isidentifier():
            raise PlanError(f"workload {workload.name}: {phase.name!r} is no name of a phase, each named once")
        if not callable(phase.at) and not 0 <= phase.at < 1:
            raise PlanError(f"workload {workload.name}: phase {phase.name} is at {phase.at}, which is not from 0 to 1")
    if workload.follow_ups and workload.followed_on is not None:
        raise PlanError(f"workload {workload.name}: what follows is said by follow_ups or by followed_on, not by both")
    for rule in workload.follow_ups:
        if wrong := _wrong_of(rule, workload, phases):
            raise PlanError(f"workload {workload.name}: follow-up {rule}: {wrong}")
    _check_order(workload)


def _wrong_of(rule: FollowUp, workload: "Workload", phases: list[str]) -> str:
    """What is wrong with one rule; empty if nothing is."""
    least, most = rule.delays
    group = [each.share for each in workload.follow_ups if (each.of, each.after) == (rule.of, rule.after)]
    if unknown := [kind for kind in (rule.of, rule.kind) if kind not in workload.kinds]:
        return f"{unknown[0]!r} is not one of its kinds"
    if rule.after not in workload.answers[1:]:
        return f"{rule.after!r} is not one of its answers"
    if rule.kind in workload.arrivals:
        return f"{rule.kind} arrives by itself, so it cannot follow: give what follows a kind of its own"
    if not 0 < rule.share <= 1 or sum(group) > 1 + ROUNDING:
        return f"shares are above 0, and together at most 1, not {' + '.join(f'{share:g}' for share in group)}"
    if not 0 <= least <= most <= MAX_DURATION_S:
        return f"its delay is {rule.delay!r}, which is no time and no range of times"
    if rule.at and rule.at not in phases:
        return f"{rule.at!r} is not one of its phases"
    return ""


def _check_order(workload: "Workload") -> None:
    """Refuse rules that nothing leads to, and circles: an op is known by its number and kind, so a kind comes once."""
    left, reached = list(workload.follow_ups), set(workload.arrivals)
    # A kind is reached when all rules that lead to it are: what stays is a circle, or hangs on nothing.
    while ready := [rule for rule in left if rule.of in reached]:
        left = [rule for rule in left if rule not in ready]
        reached |= {rule.kind for rule in ready} - {rule.kind for rule in left}
    if not left:
        return
    path = [left[0].of]
    while len(path) == len(set(path)):
        before = [rule.of for rule in left if rule.kind == path[0]]
        if not before:
            raise PlanError(f"workload {workload.name}: follow-up {left[0]}: nothing leads to {path[0]}")
        path.insert(0, before[0])
    circle = " -> ".join(path[: path.index(path[0], 1) + 1])
    raise PlanError(f"workload {workload.name}: follow-ups run in a circle, {circle}: a kind follows a number once")
