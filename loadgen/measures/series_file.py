"""The file of a run's series, ``history/series.arrow``: an Arrow IPC file, compressed, written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loadgen.errors import StoreError
from loadgen.history.arrays import numpy_type, of_numbers, to_numpy
from loadgen.measures.histogram import BUCKETS
from loadgen.measures.series import LAST_S, Series, cells_of
from loadgen.untrusted import one_line, plain_file_size

FORMAT = "loadgen-series-1"
MOST_BYTES = 4 << 30

_COLUMNS: Mapping[str, Any] = {
    "second": pa.int32(), "kind": pa.int32(), "figure": pa.int32(), "bucket": pa.int32(), "count": pa.int64()
}  # fmt: skip


def store_series(series: Series, path: Path, facts: Mapping[str, str]) -> None:
    """Write the series to ``path``, whole or not at all, with ``facts`` in its header. Raises StoreError."""
    told = {
        "format": FORMAT,
        "start_wall_ns": str(series.start_wall_ns),
        "kinds": "\n".join(series.kinds),
        "figures": "\n".join(series.figures),
        **facts,
    }
    schema = pa.schema(list(_COLUMNS.items()), metadata=told)
    columns = (series.second, series.kind, series.figure, series.bucket, series.counts)
    arrays = [
        of_numbers(np.ascontiguousarray(column, dtype=numpy_type(kind)), kind)
        for column, kind in zip(columns, _COLUMNS.values(), strict=True)
    ]
    temporary = path.with_name(path.name + ".part")
    try:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema, options=options) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        os.replace(temporary, path)  # noqa: PTH105
    except (OSError, pa.ArrowException) as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {getattr(error, 'strerror', None) or one_line(str(error))}") from error


def load_series(path: Path, facts: Mapping[str, str]) -> Series:
    """The series in ``path``. Raises StoreError if it is not there, not whole, or has other ``facts`` in its header."""
    plain_file_size(path, MOST_BYTES)
    try:
        with pa.memory_map(str(path), "r") as source:
            reader = pa.ipc.open_file(source)
            header = {name.decode(): value.decode() for name, value in (reader.schema.metadata or {}).items()}
            if header.get("format") != FORMAT or [(column.name, column.type) for column in reader.schema] != list(
                _COLUMNS.items()
            ):
                raise ValueError("it holds other columns, or another format")
            if any(header.get(name) != value for name, value in facts.items()):
                raise ValueError("it is of another run")
            batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
            for batch in batches:
                batch.validate(full=True)
            columns = [
                np.concatenate([to_numpy(batch.column(at)) for batch in batches] or [np.empty(0, numpy_type(kind))])
                for at, kind in enumerate(_COLUMNS.values())
            ]
        kinds, figures = (tuple(header[name].split("\n")) for name in ("kinds", "figures"))
        second, kind, figure, bucket, counts = columns
        series = Series(int(header["start_wall_ns"]), kinds, figures, second, kind, figure, bucket, counts)
        _check(series)
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise StoreError(f"{path} is not the series of this run: {one_line(str(error))[:200]}") from error
    return series


def _check(series: Series) -> None:
    """Refuse what no run writes. Raises ValueError."""
    bounds = ((series.second, LAST_S + 1), (series.kind, len(series.kinds)), (series.figure, len(series.figures)),
              (series.bucket, BUCKETS), (series.counts, 2**53))  # fmt: skip
    if any(len(column) and not 0 <= int(column.min()) <= int(column.max()) < end for column, end in bounds):
        raise ValueError("it holds a number that no run writes")
    cells = cells_of(series.second, series.kind, series.figure, series.bucket, len(series.kinds), len(series.figures))
    if not (cells[1:] > cells[:-1]).all():
        raise ValueError("its rows are not in order")
