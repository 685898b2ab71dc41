"""The history: what is written is read back, and what is cut or foreign is named and never trusted."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.errors import StoreError
from loadgen.history.history import (
    ROW_DONE,
    ROW_TRY,
    HistoryWriter,
    StreamWriter,
    ops_batch,
    read_history,
    read_stream,
    write_final,
    write_json,
)
from loadgen.op import Completion
from loadgen.shop import sale
from tests.plans import parse_sale

PLAN = parse_sale({}).with_(kind_weights=(("order", 1),))


def completion(number: int, touched: tuple[int, ...] = (), code: str = "") -> Completion:
    """A completion that tells its number in every column."""
    return Completion(number, 0, 3, number, number + 1, number + 2, 0, 1, 1, 0, code, touched)


def write_small(directory: Path, name: str = "0", count: int = 100) -> None:
    """One load process that was handed ``count`` numbers and ended all of them."""
    writer = HistoryWriter(directory, name, sale.INVOKED_COLUMNS, {"run_id": "r"})
    for first in range(0, count, 10):
        writer.invoked(sale.invoked(PLAN, first, 10))
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


def batches_of(path: Path) -> list[bytes]:
    """The messages of a stream, its header first and the end-of-stream marker last."""
    data, parts, at = path.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        body = int.from_bytes(data[at + length - 8 : at + length], "little") if parts and length else 0
        parts.append(data[at : at + 8 + length + body])
        at += len(parts[-1])
    return parts


def rewritten(path: Path, keep: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the messages of a stream between its header and its marker, seals and all."""
    header, *batches, marker = batches_of(path)
    path.write_bytes(b"".join((header, *keep(batches), marker)))


@pytest.mark.parametrize("stream", ["0.ops", "0.invoked"])
@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:2] + parts[3:],
        lambda parts: parts[1:],
        lambda parts: parts[:-2] + parts[-1:],
        lambda parts: parts[:-1],
        lambda parts: parts[:1] * 2 + parts[1:],
        lambda parts: [parts[1], parts[0], *parts[2:]],
        lambda parts: parts[-1:] + parts[:-1],
    ],
    ids=["one missing", "first missing", "last missing", "no end", "doubled", "swapped", "end first"],
)
def test_a_well_formed_stream_that_lacks_a_batch_is_no_whole_one(
    tmp_path: Path, stream: str, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    """Arrow reads it without complaint; its seals tell, and the process counts as one that left ops open."""
    write_small(tmp_path)
    path = tmp_path / f"{stream}.arrows"
    rewritten(path, change)
    assert pa.ipc.open_stream(path.read_bytes()).read_all() is not None
    history = read_history(tmp_path)

    assert len(history.problems) == 1 and str(path) in history.problems[0]
    assert history.damaged == {stream} and not history.torn
    assert [process.closed_at for process in history.processes] == [None]


def test_rows_before_the_damage_are_read_and_none_behind_it(tmp_path: Path) -> None:
    """What the seals vouch for is trusted, the rest is not."""
    write_small(tmp_path)
    path = tmp_path / "0.ops.arrows"
    rewritten(path, lambda parts: parts[:3] + parts[4:])

    assert read_history(tmp_path).processes[0].ops["number"].tolist() == list(range(30))


def test_a_cut_stream_is_verified_up_to_its_last_whole_batch(tmp_path: Path) -> None:
    """Cut at any byte of its tail it is torn, and nothing else; its seals vouch for what is left."""
    write_small(tmp_path)
    path = tmp_path / "0.ops.arrows"
    header, *batches, _ = batches_of(path)
    whole = path.read_bytes()
    ends = np.cumsum([len(header), *map(len, batches)])
    for size in range(len(header), len(whole), 53):
        path.write_bytes(whole[:size])
        stream = read_stream(path)
        left = int(np.count_nonzero(ends <= size)) - 1

        assert stream.torn and stream.problem, size
        assert stream.sealed is not None and stream.sealed.rows == min(10 * left, 101)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    """One bit anywhere in a stream, and the stream is not whole."""
    directory = tmp_path_factory.mktemp("flipped")
    write_small(directory, count=20)
    path = directory / "0.ops.arrows"
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    path.write_bytes(bytes(raw))
    stream = read_stream(path)

    assert stream.problem
    assert stream.columns.get("number", np.arange(0)).tolist() in (
        [],
        list(range(10)),
        list(range(20)),
        [*range(20), 20],
    )


def test_a_stream_that_another_program_wrote_anew_is_no_whole_one(tmp_path: Path) -> None:
    """It has the same rows and no seals."""
    write_small(tmp_path)
    path = tmp_path / "0.ops.arrows"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)

    assert "damaged" in read_stream(path).problem


