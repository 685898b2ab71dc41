"""Servers as child processes: started, watched, stopped and reaped, each in a private directory that is removed with
it.

A server must never outlive the run, however the run ends. It has its own process session, so Ctrl-C does not reach it.
The kernel signals it when the thread that started it ends, so it ends even after SIGKILL. Servers must therefore be
started in the main thread. The next run removes what such an end leaves on disk.
"""

import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadgen.errors import ClusterError

POLL_S = 0.02
KILLED_WITHIN_S = 5.0
"""How long after SIGKILL a process may take to be gone: longer means that the kernel holds it (a hung disk)."""
KEPT_MOST = 3
"""How many servers' data that were kept because of a violation may stay."""
ACCOUNTS = ("postgres", "nobody", "daemon")
"""Whom root runs a server as that refuses root: the first that exists. The password and the 0700 directory keep
others out, so it need not be an account of its own; one without an entry in passwd would not do (initdb asks)."""
LAST_BYTES = 8192
LINE_LENGTH = 240
"""How much of a log a message shows: that of its end, and that of each line."""
_LOCK, _KEPT = "in-use", "kept"
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """A system user to run a server as."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Whom to run a server as that refuses to run as root: None (ourselves) unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid:
                return Account(name, entry.pw_uid, entry.pw_gid)
    raise ClusterError(f"the server refuses to run as root, and none of the users {', '.join(ACCOUNTS)} exists here")


class ServerProcess:
    """One server process and its group. ``death_signal`` is what it gets if we die."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        title: str,
        log: Path,
        cwd: Path,
        account: Account | None = None,
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        alone_in: Path | None = None,
    ) -> None:
        """Start ``command``, its output appended to ``log``. Raises ClusterError if it cannot be started.

        ``alone_in`` is a directory that this server's processes work in, and no others of its program.
        """
        self.title = title
        self._log = log
        self._program = Path(command[0])
        self._alone_in = alone_in
        self._stopped = False
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=None if environment is None else dict(environment),
                    start_new_session=True,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                    preexec_fn=_dies_with(os.getpid(), death_signal),
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise ClusterError(f"cannot start {title} ({command[0]}): {error}") from error

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's and session's."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it runs. Only ``stop`` reaps it: until then its id, and its group's, can't become another's."""
        if self._stopped:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            # Reaped by another: gevent, where it has patched this process, reaps every child.
            return False

    def wait_until(self, ready: Callable[[], bool], *, within_s: float) -> None:
        """Return once ``ready`` answers true. Raises ClusterError, with the log's last lines, if that never comes."""
        deadline = time.monotonic() + within_s
        while not ready():
            if not self.alive():
                raise ClusterError(f"{self.title} ended while it was starting: {last_words(self._log)}")
            if time.monotonic() > deadline:
                raise ClusterError(f"{self.title} was not ready within {within_s:g} s: {last_words(self._log)}")
            time.sleep(POLL_S)

    def wait_end(self, *, within_s: float) -> None:
        """Return when it has ended well. Raises ClusterError, with the log's last lines, if it failed or still runs."""
        self.wait_until(lambda: not self.alive(), within_s=within_s)
        self._stopped = True
        if self._process.wait():
            raise ClusterError(f"{self.title} failed: {last_words(self._log)}")

    def stop(self, escalation: Iterable[tuple[signal.Signals, float]] = ()) -> None:
        """Send each signal and wait as many seconds; at last kill its whole family and reap. Idempotent.

        The family is more than the group: each of PostgreSQL's processes has a session of its own. A stopped process
        (SIGSTOP) is continued first, because it could not end in order.
        """
        if self._stopped:
            return
        family, escalation = self._family(), tuple(escalation)
        for process in family if escalation else ():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
        for signal_number, grace_s in escalation:
            if not self.alive():
                break
            os.kill(self.pid, signal_number)
            self._gone(grace_s)
        family |= self._family()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _kill(family)
        gone = self._gone(KILLED_WITHIN_S)
        _kill(self._family())  # what was forked in between
        if not gone:
            raise ClusterError(f"{self.title} (process {self.pid}) does not end, even after SIGKILL")
        self._stopped = True
        self._process.wait()

    def _family(self) -> set[psutil.Process]:
        """It and its descendants, and what it left in its directory if it has died."""
        found: set[psutil.Process] = set()
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            found = {process, *process.children(recursive=True)}
        return found | (_running(self._program, self._alone_in) if self._alone_in is not None else set())

    def _gone(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def last_words(log: Path, lines: int = 5) -> str:
    """The last lines of a log on one line, or where to look for them."""
    try:
        written = log.read_bytes()
    except OSError:
        written = b""
    text = written[-LAST_BYTES:].decode(errors="replace").strip().splitlines()
    whole = text[1:] if len(written) > LAST_BYTES and len(text) > 1 else text
    return one_line(whole[-lines:]) or f"see {log}"


def one_line(lines: Iterable[str]) -> str:
    """Lines of a log on one line, each no longer than a person reads: some servers print stacks, or all settings."""
    words = [line.strip() for line in lines if line.strip()]
    return " | ".join(line if len(line) <= LINE_LENGTH else f"{line[:LINE_LENGTH]} ..." for line in words)


def reachable(path: Path, account: Account | None) -> bool:
    """Whether ``account`` may read and enter ``path`` and enter every directory above it."""
    if account is None:
        return True
    return _allowed(path, account, 0o5) and all(_allowed(parent, account, 0o1) for parent in path.resolve().parents)


def fresh_directory(prefix: str, account: Account | None = None, *, most_bytes: int = 107) -> "PrivateDirectory":
    """A new 0700 directory of ``account`` under the system's temporary one; its path has ``most_bytes`` at most.

    Removes what earlier runs of ``prefix`` left there that ended without the chance to. Raises ClusterError.
    """
    candidates = dict.fromkeys(Path(base) for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"))
    for base in candidates:
        if len(os.fsencode(base)) + len(prefix) + 10 > most_bytes or not reachable(base, account):
            continue
        with suppress(OSError):
            _sweep(base, prefix, account)
            path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=base))
            if account is not None:
                os.chown(path, account.uid, account.gid)
            return PrivateDirectory(path, prefix)
    raise ClusterError(
        f"no directory for the server's data: {', '.join(map(str, candidates))} can't be written to, "
        f"{f'or not be entered by the user {account.name}, ' if account else ''}or have too long a name (set TMPDIR)"
    )


