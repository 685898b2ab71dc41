"""Which op follows an answer, and when: a function of the plan, the op's number and the rules.

The load draws for one answer (``DueFollowUps``), the judge for all answers of a load process (``untold_follow_ups``).
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S
from loadgen.draws import Draws, uniform
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.workload.follow_ups import ROUNDING, FollowUp
from loadgen.workload.workload import Invoked, Workload

if TYPE_CHECKING:
    from loadgen.history.history import LoadProcess

Numbers = NDArray[np.int64]


class _Choice(NamedTuple):
    """What one rule means, in codes and nanoseconds. ``phase_ns`` is -1 where the delay counts from the answer."""

    kind: int
    least_ns: int
    width_ns: int
    phase_ns: int


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one kind and answer. ``index`` and the one after it are those of their draws."""

    of: int
    after: int
    index: int
    shares: tuple[float, ...]
    """Up to where in [0, 1) each choice is drawn; beyond the last one nothing follows."""
    choices: tuple[_Choice, ...]

    def drawn(self, seed: int, numbers: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Of each number the kind that follows, -1 for none, its delay and its phase, in nanoseconds."""
        draw = Draws(seed, numbers)
        place = np.searchsorted(self.shares, draw.uniform(self.index), side="right")
        kind, least, width, phase = np.array([*self.choices, _Choice(-1, 0, 0, -1)], dtype=np.int64)[place].T
        return kind, least + (draw.uniform(self.index + 1) * width).astype(np.int64), phase


class DueFollowUps:
    """What a plan's answers lead to: by the workload's rules, or by what its numbers say (``Workload.followed_on``)."""

    def __init__(self, workload: Workload, plan: Plan) -> None:
        self._seed = plan.seed
        self._rules = {(rules.of, rules.after): rules for rules in rules_of(workload, plan)}
        by_number = [] if workload.followed_on is None else [int(workload.followed_on)]
        self.answers = frozenset(by_number or (after for _, after in self._rules))
        """The codes of the answers after which something may follow."""
        self.due = self._by_number if by_number else self._by_rule

    def _by_number(self, op: Invoked, kind: int, answer: int, done: int, start: int) -> Sequence[tuple[int, int]]:
        """``(due, kind)`` of what follows ``op``, done as ``kind`` at ``done``, in a load that began at ``start``."""
        del answer, start
        return [(done + delay, follow) for follow, delay in op.follow_ups] if kind == op.kind else []  # type: ignore[attr-defined]

    def _by_rule(self, op: Invoked, kind: int, answer: int, done: int, start: int) -> Sequence[tuple[int, int]]:
        """The same by the rules: one op, or none."""
        rules = self._rules.get((kind, answer))
        if rules is None:
            return ()
        place = bisect_right(rules.shares, uniform(self._seed, op.number, rules.index))
        if place == len(rules.choices):
            return ()
        follow, least_ns, width_ns, phase_ns = rules.choices[place]
        delay = least_ns + int(uniform(self._seed, op.number, rules.index + 1) * width_ns)
        return ((done + delay if phase_ns < 0 else max(done, start + phase_ns + delay), follow),)


def rules_of(workload: Workload, plan: Plan) -> list[_Rules]:
    """The rules of a workload in one plan, by kind and answer. Raises PlanError for a phase outside of the run."""
    phases = {phase.name: int(phase.begins_s(plan) * NS_PER_S) for phase in workload.phases}
    groups: dict[tuple[str, str], list[FollowUp]] = {}
    for rule in workload.follow_ups:
        groups.setdefault((rule.of, rule.after), []).append(rule)
    made = []
    for (of, after), group in groups.items():
        shares = list(accumulate(rule.share for rule in group))
        if shares[-1] > 1 - ROUNDING:
            shares[-1] = 1.0
        choices = [_choice(rule, workload, phases) for rule in group]
        # By the names and not by the place: a rule that is added changes no draw of another kind or answer.
        index = int.from_bytes(hashlib.sha256(f"{of} {after}".encode()).digest()[:8], "big")
        codes = workload.kinds.index(of), workload.answers.index(after)
        made.append(_Rules(*codes, index, tuple(shares), tuple(choices)))
    return made


def untold_follow_ups(process: "LoadProcess", workload: Workload, plan: Plan, start_ns: int | None) -> int:
    """The number of answers without the follow-up that the rules demand, in a process that reports all its rows as
    written.

    Every due op has a row, served or skipped. If a row is missing and the process has ops that were due later, the row
    was lost. ``start_ns`` is when the process's load began; without it phases are left out.
    """
    ops = process.ops
    if not len(ops["due"]):
        return 0
    last, lacking = ops["due"].max(), 0
    for rules in rules_of(workload, plan):
        answered = (ops["kind"] == rules.of) & (ops["outcome"] == Outcome.OK) & (ops["answer"] == rules.after)
        numbers, done = ops["number"][answered], ops["done"][answered]
        kinds, delays, phases = rules.drawn(plan.seed, numbers)
        due = np.where(phases < 0, done + delays, np.maximum(done, phases + delays + (start_ns or 0)))
        known = (due < last) & ((phases < 0) | (start_ns is not None))
        for kind in {choice.kind for choice in rules.choices}:
            told = ops["number"][ops["kind"] == kind]
            # A kind that nobody ever did is not in the mix of this process's sessions.
            if len(told):
                lacking += int(np.count_nonzero(known & (kinds == kind) & ~np.isin(numbers, told)))
    return lacking


def _choice(rule: FollowUp, workload: Workload, phases: dict[str, int]) -> _Choice:
    least, most = (int(delay * NS_PER_S) for delay in rule.delays)
    return _Choice(workload.kinds.index(rule.kind), least, most - least, phases[rule.at] if rule.at else -1)
