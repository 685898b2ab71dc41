"""The history: what is written is read back, and what is cut or foreign is named and never trusted."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import sale
from loadgen.errors import StoreError
from loadgen.history import (
    ROW_DONE,
    ROW_TRY,
    HistoryWriter,
    ops_batch,
    read_history,
    read_stream,
    write_final,
    write_json,
)
from loadgen.op import Completion
from loadgen.plan import parse_plan

PLAN = parse_plan({}).with_(kind_weights=(("order", 1),))


def completion(number: int, touched: tuple[int, ...] = (), code: str = "") -> Completion:
    """A completion that tells its number in every column."""
    return Completion(number, 0, 3, number, number + 1, number + 2, 0, 1, 1, 0, code, touched)


def write_small(directory: Path, name: str = "0", count: int = 100) -> None:
    """One load process that was handed ``count`` numbers and ended all of them."""
    writer = HistoryWriter(directory, name, sale.INVOKED_COLUMNS, {"run_id": "r"})
    writer.invoked(sale.invoked(PLAN, 0, count))
    for first in range(0, count, 10):
        writer.batch(ops_batch([completion(number) for number in range(first, first + 10)]))
    writer.closed(count)
    writer.close()


touches = st.lists(st.tuples(st.integers(0, 2**40), st.integers(-1, 2**62), st.integers(-1, 2**62)), max_size=3).map(
    lambda triples: tuple(value for triple in triples for value in triple)
)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(touches, st.sampled_from(["", "40001", "ü"]), st.sampled_from([ROW_TRY, ROW_DONE])), max_size=30)
)
def test_rows_are_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[tuple[int, ...], str, int]]
) -> None:
    """Every column of every row survives, tries apart from ends."""
    directory = tmp_path_factory.mktemp("history")
    writer = HistoryWriter(directory, "0", sale.INVOKED_COLUMNS, {})
    written = [completion(number, touched, code) for number, (touched, code, _) in enumerate(rows)]
    writer.batch(ops_batch(written, [kind for _, _, kind in rows]))
    writer.batch(ops_batch([]))
    writer.close()
    process = read_history(directory).processes[0]

    for columns, wanted in ((process.tries, ROW_TRY), (process.ops, ROW_DONE)):
        expected = [row for row, (_, _, kind) in zip(written, rows, strict=True) if kind == wanted]
        assert columns["number"].tolist() == [row.number for row in expected]
        assert columns["code"].tolist() == [row.code for row in expected]
        starts = columns["touched_start"].tolist()
        for index, row in enumerate(expected):
            part = slice(starts[index], starts[index + 1])
            triples = zip(
                columns["touched_row"][part], columns["touched_read"][part], columns["touched_wrote"][part], strict=True
            )
            assert tuple(int(value) for triple in triples for value in triple) == row.touched
    assert process.closed_at is None


def test_whole_history_has_no_problem(tmp_path: Path) -> None:
    """Closed streams are whole, and the process says where it ended."""
    write_small(tmp_path)
    write_final(
        tmp_path, "orders", {"id": np.arange(3), "name": np.array(["a", "b", "c"])}, {"id": "int64", "name": "string"}
    )
    history = read_history(tmp_path)

    assert history.problems == []
    assert history.processes[0].closed_at == 100
    assert history.processes[0].invoked["token"].tolist() == sale.invoked(PLAN, 0, 100)["token"].tolist()
    assert history.final["orders"]["id"].tolist() == [0, 1, 2]
    assert history.final["orders"]["name"].tolist() == ["a", "b", "c"]
    assert history.processes[0].origin.boot_id


def test_every_truncation_is_named_and_the_whole_part_is_read(tmp_path: Path) -> None:
    """Cut at any byte: the file is named, no exception escapes, and no row is made up."""
    write_small(tmp_path)
    path = tmp_path / "0.ops.arrows"
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        history = read_history(tmp_path)

        assert any(str(path) in problem for problem in history.problems), size
        numbers = history.processes[0].ops["number"].tolist() if history.processes else []
        assert numbers == list(range(len(numbers)))


@settings(max_examples=60)
@given(data=st.binary(max_size=400))
def test_foreign_bytes_are_a_problem_and_not_a_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A file of anything else is refused by name."""
    path = tmp_path_factory.mktemp("foreign") / "0.ops.arrows"
    path.write_bytes(data)

    assert str(path) in read_stream(path).problems[0]


@settings(max_examples=60)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_flipped_byte_never_escapes_as_an_exception(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    """Damage inside a file ends in a problem or in rows, never in a traceback."""
    directory = tmp_path_factory.mktemp("damaged")
    write_small(directory, count=20)
    path = directory / "0.ops.arrows"
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] = value
    path.write_bytes(bytes(raw))

    read_history(directory)


def test_directory_without_history_is_an_error(tmp_path: Path) -> None:
    """There is nothing to judge."""
    with pytest.raises(StoreError, match="holds no history"):
        read_history(tmp_path)


def test_a_history_is_never_written_over(tmp_path: Path) -> None:
    """A second writer for the same process is refused."""
    write_small(tmp_path)
    with pytest.raises(StoreError, match="cannot write the history"):
        HistoryWriter(tmp_path, "0", sale.INVOKED_COLUMNS, {})


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A value without a JSON form leaves the old file as it was."""
    path = tmp_path / "summary.json"
    write_json(path, {"a": np.int64(1), "b": np.arange(2)})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    assert path.read_text().split() == ["{", '"a":', "1,", '"b":', "[", "0,", "1", "]", "}"]
