"""The steps after the load: store the final reads, judge, summarise, report.

Each step is tried even if the one before failed. A full disk, a dead server or a bug in loadgen may cost a file or the
final reads, but not the verdict on the remaining data, and not the exit code.
"""

import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from loadgen.engines.engine import FinalReads
from loadgen.errors import LoadgenError, StoreError
from loadgen.history.column_types import column_type
from loadgen.history.history import write_final, write_json
from loadgen.history.run_directory import RunDirectory, read_json
from loadgen.judge.judge import exit_code, judge_run
from loadgen.judge.stored_run import StoredRun, open_run, plan_checksum
from loadgen.judge.stored_series import keep_series, series_of_run
from loadgen.measures.figures import facts_of
from loadgen.report.page import columns
from loadgen.report.terminal import render
from loadgen.schedule import main_kind
from loadgen.workload import Table, Workload

EXIT_OWN_ERROR = 1

Value = TypeVar("Value")


class Conclusion:
    """The end of one run, step by step. No step raises an Exception; failures become warnings."""

    def __init__(
        self, run: RunDirectory, load: dict[str, Any], log: Callable[[str], None], workload: Workload | None = None
    ) -> None:
        self._run = run
        self._workload = workload
        self._load = load
        self._log = log
        self._problems: list[str] = []
        self._summary: dict[str, Any] = {}
        self._stored: StoredRun | None = None
        run.reserve.unlink(missing_ok=True)
        self._run_id = ""
        self._try("plan.json was not read", self._read_plan)
        self._store(run.load, load)

    def final_reads(self, tables: tuple[Table, ...], read: Callable[[], FinalReads]) -> None:
        """Take the final reads by ``read`` and store them table by table; without all of them no verdict is valid."""
        before = len(self._problems)
        found = self._try("the final reads were not taken", read)
        streams = self._load.setdefault("streams", {})
        if found is not None:
            for table in tables:
                self._try(
                    f"the final read of {table.name} is not there",
                    lambda table=table: self._store_final(table, found, streams),  # type: ignore[misc]
                )
        self._load["final_reads"] = "; ".join(self._problems[before:])
        self._store(self._run.load, self._load)

    def interfered(self, reason: str) -> None:
        """Record that something else used the run's tables, if ``reason`` is given: the run then proves nothing."""
        if reason:
            self._load["interference"] = [reason]
            self._store(self._run.load, self._load)

    def judge(self) -> str:
        """The verdict on what is stored: ``valid``, ``invalid`` or ``unknown``."""
        summary = self._try("the run was not judged", lambda: judge_run(self._open()))
        self._summary = summary or {"verdict": "unknown", "unknown": self._problems[-1], "exit_code": EXIT_OWN_ERROR}
        return str(self._summary["verdict"])

    def stopped(self, stop: Callable[[], str]) -> None:
        """Stop the servers by ``stop``, which answers the command that starts them again if their data was kept."""
        # What they write at their end, their logs say, may fill the disk.
        self._store(self._run.summary, self._summary)
        kept = self._try("the servers were not stopped in order", stop)
        if kept:
            self._summary["kept"] = kept

    def done(self) -> dict[str, Any]:
        """Store the summary, and return the last message to the load side."""
        summary, known = self._summary, list(self._summary.get("warnings", ()))
        self._try("seconds.csv was not written", self._write_seconds)
        summary["warnings"] = known + self._problems
        self._store(self._run.summary, summary)
        # What was not written comes first: on the terminal there is room for a few.
        summary["warnings"] = self._problems[::-1] + known
        report = self._try("the report was not made", self._report)
        return {
            "exit_code": self._exit_code(),
            "verdict": summary["verdict"],
            "report": report or f"{summary['verdict'].upper()}: {'; '.join(self._problems)}\n",
            "run_dir": str(self._run.path),
            "reason": str(summary.get("unknown") or summary.get("exit_reason") or ""),
            "found": [
                {name: check[name] for name in ("name", "anomalies", "witnesses")}
                for check in summary.get("checks", ())
                if check["anomalies"]
            ],
        }

    def _store_final(self, table: Table, found: FinalReads, streams: dict[str, Any]) -> None:
        """Store one table, and list its stream in ``streams``: one that was dropped as an empty one that says so.

        Raises LoadgenError if it was not read.
        """
        facts = {"run_id": self._run_id}
        columns: Mapping[str, Any]
        if table.name in found:
            columns = found[table.name]
        elif table.name in found.gone:
            facts["gone"] = found.gone[table.name]
            columns = {name: np.empty(0, column_type(kind).dtype) for name, kind in table.final.items()}
        else:
            raise StoreError(found.unread.get(table.name, "it was not read"))
        stored = write_final(self._run.history, table.name, columns, table.final, facts)
        streams[f"final.{table.name}"] = stored.to_json()
        if gone := facts.get("gone"):
            raise StoreError(f"there is no such table any more ({gone}), and it is judged as an empty one")

    def _read_plan(self) -> None:
        self._load["plan_checksum"] = plan_checksum(self._run.plan)
        self._run_id = str(read_json(self._run.plan).get("run_id", ""))

    def _report(self) -> str:
        plan_facts = read_json(self._run.plan) if self._run.plan.exists() else {}
        return render(self._summary, plan_facts, run_dir=os.path.relpath(self._run.path), width=columns())

    def _open(self) -> StoredRun:
        """The run as it is stored: read once."""
        self._stored = self._stored or open_run(self._run.path, self._workload)
        return self._stored

    def _write_seconds(self) -> None:
        """Keep the series of the run, and make the table of seconds from it."""
        from loadgen.report.seconds import write_seconds  # imports pandas, which no start of a run should wait for

        stored = self._open()
        series = series_of_run(stored)
        self._try(f"{self._run.series.name} was not written", lambda: keep_series(series, self._run.path))
        facts = facts_of(stored)
        main = main_kind(stored.plan, facts.arrivals)
        write_seconds(series, stored.facts, self._run.seconds, facts, main, stored.load.get("sessions") or ())

    def _exit_code(self) -> int:
        """The verdict's code. A step of ours that failed is an error (1), but weighs less than violated or unknown."""
        code = self._summary.get("exit_code")
        code = exit_code(self._summary) if code is None else int(code)
        return EXIT_OWN_ERROR if self._problems and code in (0, 3) else code

    def _store(self, path: Path, value: dict[str, Any]) -> None:
        self._try(f"{path.name} was not written", lambda: write_json(path, value))

    def _try(self, failure: str, step: Callable[[], Value]) -> Value | None:
        try:
            return step()
        except (LoadgenError, OSError) as error:
            self._problems.append(f"{failure}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a step ran into, the ones after it must still be done
            self._problems.append(f"{failure}: loadgen's own error, {type(error).__name__} (see logs/conductor.log)")
            self._log(traceback.format_exc())
        return None
