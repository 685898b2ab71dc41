"""Values of a final read as columns, whatever somebody did to the types of a table."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_column(values: Sequence[Any], kind: str) -> NDArray[Any]:
    """``values`` as a column of the Arrow type ``kind``.

    A value that is NULL, no whole number, or too large for the type is the least number of it: none of ours is. A text
    that is NULL is empty.
    """
    if kind == "string":
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    least, most = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    column = np.array(values)
    # Without a type numpy keeps fractions and texts apart from whole numbers, where with one it would cut them down.
    if column.dtype.kind != "i" or (len(column) and not least <= column.min() <= column.max() <= most):
        whole = (_whole(value, least) for value in values)
        column = np.array([value if least <= value <= most else least for value in whole], dtype=kind)
    return column.astype(kind, copy=False)


def _whole(value: Any, otherwise: int) -> int:
    try:
        number = Decimal(str(value))
        return int(number) if number == int(number) else otherwise
    except (ArithmeticError, ValueError):
        return otherwise
