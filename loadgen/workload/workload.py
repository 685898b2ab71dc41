"""The workload: one value that says everything about one kind of load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from loadgen.errors import PlanError
from loadgen.plan import FIELDS, SLO_PEAK, Option, Plan, parse_plan
from loadgen.workload.facts import REFUSED, WorkloadFacts
from loadgen.workload.table import Table

if TYPE_CHECKING:
    # Not needed to run: whoever only starts or guards a server does without numpy's tenth of a second.
    from numpy.typing import NDArray


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
        """The kinds and the rates that objectives may name: those that the figures tell."""
        split = (self.words.split + REFUSED,) if self.words.split else ()
        return (*self.kinds, *split), (f"{self.good or 'ok'}_per_second", SLO_PEAK)

    def parse(self, values: Mapping[str, Any]) -> Plan:
        """The plan that a user asked for. Raises PlanError."""
        return self.resolve(parse_plan({**values, "workload": self.name}, self.options, self.metrics))

    @property
    def words(self) -> WorkloadFacts:
        """What figures and reports need of it."""
        return WorkloadFacts(**{each.name: getattr(self, each.name) for each in fields(WorkloadFacts)})

    def facts(self) -> dict[str, Any]:
        """What plan.json says of the workload, as plain JSON values."""
        return {"name": self.name, **asdict(self.words)}
