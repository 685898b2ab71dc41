"""A reader of EDN (edn-format.org) that takes any input: malformed, huge or nested without end.

No recursion; nesting is bounded. Tagged values (``#inst "..."``, ``#jepsen.history.Op{...}``) read as the value.
"""

import re
from collections.abc import Iterator
from typing import Any

from loadgen.errors import StoreError

DEPTH = 64
"""How deep values may nest; a history needs five."""

_TOKEN = re.compile(
    r"""
      (?P<space>[\s,]+|;[^\n]*|\#![^\n]*)
    | (?P<discard>\#_)
    | (?P<open>\#\{|[\[({])
    | (?P<close>[\])}])
    | (?P<string>"[^"\\]*(?:\\.[^"\\]*)*")
    | (?P<char>\\(?:newline|return|space|tab|formfeed|backspace|u[0-9A-Fa-f]{4}|o[0-7]{1,3}|.))
    | (?P<special>\#\#(?:-?Inf|NaN))
    | (?P<tag>\#:?[A-Za-z][^\s,;"\[\](){}\\#]*)
    | (?P<meta>\^)
    | (?P<atom>[^\s,;"\[\](){}\\\#^][^\s,;"\[\](){}\\^]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)N?")
_FLOAT = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?M?")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|[0-7]{1,3}|.)", re.DOTALL)
_CHARS = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t", "formfeed": "\f", "backspace": "\b"}
_CLOSES = {"[": "]", "(": ")", "{": "}", "#{": "}"}


class Keyword(str):
    """An EDN keyword without its colon. Equal to no string but its own text: ask for its type where that matters."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f":{self}"


class Symbol(str):
    """An EDN symbol."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class EdnError(StoreError):
    """EDN that cannot be read, with its line and column."""


def read_all(text: str) -> Iterator[Any]:
    """Every top-level value of ``text``: lists and vectors as lists, sets as frozensets, maps as dicts.

    Raises EdnError, which says where.
    """
    return _Reader(text).values()


def freeze(value: Any) -> Any:
    """``value`` as something that can be a key: equal values freeze equal, and 1, 1.0 and true stay apart."""
    if isinstance(value, list | tuple):
        return ("list", *map(freeze, value))
    if isinstance(value, dict):
        return ("map", frozenset((freeze(key), freeze(each)) for key, each in value.items()))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(map(freeze, value)))
    if isinstance(value, Frozen):
        return value
    return Frozen(type(value).__name__, repr(value) if isinstance(value, float) else value)


class Frozen(tuple[str, Any]):
    """A scalar with its type's name, so that equal numbers of different types are different keys."""

    __slots__ = ()

    def __new__(cls, kind: str, value: Any) -> "Frozen":
        """The pair of both."""
        return super().__new__(cls, (kind, value))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, message: str, at: int | None = None) -> EdnError:
        place = self.at if at is None else at
        line = self.text.count("\n", 0, place) + 1
        column = place - (self.text.rfind("\n", 0, place) + 1) + 1
        return EdnError(f"line {line}, column {column}: {message}")

    def values(self) -> Iterator[Any]:
        """Read with a stack of unfinished collections; each has its opening sign, its place and its items."""
        stack: list[tuple[str, int, list[Any]]] = []
        while True:
            match = _TOKEN.match(self.text, self.at)
            if match is None:
                if self.at >= len(self.text):
                    break
                raise self.error(self._unreadable())
            kind = match.lastgroup
            start, self.at = self.at, match.end()
            if kind == "space":
                continue
            token = match.group()
            if kind in ("open", "discard", "tag", "meta"):
                if len(stack) >= DEPTH:
                    raise self.error(f"nested deeper than {DEPTH}", start)
                stack.append((token if kind == "open" else kind or "", start, []))
                continue
            closing = kind == "close"
            value = self._close(stack, token, start) if closing else self._scalar(kind or "", token, start)
            done, value = self._settle(stack, value)
            if done:
                yield value
        if stack:
            raise self.error(f"ends inside what began here ({stack[-1][0]})", stack[-1][1])

    def _settle(self, stack: list[tuple[str, int, list[Any]]], value: Any) -> tuple[bool, Any]:
        """Put a finished value where it belongs; true if it is a whole top-level value."""
        while stack:
            sign, _, items = stack[-1]
            if sign == "discard":
                stack.pop()
                return False, None
            if sign == "tag":
                stack.pop()
                continue
            if sign == "meta":
                if items:
                    stack.pop()
                    continue
                items.append(None)
                return False, None
            items.append(value)
            return False, None
        return True, value

    def _close(self, stack: list[tuple[str, int, list[Any]]], token: str, start: int) -> Any:
        if not stack or stack[-1][0] not in _CLOSES:
            raise self.error(f"{token!r} closes nothing", start)
        sign, opened, items = stack.pop()
        if _CLOSES[sign] != token:
            raise self.error(f"{token!r} does not close {sign!r}", start)
        if sign in ("[", "("):
            return items
        if sign == "#{":
            return frozenset(_hashable(item) for item in items)
        if len(items) % 2:
            raise self.error("a map needs a value for every key", opened)
        made = {_hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}
        if len(made) * 2 != len(items):
            raise self.error("a map has one key twice", opened)
        return made

    def _scalar(self, kind: str, token: str, start: int) -> Any:
        if kind == "atom":
            return self._atom(token, start)
        if kind == "string":
            return (
                _ESCAPE.sub(lambda found: self._escape(found.group(1), start), token[1:-1])
                if "\\" in token
                else token[1:-1]
            )
        if kind == "special":
            return float(token[2:].lower())
        name = token[1:]
        if len(name) > 1 and name[0] in "uo" and name not in _CHARS:
            return chr(int(name[1:], 16 if name[0] == "u" else 8))
        return _CHARS.get(name, name)

    def _escape(self, name: str, start: int) -> str:
        if name[0] == "u" and len(name) == 5:
            return chr(int(name[1:], 16))
        if name[0] in "01234567":
            return chr(int(name, 8))
        if name not in _ESCAPES:
            raise self.error(f"unknown escape \\{name} in a string", start)
        return _ESCAPES[name]

    def _atom(self, token: str, start: int) -> Any:
        if token[0] == ":":
            if len(token) == 1:
                raise self.error("a keyword without a name", start)
            return Keyword(token[1:])
        if _INTEGER.fullmatch(token):
            try:
                return int(token.rstrip("N"))
            except ValueError as error:
                raise self.error(f"a number of {len(token)} digits", start) from error
        if token in ("nil", "true", "false"):
            return {"nil": None, "true": True, "false": False}[token]
        if _FLOAT.fullmatch(token):
            return float(token.rstrip("M"))
        if token[0].isdigit() or (token[0] in "+-" and token[1:2].isdigit()):
            raise self.error(f"{token[:40]!r} is not a number", start)
        return Symbol(token)

    def _unreadable(self) -> str:
        if self.text[self.at] == '"':
            return "a string without an end"
        return f"{self.text[self.at]!r} begins nothing that EDN has"


def _hashable(value: Any) -> Any:
    return freeze(value) if isinstance(value, list | dict | set | frozenset) else value
