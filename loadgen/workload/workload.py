"""The workload: one value that says everything about one kind of load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from loadgen.errors import PlanError
from loadgen.plan import FIELDS, SLO_PEAK, Option, Plan, parse_option, parse_plan
from loadgen.verdict import Finding
from loadgen.workload.table import Table

if TYPE_CHECKING:
    # Not needed to run: whoever only starts or guards a server does without numpy's tenth of a second.
    from numpy.typing import NDArray

    from loadgen.workload.evidence import Evidence

REFUSED = "_refused"
"""What the name of a kind's refused ops ends in, in reports and objectives."""


class Invoked(Protocol):
    """The meaning of one op number, as a body gets it."""

    @property
    def number(self) -> int:
        """The op's number."""

    @property
    def kind(self) -> int:
        """The kind of the arrival itself."""

    @property
    def follow_ups(self) -> tuple[tuple[int, int], ...]:
        """``(kind, delay_ns)`` of the ops that follow its success, under the same number."""


@dataclass(frozen=True)
class Check:
    """One check: its name in the report, the function that finds, and what it finds in one line."""

    name: str
    find: Callable[["Evidence"], Finding]
    text: str
    from_rows_alone: bool = False
    """Whether its proof needs nothing but rows and answers: then it also proves something where a part of what was
    asked is missing from the history."""


@dataclass(frozen=True)
class Isolation:
    """Which transactions of a run are judged for isolation.

    ``judge`` gives the judgement of one run: ``(evidence, models, time_limit_s) -> isolation.judgement.Judgement``.
    ``decides``: the verdict of the run is this one; else what it finds is added to what the checks find, within
    ``time_limit_s``.
    """

    judge: Callable[["Evidence", Sequence[str], float], Any]
    decides: bool = False
    time_limit_s: float = 20.0


@dataclass(frozen=True)
class Workload:
    """One workload, complete. ``kinds`` and ``answers`` name the codes in the history; ``answers[0]`` is "none".

    ``arrivals`` are the kinds that arrive by themselves; the first is the one whose rate a plan gives, the others
    come on top by their weights. The other kinds only follow. ``followed_on`` is the answer after which an arrival's
    ``follow_ups`` are due.
    """

    name: str
    kinds: tuple[str, ...]
    answers: tuple[str, ...]
    arrivals: tuple[str, ...]
    followed_on: int
    tables: Callable[[Plan], tuple[Table, ...]]
    invoked_types: Mapping[str, str]
    invoked: Callable[[Plan, int, int], dict[str, "NDArray[Any]"]]
    """``(plan, first, count)`` -> the history's columns of these numbers."""
    ops: Callable[[Plan, Mapping[str, "NDArray[Any]"]], Sequence[Invoked]]
    """``(plan, columns)`` -> the same numbers as Python values, which the bodies get."""
    text: str = ""
    """What it is, in one line."""
    refused: tuple[str, ...] = ()
    """The answers by which nothing was changed. All others but "none" are good ones."""
    good: str = ""
    """The answer that the headline rate counts (``GOOD_per_second``); empty: every answer of the main kind that is
    not a refusal, under the name "ok"."""
    noun: str = "op"
    """What one op of the main kind is called: "order". The plural has an s."""
    figures: str = ""
    """The key of ``summary.json`` under which the main kind's counts are given, beside ``main``."""
    all_kinds_count: bool = False
    """Whether the figures count the ops of all kinds together, not those of the main one."""
    options: tuple[Option, ...] = ()
    resolve: Callable[[Plan], Plan] = lambda plan: plan
    """Checks the options together, and fills in those that depend on others. Raises PlanError."""
    checks: tuple[Check, ...] = ()
    examine: Callable[["Evidence"], None] | None = None
    """Called before any check: may add doubts to the evidence, and raises Contradiction where it fits no run."""
    isolation: Isolation | None = None
    extras: Callable[["Evidence"], Mapping[str, Any]] | None = None
    """More keys of ``summary.json``; what it adds to ``evidence.warnings`` is shown, too."""
    evidence_version: int = 1
    """Raised when an older run's history can no longer be judged by this file."""
    shapes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what could not be said on a command line or in a history. Raises PlanError."""
        for option in self.options:
            if option.name in FIELDS or not option.name.isidentifier():
                raise PlanError(f"workload {self.name}: an option cannot be called {option.name!r}")
        for kind in (*self.arrivals, *self.kinds):
            if kind not in self.kinds or self.kinds.count(kind) != 1 or not kind.isidentifier():
                raise PlanError(f"workload {self.name}: {kind!r} is not one of its kinds, each named once")
        for answer in (*self.refused, *((self.good,) if self.good else ())):
            if answer not in self.answers:
                raise PlanError(f"workload {self.name}: {answer!r} is not one of its answers")

    @property
    def metrics(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The kinds and the rates that objectives may name."""
        split = tuple(f"{kind}{REFUSED}" for kind in self.arrivals) if self.refused else ()
        return (*self.kinds, *split), (f"{self.good or 'ok'}_per_second", SLO_PEAK)

    def parse(self, values: Mapping[str, Any]) -> Plan:
        """The plan that a user asked for. Raises PlanError."""
        return self.resolve(parse_plan({**values, "workload": self.name}, self.options, self.metrics))

    def plan(self, **changes: Any) -> Plan:
        """A plan with the default of every option, and ``changes``."""
        return self.resolve(
            Plan(workload=self.name, options={each.name: each.default for each in self.options}).with_(**changes)
        )

    def stored(self, plan: Plan) -> Plan:
        """The plan of a stored run, with its options checked, and those that it lacks. Raises PlanError."""
        given = dict(plan.options)
        values = {}
        for option in self.options:
            value = given.get(option.name, option.default)
            if type(value) is not type(option.default):
                raise PlanError(f"{option.name} is {str(value)[:40]!r}, which is no {type(option.default).__name__}")
            values[option.name] = parse_option(option, {option.name: value}) if option.name in given else value
        return self.resolve(plan.with_(options={**given, **values}))

    def facts(self) -> dict[str, Any]:
        """What plan.json says of the workload: all that figures and reports need, as plain JSON values."""
        return {
            "name": self.name,
            "text": self.text,
            "kinds": list(self.kinds),
            "answers": list(self.answers),
            "arrivals": list(self.arrivals),
            "refused": list(self.refused),
            "good": self.good,
            "noun": self.noun,
            "figures": self.figures,
            "all_kinds_count": self.all_kinds_count,
            "checks": [check.name for check in self.checks],
            "options": [option.name for option in self.options],
            "evidence_version": self.evidence_version,
        }