def write_unsealed(directory: Path) -> None:
    """Make the streams of ``directory`` those of an older version: the same rows, and no seals."""
    for path in directory.glob("*.arrows"):
        with pa.ipc.open_stream(path.read_bytes()) as reader:
            batches, schema = [batch for batch in reader if batch.num_rows], reader.schema
        schema = schema.with_metadata({**schema.metadata, b"format": b"loadgen-history-1"})
        with pa.ipc.new_stream(str(path), schema) as writer:
            for batch in batches:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def test_streams_of_an_older_version_are_read(tmp_path: Path) -> None:
    """They have no seals, and nothing to compare."""
    write_small(tmp_path)
    write_unsealed(tmp_path)
    history = read_history(tmp_path)

    assert history.problems == [] and history.processes[0].closed_at == 100
    assert history.sealed == {"0.invoked": None, "0.ops": None}


def test_a_stream_of_a_later_version_is_passed_over(tmp_path: Path) -> None:
    """Its name is not known: a warning, and it is not even opened."""
    write_small(tmp_path)
    (tmp_path / "samples.arrows").write_bytes(b"whatever")
    history = read_history(tmp_path)

    assert history.problems == []
    assert ["samples.arrows" in warning for warning in history.warnings] == [True]


def test_a_stream_of_another_run_is_a_problem(tmp_path: Path) -> None:
    """Each stream says of which run it is."""
    write_small(tmp_path)

    assert read_history(tmp_path, run_id="r").problems == []
    assert all("is of another run, r" in problem for problem in read_history(tmp_path, run_id="s").problems)


def test_a_stream_in_the_place_of_another_is_a_problem(tmp_path: Path) -> None:
    """Two tables of one run may have the same columns."""
    for table in ("a", "b"):
        write_final(tmp_path, table, {"id": np.arange(3)}, {"id": "int64"})
    (tmp_path / "final.a.arrows").replace(tmp_path / "final.b.arrows")
    history = read_history(tmp_path)

    assert "the stream final.a in the place of another" in history.problems[0]
    assert history.final == {}


def test_nulls_are_refused(tmp_path: Path) -> None:
    """Behind a null stands any value: no run writes one."""
    schema = pa.schema([("at", pa.int64())])
    with StreamWriter(tmp_path / "faults.arrows", schema) as stream:
        stream.write(pa.RecordBatch.from_arrays([pa.array([1, None], pa.int64())], schema=schema))

    assert "nulls" in read_stream(tmp_path / "faults.arrows").problem


@pytest.mark.parametrize("place", ["pipe", "directory", "device", "loop", "nothing", "huge"])
def test_what_is_no_plain_file_is_named_at_once(tmp_path: Path, place: str) -> None:
    """Nothing waits, nothing fills the memory."""
    path = tmp_path / "0.ops.arrows"
    if place == "pipe":
        os.mkfifo(path)
    elif place == "directory":
        path.mkdir()
    elif place == "device":
        path.symlink_to("/dev/zero")
    elif place == "loop":
        path.symlink_to(path)
    elif place == "nothing":
        path.touch()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)

    assert str(path) in read_stream(path).problem


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
