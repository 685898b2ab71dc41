"""Runs in a table, one line each: for a terminal, or as Markdown for a note or a README."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.run_directory import RunDirectory, read_plan
from loadgen.report.edition import engine_title
from loadgen.report.markdown import markdown_table
from loadgen.report.stored import read_summary
from loadgen.report.words import counts_in, words_in
from loadgen.untrusted import mapping, one_line
from loadgen.workload.facts import WorkloadFacts

COLUMNS = (
    *("started (UTC)", "engine", "cluster", "workload", "strategy", "isolation", "verdict", "violations"),
    *("good", "good/s", "p50 ms", "p99 ms", "run"),
)
"""What a row holds. The good ones are called as the workload does, where all runs call them alike."""
LESSER = ("cluster", "isolation", "p50 ms", "strategy", "violations", "workload", "p99 ms", "good", "engine")
"""The columns that are left out where there is no room, the first one first."""
NUMBERS = range(COLUMNS.index("violations"), COLUMNS.index("run"))
"""The columns that are numbers, and stand at the right."""
WIDEST = 300
"""Characters of one cell at the most."""
_NOT_OURS = (StoreError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What a file raises whose values are not those that a run writes."""
_NO_FIGURES = ("-",) * len(NUMBERS)


@dataclass(frozen=True, slots=True)
class Listing:
    """A line for each run under its heads, times in milliseconds of response; of a broken run, what can be said."""

    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def listing(runs: Iterable[RunDirectory]) -> Listing:
    """The table of ``runs``."""
    listed = [_Listed(run) for run in runs]
    nouns = {each.words.noun for each in listed if each.words is not None}
    things = f"{one_line(nouns.pop())[:WIDEST]}s" if len(nouns) == 1 else "good"
    head = [name.replace("good", things) for name in COLUMNS]
    return Listing(head, [[_cell(text) for text in each.cells] for each in listed])


def _cell(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= WIDEST else shown[:WIDEST] + "…"


def as_text(table: Listing, width: int = 0) -> str:
    """``table`` in aligned columns; of LESSER as many as ``width`` has room for (0: all)."""
    lines = (table.head, *table.lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = list(range(len(COLUMNS)))
    for name in LESSER:
        if width and sum(widths[column] + 2 for column in shown) - 2 > width:
            shown.remove(COLUMNS.index(name))
    return "\n".join(
        "  ".join(
            line[column].rjust(widths[column]) if column in NUMBERS else line[column].ljust(widths[column])
            for column in shown
        ).rstrip()
        for line in lines
    )


def as_json(runs: Iterable[RunDirectory]) -> list[dict[str, Any]]:
    """What ``listing`` has of each run, by name, as numbers where they are; None where there is none.

    How many were good stands under the workload's own ``noun``: for example ``orders`` and ``orders_per_second``.
    """
    return [_record(run) for run in runs]


def as_markdown(table: Listing) -> str:
    """``table`` in Markdown without the runs' directories, which nobody else has."""
    return markdown_table(table.head[:-1], [line[:-1] for line in table.lines], right=NUMBERS)


class _Listed:
    """One run: its row, and what it was made of."""

    def __init__(self, run: RunDirectory) -> None:
        self.words: WorkloadFacts | None = None
        self.summary: Mapping[str, Any] = {}
        self.cells: Sequence[str] = self._row(run)

    def _row(self, run: RunDirectory) -> tuple[str, ...]:
        nothing = ("-",) * COLUMNS.index("verdict")
        if run.logs.is_dir() and not run.plan.exists():
            return (*nothing, "not started", *_NO_FIGURES, f"{run.path}: {run.logs} tells why")
        try:
            plan_facts = read_plan(run.plan)
            plan, started = plan_facts["plan"], str(plan_facts["started_utc"])[:19].replace("T", " ")
            engine, cluster = plan_facts["engine"], _cluster(plan["cluster"], plan_facts.get("cluster") or {})
            strategy = str(plan.get("strategy", ""))
            what = (started, engine_title(engine), cluster, plan["workload"], strategy, engine["level"])
        except _NOT_OURS as error:
            reason = str(error) if isinstance(error, StoreError) else f"{run.plan} lacks what it should hold"
            return (*nothing, "broken", *_NO_FIGURES, f"{run.path}: {reason}")
        try:
            self.summary = read_summary(run.summary) if run.summary.exists() else {}
            self.words = words_in(self.summary, plan_facts)
            result = self._result() if self.summary else ("unfinished", *_NO_FIGURES)
        except _NOT_OURS:
            result = ("broken", *_NO_FIGURES)
        return (*map(str, what), *result, str(run.path))

    def _result(self) -> tuple[str, ...]:
        summary = self.summary
        verdict = str(summary["verdict"]) + (" (cut short)" if summary.get("cut_short") else "")
        if (code := _exit_code(summary)) in (1, 3):
            verdict += f", exit {code}: " + ("an objective was missed" if code == 3 else "see its report")
        violations = sum(int(count) for count in (summary.get("violations") or {}).values())
        good, rate, p50, p99 = self.figures()
        return (verdict, f"{violations:,}", _figure(good, ",d"), _figure(rate), _figure(p50), _figure(p99))

    def figures(self) -> tuple[Any, Any, Any, Any]:
        """How many were good, their mean rate, and two response times of them; None where there is none."""
        if self.words is None:
            return (None,) * 4
        counts = counts_in(self.summary, self.words)
        main = str(mapping(self.summary.get("main")).get("kind") or self.words.arrivals[0])
        times = mapping(mapping(self.summary.get("response_time_ms")).get(main))
        return counts.get(self.words.good or "ok"), counts.get("per_second_mean"), times.get("p50"), times.get("p99")


def _record(run: RunDirectory) -> dict[str, Any]:
    listed = _Listed(run)
    row, summary = dict(zip(COLUMNS, listed.cells, strict=True)), listed.summary
    judged = row["verdict"] != "broken" and bool(summary)
    noun = (listed.words or words_in({}, {})).noun
    good, rate, p50, p99 = listed.figures()
    violations = None
    with suppress(*_NOT_OURS):
        violations = sum(int(count) for count in (summary.get("violations") or {}).values()) if judged else None
    return {
        "run": str(run.path),
        "started_utc": None if row["started (UTC)"] == "-" else row["started (UTC)"],
        **{name: row[name] for name in ("engine", "cluster", "workload", "strategy", "isolation")},
        "verdict": str(summary["verdict"]) if judged else row["verdict"],
        "exit_code": _exit_code(summary) if judged else None,
        "cut_short": summary.get("cut_short") or None,
        "violations": violations,
        "noun": noun,
        f"{noun}s": good,
        f"{noun}s_per_second": rate,
        "p50_ms": p50,
        "p99_ms": p99,
    }


def _cluster(provider: str, facts: Mapping[str, Any]) -> str:
    """Where it ran; of several nodes how many, and how they are replicated, which is what an answer is worth."""
    if int(facts.get("nodes", 1)) < 2:
        return provider
    kind = str((facts.get("replication") or {}).get("kind", "")).partition(":")[0]
    return f"{provider}, {facts['nodes']} nodes" + (f": {kind}" if kind else "")


def _exit_code(summary: Mapping[str, Any]) -> int:
    from loadgen.judge.judge import exit_code  # numpy, which a list of runs without a summary does not wait for

    return exit_code(summary)


def _figure(value: Any, how: str = ",.1f") -> str:
    return "-" if value is None else format(value, how)
