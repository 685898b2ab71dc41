"""PostgreSQL's wire: answers in pieces, answers that make no sense, and values to bytes and back."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines.postgres_codec import EXECUTE_AND_SYNC, Plan
from loadgen.engines.postgres_wire import UnreadableAnswerError, last_error, read_answer

INT8, INT4, INT2, TEXT, BOOL, NUMERIC = 20, 23, 21, 25, 16, 1700


def message(kind: str, body: bytes) -> bytes:
    """One message of the protocol."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def row(*values: bytes | None) -> bytes:
    """A DataRow."""
    fields = b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values
    )
    return message("D", struct.pack("!h", len(values)) + fields)


def complete(tag: str) -> bytes:
    """A CommandComplete."""
    return message("C", tag.encode() + b"\0")


def error(kind: str = "E", **fields: str) -> bytes:
    """An ErrorResponse or NoticeResponse."""
    return message(kind, b"".join(f"{key}{value}".encode() + b"\0" for key, value in fields.items()) + b"\0")


BOUND = message("2", b"")
READY, READY_IN_TRANSACTION, READY_FAILED = (message("Z", status) for status in (b"I", b"T", b"E"))

# An eight-byte value whose bytes look like the ReadyForQuery that ends an answer.
FALSE_END = int.from_bytes(b"\0\0Z\0\0\0\5T"[:8], "big")
ANSWERS = [
    complete("BEGIN") + READY_IN_TRANSACTION,
    BOUND + complete("INSERT 0 1") + READY_IN_TRANSACTION,
    BOUND + row(struct.pack("!q", 7)) + complete("UPDATE 1") + READY_IN_TRANSACTION,
    BOUND + row(struct.pack("!q", FALSE_END)) + complete("UPDATE 1") + READY_IN_TRANSACTION,
    BOUND + row(b"a") + row(None) + complete("SELECT 2") + READY,
    error(S="FEHLER", V="ERROR", C="40001", M="no") + READY_FAILED,
    error("N", S="WARNUNG", V="WARNING", C="01000", M="careful") + complete("COMMIT") + READY,
    BOUND + complete("BEGIN") + BOUND + row(struct.pack("!q", 9)) + complete("UPDATE 1") + READY_IN_TRANSACTION,
    message("S", b"a\0b\0") + complete("COMMIT") + READY,
]


@pytest.mark.parametrize("data", ANSWERS)
def test_answer_in_pieces_has_no_end_before_its_last_byte(data: bytes) -> None:
    """However the network cuts it, an answer is whole only with its ReadyForQuery, and then the same."""
    assert all(read_answer(data[:cut]) is None for cut in range(len(data)))
    assert read_answer(data) is not None


def test_answer_says_what_was_done() -> None:
    """The commands, the last one's rows, whether a transaction is open."""
    answer = read_answer(ANSWERS[7])

    assert answer is not None
    assert answer.tags == (b"BEGIN", b"UPDATE 1")
    assert (answer.commands, answer.row_count, answer.idle) == (2, 1, False)
    assert answer.rows == (struct.pack("!iq", 8, 9),)


def test_answer_with_a_warning_in_any_language_is_known_as_one() -> None:
    """The severity is read from the field that the server does not translate."""
    answer = read_answer(ANSWERS[6])

    assert answer is not None
    assert answer.warned
    assert answer.commands == -1


@pytest.mark.parametrize(
    "data", [message("G", b"\0\0\0"), complete("COMMIT") + READY + READY, message("R", b"\0\0\0\3")]
)
def test_answer_that_nobody_asked_for_is_unreadable(data: bytes) -> None:
    """A COPY, a second answer, a question about passwords: server and client have lost each other."""
    with pytest.raises(UnreadableAnswerError):
        read_answer(data)


def test_answer_counts_although_the_server_says_good_bye_behind_it() -> None:
    """A COMMIT that was confirmed is confirmed, also where the end of the connection comes in the same piece."""
    fatal = error(V="FATAL", C="57P01", M="shutting down")
    answer = read_answer(complete("COMMIT") + READY + fatal)

    assert answer is not None
    assert answer.commands == -1
    assert answer.error is None
    assert answer.rest == fatal


@given(st.binary(max_size=60))
def test_any_bytes_are_read_refused_or_waited_on(data: bytes) -> None:
    """Garbage never gives another exception."""
    with contextlib.suppress(UnreadableAnswerError):
        read_answer(data)
    last_error(data)


