"""Files from anywhere before ``loadgen check``: histories cut, torn and mixed up, and things that are none.

``python -m tests.trials.foreign [--count N] [--seed S]``: none gives a traceback, none hangs, none prints what a
terminal would obey, and where operations were lost the answer is not ``valid``.
"""

import argparse
import gzip
import io
import json
import os
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from loadgen.commands.check_files import check_files
from loadgen.commands.export import export
from loadgen.isolation.transactions import HistoryKind
from tests.simulation.stores import Level, Store

SLOW_S = 20.0
"""What takes longer counts as hanging."""
TIME_LIMIT_S = 5.0
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
Damage = Callable[[random.Random, bytes], bytes]


class Trial(NamedTuple):
    """One file: what was done to it, and whether operations of it are gone so that nobody may call it valid."""

    what: str
    raw: bytes
    name: str
    lost: bool = False


def history(rng: random.Random) -> tuple[str, bytes]:
    """A name and a small history of a correct store, in one of the formats that are read."""
    style = rng.choice(["edn", "json", "jsonl", "txt", "bank", "set"])
    kind = rng.choice([HistoryKind.LIST_APPEND, HistoryKind.REGISTER])
    if style in ("bank", "set"):
        return "history.edn", (_bank(rng) if style == "bank" else _set(rng)).encode()
    store = Store(Level.SERIALIZABLE, HistoryKind.REGISTER if style == "txt" else kind, rng.randrange(1 << 30))
    store.run(rng.randint(4, 15))
    out = io.StringIO()
    txns = store.history()
    export(txns, "elle-edn" if style == "edn" else "elle-json", out)
    text = out.getvalue()
    if style == "json":
        text = json.dumps([json.loads(line) for line in text.splitlines()], indent=rng.choice([None, 1]))
    if style == "txt":
        text = "".join(
            f"{'rw'[int(txns.act[mop])]}({txns.key[mop]},{max(0, int(txns.value[mop]))},{txns.session[txn]},{txn})\n"
            for txn in range(txns.count)
            for mop in range(int(txns.start[txn]), int(txns.start[txn + 1]))
            if txns.outcome[txn] == 0
        )
    return f"history.{style}", text.encode()


def _both(process: int, f: str, asked: str, answer: str) -> str:
    return (
        f"{{:type :invoke :process {process} :f :{f} :value {asked}}}\n"
        f"{{:type :ok :process {process} :f :{f} :value {answer}}}\n"
    )


def _bank(rng: random.Random) -> str:
    balance, told = [10, 10, 10], ""
    for _ in range(8):
        one, two = rng.sample(range(3), 2)
        move = f"{{:from {one} :to {two} :amount 1}}"
        balance[one] -= 1
        balance[two] += 1
        shown = " ".join(f"{account} {amount}" for account, amount in enumerate(balance))
        told += _both(one, "transfer", move, move) + _both(4, "read", "nil", f"{{{shown}}}")
    return told


def _set(rng: random.Random) -> str:
    return "".join(_both(0, "add", f"{n}", f"{n}") for n in range(6)) + _both(1, "read", "nil", "#{0 1 2 3 4 5}")


def cut(rng: random.Random, raw: bytes) -> bytes:
    """The end is gone."""
    return raw[: rng.randrange(len(raw))]


def flip(rng: random.Random, raw: bytes) -> bytes:
    """Some bytes are others."""
    made = bytearray(raw)
    for _ in range(rng.randint(1, 8)):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)


def without(rng: random.Random, raw: bytes) -> bytes:
    """A piece in the middle is gone."""
    begin = rng.randrange(len(raw))
    return raw[:begin] + raw[begin + rng.randint(1, 60) :]


def lines_gone(rng: random.Random, raw: bytes) -> bytes:
    """Lines are gone."""
    return b"".join(line for line in raw.splitlines(keepends=True) if rng.random() > 0.1)


def lines_twice(rng: random.Random, raw: bytes) -> bytes:
    """Lines stand there twice."""
    return b"".join(line * (1 + (rng.random() < 0.1)) for line in raw.splitlines(keepends=True))


def shuffled(rng: random.Random, raw: bytes) -> bytes:
    """Lines in another order."""
    lines = raw.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


STRANGE = (
    *(b"NaN", b"##NaN", b"-Infinity", b"1e999", b"9" * 5000, b"99999999999999999999", b"-1", b"1.5", b"null", b"nil"),
    *(b'"\\u001b[31m"', b'"\x1b]0;x\x07"', b"\xff\xfe", b"\x00", b'"\\ud800"', b'"', b"[[[[", b"}", b"{}", b"#_", b"^"),
    *(b'{"a": {"b": []}}', b":a/b", b'"nemesis"', b":nemesis", b"'" * 9, b"\\", b"[]", b"true"),
)


