"""Values of a final read as columns, even if the column types of a table were changed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import ClusterError
from loadgen.history.column_types import ColumnType, column_type


def as_column(values: Sequence[Any], kind: str) -> NDArray[Any]:
    """``values`` as a column of the type ``kind`` (see column_types).

    In a type that keeps no NULL, a value that is NULL, no whole number, or too large is the least number of the type:
    none of ours is. A text that is NULL is empty there. Raises ClusterError where another type has no such value.
    """
    if kind == "string":
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    of_type = column_type(kind)
    if of_type.keeps_null or kind == "float64":
        return _kept(values, of_type)
    least, most = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    column = np.array(values)
    # Without a type numpy keeps fractions and texts apart from whole numbers, where with one it would cut them down.
    if column.dtype.kind != "i" or (len(column) and not least <= column.min() <= column.max() <= most):
        whole = (_whole(value, least) for value in values)
        column = np.array([value if least <= value <= most else least for value in whole], dtype=kind)
    return column.astype(kind, copy=False)


def naive(value: datetime) -> datetime:
    """``value`` in UTC and without a zone, as every engine gets it; one without a zone stays as it is."""
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _kept(values: Sequence[Any], kind: ColumnType) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = [None if value is None else _of(value, kind) for value in values]
    return column if kind.dtype == object else column.astype(kind.dtype)


def _of(value: Any, kind: ColumnType) -> Any:
    """``value`` as the type has it, without loss. Raises ClusterError."""
    match kind.kind, value:
        case "bool", bool() | 0 | 1:
            return bool(value)
        case "binary", bytes():
            return value
        case "binary", str():
            return value.encode()
        case "string", str():
            return value
        case "timestamp", datetime():
            return naive(value)
        case "float64", int() | float() | Decimal():
            return float(value)
        case "decimal", int() | Decimal() if _fits(Decimal(value), kind):
            return Decimal(value)
        case "int64" | "int32" | "uint8", int() | Decimal():
            bounds = np.iinfo(kind.kind)
            if value == int(value) and bounds.min <= value <= bounds.max:
                return int(value)
    told = f"decimal({kind.precision},{kind.scale})" if kind.kind == "decimal" else kind.kind
    raise ClusterError(f"a value of the type {type(value).__name__} is no {told} as the table was made with")


def _fits(value: Decimal, kind: ColumnType) -> bool:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return False
    spare = exponent + kind.scale
    # Zeros behind the scale are no digits: 1.500 is a decimal(2,1).
    lost = any(digits[spare:]) if spare < 0 else False
    return not any(digits) or (not lost and len(digits) + spare <= kind.precision)


def _whole(value: Any, otherwise: int) -> int:
    try:
        number = Decimal(str(value))
        return int(number) if number == int(number) else otherwise
    except (ArithmeticError, ValueError):
        return otherwise
