"""``seconds.csv``: the series of a run as a table, one row a second, to lay over a server's own graphs.

The seconds are those since the run's first op was due, and ``utc`` is the second of the wall clock in which one begins.
The last column says which server it was, with its edition.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from loadgen.clock import NS_PER_MS, NS_PER_S
from loadgen.errors import StoreError
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import timeline
from loadgen.measures.series import ANSWER, TIMES, Series, series_of, with_refused
from loadgen.percentiles import RANKS
from loadgen.report.edition import engine_title
from loadgen.workload.facts import WorkloadFacts

DataFrame: TypeAlias = pd.DataFrame
"""pandas is imported in this file alone."""
PERCENTILES = ("p50", "p99")


def write_seconds(
    told: Sequence[LoadProcess] | Series,
    plan_facts: Mapping[str, Any],
    path: Path,
    facts: WorkloadFacts,
    main: str = "",
    sessions: Sequence[Sequence[int]] = (),
) -> None:
    """Write the table of a run to ``path``, whole or not at all, from its series or its complete processes.

    ``facts`` are the workload's words, ``main`` the run's main kind. ``sessions`` are ``(second, how many)`` at each
    change. Raises StoreError.
    """
    table = seconds_table(told, facts, main)
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


def seconds_table(told: Sequence[LoadProcess] | Series, facts: WorkloadFacts, main: str = "") -> pd.DataFrame:
    """One row a second, without gaps: for the main kinds what was due, its answers, outcomes and times in milliseconds;
    for the other kinds how many were ok; and the tries that failed and were repeated.

    ``told`` is the series of a run, or its load processes.
    """
    series = told if isinstance(told, Series) else series_of(told, timeline(told), facts)
    if not series.seconds:
        return pd.DataFrame({"second": [], "utc": [], "due": []})
    main_kinds = [facts.kinds[code] for code in facts.main_codes(main)]
    counted = with_refused(main_kinds)
    counts = {"due": series.count("due", counted), "skipped": series.count("skipped", counted)}
    for figure in series.figures:
        if figure.startswith(ANSWER):
            count, name = series.count(figure, counted), figure.removeprefix(ANSWER)
            if name in facts.always_told or count.any():
                counts[name] = count
    for outcome in ("fail", "info"):
        counts[outcome] = series.count(outcome, counted)
    for kind in facts.kinds:
        if kind not in main_kinds or len(main_kinds) > 1:
            counts[f"{kind}_ok"] = series.count("ok", with_refused([kind]))
    counts["tries_failed"] = series.count("tries_failed")
    table = pd.DataFrame(counts)
    for name in TIMES:
        for percentile in PERCENTILES:
            times = series.percentiles(name, counted, RANKS[percentile])
            table[f"{name}_{percentile}_ms"] = times / NS_PER_MS
    utc = series.start_wall_ns // NS_PER_S + np.arange(series.seconds)
    table.insert(0, "utc", pd.to_datetime(utc, unit="s", utc=True).strftime("%Y-%m-%dT%H:%M:%SZ"))
    table.insert(0, "second", range(series.seconds))
    return table
