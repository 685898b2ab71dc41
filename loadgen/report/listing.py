"""Runs in a table, one line each: for a terminal, or as Markdown for a note or a README."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.run_directory import RunDirectory, read_plan
from loadgen.report.edition import engine_title
from loadgen.report.stored import read_summary
from loadgen.untrusted import one_line

HEAD = (
    *("started (UTC)", "engine", "cluster", "workload", "strategy", "isolation", "verdict", "violations"),
    *("orders", "orders/s", "p50 ms", "p99 ms", "run"),
)
LESSER = ("cluster", "isolation", "p50 ms", "strategy", "violations", "workload", "p99 ms", "orders", "engine")
"""The columns that are left out where there is no room, the first one first."""
NUMBERS = HEAD.index("violations"), HEAD.index("run")
"""The columns from the first to before the second are numbers, and stand at the right."""
Row = tuple[str, ...]
WIDEST = 300
"""Characters of one cell at the most."""
_NOT_OURS = (StoreError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What a file raises whose values are not those that a run writes."""
_NO_FIGURES = ("-",) * (HEAD.index("run") - HEAD.index("violations"))


def listing(runs: Iterable[RunDirectory]) -> list[Row]:
    """A row under HEAD for each run, times in milliseconds of response; for a damaged run, the data that is left."""
    return [tuple(_cell(text) for text in _row(run)) for run in runs]


def _cell(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= WIDEST else shown[:WIDEST] + "…"


def as_text(rows: Sequence[Row], width: int = 0) -> str:
    """``rows`` in aligned columns under their head; of LESSER as many as ``width`` has room for (0: all)."""
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    shown = list(range(len(HEAD)))
    for name in LESSER:
        if width and sum(widths[column] + 2 for column in shown) - 2 > width:
            shown.remove(HEAD.index(name))
    first, end = NUMBERS
    return "\n".join(
        "  ".join(
            row[column].rjust(widths[column]) if first <= column < end else row[column].ljust(widths[column])
            for column in shown
        ).rstrip()
        for row in (HEAD, *rows)
    )


def as_json(runs: Iterable[RunDirectory]) -> list[dict[str, Any]]:
    """What ``listing`` has of each run, by name, as numbers where they are; None where there is none."""
    return [_record(run) for run in runs]


def _record(run: RunDirectory) -> dict[str, Any]:
    row = dict(zip(HEAD, _row(run), strict=True))
    summary: Mapping[str, Any] = {}
    with suppress(*_NOT_OURS):
        summary = read_summary(run.summary) if run.summary.exists() else {}
    judged = row["verdict"] != "broken" and bool(summary)
    orders, times = summary.get("orders") or {}, (summary.get("response_time_ms") or {}).get("order") or {}
    return {
        "run": str(run.path),
        "started_utc": None if row["started (UTC)"] == "-" else row["started (UTC)"],
        **{name: row[name] for name in ("engine", "cluster", "workload", "strategy", "isolation")},
        "verdict": str(summary["verdict"]) if judged else row["verdict"],
        "exit_code": _exit_code(summary) if judged else None,
        "cut_short": summary.get("cut_short") or None,
        "violations": sum(int(count) for count in (summary.get("violations") or {}).values()) if judged else None,
        "orders": orders.get("placed"),
        "orders_per_second": orders.get("per_second_mean"),
        "p50_ms": times.get("p50"),
        "p99_ms": times.get("p99"),
    }


def as_markdown(rows: Sequence[Row]) -> str:
    """``rows`` as a Markdown table, without the runs' directories, which exist on this machine only."""
    first, end = NUMBERS
    rule = ["---:" if first <= column < end else "---" for column in range(len(HEAD))]
    lines = (HEAD, rule, *rows)
    return "\n".join(f"| {' | '.join(text.replace('|', '&#124;') for text in line[:-1])} |" for line in lines)


def _row(run: RunDirectory) -> Row:
    if run.logs.is_dir() and not run.plan.exists():
        return (*("-",) * HEAD.index("verdict"), "not started", *_NO_FIGURES, f"{run.path}: {run.logs} tells why")
    try:
        plan_facts = read_plan(run.plan)
        plan, started = plan_facts["plan"], str(plan_facts["started_utc"])[:19].replace("T", " ")
        engine, cluster = plan_facts["engine"], _cluster(plan["cluster"], plan_facts.get("cluster") or {})
        what = (
            started,
            engine_title(engine),
            cluster,
            plan["workload"],
            str(plan.get("strategy", "")),
            engine["level"],
        )
    except _NOT_OURS as error:
        reason = str(error) if isinstance(error, StoreError) else f"{run.plan} lacks what it should hold"
        return (*("-",) * HEAD.index("verdict"), "broken", *_NO_FIGURES, f"{run.path}: {reason}")
    try:
        result = _result(read_summary(run.summary)) if run.summary.exists() else ("unfinished", *_NO_FIGURES)
    except _NOT_OURS:
        result = ("broken", *_NO_FIGURES)
    return (*map(str, what), *result, str(run.path))


def _cluster(provider: str, facts: Mapping[str, Any]) -> str:
    """Where it ran; of several nodes how many, and how they are replicated, which is what an order is worth."""
    if int(facts.get("nodes", 1)) < 2:
        return provider
    kind = str((facts.get("replication") or {}).get("kind", "")).partition(":")[0]
    return f"{provider}, {facts['nodes']} nodes" + (f": {kind}" if kind else "")


def _result(summary: Mapping[str, Any]) -> Row:
    orders, times = summary.get("orders") or {}, (summary.get("response_time_ms") or {}).get("order") or {}
    verdict = str(summary["verdict"]) + (" (cut short)" if summary.get("cut_short") else "")
    if (code := _exit_code(summary)) in (1, 3):
        verdict += f", exit {code}: " + ("an objective was missed" if code == 3 else "see its report")
    violations = sum(int(count) for count in (summary.get("violations") or {}).values())
    figures = (_figure(orders.get("per_second_mean")), _figure(times.get("p50")), _figure(times.get("p99")))
    return (verdict, f"{violations:,}", _figure(orders.get("placed"), ",d"), *figures)


def _exit_code(summary: Mapping[str, Any]) -> int:
    from loadgen.judge.judge import exit_code  # numpy, which a list of runs without a summary does not wait for

    return exit_code(summary)


def _figure(value: Any, how: str = ",.1f") -> str:
    return "-" if value is None else format(value, how)