def test_last_word_of_a_server_that_closed_is_found() -> None:
    """A FATAL error has no ReadyForQuery behind it; what was done before it is counted."""
    fatal = {"V": "FATAL", "C": "57P01", "M": "shutting down"}

    assert last_error(BOUND + complete("BEGIN") + error(**fatal)) == (fatal, 1)
    assert last_error(BOUND) == (None, 0)


def bound_values(sent: bytes) -> tuple[list[int], list[bytes | None]]:
    """The format codes and values of a Bind message that is followed by Execute and Sync."""
    assert sent.endswith(EXECUTE_AND_SYNC)
    assert sent[:1] == b"B"
    (length,) = struct.unpack_from("!i", sent, 1)
    assert length == len(sent) - 1 - len(EXECUTE_AND_SYNC)
    position = sent.index(b"\0", 6) + 1
    (count,) = struct.unpack_from("!h", sent, position)
    formats = list(struct.unpack_from(f"!{count}h", sent, position + 2))
    position += 2 + 2 * count + 2
    values: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", sent, position)
        position += 4
        values.append(None if size < 0 else sent[position : position + size])
        position += max(size, 0)
    return formats, values


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**15), 2**15 - 1))
def test_whole_numbers_travel_in_binary(eight: int, four: int, two: int) -> None:
    """Each in its type's width, and what is sent for one call has nothing of the call before."""
    plan = Plan("name", [INT8, INT4, INT2], [], versioned=False, blind=False)
    plan.message((0, 0, 0))

    formats, values = bound_values(plan.message((eight, four, two)))

    assert formats == [1, 1, 1]
    assert values == [struct.pack("!q", eight), struct.pack("!i", four), struct.pack("!h", two)]


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), st.integers(0, 9))
def test_text_travels_beside_numbers(text: str, number: int) -> None:
    """Strings as they are, other types as their text, None as NULL."""
    plan = Plan("name", [TEXT, INT4, NUMERIC, INT8], [], versioned=False, blind=False)

    formats, values = bound_values(plan.message((text, number, 12, None)))

    assert formats == [0, 1, 0, 1]
    assert values == [text.encode(), struct.pack("!i", number), b"12", None]


@pytest.mark.parametrize("types", [[INT4], [INT4, TEXT]])
@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, "one"])
def test_value_that_does_not_fit_is_never_sent(types: list[int], value: int | str) -> None:
    """It is refused here, before a byte is sent, so that the connection stays as it was."""
    with pytest.raises(ValueError, match="fit"):
        Plan("name", types, [], versioned=False, blind=False).message((value, "text")[: len(types)])


@pytest.mark.parametrize("types", [[INT4], [INT4, TEXT]])
@pytest.mark.parametrize("values", [(), (1, 2, 3)])
def test_values_of_another_number_are_never_sent(types: list[int], values: tuple[int, ...]) -> None:
    """As many as there are parameters."""
    with pytest.raises(ValueError, match=r"wanted|size"):
        Plan("name", types, [], versioned=False, blind=False).message(values)


def test_rows_come_back_as_python_values() -> None:
    """Numbers and booleans as themselves, text as text, NULL as None."""
    plan = Plan("name", [], [INT8, INT4, TEXT, BOOL], versioned=False, blind=False)
    whole = row(struct.pack("!q", -5), struct.pack("!i", 3), "é".encode(), b"\1")[7:]
    nothing = row(None, None, None, None)[7:]

    assert plan.result(2, [whole, nothing]).rows == [(-5, 3, "é", True), (None, None, None, None)]


def test_rows_of_numbers_alone_come_back_with_their_nulls() -> None:
    """The quick way for rows of one length does not mistake a NULL."""
    plan = Plan("name", [], [INT8, INT4], versioned=False, blind=False)
    rows = [row(struct.pack("!q", 1), struct.pack("!i", 2))[7:], row(None, struct.pack("!i", 4))[7:]]

    assert plan.result(2, rows).rows == [(1, 2), (None, 4)]
    assert plan.result(1, rows[:1]).rows == [(1, 2)]


def test_version_is_read_from_the_row_that_returns_it() -> None:
    """A statement with a version witness tells it, any other does not."""
    rows = [row(struct.pack("!q", 41))[7:]]

    assert Plan("n", [], [INT8], versioned=True, blind=False).result(1, rows).version == 41
    assert Plan("n", [], [INT8], versioned=False, blind=False).result(1, rows).version == -1
