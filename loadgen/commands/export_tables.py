"""A run's tables as Parquet or CSV files: ops, tries, invoked numbers, seconds, faults and the final reads."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from loadgen.errors import StoreError
from loadgen.report.frames import Run, open_run
from loadgen.untrusted import one_line


def export_tables(run_dir: Path, style: str, directory: Path, *, overwrite: bool) -> int:
    """Write the tables of a run into ``directory`` as ``parquet`` or ``csv``, and say what was written; the exit code.

    Each file appears whole or not at all. Raises StoreError, before anything is written if a file is already there.
    """
    run = open_run(run_dir)
    for warning in run.warnings:
        # Whoever reads what is exported has to know that something may be missing.
        sys.stderr.write(f"loadgen: the history is not whole: {one_line(warning)}\n")
    tables = {directory / f"{name}.{style}": parts for name, parts in _tables(run).items()}
    present = [path for path in tables if os.path.lexists(path)]
    if present and not overwrite:
        raise StoreError(f"{present[0]} already exists: choose another directory with -o, or add --overwrite")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, parts in tables.items():
            rows = _write_whole(path, parts, style)
            print(f"{path}  {rows:,} rows")
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n", 1)[0]
        raise StoreError(f"cannot write the tables to {directory}: {reason}") from error
    return 0


def _tables(run: Run) -> Mapping[str, Iterable[Any]]:
    """The parts of each table by the name of its file."""
    return {
        "ops": run.ops_tables(),
        "tries": run.tries_tables(),
        "invoked": run.invoked_tables(),
        "seconds": [run.seconds_table()],
        "faults": [run.faults_table()],
        **{f"table.{name}": [table] for name, table in run.final_tables().items()},
    }


def _write_whole(path: Path, parts: Iterable[Any], style: str) -> int:
    """Write one file under another name first; how many rows. Raises OSError and ArrowException."""
    temporary = path.with_name(path.name + ".part")
    try:
        rows = _write(temporary, iter(parts), style)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _write(path: Path, parts: Iterator[Any], style: str) -> int:
    import pyarrow.csv
    import pyarrow.parquet

    shaped = parts if style == "parquet" else map(_plain, parts)
    first = next(shaped, pa.table({}))
    if style == "parquet":
        writer = pyarrow.parquet.ParquetWriter(path, first.schema)
    else:
        writer = pyarrow.csv.CSVWriter(path, first.schema)
    rows = 0
    with writer:
        for table in itertools.chain([first], shaped):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _plain(table: Any) -> Any:
    """Names as texts: a CSV file has no categories."""
    types = [pa.string() if pa.types.is_dictionary(column.type) else column.type for column in table.schema]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))
