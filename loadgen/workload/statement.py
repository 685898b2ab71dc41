"""Statements, and transaction bodies: generators that yield statements and do no I/O.

The same body runs on every driver and on an in-memory fake: it yields calls of statements, receives their results, and
returns a Reply.
"""

import re
from collections.abc import Callable, Generator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

Value = int | str | float | bool | Decimal | datetime | bytes | None
"""What a parameter may be, and a value of a row. A datetime with a zone is sent as UTC, and comes back without one."""

# What a colon means nothing in comes first: quoted texts and names, comments, casts. Behind a letter or a digit a colon
# is none of a parameter either: an array's slice, a label.
_NAME = r"(?<![\w:]):(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
_COMMENTS = r"--[^\n]*|/\*.*?\*/"
_POSTGRES = re.compile(
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"[^\"]*\"|(?P<dollar>\$(?:[A-Za-z_]\w*)?\$).*?(?P=dollar)"
    rf"|{_COMMENTS}|{_NAME}",
    re.DOTALL,
)
_MYSQL = re.compile(rf"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|\#[^\n]*|{_COMMENTS}|{_NAME}", re.DOTALL)


class Statement:
    """One SQL statement, written once, with ``:name`` parameters whose order is that of their first appearance.

    A name has letters, digits and underscores. A colon in a quoted text, a comment or a cast (``::int``) is kept.

    Two marks carry the version witness (each row counts its writes, and the writer receives the count in the same round
    trip): ``{bump}`` in a SET list means "version = version + 1, and return it"; ``{bumped}`` at the end of the
    statement is the clause that this needs there. If the dialects differ in more, ``mysql`` holds the text for the
    MySQL wire (MySQL, TiDB, OceanBase).

    A call of a statement with the values of its parameters is what a body yields: ``yield DEDUCT(sku, qty)``. Values
    are ints, strings, floats, bools, Decimals, datetimes, bytes and None, which is NULL. A bool comes back as 0 or 1
    from the MySQL wire, which has no type for it.

    ``blind`` says that no body looks at the answer. A connection that merges round trips may then send the statement
    with the next one, or with COMMIT, and the body gets an empty Result. An error is then reported a little later, but
    still before anything is committed.
    """

    __slots__ = ("blind", "mysql", "mysql_order", "parameters", "postgres")

    def __init__(self, text: str, *, mysql: str | None = None, blind: bool = False) -> None:
        self.blind = blind
        postgres = text.replace("{bump}", "version = version + 1").replace("{bumped}", "RETURNING version").strip()
        self.parameters = tuple(dict.fromkeys(_names(_POSTGRES, postgres)))
        numbers = {name: f"${index}" for index, name in enumerate(self.parameters, 1)}
        self.postgres = _POSTGRES.sub(lambda match: numbers.get(match["name"], match[0]), postgres)
        source = mysql if mysql is not None else text
        source = source.replace("{bump}", "version = LAST_INSERT_ID(version + 1)").replace("{bumped}", "").strip()
        names = _names(_MYSQL, source)
        unknown = set(names) - set(self.parameters)
        if unknown and mysql is not None:
            raise ValueError(f"the text for MySQL has parameters that the other lacks: {', '.join(sorted(unknown))}")
        # What only PostgreSQL takes for a text ($$ :x $$) is none that MySQL could run.
        names = [name for name in names if name not in unknown]
        # The wire's text form takes values by position, so a parameter that appears twice is given twice.
        self.mysql_order = tuple(map(self.parameters.index, names))
        self.mysql = _in_order(source, names)

    def __call__(self, *values: Value) -> "Call":
        """What a body yields."""
        return self, values

    def __repr__(self) -> str:
        return f"Statement({self.postgres!r})"


def _names(pattern: re.Pattern[str], text: str) -> list[str]:
    """The parameters of ``text``, each as often as it appears."""
    return [match["name"] for match in pattern.finditer(text) if match["name"]]


def _in_order(text: str, names: Sequence[str]) -> str:
    """``text`` for Python's own formatting: ``%s`` for each of ``names``, and each other ``%`` doubled."""
    parts, at = [], 0
    for match in _MYSQL.finditer(text):
        if match["name"] in names:
            parts += [text[at : match.start()].replace("%", "%%"), "%s"]
            at = match.end()
    return "".join((*parts, text[at:].replace("%", "%%")))


Call = tuple[Statement, tuple[Value, ...]]


class Result(NamedTuple):
    """The result of a statement.

    ``version`` is the version that a ``{bump}`` statement wrote. It has a meaning only if ``rowcount`` is 1.
    """

    rowcount: int
    rows: Sequence[Sequence[Any]]
    version: int


class Reply(NamedTuple):
    """What a body returns: its answer (the workload's code) and what it did to versioned rows, as flat triples."""

    answer: int
    touched: tuple[int, ...] = ()


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a body to roll back with an answer. "Sold out" is an answer, so the op is ``ok``."""

    def __init__(self, answer: int, touched: tuple[int, ...] = ()) -> None:
        self.answer = answer
        self.touched = touched


class Conflict(Exception):  # noqa: N818
    """Raised by a body whose compare-and-set failed: roll back, and try again in a new transaction."""

    def __init__(self, code: str) -> None:
        self.code = code


Body = Generator[Call, Result, Reply]


def single_statement(body: Callable[..., Body]) -> Callable[..., Body]:
    """Mark a body that yields a single read. It runs without BEGIN and COMMIT."""
    body.single_statement = True  # type: ignore[attr-defined]
    return body


def is_single_statement(body: Callable[..., Body]) -> bool:
    """Whether ``body`` was marked by ``single_statement``."""
    return bool(getattr(body, "single_statement", False))
