"""A reader of EDN (edn-format.org) that takes any input: malformed, huge or nested without end.

No recursion; nesting is bounded. Tagged values (``#inst "..."``, ``#jepsen.history.Op{...}``) read as the value.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from loadgen.errors import StoreError

DEPTH = 64
"""How deep values may nest; a history needs five."""

_TOKEN = re.compile(
    r"""
      [\[\](){}]                                            # what opens and closes
    | [^\s,;"\[\](){}\\\#^][^\s,;"\[\](){}\\^]*            # numbers, keywords, symbols
    | "[^"\\]*(?:\\.[^"\\]*)*"                             # strings
    | ;[^\n]* | \#![^\n]*                                  # comments
    | \#_ | \#\{ | \^                                      # discard, set, metadata
    | \#\#(?:-?Inf|NaN)
    | \#:?[A-Za-z][^\s,;"\[\](){}\\#]*                    # tags
    | \\(?:newline|return|space|tab|formfeed|backspace|u[0-9A-Fa-f]{4}|o[0-7]{1,3}|.)
    | [^\s,]                                               # what EDN does not have
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = 1 << 16
"""About so much text is cut into tokens at a time, up to the end of a line."""
_KNOWN = 1 << 16
"""How many short atoms are kept with their values, since histories are full of the same ones."""
_SHORT = 24
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)N?")
_FLOAT = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?M?")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|[0-7]{1,3}|.)", re.DOTALL)
_CHARS = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t", "formfeed": "\f", "backspace": "\b"}
_CLOSES = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_CLOSINGS = "])}"
_NEW = object()
_Place = tuple[int, int]
"""Where a token is: the begin of its block of text, and which of the block's tokens it is."""


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


def unwatched(_: int) -> None:
    """Watch nothing."""


def read_all(text: str, watch: Callable[[int], None] = unwatched) -> Iterator[Any]:
    """Every top-level value of ``text``: lists and vectors as lists, sets as frozensets, maps as dicts.

    Calls ``watch`` with the place in the text now and then. Raises EdnError, which says where.
    """
    return _Reader(text, watch).values()


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
    def __init__(self, text: str, watch: Callable[[int], None]) -> None:
        self.text = text
        self.watch = watch

    def error(self, message: str, place: _Place) -> EdnError:
        begin, number = place
        match = next(itertools.islice(_TOKEN.finditer(self.text, begin), number, None), None)
        at = match.start() if match else len(self.text)
        line = self.text.count("\n", 0, at) + 1
        return EdnError(f"line {line}, column {at - self.text.rfind(chr(10), 0, at)}: {message}")

    def _blocks(self) -> Iterator[tuple[int, list[str]]]:
        """The tokens of the text, block by block; a string that a block's end would cut makes the block longer."""
        begin, size = 0, _BLOCK
        while begin < len(self.text):
            end = self.text.find("\n", begin + size) + 1 or len(self.text)
            tokens = _TOKEN.findall(self.text, begin, end)
            if '"' in tokens and end < len(self.text):
                size *= 2
                continue
            yield begin, tokens
            begin, size = end, _BLOCK
            self.watch(begin)

    def values(self) -> Iterator[Any]:
        """Read with a stack of unfinished collections and signs; each has its place and its items.

        ``items`` are those of the collection that the next value goes to, or None where a sign, or the top level, has
        a say first.
        """
        stack: list[tuple[str, _Place, list[Any]]] = []
        items: list[Any] | None = None
        known: dict[str, Any] = {}
        for begin, tokens in self._blocks():
            for number, token in enumerate(tokens):
                value = known.get(token, _NEW)
                if value is _NEW:
                    sign = self._sign(token)
                    if sign == ";":
                        continue
                    if sign:
                        if len(stack) >= DEPTH:
                            raise self.error(f"nested deeper than {DEPTH}", (begin, number))
                        stack.append((sign, (begin, number), []))
                        items = stack[-1][2] if sign in _CLOSES else None
                        continue
                    if token in _CLOSINGS:
                        value = self._close(stack, token, (begin, number))
                        items = stack[-1][2] if stack and stack[-1][0] in _CLOSES else None
                    else:
                        value = self._scalar(token, (begin, number))
                        if len(token) <= _SHORT and len(known) < _KNOWN:
                            known[token] = value
                if items is not None:
                    items.append(value)
                    continue
                if self._settle(stack, value):
                    yield value
                items = stack[-1][2] if stack and stack[-1][0] in _CLOSES else None
        if stack:
            raise self.error(f"ends inside what began here ({stack[-1][0]})", stack[-1][1])

    def _sign(self, token: str) -> str:
        """A sign that opens something or changes the next value; a semicolon for a comment; else nothing."""
        if token in _CLOSES:
            return token
        first = token[0]
        if first == ";" or token.startswith("#!"):
            return ";"
        if first == "^":
            return "meta"
        if first == "#" and len(token) > 1 and token[1] != "#":
            return "discard" if token == "#_" else "tag"
        return ""

    def _settle(self, stack: list[tuple[str, _Place, list[Any]]], value: Any) -> bool:
        """Put a finished value where it belongs; true if it is a whole top-level value."""
        while stack:
            sign, _, items = stack[-1]
            if sign == "discard":
                stack.pop()
                return False
            if sign == "tag":
                stack.pop()
                continue
            if sign == "meta":
                if items:
                    stack.pop()
                    continue
                items.append(None)
                return False
            items.append(value)
            return False
        return True

    def _close(self, stack: list[tuple[str, _Place, list[Any]]], token: str, start: _Place) -> Any:
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

    def _scalar(self, token: str, start: _Place) -> Any:
        first = token[0]
        if first == '"':
            if len(token) == 1:
                raise self.error("a string without an end", start)
            if "\\" not in token:
                return token[1:-1]
            return _ESCAPE.sub(lambda found: self._escape(found.group(1), start), token[1:-1])
        if first == "#":
            if len(token) == 1:
                raise self.error("'#' does not begin anything in EDN", start)
            return float(token[2:].lower())
        if first != "\\":
            return self._atom(token, start)
        name = token[1:]
        if not name:
            raise self.error("a character without a name", start)
        if len(name) > 1 and name[0] in "uo" and name not in _CHARS:
            return chr(int(name[1:], 16 if name[0] == "u" else 8))
        return _CHARS.get(name, name)

    def _escape(self, name: str, start: _Place) -> str:
        if name[0] == "u" and len(name) == 5:
            return chr(int(name[1:], 16))
        if name[0] in "01234567":
            return chr(int(name, 8))
        if name not in _ESCAPES:
            raise self.error(f"unknown escape \\{name} in a string", start)
        return _ESCAPES[name]

    def _atom(self, token: str, start: _Place) -> Any:
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


def _hashable(value: Any) -> Any:
    return freeze(value) if isinstance(value, list | dict | set | frozenset) else value
