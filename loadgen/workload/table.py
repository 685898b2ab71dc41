"""Tables: how they are made, filled, and read at the end."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from loadgen.errors import PlanError
from loadgen.plan import Plan
from loadgen.workload.statement import Value

TABLE_BITS = 48
"""A row number in Reply.touched has the versioned table above so many bits."""
Row = tuple[Value, ...]
Batch = Sequence[Row] | Mapping[str, Any]
"""Some rows of a table: in its columns' order, or as columns by their name (sequences or arrays of one length)."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a workload: how it is created, filled, and read at the end.

    ``create`` is a CREATE TABLE of the unqualified ``name``: one text for all engines, or a text for each, by the name
    of the engine or of its wire (``postgres``, ``mysql``). ``rows`` fill it, in the order of its columns. ``final``
    maps the columns of the final read to their types (see history.column_types).

    ``batches`` fills a table that is too large for ``rows``: it is called once, in the conductor's process, and yields
    batches of some thousand rows, so not all rows are in memory at the same time. ``about`` is the expected number of
    rows, for progress messages.
    """

    name: str
    create: str | Mapping[str, str]
    final: Mapping[str, str]
    rows: Sequence[Row] = field(default=(), repr=False)
    _: KW_ONLY
    batches: Callable[[Any], Iterable[Batch]] | None = field(default=None, repr=False)
    about: int = 0
    version: str = ""
    """The column that counts the writes of a row, from 0. It gives the table the version checks. Rows of such a table
    are never deleted."""
    row: str | Callable[[Plan, Any], Any] = ""
    """The column, or the function of plan and final columns, that numbers the rows as bodies do in Reply.touched."""

    def create_for(self, *names: str) -> str:
        """The CREATE TABLE for the first of ``names`` that has one. Raises PlanError if none has."""
        if isinstance(self.create, str):
            return self.create
        for name in names:
            if name in self.create:
                return self.create[name]
        raise PlanError(f"the table {self.name} has no CREATE TABLE for {names[0]}: it has {', '.join(self.create)}")

    def filling(self, plan: Plan | None) -> Iterator[tuple[tuple[str, ...], Sequence[Row]]]:
        """What fills the table, piece by piece: the columns named (none: all, in order), and rows of them."""
        if self.rows:
            yield (), self.rows
        if self.batches is None:
            return
        for batch in self.batches(plan):
            if isinstance(batch, Mapping):
                columns = [values.tolist() if hasattr(values, "tolist") else values for values in batch.values()]
                yield tuple(batch), list(zip(*columns, strict=True))
            elif isinstance(batch, Sequence):
                yield (), batch
            else:
                raise PlanError(f"the table {self.name}: a batch is a list of rows, or columns by their name")

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
