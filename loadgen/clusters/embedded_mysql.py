"""MySQL as a process of ours: a ``mysqld`` found on this machine (loadgen/clusters/binaries.py), on a private socket.

It opens no port, and asks for a random password. Its durability is MySQL's own default: the redo log and the binary
log are flushed at each commit.
"""

import os
import secrets
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

from loadgen.clusters.binaries import SERVER_BINARIES, TEMPLATE, need_binary
from loadgen.clusters.cluster import Place, connections_of
from loadgen.clusters.process import (
    Account,
    ServerProcess,
    filesystem_of,
    fresh_directory,
    reachable,
    unprivileged_account,
)
from loadgen.engines.engine import Address, Engine
from loadgen.errors import ClusterError
from loadgen.plan import Plan

PREFIX = "loadgen-mysql"
SOCKET = "sql.sock"
MOST_SOCKET_BYTES = 107 - len(f"/{SOCKET}")
INITIALIZED_WITHIN_S = 90.0
READY_WITHIN_S = 60.0
KEEPING = ((signal.SIGTERM, 30.0),)


def settings(plan: Plan) -> dict[str, str]:
    """The server's settings, for its command line and for the record."""
    return {
        "skip_networking": "ON",
        "mysqlx": "OFF",
        "secure_file_priv": "NULL",
        "max_connections": str(connections_of(plan)),
    }


class EmbeddedMysql:
    """One running MySQL server and its directory."""

    replicas: tuple[Address, ...] = ()

    def __init__(self, plan: Plan, place: Place, engine: Engine) -> None:
        """Start the server and wait until it answers. Raises ClusterError; leaves nothing then."""
        self._plan = plan
        self._log = place.logs / "mysql.log"
        self._stopped = False
        self._kept = ""
        self._program = need_binary(SERVER_BINARIES["mysql"], forks=plan.allow_unknown_engine)
        self._account = _account(self._program)
        self._directory = fresh_directory(PREFIX, self._account, most_bytes=MOST_SOCKET_BYTES)
        self._process: ServerProcess | None = None
        path = self._directory.path
        self.address = Address(host="", user="root", password=secrets.token_hex(24), socket=str(path / SOCKET))
        try:
            place.say(f"starting MySQL in {path}")
            self._make_data()
            initial = self._write_secrets()
            self._process = self._spawn([*self._command(), f"--init-file={initial}"], "MySQL")
            self._process.wait_until(lambda: self._answers(engine), within_s=READY_WITHIN_S)
            initial.unlink()
        except BaseException:
            self.stop(keep=False)
            raise

    def facts(self) -> dict[str, Any]:
        """What the server is, and how a person gets in. The password is in the directory's file ``client.cnf``."""
        path = self._directory.path
        client = self._program.with_name("mysql")
        return {
            "provider": "embedded",
            "nodes": 1,
            "data": str(path / "data"),
            "filesystem": filesystem_of(path),
            "processes": [self._process.pid] if self._process else [],
            "user": self._account.name if self._account else "",
            "program": str(self._program),
            "settings": settings(self._plan),
            "connect": f"{client if client.is_file() else 'mysql'} --defaults-file={path}/client.cnf loadgen",
        }

    def stop(self, *, keep: bool) -> str:
        """Stop the server. With ``keep`` the data stays, and the answer is the command that starts it again."""
        if self._stopped:
            return self._kept
        self._stopped = True
        if self._process is not None:
            # Data that goes needs no orderly end.
            self._process.stop(KEEPING if keep else ())
            self._process = None
        if not keep:
            self._directory.remove()
            return ""
        self._directory.keep(always=self._plan.keep)
        command = shlex.join(map(str, self._command()))
        self._kept = f"runuser -u {shlex.quote(self._account.name)} -- {command}" if self._account else command
        return self._kept

    def _make_data(self) -> None:
        data = self._directory.path / "data"
        template = self._program.parent / TEMPLATE
        if template.is_dir():
            try:
                shutil.copytree(template, data)
            except OSError as error:
                raise ClusterError(
                    f"cannot create MySQL's data directory in {data} "
                    f"({shutil.disk_usage(data.parent).free >> 20} MB are free): set TMPDIR to a directory "
                    "with more space"
                ) from error
            if self._account is not None:
                for path in (data, *data.rglob("*")):
                    os.chown(path, self._account.uid, self._account.gid)
            return
        make = self._spawn([*self._command(), "--initialize-insecure"], "mysqld --initialize")
        try:
            make.wait_end(within_s=INITIALIZED_WITHIN_S)
        finally:
            make.stop()

    def _write_secrets(self) -> Path:
        """The file for a person's client, and the statements that the server runs before it accepts connections."""
        path, password = self._directory.path, self.address.password
        initial = path / "initial.sql"
        client = f"[client]\nuser=root\npassword={password}\nsocket={self.address.socket}\n"
        statement = f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n"
        for file, text in ((path / "client.cnf", client), (initial, statement)):
            file.touch(mode=0o600)
            file.write_text(text)
        if self._account is not None:
            os.chown(initial, self._account.uid, self._account.gid)
        return initial

    def _command(self) -> list[str | Path]:
        path = self._directory.path
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings(self._plan).items()]
        if os.geteuid() == 0 and self._account is None:
            options.append("--user=root")  # it refuses to be root unless it is told to
        return [
            self._program,
            "--no-defaults",
            f"--datadir={path / 'data'}",
            f"--socket={self.address.socket}",
            f"--pid-file={path / 'data' / 'mysqld.pid'}",
            *options,
        ]

    def _spawn(self, command: list[str | Path], title: str) -> ServerProcess:
        return ServerProcess(
            command,
            title=title,
            log=self._log,
            cwd=self._directory.path,
            account=self._account,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(self._directory.path)},
        )

    def _answers(self, engine: Engine) -> bool:
        if not Path(self.address.socket).is_socket():
            return False
        try:
            engine.control(self.address, "start").close()
        except ClusterError:
            return False
        return True


def start(plan: Plan, place: Place) -> EmbeddedMysql:
    """Start one MySQL server for ``plan``."""
    from loadgen.engines import engine_of

    return EmbeddedMysql(plan, place, engine_of(plan.engine))


def _account(program: Path) -> Account | None:
    """Another user for root's server, where it can reach the program: what is in root's own cache it can't."""
    account = unprivileged_account()
    return account if account is not None and reachable(program, account) else None
