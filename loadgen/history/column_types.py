"""The types of a table's columns, by name, and what holds their values once they are read.

=================  ===============================  ====================
name               in memory, as numpy              NULL
=================  ===============================  ====================
int64, int32       the same                         the type's least number
string             object, of str                   the empty text
float64            the same                         NaN
timestamp          datetime64[us], without a zone   NaT
decimal(p,s)       object, of decimal.Decimal       None
binary             object, of bytes                 None
bool               object, of bool                  None
any of them, "?"   object, of Python's values       None
=================  ===============================  ====================

So a column of numbers or texts in which NULL has a meaning is an ``int64?``, an ``int32?``, a ``float64?`` or a
``string?``: the plain ones stay arrays that cost nothing. In Arrow every NULL of a type that keeps it is a null.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

PLAIN = ("int64", "int32", "uint8", "float64", "string")
"""Kinds whose NULLs are kept only behind a ``?``."""
KINDS = (*PLAIN, "timestamp", "binary", "bool")
MOST_DIGITS = 38
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One type. ``keeps_null``: whether NULL is kept apart from every value."""

    kind: str
    keeps_null: bool
    precision: int = 0
    scale: int = 0
    optional: bool = False
    """Whether it was written with a ``?``."""

    @property
    def dtype(self) -> Any:
        """The numpy type that holds its values."""
        if self.kind == "timestamp" and not self.optional:
            return np.dtype("datetime64[us]")
        return np.dtype(object if self.keeps_null or self.kind == "string" else self.kind)


@cache
def column_type(name: str) -> ColumnType:
    """The type called ``name``. Raises ValueError if there is none, with those that there are."""
    optional = name.endswith("?")
    kind = name.removesuffix("?")
    if kind in KINDS:
        return ColumnType(kind, keeps_null=optional or kind not in PLAIN, optional=optional)
    if (match := _DECIMAL.fullmatch(kind)) and int(match[2]) <= int(match[1]) <= MOST_DIGITS and int(match[1]):
        return ColumnType("decimal", keeps_null=True, precision=int(match[1]), scale=int(match[2]), optional=optional)
    raise ValueError(f"{name!r} is no type of a column: use one of {', '.join(KINDS)} or decimal(p,s), with ? for NULL")
