"""Files and texts from unknown writers: read only as plain files of bounded size, and shown only as plain text.

A run directory can come from a stranger or from a broken disk. What is in it may be a device, a pipe without a writer,
terabytes of zeros, a value of any type, or a text that moves the cursor.
"""

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.errors import StoreError

MOST_JSON_BYTES = 64 << 20
"""plan.json, load.json and summary.json of a real run have some kilobytes."""
MOST_TEXT = 100_000
"""A text for the terminal is cut after so many characters."""

# Control characters but the newline (C0, DEL, C1), lone surrogates, and marks that hide text or turn its direction.
_UNSHOWN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")


def printable(text: str) -> str:
    """``text`` with every character that a terminal would obey instead of showing it written as an escape, cut short.

    Line ends stay: a text of one line is made so by its author.
    """
    shown = text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + " … (cut)"
    return _UNSHOWN.sub(lambda match: match[0].encode("unicode_escape").decode(), shown)


def one_line(text: str) -> str:
    """``printable`` text in one line."""
    return printable(" ".join(text.split()))


def plain_file_size(path: Path, most_bytes: int) -> int:
    """The size of a plain file. Raises StoreError, which names the file, for anything else and above ``most_bytes``."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {_reason(error)}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is {_kind(found.st_mode)}, not a plain file")
    if found.st_size > most_bytes:
        raise StoreError(f"{path} has {found.st_size:,} bytes, more than a run writes ({most_bytes:,})")
    return found.st_size


def read_plain(path: Path, most_bytes: int) -> bytes:
    """The contents of a plain file. Raises StoreError; never waits for a pipe and never reads more than it may."""
    plain_file_size(path, most_bytes)
    try:
        # What it is may have changed since: without waiting, and asked again.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{path} is not a plain file")
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {_reason(error)}") from error
    if len(data) > most_bytes:
        raise StoreError(f"{path} has more than {most_bytes:,} bytes, more than a run writes")
    return data


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, without NaN or infinite numbers. Raises StoreError, which names the file."""
    try:
        value = json.loads(read_plain(path, MOST_JSON_BYTES), parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise StoreError(f"{path} cannot be read: it is nested too deep") from None
    except ValueError as error:
        raise StoreError(f"{path} cannot be read: {one_line(str(error))}") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path} does not hold a JSON object")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def texts(value: Any) -> list[str]:
    """``value`` as texts: one of its own, or a list of them; nothing if it is anything else."""
    if isinstance(value, str):
        return [value] if value else []
    return [str(text) for text in value] if isinstance(value, list | tuple) else []


def exists(path: Path) -> bool:
    """Whether anything has this name, a link to nothing included."""
    return os.path.lexists(path)


def _no_number(text: str) -> float:
    raise ValueError(f"it holds {text}, which is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:40]}, which is too large")
    return value


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
