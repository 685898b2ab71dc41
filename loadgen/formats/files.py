"""Any history file becomes what can be judged: by its content first, by its name where that says nothing."""

import gc
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.errors import StoreError
from loadgen.formats.edn import EdnError, read_all
from loadgen.formats.kinds import TXN_KINDS, kind_of, transactions
from loadgen.formats.maps import Ops, brief, read_ops
from loadgen.formats.plain import read_plain
from loadgen.formats.reading import Watch, read_bytes, read_text
from loadgen.formats.streams import FORMAT, SUFFIX, read_transactions
from loadgen.isolation.graph import Deadline
from loadgen.isolation.transactions import Transactions

_PLAIN = re.compile(r"(?:\s*(?:#|//)[^\n]*\n)*\s*[rwRW]\s*\(")
_JSON = re.compile(r'\s*(?:\[\s*)?\{\s*(?:"(?:[^"\\]|\\.){0,100}"\s*:|\}\s*\])|\s*\[\s*\]\s*$')
_EDN = re.compile(r"(?:[\s,]+|;[^\n]*\n)*(?:[\[({#]|$)")
_SPACE = re.compile(r"[\s,]*")
_HEAD = 4096
_STEP = 1 << 12
"""After so many values of JSON the watch is asked."""
_STORE = ("history.edn", "history.edn.gz", "history.json", "history.jsonl")
"""What the history of another tool's folder is called, the first that is there."""
_WRAPPERS = ("history", "ops", "operations")


@dataclass(slots=True)
class Loaded:
    """A history as read: transactions, or the operations of a kind that is none (bank, set)."""

    kind: str
    """One of KINDS, or empty: the operations are of none."""
    txns: Transactions | None = None
    ops: Ops | None = None
    problem: str = ""
    """Why they are of no kind."""


def load(path: Path, kind: str | None = None, watch: Watch | None = None) -> Loaded:
    """Read a history; ``kind`` overrides what its content says. Raises StoreError, which says where."""
    watch = watch or Watch(path, Deadline(float("inf")))
    if path.is_dir():
        directory = path / "history" if (path / "history").is_dir() else path
        ours = sorted(directory.glob(f"*{SUFFIX}"))
        if ours:
            return _ours(ours, kind)
        path = _in_store(path)
    raw = read_bytes(path)
    if raw.startswith(b"\xff\xff\xff\xff") or FORMAT.encode() in raw[:_HEAD]:
        return _ours([path], kind)
    text = read_text(path, raw)
    del raw
    collecting = gc.isenabled()
    # Millions of small lists, none of them in a cycle: looking for cycles takes half of the time.
    gc.disable()
    try:
        return _foreign(path, text, kind, watch)
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    finally:
        if collecting:
            gc.enable()


def _in_store(path: Path) -> Path:
    """The history in a folder of Jepsen's store, or in the newest run of one."""
    for folder in (path, path / "latest"):
        for name in _STORE:
            if (folder / name).is_file():
                return folder / name
    if any((path / name).exists() for name in ("test.jepsen", "test.fressian", "jepsen.log")):
        raise StoreError(
            f"{path} is a store folder of Jepsen without its history.edn, the only file that loadgen reads there"
        )
    raise StoreError(f"{path} holds no history: neither streams of loadgen (*{SUFFIX}) nor {', '.join(_STORE)}")


def _ours(paths: list[Path], kind: str | None) -> Loaded:
    txns = read_transactions(paths)
    if kind is not None and kind != txns.kind and not (kind == "rw-register" and txns.kind == "versioned-register"):
        raise StoreError(f"{paths[0]} holds a history of kind {txns.kind}, not {kind}")
    return Loaded(txns.kind.value, txns)


def _foreign(path: Path, text: str, kind: str | None, watch: Watch) -> Loaded:
    step = watch.of(len(text))
    name = path.name.removesuffix(".gz")
    if _PLAIN.match(text) or (name.endswith(".txt") and not _JSON.match(text) and not _EDN.match(text)):
        if kind not in (None, "rw-register"):
            raise StoreError(f"plain text holds read-write registers, not {kind}")
        return Loaded("rw-register", read_plain(text, step))
    if _JSON.match(text) or name.endswith((".json", ".jsonl", ".ndjson")):
        values = _json_values(text, step)
    elif _EDN.match(text):
        values = read_all(text, step)
    else:
        begin = text.strip()[:40].splitlines()[0]
        raise StoreError(f"line 1: {begin!r} begins no history (operation maps in EDN or JSON, or r(…) and w(…) lines)")
    ops = read_ops(_unwrapped(values))
    problem = ops.unfit
    watch.deadline.check()
    if kind is None:
        kind, problem = kind_of(ops)
    if kind in TXN_KINDS:
        return Loaded(kind, transactions(ops, kind, watch), ops)
    return Loaded(kind, None, ops, problem)


def _unwrapped(values: Iterable[Any]) -> Iterator[Any]:
    """The operations, out of a map that holds them under a name if the file is such a map and nothing else."""
    for place, value in enumerate(values):
        if place == 0 and isinstance(value, Mapping) and not any(str(key).lstrip(":") == "type" for key in value):
            inside = [each for key, each in value.items() if str(key).lstrip(":") in _WRAPPERS and type(each) is list]
            if len(inside) != 1:
                keys = ", ".join(brief(key) for key in list(value)[:5])
                raise StoreError(
                    f"the file holds a map with the keys {keys}, not operations: give the list of operations by itself"
                )
            yield inside[0]
            continue
        yield value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has one key twice")
    return made


def _json_values(text: str, step: Callable[[int], None]) -> Iterator[Any]:
    """The JSON values of ``text``, one after another; an array at the top gives its elements."""
    decode = json.JSONDecoder(object_pairs_hook=_unique).raw_decode
    space = _SPACE.match
    at = opened = count = 0
    inside = False
    while True:
        found = space(text, at)
        at = found.end() if found else at
        sign = text[at : at + 1]
        if not sign:
            if inside:
                raise StoreError(f"{_place(text, opened)}: the file ends inside the array that begins here")
            return
        if sign == "[" and not inside:
            inside, opened, at = True, at, at + 1
            continue
        if sign == "]" and inside:
            inside, at = False, at + 1
            continue
        try:
            value, at = decode(text, at)
        except json.JSONDecodeError as error:
            raise StoreError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        except RecursionError as error:
            raise StoreError(f"{_place(text, at)}: nested too deep") from error
        except ValueError as error:
            raise StoreError(f"{_place(text, at)}: {error}") from error
        yield value
        count += 1
        if not count % _STEP:
            step(at)


def _place(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"


__all__ = ["EdnError", "Loaded", "load"]
