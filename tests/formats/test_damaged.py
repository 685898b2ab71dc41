"""Files of other tools that are damaged, packed, of another format, or no files at all."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.commands.check_files import check_files
from loadgen.formats.reading import Watch
from loadgen.isolation.graph import Deadline
from tests.trials.foreign import not_files, trial, tried

SAMPLE = 100
GOOD = '{"type": "ok", "process": 0, "f": "txn", "value": [["append", "x", 1]]}\n'


@pytest.mark.parametrize("tenth", range(10))
def test_damaged_files_are_judged_or_refused(tmp_path: Path, tenth: int) -> None:
    """No traceback, no hang, nothing raw on the terminal, and no ``valid`` where something was lost."""
    wrong = {}
    for seed in range(tenth, SAMPLE, 10):
        case = trial(seed)
        complaint = tried(case, tmp_path)[1]
        if complaint:
            wrong[seed] = (case.what, complaint)

    assert wrong == {}


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Pipes, devices, sockets, loops, folders: in one line each, at once."""
    for what, path in not_files(tmp_path).items():
        errors = io.StringIO()
        assert check_files([path], out=io.StringIO(), errors=errors) == 2, what
        assert errors.getvalue().count("\n") == 1, what


def _checked(path: Path) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    return check_files([path], out=out, errors=errors), out.getvalue(), errors.getvalue()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"JEPSEN\x00\x00\x00\x01", "give history.edn"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd -d"),
        (b"\xfd7zXZ\x00\x00", "xz -d"),
        (b"PK\x03\x04\x14\x00", "unzip"),
        (GOOD.encode("utf-16"), "iconv"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "damaged or cut off"),
        (b"\x01\x00\x00\x00\x80", "binary"),
        (b'{"valid?": true, "count": 3}', "give the list of operations"),
        (b"{:valid? true}", "give the list of operations"),
    ],
)
def test_other_formats_are_named_with_what_to_do(tmp_path: Path, raw: bytes, told: str) -> None:
    """Binary, packed and wrapped files."""
    path = tmp_path / "test.jepsen"
    path.write_bytes(raw)
    code, _, errors = _checked(path)

    assert code == 2
    assert told in errors


def test_gzip_and_a_wrapped_history_are_read(tmp_path: Path) -> None:
    """As what is in them."""
    (tmp_path / "history.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()))
    (tmp_path / "wrapped.json").write_text(json.dumps({"name": "x", "history": [json.loads(GOOD)]}))

    assert _checked(tmp_path / "history.jsonl.gz")[0] == 0
    assert _checked(tmp_path / "wrapped.json")[0] == 0


@pytest.mark.parametrize("name", ["history.edn", "history.edn.gz", "latest/history.edn"])
def test_store_folder_of_jepsen_is_found_by_its_history(tmp_path: Path, name: str) -> None:
    """By the command too, without a model."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    raw = b"{:type :ok :process 0 :f :txn :value [[:append :x 1]]}"
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    (tmp_path / "test.jepsen").write_bytes(b"JEPSEN")
    command = [sys.executable, "-m", "loadgen", "check", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert run.returncode == 0, run.stderr
    assert "read as list-append" in run.stdout


def test_store_folder_without_a_history_is_named(tmp_path: Path) -> None:
    """And so is a folder of nothing."""
    assert "holds no history" in _checked(tmp_path)[2]
    (tmp_path / "test.jepsen").write_bytes(b"JEPSEN")
    assert "store folder of Jepsen without its history.edn" in _checked(tmp_path)[2]


@pytest.mark.parametrize(
    ("name", "line"), [("h.jsonl", GOOD), ("h.edn", "{:type :ok :value []}\n"), ("h.txt", "r(1,0,1,1)\n")]
)
def test_reading_counts_in_the_time_limit(tmp_path: Path, name: str, line: str) -> None:
    """A file that takes longer to read is unknown, with the reason."""
    path = tmp_path / name
    path.write_text(line * 50_000)
    out = io.StringIO()

    assert check_files([path], "serializable", time_limit_s=0, out=out) == 5
    assert "time limit of 0 s was over before the history was read" in out.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_reading_is_told_on_the_terminal_and_taken_away(tmp_path: Path) -> None:
    """One line that is written over; nothing else gets it."""
    for stream, shown in ((_Terminal(), "\rreading 'h.edn': 50 %\x1b[K\r\x1b[K"), (io.StringIO(), "")):
        watch = Watch(tmp_path / "h.edn", Deadline.after(60), stream)
        watch._next -= 5
        watch.of(200)(100)
        watch.done()
        assert stream.getvalue() == shown
