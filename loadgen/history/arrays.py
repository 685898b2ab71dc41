"""Arrow arrays from Python and numpy values, and back.

pyarrow's own conversions import pandas the first time, which stops a live run for 200 ms and costs a command 1.5 s.
"""

import itertools
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.history.column_types import ColumnType

TOUCHED = pa.list_(pa.struct([("row", pa.int64()), ("read", pa.int64()), ("wrote", pa.int64())]))
"""What one transaction did with versioned rows: a list of op.Touch."""
_TOUCH = TOUCHED.value_type
_UINT8, _INT64 = pa.uint8(), pa.int64()


def numpy_type(arrow_type: Any) -> Any:
    """The numpy type of a fixed-width Arrow type."""
    return np.dtype(str(arrow_type).replace("double", "float64"))


def to_numpy(array: Any) -> NDArray[Any]:
    """A fixed-width Arrow array without nulls as numpy, without a copy and without importing pandas."""
    kind = numpy_type(array.type)
    data = array.buffers()[-1]
    if data is None or not len(array):
        return np.empty(0, kind)
    return np.frombuffer(data, dtype=kind, count=len(array), offset=array.offset * kind.itemsize)


def among(values: NDArray[Any], codes: Iterable[int]) -> NDArray[np.bool_]:
    """Which of ``values`` are one of a few codes: of so few, ``np.isin`` takes several times as long."""
    found = np.zeros(len(values), bool)
    for code in codes:
        found |= values == code
    return found


def to_offsets(array: Any) -> NDArray[Any]:
    """Where each list of an Arrow list array begins, and where the last one ends."""
    if not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], dtype=np.int32, count=len(array) + 1, offset=array.offset * 4)


def of_numbers(values: NDArray[Any], arrow_type: Any) -> Any:
    """An Arrow array of numpy values that already have its width, without a copy."""
    return pa.Array.from_buffers(arrow_type, len(values), [None, pa.py_buffer(values)])


def of_small(values: Sequence[int]) -> Any:
    """A uint8 array of Python integers."""
    return pa.Array.from_buffers(_UINT8, len(values), [None, pa.py_buffer(bytes(values))])


def of_strings(values: Sequence[str]) -> Any:
    """An array of texts."""
    encoded = [value.encode() for value in values] if any(values) else []
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    if encoded:
        np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def of_nullable(values: NDArray[Any], kind: ColumnType) -> Any:
    """An array of a type that keeps NULL, of what ``ColumnType.dtype`` holds. Raises ValueError if a value is none."""
    count = len(values)
    valid = ~np.isnat(values) if values.dtype.kind == "M" else np.array([value is not None for value in values], bool)
    nulls = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if kind.kind in ("string", "binary"):
        texts = (b"" if value is None else value if isinstance(value, bytes) else value.encode() for value in values)
        parts = list(texts)
        offsets = np.zeros(count + 1, dtype=np.int32)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return pa.Array.from_buffers(
            pa.string() if kind.kind == "string" else pa.binary(),
            count,
            [nulls, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))],
        )
    if kind.kind == "decimal":
        data: Any = b"".join(_sixteen_bytes(value, kind) for value in values)
        arrow_type = pa.decimal128(kind.precision, kind.scale)
    elif kind.kind == "bool":
        data, arrow_type = np.packbits(np.array([bool(value) for value in values], bool), bitorder="little"), pa.bool_()
    elif kind.kind == "timestamp":
        data, arrow_type = np.ascontiguousarray(values.astype("datetime64[us]")).view(np.int64), pa.timestamp("us")
    else:
        data = np.array([0 if value is None else value for value in values], dtype=kind.kind)
        arrow_type = _NUMBERS[kind.kind]
    return pa.Array.from_buffers(arrow_type, count, [nulls, pa.py_buffer(data)])


_NUMBERS = {"int64": pa.int64(), "int32": pa.int32(), "uint8": pa.uint8(), "float64": pa.float64()}


