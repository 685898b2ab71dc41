"""The text of a file from any source, or an error that says what the file is and what to do with it.

Only plain files of bounded size are read. While a large file is read, a line on standard error shows the progress.
"""

import gzip
import io
import os
import stat
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil

from loadgen.errors import StoreError
from loadgen.isolation.graph import Deadline

MOST_BYTES = 8 << 30
"""A larger file is refused; so is one of more than a quarter of the memory that is free."""
_SORTS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a directory"),
)
_JEPSEN = "Jepsen's own binary format: give history.edn or history.txt of the same store folder"
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"JEPSEN", _JEPSEN),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first (zstd -d)"),
    (0, b"\xfd7zXZ\x00", "compressed by xz: unpack it first (xz -d)"),
    (0, b"BZh", "compressed by bzip2: unpack it first (bunzip2)"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4: unpack it first (lz4 -d)"),
    (0, b"PK\x03\x04", "a zip archive: unpack it first (unzip) and give the history in it"),
    (257, b"ustar", "a tar archive: unpack it first (tar -x) and give the history in it"),
    (0, b"PAR1", "a Parquet file: write the operations as JSON lines first"),
    (0, b"ARROW1", "an Arrow file, but no history of loadgen: write the operations as JSON lines first"),
    (0, b"SQLite format 3\x00", "a SQLite database: write the operations as JSON lines first"),
    (0, b"\xac\xed\x00\x05", "Java objects: write the operations as JSON lines or EDN first"),
    (0, b"\x7fELF", "a program, not a history"),
    (0, b"\x89PNG", "an image, not a history"),
    (0, b"%PDF", "a PDF, not a history"),
    (0, b"\xff\xfe", "text in UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)"),
    (0, b"\xfe\xff", "text in UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)"),
)
_GZIP = b"\x1f\x8b"
_EVERY_S = 1.0
"""How often progress is printed to a terminal. Anything that is not a terminal gets it a tenth as often."""


class Watch:
    """Watches the reading of one file: the time limit and the progress line."""

    def __init__(self, path: Path, deadline: Deadline, errors: TextIO | None = None) -> None:
        self.deadline = deadline
        self._name = path.name
        self._errors = errors
        self._terminal = errors is not None and errors.isatty()
        self._every_s = _EVERY_S if self._terminal else 10 * _EVERY_S
        self._next = time.monotonic() + self._every_s
        self._shown = False

    def of(self, whole: int) -> Callable[[int], None]:
        """What readers call with their place among ``whole``. Raises TimeLimitError when the time is over."""

        def step(at: int) -> None:
            self.deadline.check()
            self.say(f"reading {self._name!a}: {100 * at // max(1, whole)} %")

        return step

    def say(self, what: str) -> None:
        """Print ``what`` if a progress message is due."""
        now = time.monotonic()
        if self._errors is None or now < self._next:
            return
        self._next = now + self._every_s
        self._shown = self._terminal
        self._errors.write(f"\r{what}\x1b[K" if self._terminal else f"loadgen check: {what}\n")
        self._errors.flush()

    def done(self) -> None:
        """Take the line away."""
        if self._shown and self._errors is not None:
            self._errors.write("\r\x1b[K")
            self._errors.flush()
            self._shown = False


def read_bytes(path: Path) -> bytes:
    """The bytes of a plain file, unpacked if it is gzip. Raises StoreError, which says what the file is instead."""
    try:
        # A pipe without a writer would keep us waiting; of what is no plain file nothing is read.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno())
            for is_sort, name in _SORTS:
                if is_sort(mode.st_mode):
                    raise StoreError(f"{path} is {name}, not a file: write the history to a file first")
            most = min(MOST_BYTES, psutil.virtual_memory().available // 4)
            if mode.st_size > most:
                raise StoreError(f"{path} is too large to read: {mode.st_size >> 20} MiB, at most {most >> 20} MiB")
            raw = file.read(most + 1)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise StoreError(f"cannot read {str(path)!r}: {error}") from error
    if raw.startswith(_GZIP):
        raw = _unpacked(path, raw, most)
    if len(raw) > most:
        raise StoreError(f"{path} is too large to read: more than {most >> 20} MiB")
    return raw


def _unpacked(path: Path, raw: bytes, most: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            return packed.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise StoreError(f"{path} is gzip, but damaged or cut off: {error}") from error


def read_text(path: Path, raw: bytes) -> str:
    """``raw`` as text. Raises StoreError where it is something else, saying what it is and what to do."""
    for at, magic, what in _MAGIC:
        if raw[at : at + len(magic)] == magic:
            raise StoreError(f"{path} is {what}")
    if path.name.removesuffix(".gz").endswith(".fressian"):
        raise StoreError(f"{path} is fressian, {_JEPSEN}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        sort = "binary, of a format that is not known" if b"\x00" in raw[:4096] else "not text in UTF-8"
        raise StoreError(f"{path} is {sort}: byte {error.start} is {raw[error.start]:#04x}") from error
    if "\x00" in text[:4096]:
        raise StoreError(f"{path} is binary, in an unknown format: it holds zero bytes")
    if not text.strip():
        raise StoreError(f"{path} is empty")
    return text