class PrivateDirectory:
    """A server's directory: gone with the run unless it is kept. While it is in use, a lock in it says so."""

    def __init__(self, path: Path, prefix: str) -> None:
        self.path = path
        self._prefix = prefix
        self._lock = (path / f"{_LOCK}.new").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Under its own name only once it is held: a sweep by another run takes an unheld one for a leftover.
        (path / f"{_LOCK}.new").rename(path / _LOCK)

    def remove(self) -> None:
        """Remove it with all that is in it. Idempotent."""
        # A server that was just killed may still be writing for a moment.
        for _ in range(50):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
            time.sleep(POLL_S)
        self._lock.close()

    def keep(self, *, always: bool) -> None:
        """Leave it. Unless ``always``, it stays only while it is among the newest few that were kept like it."""
        with suppress(OSError):
            (self.path / _LOCK).unlink()
            if not always:
                (self.path / _KEPT).touch()
        self._lock.close()
        if not always:
            marks = sorted(self.path.parent.glob(f"{self._prefix}-*/{_KEPT}"), key=_age)
            for mark in marks[KEPT_MOST:]:
                if _is_ours(mark.parent, self.path.stat().st_uid):
                    shutil.rmtree(mark.parent, ignore_errors=True)


def filesystem_of(path: Path) -> str:
    """The type of the file system of ``path``. It decides what an fsync costs, and whether it is durable."""
    device = path.stat().st_dev
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[2] == f"{os.major(device)}:{os.minor(device)}":
                return after.split()[0]
    return "unknown"


def _running(program: Path, directory: Path) -> set[psutil.Process]:
    """The processes that run ``program`` and work in ``directory`` or below it."""
    found: set[psutil.Process] = set()
    with suppress(OSError):
        file, below = program.resolve(strict=True), directory.resolve(strict=True)
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(process.exe()).samefile(file) and Path(process.cwd()).is_relative_to(below):
                    found.add(process)
    return found


def _kill(family: Iterable[psutil.Process]) -> None:
    for process in family:
        with suppress(psutil.Error):
            process.kill()


def _dies_with(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    # Runs in the child after it has changed its user: a change of user would clear the signal again.
    def arrange() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def _allowed(path: Path, account: Account, bits: int) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    shift = 6 if facts.st_uid == account.uid else 3 if facts.st_gid == account.gid else 0
    return (stat.S_IMODE(facts.st_mode) >> shift) & bits == bits


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _is_ours(path: Path, owner: int) -> bool:
    facts = path.lstat()
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == owner


def _sweep(base: Path, prefix: str, account: Account | None) -> None:
    for mark in base.glob(f"{prefix}-*/{_LOCK}"):
        with suppress(OSError):
            if not _is_ours(mark.parent, account.uid if account else os.geteuid()):
                continue
            with mark.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
