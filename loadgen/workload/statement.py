"""Statements, and transaction bodies: generators that yield statements and do no I/O.

The same body runs on every driver and on an in-memory fake: it yields calls of statements, receives their results, and
returns a Reply.
"""

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

_PARAMETER = re.compile(r":([a-z_]+)")


class Statement:
    """One SQL statement, written once, with ``:name`` parameters whose order is that of their first appearance.

    Two marks carry the version witness (each stock row counts its writes, and the writer learns the count in the same
    round trip): ``{bump}`` in a SET list stands for "version = version + 1, and tell me", ``{bumped}`` at the end of
    the statement for what that needs there. Where the dialects differ in more, ``mysql`` holds the text for the
    MySQL wire (MySQL, TiDB, OceanBase).

    Calling a statement with the values of its parameters makes what a body yields: ``yield DEDUCT(sku, qty)``.
    Values are ints or strings.

    ``blind`` says that no body looks at the answer: a connection that merges round trips may then send the statement
    with the next one, or with COMMIT, and the body gets an empty Result. An error of it is then met a little later,
    and still before anything is committed.
    """

    __slots__ = ("blind", "mysql", "mysql_order", "parameters", "postgres")

    def __init__(self, text: str, *, mysql: str | None = None, blind: bool = False) -> None:
        self.blind = blind
        self.parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        numbers = {name: f"${index}" for index, name in enumerate(self.parameters, 1)}
        self.postgres = _PARAMETER.sub(
            lambda match: numbers[match[1]],
            text.replace("{bump}", "version = version + 1").replace("{bumped}", "RETURNING version"),
        ).strip()
        source = mysql if mysql is not None else text
        source = source.replace("{bump}", "version = LAST_INSERT_ID(version + 1)").replace("{bumped}", "").strip()
        # The wire's text form takes values by position, so a parameter that appears twice is given twice.
        self.mysql_order = tuple(self.parameters.index(name) for name in _PARAMETER.findall(source))
        self.mysql = _PARAMETER.sub("%s", source.replace("%", "%%"))

    def __call__(self, *values: int | str) -> "Call":
        """What a body yields."""
        return self, values

    def __repr__(self) -> str:
        return f"Statement({self.postgres!r})"


Call = tuple[Statement, tuple[int | str, ...]]


class Result(NamedTuple):
    """What a statement answered.

    ``version`` is the version that a ``{bump}`` statement wrote, meaningful only where ``rowcount`` is 1.
    """

    rowcount: int
    rows: Sequence[Sequence[Any]]
    version: int


class Reply(NamedTuple):
    """What a body returns: its answer (the workload's code) and what it did to versioned rows, as flat triples."""

    answer: int
    touched: tuple[int, ...] = ()


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a body to roll back with an answer: "sold out" is an answer, and the op is ``ok``."""

    def __init__(self, answer: int, touched: tuple[int, ...] = ()) -> None:
        self.answer = answer
        self.touched = touched


class Conflict(Exception):  # noqa: N818
    """Raised by a body whose compare-and-set missed: roll back, and try again in a new transaction."""

    def __init__(self, code: str) -> None:
        self.code = code


Body = Generator[Call, Result, Reply]


def single_statement(body: Callable[..., Body]) -> Callable[..., Body]:
    """Mark a body that yields one read and nothing else: it runs without BEGIN and COMMIT."""
    body.single_statement = True  # type: ignore[attr-defined]
    return body


def is_single_statement(body: Callable[..., Body]) -> bool:
    """Whether ``body`` was marked by ``single_statement``."""
    return bool(getattr(body, "single_statement", False))
