"""Tables: how they are made, filled, and read at the end."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadgen.plan import Plan

TABLE_BITS = 48
"""A row number in Reply.touched has the versioned table above so many bits."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a workload: how it is made, filled, and read at the end.

    ``create`` is a CREATE TABLE that every engine takes, of the unqualified ``name``. ``rows`` fill it, in the order
    of its columns. ``final`` maps the columns of the final read to their Arrow types (int64, int32, string).
    """

    name: str
    create: str
    final: Mapping[str, str]
    rows: Sequence[tuple[int | str, ...]] = field(default=(), repr=False)
    version: str = ""
    """The column that counts the writes of a row, from 0, if there is one: it gives the table the checks of versions.
    Its rows are never deleted."""
    row: str | Callable[[Plan, Any], Any] = ""
    """The column, or the function of plan and final columns, that numbers the rows as bodies do in Reply.touched."""

    @property
    def final_read(self) -> str:
        """The SELECT of the final read."""
        return f"SELECT {', '.join(self.final)} FROM {self.name}"


def table_names(tables: Iterable[Table]) -> tuple[str, ...]:
    """The names of ``tables``, in order."""
    return tuple(table.name for table in tables)


def versioned_row(table: int, row: int) -> int:
    """The number in Reply.touched of ``row`` of the ``table``-th table that has a version column, from 0."""
    return (table << TABLE_BITS) + row
