"""Server processes: watched while they start, stopped whatever they do, and their directories gone with them."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadgen.clusters.process import (
    KEPT_MOST,
    Account,
    ServerProcess,
    filesystem_of,
    fresh_directory,
    last_words,
    reachable,
)
from loadgen.errors import ClusterError

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


def server(tmp_path: Path, script: str, **options: object) -> ServerProcess:
    """A shell script as a server."""
    return ServerProcess(
        ["/bin/sh", "-c", script],
        title="the server",
        log=tmp_path / "log",
        cwd=tmp_path,
        **options,  # type: ignore[arg-type]
    )


def said(tmp_path: Path, text: str) -> bool:
    """Whether the server has said ``text``."""
    return text in (tmp_path / "log").read_text()


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process, of ours or not, ends soon; one that nobody reaps counts as ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
    return False


def test_process_that_is_ready_is_returned_to(tmp_path: Path) -> None:
    """Its output is in the log, and it runs in a session of its own."""
    process = server(tmp_path, "echo ready; exec sleep 60")
    process.wait_until(lambda: said(tmp_path, "ready"), within_s=5)

    assert process.alive()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.stop()
    assert not process.alive()
    assert gone(process.pid)


def test_process_that_ends_while_starting_tells_its_last_words(tmp_path: Path) -> None:
    """The log's last lines are in the error, on one line."""
    process = server(tmp_path, "echo one; echo two; exit 3")
    with pytest.raises(ClusterError, match=r"the server ended while it was starting: one \| two"):
        process.wait_until(lambda: False, within_s=5)
    process.stop()


def test_process_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """After its time, and it can still be stopped."""
    process = server(tmp_path, "exec sleep 60")
    with pytest.raises(ClusterError, match=r"not ready within 0\.1 s"):
        process.wait_until(lambda: False, within_s=0.1)
    process.stop()
    assert gone(process.pid)


def test_process_that_cannot_be_started_is_a_cluster_error(tmp_path: Path) -> None:
    """No traceback for a missing binary."""
    with pytest.raises(ClusterError, match="cannot start it"):
        ServerProcess(["/nowhere/server"], title="it", log=tmp_path / "log", cwd=tmp_path)


def test_process_that_ignores_the_first_signal_is_killed_with_its_group(tmp_path: Path) -> None:
    """Escalation ends in SIGKILL for the whole group, children included."""
    process = server(tmp_path, f"sleep 1000 & echo child=$!; {STUBBORN}")
    process.wait_until(lambda: said(tmp_path, "ready"), within_s=5)
    child = int((tmp_path / "log").read_text().split("child=")[1].split()[0])
    process.stop([(signal.SIGTERM, 0.2)])
    process.stop()

    assert gone(process.pid)
    assert gone(child)


def test_processes_that_somebody_stopped_end_too(tmp_path: Path) -> None:
    """Those with sessions of their own, as PostgreSQL's have."""
    child = f"{sys.executable} -c 'import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(1000)'"
    process = server(tmp_path, f"{child} & {child} & wait")
    process.wait_until(lambda: (tmp_path / "log").read_text().count("\n") == 2, within_s=10)
    children = [int(line) for line in (tmp_path / "log").read_text().split()]
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    process.stop([(signal.SIGTERM, 0.2)])

    assert all(map(gone, children))


def test_server_that_is_stopped_itself_ends_in_order(tmp_path: Path) -> None:
    """It is let go on first, so that it can do what it does at its end."""
    process = server(tmp_path, "trap 'echo orderly; exit' TERM; echo ready; while :; do sleep 0.1; done")
    process.wait_until(lambda: said(tmp_path, "ready"), within_s=5)
    os.kill(process.pid, signal.SIGSTOP)
    process.stop([(signal.SIGTERM, 5.0)])

    assert said(tmp_path, "orderly")


def test_process_that_fails_is_told_from_one_that_ends_well(tmp_path: Path) -> None:
    """For tools that run to their end."""
    good = server(tmp_path, "exit 0")
    good.wait_end(within_s=5)
    good.stop()
    bad = server(tmp_path, "echo wrong; exit 1")
    with pytest.raises(ClusterError, match="the server failed: wrong"):
        bad.wait_end(within_s=5)
    bad.stop()


def test_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    """Even where that one is killed and can do nothing more."""
    code = f"""
import sys, time
from pathlib import Path
from loadgen.clusters.process import ServerProcess
process = ServerProcess(["/bin/sleep", "1000"], title="it", log=Path({str(tmp_path / "log")!r}), cwd=Path("/"))
print(process.pid, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert gone(pid)


def test_directory_is_private_and_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody else may enter, and nothing is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = fresh_directory("loadgen-try")
    (directory.path / "data").mkdir()

    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert directory.path.parent == tmp_path
    directory.remove()
    directory.remove()
    assert not directory.path.exists()


def test_directory_of_a_run_that_died_is_swept_and_others_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A lock that nobody holds marks a leftover; one in use, one that is kept and one of another's name stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    in_use, kept, died = (fresh_directory("loadgen-try") for _ in range(3))
    other = fresh_directory("loadgen-other")
    kept.keep(always=True)
    died._lock.close()

    fresh_directory("loadgen-try").remove()

    assert not died.path.exists()
    assert in_use.path.exists()
    assert kept.path.exists()
    assert other.path.exists()


def test_directories_that_are_kept_are_the_newest_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that the user asked to keep are not counted and stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked_for = fresh_directory("loadgen-try")
    asked_for.keep(always=True)
    kept = []
    for age in range(KEPT_MOST + 2):
        directory = fresh_directory("loadgen-try")
        directory.keep(always=False)
        os.utime(directory.path / "kept", (1000 + age, 1000 + age))
        kept.append(directory.path)
    last = fresh_directory("loadgen-try")
    last.keep(always=False)

    left = [path for path in kept if path.exists()]
    assert left == kept[-(KEPT_MOST - 1) :]
    assert last.path.exists()
    assert asked_for.path.exists()


def test_directory_with_too_long_a_name_is_made_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket's path is bounded by the kernel."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    directory = fresh_directory("loadgen-try", most_bytes=90)

    assert len(str(directory.path)) <= 90
    directory.remove()


def test_reach_needs_every_directory_above(tmp_path: Path) -> None:
    """A path under a closed directory is out of reach, whatever its own mode."""
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    inside.chmod(0o755)
    closed.chmod(0o700)
    stranger = Account("stranger", 54321, 54321)

    assert not reachable(inside, stranger)
    assert reachable(inside, Account("owner", os.geteuid(), os.getegid()))
    assert reachable(inside, None)
    assert reachable(Path("/usr/bin"), stranger)


def test_filesystem_of_a_path_has_a_name() -> None:
    """What an fsync costs depends on it."""
    assert filesystem_of(Path("/proc")) == "proc"


def test_last_words_are_whole_lines_that_can_be_read(tmp_path: Path) -> None:
    """A server that logs all its settings, and a stack: the end of neither hides what it said between them."""
    log = tmp_path / "server.log"
    log.write_text("settings " + "x" * 20_000 + "\nno space left\nfatal: " + "stack " * 1_000 + "\n")

    words = last_words(log)
    assert words.startswith("no space left | fatal: stack ")
    assert len(words) < 300


def test_last_words_of_no_log_say_where_it_would_be(tmp_path: Path) -> None:
    """An empty log helps nobody."""
    assert last_words(tmp_path / "none") == f"see {tmp_path / 'none'}"
