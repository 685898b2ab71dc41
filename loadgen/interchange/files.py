"""Any history file becomes what can be judged: by its content first, by its name where that says nothing."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.checks.transactions import Transactions
from loadgen.errors import StoreError
from loadgen.interchange.edn import EdnError, read_all
from loadgen.interchange.maps import TXN_KINDS, Ops, kind_of, read_ops, transactions
from loadgen.interchange.plain import read_plain
from loadgen.interchange.streams import FORMAT, SUFFIX, read_transactions

_PLAIN = re.compile(r"(?:\s*(?:#|//)[^\n]*\n)*\s*[rwRW]\s*\(")
_JSON = re.compile(r'\s*(?:\[\s*)?\{\s*(?:"(?:[^"\\]|\\.){0,100}"\s*:|\}\s*\])|\s*\[\s*\]\s*$')
_EDN = re.compile(r"(?:[\s,]+|;[^\n]*\n)*(?:[\[({#]|$)")
_HEAD = 4096


@dataclass(slots=True)
class Loaded:
    """A history as read: transactions, or the operations of a kind that is none (bank, set)."""

    kind: str
    txns: Transactions | None = None
    ops: Ops | None = None


def load(path: Path, kind: str | None = None) -> Loaded:
    """Read a history; ``kind`` overrides what its content says. Raises StoreError, which says where."""
    if path.is_dir():
        directory = path / "history" if (path / "history").is_dir() else path
        return _ours(sorted(directory.glob(f"*{SUFFIX}")), kind)
    text = _text(path)
    if text is None:
        return _ours([path], kind)
    try:
        return _foreign(path, text, kind)
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error


def _ours(paths: list[Path], kind: str | None) -> Loaded:
    txns = read_transactions(paths)
    if kind is not None and kind != txns.kind and not (kind == "rw-register" and txns.kind == "versioned-register"):
        raise StoreError(f"{paths[0]} holds a history of kind {txns.kind}, not {kind}")
    return Loaded(txns.kind.value, txns)


def _text(path: Path) -> str | None:
    """The file as text, or None if it is one of our streams."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if raw.startswith(b"\xff\xff\xff\xff") or FORMAT.encode() in raw[:_HEAD]:
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is not text in UTF-8: byte {error.start} is {raw[error.start]:#04x}") from error
    if not text.strip():
        raise StoreError(f"{path} is empty")
    return text


def _foreign(path: Path, text: str, kind: str | None) -> Loaded:
    if _PLAIN.match(text) or (path.suffix == ".txt" and not _JSON.match(text) and not _EDN.match(text)):
        if kind not in (None, "rw-register"):
            raise StoreError(f"plain text holds read-write registers, not {kind}")
        return Loaded("rw-register", read_plain(text))
    if _JSON.match(text) or path.suffix in (".json", ".jsonl", ".ndjson"):
        values = _json_values(text)
    elif _EDN.match(text):
        values = read_all(text)
    else:
        begin = text.strip()[:40].splitlines()[0]
        raise StoreError(f"line 1: {begin!r} begins no history (operation maps in EDN or JSON, or r(…) and w(…) lines)")
    ops = read_ops(values)
    chosen = kind or kind_of(ops)
    if chosen in TXN_KINDS:
        return Loaded(chosen, transactions(ops, chosen), ops)
    return Loaded(chosen, None, ops)


def _json_values(text: str) -> Iterator[Any]:
    """The JSON values of ``text``, one after another: an array is one, and so is each line of JSON lines."""
    decoder = json.JSONDecoder()
    at = 0
    space = re.compile(r"[\s,]*")
    while True:
        begin = space.match(text, at)
        at = begin.end() if begin else at
        if at >= len(text):
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise StoreError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        except RecursionError as error:
            raise StoreError(f"{_place(text, at)}: nested too deep") from error
        except ValueError as error:
            raise StoreError(f"{_place(text, at)}: {error}") from error
        yield value


def _place(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"


__all__ = ["EdnError", "Loaded", "load"]
