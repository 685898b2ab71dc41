"""A stored run as tables: pandas DataFrames for ``loadgen.open_run``, and Arrow tables for ``loadgen export``.

``loadgen.open_run("runs/latest")`` gives a Run. No code of the workload runs. The names of kinds and answers come from
plan.json; codes without a name are shown as text. docs/data.md describes every column.

For a killed or damaged run, the intact data is returned, and ``warnings`` lists the rest. ``ops`` has the ops that
ended; a number in ``invoked`` without an op in ``ops`` may have happened.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS
from loadgen.errors import StoreError
from loadgen.history.history import OPS_SCHEMA, Columns, LoadProcess, read_history
from loadgen.history.run_directory import RunDirectory, find_run, read_plan
from loadgen.history.stream import no_rows
from loadgen.history.timeline import timeline
from loadgen.op import Outcome, Stage
from loadgen.report.stored import read_summary
from loadgen.schedule import first_in_mix
from loadgen.untrusted import mapping, texts
from loadgen.workload.facts import words_of

if TYPE_CHECKING:
    from loadgen.report.seconds import DataFrame

CHUNK_ROWS = 500_000
"""Rows of one Arrow table: what is written goes through memory in parts of this size."""
UTC = pa.timestamp("ns", "UTC")
_OUTCOMES = [outcome.name.lower() for outcome in Outcome]
_STAGES = [stage.name.lower() for stage in Stage]
_TEXT = pa.dictionary(pa.int32(), pa.string())


class Run:
    """One stored run. Each table is made when it is first asked for, and kept."""

    def __init__(self, directory: RunDirectory) -> None:
        self.path = directory.path
        """The run directory."""
        self.facts: Mapping[str, Any] = read_plan(directory.plan)
        """The whole of plan.json."""
        self.plan: Mapping[str, Any] = mapping(self.facts.get("plan"))
        """The options of the run by their names."""
        self._directory = directory
        run_id = self.facts.get("run_id")
        self._history = read_history(directory.history, run_id=run_id if isinstance(run_id, str) else "")
        self.warnings = [*self._history.problems, *self._history.warnings]
        """What is missing or damaged, one sentence each."""
        self._workload = mapping(self.facts.get("workload"))
        self._words = words_of(str(self.plan.get("workload")), self._workload)

    def __repr__(self) -> str:
        return f"<loadgen run {self.path}: {self._workload.get('name')} on {self.plan.get('engine')}>"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), self._plural]

    def __getattr__(self, name: str) -> "DataFrame":
        if not name.startswith("_") and name == self._plural:
            return self.main
        raise AttributeError(f"a run has no {name!r}")

    @cached_property
    def ops(self) -> "DataFrame":
        """Every op that ended, or was skipped, with the columns of its number."""
        return _frame(self.ops_tables())

    @cached_property
    def tries(self) -> "DataFrame":
        """Every try that failed and was made again."""
        return _frame(self.tries_tables())

    @cached_property
    def invoked(self) -> "DataFrame":
        """Every number that a load process received, and its meaning. A number without an op may have happened."""
        return _frame(self.invoked_tables())

    @cached_property
    def main(self) -> "DataFrame":
        """The ops of the main kind: those whose rate the plan gives. ``run.orders`` is the same for a sale."""
        ops = self.ops
        return ops[ops["kind"].isin(self._main_kinds)].reset_index(drop=True)

    @cached_property
    def seconds(self) -> "DataFrame":
        """seconds.csv, or the same from the history where a run was killed before it was written."""
        return _pandas(self.seconds_table())

    @cached_property
    def tables(self) -> Mapping[str, "DataFrame"]:
        """What each table of the workload held at the end, by its name."""
        return {name: _pandas(table) for name, table in self.final_tables().items()}

    @cached_property
    def faults(self) -> "DataFrame":
        """What was done to the cluster, and when."""
        return _pandas(self.faults_table())

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """summary.json; empty if the run has none. Raises StoreError if it is damaged."""
        return read_summary(self._directory.summary) if self._directory.summary.exists() else {}

    def ops_tables(self) -> Iterator[Any]:
        """``ops`` in parts, as Arrow tables of one schema. There is at least one."""
        yield from self._of_processes("ops", joined=True)

    def tries_tables(self) -> Iterator[Any]:
        """``tries`` in parts, as Arrow tables of one schema."""
        yield from self._of_processes("tries", joined=False)

    def invoked_tables(self) -> Iterator[Any]:
        """``invoked`` in parts, as Arrow tables of one schema."""
        for index, process in enumerate(self._history.processes):
            for part in _parts(len(process.invoked["number"])):
                columns = {name: _plain(process.invoked, name, part) for name in self._invoked_types}
                kind = process.invoked.get("kind")
                if kind is not None:
                    columns["kind"] = _named(kind[part], self._kinds)
                count = part.stop - part.start
                yield pa.table({"load_process": _named(np.full(count, index), self._processes), **columns})

    def seconds_table(self) -> Any:
        """``seconds`` as an Arrow table. Raises StoreError if seconds.csv is no table."""
        import pyarrow.csv

        if not self._directory.seconds.exists():
            return pa.Table.from_pandas(self._counted_seconds(), preserve_index=False)
        try:
            table = pyarrow.csv.read_csv(self._directory.seconds)
            at = table.column_names.index("utc")
            return table.set_column(at, "utc", table["utc"].cast(UTC))
        except (pa.ArrowException, ValueError, OSError) as error:
            reason = str(error).split("\n", 1)[0]
            raise StoreError(f"{self._directory.seconds} is not the table of a run: {reason}") from error

    def final_tables(self) -> Mapping[str, Any]:
        """``tables`` as Arrow tables."""
        return {
            name: pa.table({column: pa.array(values) for column, values in columns.items()})
            for name, columns in sorted(self._history.final.items())
        }

    def faults_table(self) -> Any:
        """``faults`` as an Arrow table."""
        clock, columns = mapping(self.facts.get("clock")), self._history.faults
        wall_ns, monotonic_ns = clock.get("wall_ns"), clock.get("monotonic_ns")
        shift = wall_ns - monotonic_ns if isinstance(wall_ns, int) and isinstance(monotonic_ns, int) else 0
        at = np.asarray(columns.get("at", np.empty(0, np.int64)))
        told = {name: columns.get(name, np.full(len(at), "", object)) for name in ("fault", "node", "act")}
        return pa.table({"at": pa.array(at + shift, UTC), **{name: _texts(each) for name, each in told.items()}})

    def _of_processes(self, what: str, *, joined: bool) -> Iterator[Any]:
        """The rows of every process. ``joined``: with the columns of their numbers."""
        if not self._history.processes:
            # Nothing is whole, and the columns are known.
            yield pa.table(self._columns(no_rows(OPS_SCHEMA), slice(0, 0), 0, 0))
        line = timeline(self._history.processes)
        for index, process in enumerate(self._history.processes):
            rows: Columns = getattr(process, what)
            shift = line.shifts[index] + line.start_wall_ns
            for part in _parts(len(rows["number"])):
                columns = self._columns(rows, part, index, shift)
                if joined:
                    columns |= self._joined(process, rows["number"][part], set(columns))
                yield pa.table(columns)

    def _columns(self, rows: Columns, part: slice, process: int, shift_ns: int) -> dict[str, Any]:
        due, sent, done, outcome = (rows[name][part] for name in ("due", "sent", "done", "outcome"))
        # What was skipped was never sent.
        skipped = outcome == Outcome.SKIPPED
        return {
            "number": pa.array(rows["number"][part]),
            "kind": _named(rows["kind"][part], self._kinds),
            "outcome": _named(outcome, _OUTCOMES),
            "answer": _named(rows["answer"][part], self._answers),
            "due": pa.array(due + shift_ns, UTC),
            "sent": pa.array(sent + shift_ns, UTC, mask=skipped),
            "done": pa.array(done + shift_ns, UTC, mask=skipped),
            "response_ms": pa.array((done - due) / NS_PER_MS, mask=skipped),
            "service_ms": pa.array((done - sent) / NS_PER_MS, mask=skipped),
            "tries": pa.array(rows["tries"][part]),
            "stage": _named(rows["stage"][part], _STAGES),
            "code": _texts(rows["code"][part]),
            "load_process": _named(np.full(len(due), process), self._processes),
            "session": pa.array(rows["process"][part]),
        }

    def _joined(self, process: LoadProcess, numbers: NDArray[np.int64], taken: set[str]) -> dict[str, Any]:
        """The meaning of each of ``numbers``; null for a number that no load process received."""
        known = process.invoked["number"]
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known, numbers, sorter=order)
        place = order[np.minimum(at, max(len(known) - 1, 0))] if len(known) else np.zeros(len(numbers), np.int64)
        lacking = known[place] != numbers if len(known) else np.ones(len(numbers), dtype=bool)
        joined = {}
        for name in self._invoked_types:
            if name not in ("number", "kind"):
                column = process.invoked.get(name)
                values = column[place] if column is not None and len(known) else None
                shown = f"invoked_{name}" if name in taken else name
                kind = self._invoked_types[name]
                joined[shown] = pa.nulls(len(numbers), kind) if values is None else pa.array(values, kind, mask=lacking)
        return joined

    @cached_property
    def _invoked_types(self) -> Mapping[str, Any]:
        """The columns that every process says of its numbers alike, and the type of each."""
        each = [
            {
                name: pa.string() if values.dtype == object else pa.from_numpy_dtype(values.dtype)
                for name, values in process.invoked.items()
            }
            for process in self._history.processes
        ]
        return {
            name: kind
            for name, kind in (each[0] if each else {}).items()
            if all(name in one and one[name] == kind for one in each)
        }

    @cached_property
    def _kinds(self) -> list[str]:
        return self._names("kinds", "kind")

    @cached_property
    def _answers(self) -> list[str]:
        return self._names("answers", "answer")

    def _names(self, told: str, column: str) -> list[str]:
        """Names by code, from plan.json, and the code itself for others in the history."""
        codes = [
            int(rows[column].max())
            for process in self._history.processes
            for rows in (process.ops, process.tries, process.invoked)
            if len(rows.get(column, ()))
        ]
        names: list[str] = []
        given = texts(self._workload.get(told))
        for code in range(max([len(given) - 1, *codes]) + 1):
            name = given[code] if code < len(given) else str(code)
            names.append(f"{name} ({code})" if name in names else name)
        return names

    @cached_property
    def _processes(self) -> list[str]:
        return [process.name for process in self._history.processes]

    @cached_property
    def _main_kinds(self) -> list[str]:
        """The kinds that the figures of the run count."""
        words = self._words
        arrivals = [name for name in words.arrivals if name in self._kinds] or self._kinds
        return arrivals if words.all_kinds_count or not arrivals else [first_in_mix(self._weights, arrivals)]

    @property
    def _weights(self) -> Mapping[str, Any]:
        return mapping(self.plan.get("kind_weights"))

    @cached_property
    def _plural(self) -> str:
        """How a person calls the main ops: ``orders``."""
        noun = re.sub(r"\W+", "_", self._words.noun)
        return f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"

    def _counted_seconds(self) -> "DataFrame":
        from loadgen.report.seconds import seconds_table

        kinds = self._kinds or ["op"]
        words = replace(self._words, kinds=tuple(kinds), answers=tuple(self._answers))
        table = seconds_table(self._history.processes, words, next(iter(self._main_kinds), kinds[0]))
        table["utc"] = table["utc"].astype("datetime64[ns, UTC]")
        return table


def open_run(path: str | Path) -> Run:
    """Open the run in the directory ``path``, such as ``runs/latest``, for reading: its tables as pandas DataFrames.

    Raises StoreError, with a message of one line, if there is no run, or if a later version made it.
    """
    return Run(find_run(Path(path)))


def _frame(parts: Iterator[Any]) -> "DataFrame":
    tables = list(parts)
    # Without a load process there is not even a schema.
    table = pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({})
    return _pandas(table)


def _pandas(table: Any) -> "DataFrame":
    frame: DataFrame = table.to_pandas()
    return frame


def _parts(rows: int) -> Iterator[slice]:
    """Slices of at most CHUNK_ROWS; one that is empty where there is nothing."""
    for begin in range(0, max(rows, 1), CHUNK_ROWS):
        yield slice(begin, min(begin + CHUNK_ROWS, rows))


def _plain(columns: Columns, name: str, part: slice) -> Any:
    return pa.array(columns[name][part])


def _named(codes: NDArray[Any], names: Sequence[str]) -> Any:
    """Codes as names: a category in pandas."""
    known = [*names, *(str(code) for code in range(len(names), (int(codes.max()) if len(codes) else -1) + 1))]
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(known, pa.string()))


def _texts(values: NDArray[Any]) -> Any:
    """Texts of which there are few different ones, as categories."""
    return pa.array(values, pa.string()).dictionary_encode().cast(_TEXT)
