"""The workload: one value that says everything about one kind of load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from loadgen.errors import PlanError
from loadgen.plan import FIELDS, SLO_PEAK, Option, Plan, check_options, parse_plan
from loadgen.shapes import SHAPES, WITH_VALUES, Curve, Shape
from loadgen.verdict import Finding
from loadgen.workload.facts import REFUSED, WorkloadFacts
from loadgen.workload.follow_ups import FollowUp, Phase, check_follow_ups, origins
from loadgen.workload.table import Table

if TYPE_CHECKING:
    # Not needed to run: whoever only starts or guards a server does without numpy's tenth of a second.
    from numpy.typing import NDArray

    from loadgen.history.history import History, LoadProcess
    from loadgen.workload.evidence import Evidence


class Invoked(Protocol):
    """The meaning of one op number, as a body gets it."""

    @property
    def number(self) -> int:
        """The op's number."""

    @property
    def kind(self) -> int:
        """The kind of the arrival itself."""


@dataclass(frozen=True)
class Check:
    """One check: its name in the report, the function that returns the finding, and a one-line description of the
    violation."""

    name: str
    find: Callable[["Evidence"], Finding]
    text: str
    from_rows_alone: bool = False
    """Whether its proof needs only rows and answers. It is then also valid if a part of what was asked is missing from
    the history."""


@dataclass(frozen=True)
class Isolation:
    """Which transactions of a run are judged for isolation.

    ``judge`` returns the judgement of one run: ``(evidence, models, time_limit_s) -> isolation.judgement.Judgement``.
    If it ``decides``, its verdict is the verdict of the run. Otherwise its findings are added to those of the checks,
    within ``time_limit_s``.
    """

    judge: Callable[["Evidence", Sequence[str], float], Any]
    decides: bool = False
    time_limit_s: float = 20.0
    transactions: Callable[[Plan, "History", bool], Any] | None = None
    """What ``loadgen export`` writes: ``(plan, history, replica_reads) -> isolation.transactions.Transactions``."""


