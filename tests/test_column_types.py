"""Columns of every type, written to a history and read back."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines.columns import as_column
from loadgen.errors import ClusterError
from loadgen.history.column_types import column_type
from loadgen.history.history import read_history, write_final

TYPES: dict[str, Any] = {
    "int64?": st.integers(-(2**63), 2**63 - 1),
    "int32?": st.integers(-(2**31), 2**31 - 1),
    "float64?": st.floats(allow_nan=False),
    "string?": st.text(st.characters(codec="utf-8"), max_size=8),
    "binary": st.binary(max_size=8),
    "bool": st.booleans(),
    "timestamp": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    "timestamp?": st.datetimes(),
    "decimal(38,10)": st.decimals(-(10**27), 10**27, places=10),
    "decimal(5,5)": st.decimals(Decimal("-0.99999"), Decimal("0.99999"), places=5),
}


@given(data=st.data())
@pytest.mark.parametrize("kind", TYPES)
def test_column_comes_back_with_its_nulls(kind: str, data: Any, tmp_path_factory: Any) -> None:
    """Each value, and each NULL, and no other."""
    values = data.draw(st.lists(st.none() | TYPES[kind], max_size=20))
    directory: Path = tmp_path_factory.mktemp("history")
    column = as_column(values, kind)
    write_final(directory, "some", {"value": column, "id": np.arange(len(values))}, {"value": kind, "id": "int64"})
    history = read_history(directory)
    read = history.final["some"]["value"]

    assert history.problems == []
    assert read.dtype == column.dtype == column_type(kind).dtype
    assert read.tolist() == column.tolist() == values


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("int64", [1, None, Decimal("1.5"), 2**70], [1, -(2**63), -(2**63), -(2**63)]),
        ("string", ["a", None], ["a", ""]),
        ("bool", [1, 0, None], [True, False, None]),
        ("timestamp?", [datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))], [datetime(2026, 1, 1)]),
        ("decimal(2,1)", [Decimal("1.500"), 3, Decimal("0E+5")], [Decimal("1.5"), 3, 0]),
    ],
)
def test_values_become_those_of_the_type(kind: str, values: list[Any], expected: list[Any]) -> None:
    """A plain type takes a NULL for its least value; the others keep it."""
    assert as_column(values, kind).tolist() == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("decimal(2,1)", Decimal("1.55")),
        ("decimal(2,1)", Decimal(10)),
        ("decimal(2,1)", Decimal("NaN")),
        ("bool", 2),
        ("timestamp", "2026-01-01"),
        ("int32?", 2**31),
        ("int64?", Decimal("0.5")),
        ("binary", 5),
    ],
)
def test_value_of_another_type_is_no_value(kind: str, value: Any) -> None:
    """It is not rounded, cut or guessed."""
    with pytest.raises(ClusterError, match="as the table was made with"):
        as_column([value], kind)


def test_null_of_float_is_no_number() -> None:
    """As numpy has it."""
    assert np.isnan(as_column([None, 1.5], "float64")).tolist() == [True, False]


@pytest.mark.parametrize("name", ["int16", "decimal", "decimal(5,6)", "decimal(39,1)", "decimal(0,0)", "", "?"])
def test_unknown_type_is_named(name: str) -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="is no type of a column: use one of int64"):
        column_type(name)


def test_now_is_told_in_utc() -> None:
    """The unit of a stored time is the microsecond."""
    now = datetime.now(UTC)

    assert as_column([now], "timestamp")[0].item() == now.replace(tzinfo=None)
