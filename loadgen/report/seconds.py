"""``seconds.csv``: one row for each second of a run in UTC, to lay over a server's own graphs.

An op stands in the second in which it was answered; what was due, and what was skipped, in the second it was due.
The last column says which server it was, with its edition.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS, NS_PER_S
from loadgen.errors import StoreError
from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.percentiles import RANKS, nearest_rank
from loadgen.report.edition import engine_title
from loadgen.shop import sale
from loadgen.workload.facts import WorkloadFacts

DataFrame: TypeAlias = pd.DataFrame
"""pandas is imported in this file alone."""
PERCENTILES = ("p50", "p99")


def write_seconds(
    processes: Sequence[LoadProcess],
    plan_facts: Mapping[str, Any],
    path: Path,
    sessions: Sequence[Sequence[int]] = (),
    facts: WorkloadFacts = sale.FACTS,
    main: str = "",
) -> None:
    """Write the table of a run to ``path``, whole or not at all. ``processes`` are complete (measures.offered).

    ``facts`` are the workload's words, ``main`` the run's main kind. ``sessions`` are ``(second, how many)`` at each
    change. Raises StoreError.
    """
    table = seconds_table_of(processes, facts, main)
    if sessions and len(table):
        changes = pd.Series({int(second): int(count) for second, count in sessions})
        table.insert(2, "sessions", changes.reindex(range(len(table))).ffill().fillna(0).astype("int64").to_numpy())
    table["server"] = engine_title(plan_facts.get("engine") or {})
    temporary = path.with_name(path.name + ".part")
    try:
        table.to_csv(temporary, index=False, float_format="%.3f")
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def seconds_table(processes: Sequence[LoadProcess], kinds: Sequence[str], answers: list[str]) -> pd.DataFrame:
    """The table of a sale."""
    return seconds_table_of(processes, replace(sale.FACTS, kinds=tuple(kinds), answers=tuple(answers)))


def seconds_table_of(processes: Sequence[LoadProcess], facts: WorkloadFacts, main: str = "") -> pd.DataFrame:
    """One row a second, without gaps: for the main kinds what was due, its answers, outcomes and times in
    milliseconds; for the other kinds how many were ok; and the tries that failed and were made again.
    """
    kinds, answers, main_kinds = facts.kinds, facts.answers, facts.main_codes(main)
    ops = pd.concat([_ops(process) for process in processes] or [_NOTHING], ignore_index=True)
    tries = np.concatenate([_wall_seconds(process, process.tries["done"]) for process in processes] or [_NO_SECONDS])
    if not len(ops):
        return pd.DataFrame({"second": [], "utc": [], "due": []})
    first, last = int(min(ops["due_s"].min(), ops["done_s"].min())), int(max(ops["due_s"].max(), ops["done_s"].max()))
    index = pd.RangeIndex(first, last + 1)
    counted = ops[ops["kind"].isin(main_kinds)]
    counts = {"due": counted["due_s"].value_counts(), "skipped": _of(counted, Outcome.SKIPPED)["due_s"].value_counts()}
    ok = _of(counted, Outcome.OK)
    for code in sorted({*ok["answer"].unique(), *(answers.index(name) for name in facts.always_told)}):
        counts[answers[code] if code < len(answers) else f"answer_{code}"] = ok[ok["answer"] == code][
            "done_s"
        ].value_counts()
    for outcome in (Outcome.FAIL, Outcome.INFO):
        counts[outcome.name.lower()] = _of(counted, outcome)["done_s"].value_counts()
    for kind, name in enumerate(kinds):
        if kind not in main_kinds or len(main_kinds) > 1:
            counts[f"{name}_ok"] = _of(ops[ops["kind"] == kind], Outcome.OK)["done_s"].value_counts()
    counts["tries_failed"] = pd.Series(tries).value_counts()
    table = pd.DataFrame({name: count.reindex(index, fill_value=0) for name, count in counts.items()}, index=index)
    for name in ("response", "service"):
        for percentile, times in _percentiles(ok["done_s"].to_numpy(), ok[f"{name}_ms"].to_numpy()).items():
            table[f"{name}_{percentile}_ms"] = times.reindex(index)
    table.insert(0, "utc", pd.to_datetime(index, unit="s", utc=True).strftime("%Y-%m-%dT%H:%M:%SZ"))
    table.insert(0, "second", range(len(index)))
    return table


def _percentiles(seconds: NDArray[np.int64], times_ms: NDArray[np.float64]) -> dict[str, Any]:
    """``{percentile: time by second}``, by the definition of summary.json."""
    order = np.lexsort((times_ms, seconds))
    in_order = times_ms[order]
    told, begin, count = np.unique(seconds[order], return_index=True, return_counts=True)
    return {
        name: pd.Series(in_order[begin + nearest_rank(RANKS[name], count)], index=told, dtype="float64")
        for name in PERCENTILES
    }


_NO_SECONDS = np.empty(0, np.int64)
_NOTHING = pd.DataFrame({"kind": [], "due_s": [], "done_s": []})


def _of(ops: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    return ops[ops["outcome"] == outcome]


def _ops(process: LoadProcess) -> pd.DataFrame:
    ops = process.ops
    return pd.DataFrame(
        {
            "kind": ops["kind"],
            "outcome": ops["outcome"],
            "answer": ops["answer"],
            "due_s": _wall_seconds(process, ops["due"]),
            # What was skipped was never answered.
            "done_s": _wall_seconds(process, np.where(ops["outcome"] == Outcome.SKIPPED, ops["due"], ops["done"])),
            "response_ms": (ops["done"] - ops["due"]) / NS_PER_MS,
            "service_ms": (ops["done"] - ops["sent"]) / NS_PER_MS,
        }
    )


def _wall_seconds(process: LoadProcess, monotonic_ns: Any) -> Any:
    return (monotonic_ns + (process.origin.wall_ns - process.origin.monotonic_ns)) // NS_PER_S