def strange(rng: random.Random, raw: bytes) -> bytes:
    """A value is another, of another type."""
    values = list(re.finditer(rb"-?\d+|null|nil|\"\w+\"|:\w+", raw)) or list(re.finditer(rb".", raw))
    made = raw
    for match in sorted(rng.sample(values, min(len(values), rng.randint(1, 3))), key=re.Match.start, reverse=True):
        made = made[: match.start()] + rng.choice(STRANGE) + made[match.end() :]
    return made


def mixed(rng: random.Random, raw: bytes) -> bytes:
    """Two histories in one file."""
    return raw + history(rng)[1]


def packed(rng: random.Random, raw: bytes) -> bytes:
    """A gzip file, whole, cut or flipped."""
    return rng.choice([lambda r, each: each, cut, flip])(rng, gzip.compress(raw))


def nested(rng: random.Random, raw: bytes) -> bytes:
    """Nested without end."""
    return rng.choice([b"[", b'{"a":', b"{:a ", b"#_", b"(", b"#{", b"^"]) * 200_000 + raw


DAMAGES: tuple[Damage, ...] = (
    cut, flip, without, lines_gone, lines_twice, shuffled, strange, mixed, packed, nested,
)  # fmt: skip
_NONE = (
    *(b"", b"\n\n", b"\x00" * 100, b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf", b"JEPSEN\x00\x01", b"\x28\xb5\x2f\xfd00"),
    *(b"hello", b"{:valid? true}", b'{"history": 3}', b"[1 2 3]", b"r(1,2,3", b"\x1f\x8b", b"{}", b"[[[]]]"),
    *(b"PK\x03\x04", b"\xac\xed\x00\x05sr"),
)


def trial(seed: int) -> Trial:
    """The file of one seed."""
    rng = random.Random(seed)
    if rng.random() < 0.04:
        return Trial("none", rng.choice(_NONE) + rng.randbytes(rng.choice([0, 0, 50])), "history")
    name, raw = history(rng)
    if rng.random() < 0.15:
        return _one_line_lost(rng)
    damage = rng.choice(DAMAGES)
    return Trial(damage.__name__, damage(rng, raw), rng.choice([name, "history"]))


def _one_line_lost(rng: random.Random) -> Trial:
    """A line of a history is gone, and by index or by what is left without its other half it is seen to be."""
    store = Store(Level.SERIALIZABLE, HistoryKind.LIST_APPEND, rng.randrange(1 << 30))
    store.run(12, lost=0.0)
    out = io.StringIO()
    export(store.history(), rng.choice(["elle-edn", "elle-json"]), out)
    lines = out.getvalue().splitlines()
    del lines[rng.randrange(len(lines) - 8)]
    return Trial("one line lost", "\n".join(lines).encode(), "history", lost=True)


def tried(case: Trial, folder: Path) -> tuple[int, str]:
    """The exit code of one file, and what is wrong with how it was taken."""
    path = folder / case.name
    path.write_bytes(case.raw)
    out, errors = io.StringIO(), io.StringIO()
    begin = time.monotonic()
    try:
        code = check_files([path], None, None, False, TIME_LIMIT_S, out, errors)
    except Exception as error:  # noqa: BLE001  Whatever it is, it is what this trial looks for.
        return -1, f"{type(error).__name__}: {error}"
    finally:
        path.unlink()
    if code not in (0, 2, 4, 5):
        return code, f"exit code {code}"
    if time.monotonic() - begin > SLOW_S:
        return code, f"took {time.monotonic() - begin:.0f} s"
    if RAW.search(out.getvalue() + errors.getvalue()):
        return code, "prints what a terminal would obey"
    if case.lost and code == 0:
        return code, f"valid, though operations were lost: {out.getvalue()[:300]}"
    return code, ""


def not_files(folder: Path) -> dict[str, Path]:
    """Things that are no plain files, by what they are."""
    made = {name: folder / name for name in ("pipe", "folder", "socket", "loop", "gone", "broken", "locked")}
    os.mkfifo(made["pipe"])
    made["folder"].mkdir()
    with suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(made["socket"]))
    made["loop"].symlink_to(made["loop"])
    made["broken"].symlink_to(folder / "nothing")
    made["locked"].touch(mode=0)
    return {**made, "zero": Path("/dev/zero"), "null": Path("/dev/null"), "long": folder / ("x" * 300)}


def main() -> int:
    """Try them all, print the counts, and exit 1 if any was taken wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts, wrong = Counter[str](), 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for seed in range(given.seed, given.seed + given.count):
            case = trial(seed)
            code, complaint = tried(case, Path(name))
            counts[f"exit {code}"] += 1
            if complaint:
                wrong += 1
                sys.stdout.write(f"seed {seed}, {case.what}: {complaint}\n")
        for what, path in not_files(Path(name)).items():
            code = check_files([path], out=io.StringIO(), errors=io.StringIO())
            if code != 2:
                wrong += 1
                sys.stdout.write(f"{what}: exit {code}\n")
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    sys.stdout.write(f"{given.count} files: {told}; {wrong} wrong; {time.monotonic() - begin:.0f} s\n")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
