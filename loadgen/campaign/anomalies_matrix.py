"""The matrix out of run directories: how often each anomaly was found per million committed transactions.

A row is one engine, level and strategy; it sums up the runs of all probes. A rate is this load's on this machine: it
says that an anomaly happens, and compares strategies, but is no property of the engine alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.run_directory import find_run, read_json, read_plan
from loadgen.plan import ISOLATIONS
from loadgen.probes.finals import PROBES
from loadgen.report.edition import engine_title
from loadgen.report.markdown import markdown_table
from loadgen.verdict import Verdict
from loadgen.workload.probes import STRATEGIES

MILLION = 1_000_000
HIDDEN = ("-process", "-realtime")
"""Anomalies of session and real-time order: in the JSON only, for no level here promises either."""
NONE = "·"
LEGEND = f"""\
Anomalies per million committed transactions, and how many were found; {NONE} none
Of cycles those of two transactions are all counted, of longer ones some. wrong-total counts reads of the bank: after
one lost update all that follow are wrong
! the engine documents that it cannot happen at that level   ? a run of the row could not be judged"""


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """What one run of a probe found. ``witnesses`` holds one of each anomaly."""

    directory: str
    engine: str
    level: str
    means: str
    strategy: str
    workload: str
    transactions: int
    verdict: str
    anomalies: dict[str, int]
    witnesses: dict[str, str]
    forbidden: frozenset[str]
    """Those that the engine documents as impossible at this level."""


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """The runs of one engine, level and strategy."""

    runs: tuple[ProbeRun, ...]

    @property
    def transactions(self) -> int:
        """How many were committed in all runs."""
        return sum(run.transactions for run in self.runs)

    @property
    def anomalies(self) -> dict[str, int]:
        """How often each was found in all runs."""
        names = sorted({name for run in self.runs for name in run.anomalies})
        return {name: sum(run.anomalies.get(name, 0) for run in self.runs) for name in names}

    def per_million(self, name: str) -> float:
        """The rate of an anomaly."""
        return self.anomalies.get(name, 0) * MILLION / self.transactions if self.transactions else 0.0

    def witness(self, name: str) -> tuple[str, ProbeRun]:
        """A witness of an anomaly that was found, and the run that found it."""
        return next((run.witnesses.get(name, ""), run) for run in self.runs if name in run.anomalies)


def read_probe(directory: Path) -> ProbeRun:
    """What the run in ``directory`` found, from its summary. Raises StoreError if it is no probe's run."""
    run = find_run(directory)
    summary, facts = read_json(run.summary), read_plan(run.plan)
    try:
        plan, engine, isolation = facts["plan"], facts["engine"], summary["isolation"]
        if plan["workload"] not in PROBES:
            raise StoreError(f"{directory} is a run of {plan['workload']}, not of a probe")
        if engine["level"] not in ISOLATIONS or plan["strategy"] not in STRATEGIES:
            raise ValueError(engine["level"], plan["strategy"])
        broken = {check["name"]: str(check["witness"]) for check in summary["checks"] if check["anomalies"]}
        return ProbeRun(
            directory=str(directory),
            engine=engine_title(engine),
            level=str(engine["level"]),
            means=str(engine["means"]),
            strategy=str(plan["strategy"]),
            workload=str(plan["workload"]),
            transactions=int(summary["transactions"]["ok"]),
            verdict=str(isolation["verdict"]),
            anomalies={str(name): int(count) for name, count in isolation["anomalies"].items()},
            witnesses={**isolation["beyond"], **broken},
            forbidden=frozenset(broken),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{directory} lacks what its plan.json and summary.json should hold: {error!r}") from error


def rows_of(runs: Iterable[ProbeRun]) -> list[AnomalyRow]:
    """The rows: engines in the order of their first run, levels from the weakest, strategies from the most naive."""
    grouped: dict[tuple[str, str, str], list[ProbeRun]] = {}
    for run in runs:
        grouped.setdefault((run.engine, run.level, run.strategy), []).append(run)
    engines = list(dict.fromkeys(engine for engine, _, _ in grouped))

    def place(key: tuple[str, str, str]) -> tuple[int, int, int]:
        engine, level, strategy = key
        return engines.index(engine), ISOLATIONS.index(level), STRATEGIES.index(strategy)

    return [AnomalyRow(tuple(grouped[key])) for key in sorted(grouped, key=place)]


def told(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are shown, each once."""
    return sorted({name for name in names if not name.endswith(HIDDEN)})


def render(rows: Sequence[AnomalyRow], *, witnesses: bool) -> str:
    """The matrix as Markdown that reads well on a terminal, with one witness of each cell if they are asked for."""
    shown = told(name for row in rows for name in row.anomalies)
    parts = ["# Anomalies that the probes found", LEGEND]
    for engine in dict.fromkeys(row.runs[0].engine for row in rows):
        mine = [row for row in rows if row.runs[0].engine == engine]
        head = ["level", "documented", "strategy", "probes", "transactions", *shown]
        parts += [f"## {engine}", markdown_table(head, [_line(row, shown) for row in mine], aligned=True)]
        if witnesses:
            parts += [_witness(row, name) for row in mine for name in told(row.anomalies)]
    return "\n\n".join(parts) + "\n"


def to_json(rows: Sequence[AnomalyRow], made_utc: str) -> dict[str, Any]:
    """The matrix whole: each row with its runs, and each cell with its count, rate, witness, and the run of that."""
    return {"made_utc": made_utc, "rows": [_row_json(row) for row in rows]}


def _row_json(row: AnomalyRow) -> dict[str, Any]:
    first, cells = row.runs[0], {}
    for name, count in row.anomalies.items():
        words, run = row.witness(name)
        cells[name] = {
            "count": count,
            "per_million": round(row.per_million(name), 1),
            "forbidden": any(name in each.forbidden for each in row.runs),
            "witness": words,
            "run": run.directory,
        }
    return {
        "engine": first.engine,
        "level": first.level,
        "documented": first.means,
        "strategy": first.strategy,
        "transactions": row.transactions,
        "anomalies": cells,
        "runs": [
            {
                "run": run.directory,
                "workload": run.workload,
                "transactions": run.transactions,
                "verdict": run.verdict,
                "anomalies": run.anomalies,
            }
            for run in row.runs
        ],
    }


def _line(row: AnomalyRow, names: Sequence[str]) -> list[str]:
    first = row.runs[0]
    doubt = " ?" if any(run.verdict == Verdict.UNKNOWN for run in row.runs) else ""
    probes = " ".join(dict.fromkeys(run.workload for run in row.runs))
    cells = [_cell(row, name) for name in names]
    return [first.level, first.means, first.strategy, probes, f"{row.transactions:,}{doubt}", *cells]


def _cell(row: AnomalyRow, name: str) -> str:
    count = row.anomalies.get(name, 0)
    if not count:
        return NONE
    broken = " !" if any(name in run.forbidden for run in row.runs) else ""
    return f"{row.per_million(name):,.0f} ({count:,}){broken}"


def _witness(row: AnomalyRow, name: str) -> str:
    words, run = row.witness(name)
    return f"{run.level}, {run.strategy}, {name}: {words}\n(in {run.directory})"