def _sixteen_bytes(value: Decimal | None, kind: ColumnType) -> bytes:
    with localcontext(prec=2 * 38):
        scaled = Decimal(0) if value is None else value.scaleb(kind.scale)
        if scaled != (whole := int(scaled)) or abs(whole) >= 10**kind.precision:
            raise ValueError(f"{value} is not a decimal({kind.precision},{kind.scale})")
    return whole.to_bytes(16, "little", signed=True)


def to_timestamps(array: Any) -> NDArray[Any]:
    """An Arrow array of timestamps, whose nulls are NaT."""
    data = array.buffers()[-1]
    if data is None or not len(array):
        return np.empty(0, "datetime64[us]")
    values = np.frombuffer(data, dtype="datetime64[us]", count=len(array), offset=array.offset * 8)
    if not array.null_count:
        return values
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    valid = bits[array.offset : array.offset + len(array)].astype(bool)
    return np.where(valid, values, np.datetime64("NaT", "us"))


def of_touched(values: Sequence[tuple[int, ...]]) -> Any:
    """A TOUCHED array of flat triples."""
    try:
        flat = np.fromiter(itertools.chain.from_iterable(values), dtype=np.int64)
    except (TypeError, OverflowError):
        # A version that somebody set to NULL or below zero (which the MySQL wire tells as unsigned).
        flat = np.array([_signed(value) for triples in values for value in triples], dtype=np.int64)
    columns = np.ascontiguousarray(flat.reshape(-1, 3).T)
    children = [of_numbers(column, _INT64) for column in columns]
    struct = pa.StructArray.from_buffers(_TOUCH, columns.shape[1], [None], children=children)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, values), dtype=np.int32, count=len(values)), out=offsets[1:])
    offsets //= 3
    return pa.ListArray.from_buffers(TOUCHED, len(values), [None, pa.py_buffer(offsets)], children=[struct])


def of_nothing(arrow_type: Any) -> Any:
    """An array of that type without values."""
    nothing = pa.py_buffer(b"")
    if pa.types.is_list(arrow_type):
        children = [of_nothing(arrow_type.value_type)]
        return pa.Array.from_buffers(arrow_type, 0, [None, pa.py_buffer(bytes(4))], children=children)
    if pa.types.is_struct(arrow_type):
        children = [of_nothing(arrow_type.field(index).type) for index in range(arrow_type.num_fields)]
        return pa.Array.from_buffers(arrow_type, 0, [None], children=children)
    if pa.types.is_string(arrow_type) or pa.types.is_binary(arrow_type):
        return pa.Array.from_buffers(arrow_type, 0, [None, pa.py_buffer(bytes(4)), nothing])
    return pa.Array.from_buffers(arrow_type, 0, [None, nothing])


def _signed(value: Any) -> int:
    """The 64 bits of ``value`` as a signed number; the least one for what is no number."""
    return (value + 2**63) % 2**64 - 2**63 if isinstance(value, int) else -(2**63)


def to_touched(arrays: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Arrays of TOUCHED as flat columns: list ``i`` is from ``touched_start[i]`` to ``touched_start[i + 1]``."""
    offsets = [to_offsets(array) for array in arrays]
    lengths = [np.diff(offset) for offset in offsets]
    # Not flatten(): that imports pyarrow.compute, which costs a command a tenth of a second.
    flat = [
        array.values.slice(offset[0], offset[-1] - offset[0]) for array, offset in zip(arrays, offsets, strict=True)
    ]
    columns = {
        "touched_start": np.concatenate(([0], np.cumsum(np.concatenate(lengths)))) if lengths else np.zeros(1, np.int64)
    }
    for index, name in enumerate(("touched_row", "touched_read", "touched_wrote")):
        parts = [to_numpy(array.field(index)) for array in flat]
        columns[name] = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return columns