@dataclass(frozen=True)
class Workload:
    """One workload, complete. ``kinds`` and ``answers`` name the codes in the history; ``answers[0]`` is "none".

    ``arrivals`` are the kinds that arrive by themselves. The plan gives the rate of the first one; the others are added
    by their weights. All other kinds only follow, by the rules in ``follow_ups``.
    """

    name: str
    kinds: tuple[str, ...]
    answers: tuple[str, ...]
    arrivals: tuple[str, ...]
    tables: Callable[[Plan], tuple[Table, ...]]
    invoked_types: Mapping[str, str]
    invoked: Callable[[Plan, int, int], dict[str, "NDArray[Any]"]]
    """``(plan, first, count)`` -> the history's columns of these numbers."""
    ops: Callable[[Plan, Mapping[str, "NDArray[Any]"]], Sequence[Invoked]]
    """``(plan, columns)`` -> the same numbers as Python values, for the bodies."""
    follow_ups: tuple[FollowUp, ...] = ()
    """Which kinds follow which answers, how often and when."""
    phases: tuple[Phase, ...] = ()
    """Named parts of a run, at which follow-ups may be due."""
    followed_on: int | None = None
    """Instead of rules, if the numbers decide: the answer after which each of an arrival's own ``follow_ups`` (pairs of
    kind and delay in nanoseconds) is due."""
    refused: tuple[str, ...] = ()
    """The answers that mean that nothing was changed. All others except "none" are good answers."""
    good: str = ""
    """The answer that the headline rate counts (``GOOD_per_second``); empty: every answer of the main kind that is
    not a refusal, under the name "ok"."""
    noun: str = "op"
    """The name of one op of the main kind, such as order. The plural adds an s."""
    figures: str = ""
    """The key of ``summary.json`` under which the main kind's counts are given, beside ``main``."""
    snapshot_reads: tuple[str, ...] = ()
    """The kinds that only read, by plain SELECTs, and report several rows with a version column. fractured-read checks
    that each of them saw one snapshot, if the level promises that to a transaction, or to a statement for a kind with
    one statement."""
    single_statements: tuple[str, ...] = ()
    """The kinds whose body is marked ``single_statement``: ``load_workload`` fills it in from the class of users."""
    all_kinds_count: bool = False
    """Whether the figures count the ops of all kinds together, instead of the main kind only."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """The titles of kinds (``KIND_refused`` for refused ops) and of answers in the report."""
    no_objectives: str = ""
    """Why it takes no objectives, as the end of a sentence that begins with its name: "takes no objectives, because
    ...". Empty if it takes them."""
    options: tuple[Option, ...] = ()
    resolve: Callable[[Plan], Plan] = lambda plan: plan
    """Checks the options together and fills in options that depend on others. Raises PlanError."""
    checks: tuple[Check, ...] = ()
    examine: Callable[["Evidence"], None] | None = None
    """Called before any check. May add doubts to the evidence, and raises Contradiction if the evidence fits no run."""
    isolation: Isolation | None = None
    extras: Callable[["Evidence | None"], Mapping[str, Any]] | None = None
    """More keys of ``summary.json``, also for a run without evidence (None). Its additions to ``evidence.warnings`` are
    shown."""
    lines: Callable[[Mapping[str, Any]], Sequence[Sequence[str]]] | None = None
    """The workload's own sections of the report, from the summary: ``(label, text, ...)`` for each. ``summary.json``
    keeps them as ``lines``."""
    untold: Callable[["LoadProcess", Plan], str] | None = None
    """The rows that a load process that ended in order should have and lacks, in words; empty if nothing is missing."""
    evidence_version: int = 1
    """To be increased when this file can no longer judge the history of an older run."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Its own shapes, for ``--shape NAME``: functions from relative time in [0, 1] to relative rate in [0, 1]."""

    def __post_init__(self) -> None:
        """Refuse names that a command line or a history cannot hold. Raises PlanError."""
        for option in self.options:
            if option.name in FIELDS or not option.name.isidentifier():
                raise PlanError(f"workload {self.name}: an option cannot be called {option.name!r}")
        for name in self.shapes:
            if name in {*SHAPES, *WITH_VALUES} or not name.isidentifier():
                raise PlanError(f"workload {self.name}: a shape of its own cannot be called {name!r}")
        for kind in (*self.arrivals, *self.snapshot_reads, *self.kinds):
            if kind not in self.kinds or self.kinds.count(kind) != 1 or not kind.isidentifier():
                raise PlanError(f"workload {self.name}: {kind!r} is not one of its kinds, each named once")
        for answer in (*self.refused, *((self.good,) if self.good else ())):
            if answer not in self.answers:
                raise PlanError(f"workload {self.name}: {answer!r} is not one of its answers")
        check_follow_ups(self)

    @property
    def metrics(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The kinds and the rates that objectives may name: those in the figures."""
        split = (self.words.split + REFUSED,) if self.words.split else ()
        return (*self.kinds, *split), (f"{self.good or 'ok'}_per_second", SLO_PEAK)

    def parse(self, values: Mapping[str, Any], shapes: Mapping[str, Shape | Curve] | None = None) -> Plan:
        """The plan that a user asked for. ``shapes`` are additional shapes by name. Raises PlanError."""
        slo = str(values.get("slo") or "").strip()
        if slo and self.no_objectives:
            raise PlanError(
                f"--slo {slo!r} can't be measured: {self.name} {self.no_objectives}. Leave --slo out; the report still "
                "shows rates and response times"
            )
        own_shapes = {**self.shapes, **(shapes or {})}
        return self._resolved(parse_plan({**values, "workload": self.name}, self.options, self.metrics, own_shapes))

    @property
    def followed(self) -> dict[str, tuple[str, ...]]:
        """For each kind that follows, the arriving kinds from which the rules lead to it."""
        return {rule.kind: origins(self, rule.kind) for rule in self.follow_ups}

    def phases_s(self, plan: Plan) -> dict[str, float]:
        """When each phase begins, in seconds since the begin of the load. Raises PlanError for one that never does."""
        return {phase.name: phase.begins_s(plan) for phase in self.phases}

    @property
    def words(self) -> WorkloadFacts:
        """The words that figures and reports need."""
        return WorkloadFacts(**{each.name: getattr(self, each.name) for each in fields(WorkloadFacts)})

    def stored(self, plan: Plan, listed: Sequence[str]) -> Plan:
        """The plan of a stored run, with its options checked. ``listed`` are the options that the workload had then.
        Newer options get their defaults; an option that is listed and missing is refused. Raises PlanError."""
        later = {each.name: each.default for each in self.options if listed and each.name not in listed}
        whole = plan.with_(options={**later, **dict(plan.options)})
        check_options(whole, self.options)
        return self._resolved(whole)

    def _resolved(self, plan: Plan) -> Plan:
        plan = self.resolve(plan)
        self.phases_s(plan)
        return plan

    def facts(self, plan: Plan, tables: Sequence[Table] = ()) -> dict[str, Any]:
        """What plan.json says of the workload in a run of ``plan``, as plain JSON values.

        With ``versions``, those of its ``tables`` that have a version column: their checks need nothing else of it.
        """
        return {
            "name": self.name,
            **asdict(self.words),
            "checks": [check.name for check in self.checks],
            "options": [option.name for option in self.options],
            "evidence_version": self.evidence_version,
            "follow_ups": [asdict(rule) for rule in self.follow_ups],
            "phases": self.phases_s(plan),
            "snapshot_reads": list(self.snapshot_reads),
            "single_statements": list(self.single_statements),
            "versions": [
                {"table": table.name, "version": table.version, "row": table.row if isinstance(table.row, str) else ""}
                for table in tables
                if table.version
            ],
        }
