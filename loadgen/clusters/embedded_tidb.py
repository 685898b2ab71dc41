"""TiDB as a child process: a ``tidb-server`` found on this machine (clusters/binaries.py), on a private socket.

SQL goes through the socket only, with a random password; it opens no port.

unistore replaces TiKV in the same process, without Raft and without a second copy. It shows the behaviour of TiDB's SQL
layer and transactions, not the speed of a TiDB cluster.
"""

import os
import secrets
import shlex
import signal
from pathlib import Path
from typing import Any

from loadgen.clusters.binaries import SERVER_BINARIES, need_binary
from loadgen.clusters.cluster import Place
from loadgen.clusters.process import ServerProcess, filesystem_of, fresh_directory
from loadgen.engines.engine import Address, Engine
from loadgen.errors import ClusterError
from loadgen.plan import Plan

PREFIX = "loadgen-tidb"
SOCKET = "sql.sock"
MOST_SOCKET_BYTES = 107 - len(f"/{SOCKET}")
READY_WITHIN_S = 60.0
KEEPING = ((signal.SIGTERM, 20.0),)


class EmbeddedTidb:
    """One running TiDB server and its directory."""

    replicas: tuple[Address, ...] = ()

    def __init__(self, plan: Plan, place: Place, engine: Engine) -> None:
        """Start the server and wait until it answers. Raises ClusterError; leaves nothing then."""
        self._plan = plan
        self._stopped = False
        self._kept = ""
        self._program = need_binary(SERVER_BINARIES["tidb"], forks=plan.allow_unknown_engine)
        self._directory = fresh_directory(PREFIX, most_bytes=MOST_SOCKET_BYTES)
        self._process: ServerProcess | None = None
        path = self._directory.path
        self.address = Address(host="", user="root", password=secrets.token_hex(24), socket=str(path / SOCKET))
        try:
            place.say(f"starting TiDB (unistore) in {path}")
            self._write_files()
            self._process = ServerProcess(
                [*self._command(), f"--initialize-sql-file={path / 'initial.sql'}"],
                title="TiDB",
                log=place.logs / "tidb.log",
                cwd=path,
                # Nothing of ours reaches it, secrets in variables least of all. Its temporary files would lie in one
                # place for all servers without a port, and lock each other out.
                environment={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "LC_ALL": "C",
                    "TZ": "UTC",
                    "HOME": str(path),
                    "TMPDIR": str(path),
                },
            )
            self._process.wait_until(lambda: self._answers(engine), within_s=READY_WITHIN_S)
            (path / "initial.sql").unlink()
        except BaseException:
            self.stop(keep=False)
            raise

    def facts(self) -> dict[str, Any]:
        """What the server is, and how a person gets in. The password is in the directory's file ``client.cnf``."""
        path = self._directory.path
        return {
            "provider": "embedded",
            "nodes": 1,
            "data": str(path / "data"),
            "filesystem": filesystem_of(path),
            "processes": [self._process.pid] if self._process else [],
            "program": str(self._program),
            "connect": f"mysql --defaults-file={path}/client.cnf loadgen",
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
        self._kept = f"TMPDIR={shlex.quote(str(self._directory.path))} {shlex.join(map(str, self._command()))}"
        return self._kept

    def _write_files(self) -> None:
        path, password = self._directory.path, self.address.password
        client = f"[client]\nuser=root\npassword={password}\nsocket={self.address.socket}\n"
        statement = f"ALTER USER 'root'@'%' IDENTIFIED BY '{password}';\n"
        for name, text in (("client.cnf", client), ("initial.sql", statement)):
            (path / name).touch(mode=0o600)
            (path / name).write_text(text)

    def _command(self) -> list[str | Path]:
        path = self._directory.path
        return [
            self._program,
            "--store=unistore",
            f"--path={path / 'data'}",
            f"--temp-dir={path / 'temp'}",
            f"--socket={self.address.socket}",
            "-P",
            "0",  # no port for SQL, only the socket
            "--report-status=false",  # no port for anything else: it would let in everybody on this machine
            "--advertise-address=127.0.0.1",
            "-L",
            "warn",
        ]

    def _answers(self, engine: Engine) -> bool:
        if not Path(self.address.socket).is_socket():
            return False
        try:
            engine.control(self.address, "start").close()
        except ClusterError:
            return False
        return True


def start(plan: Plan, place: Place) -> EmbeddedTidb:
    """Start one TiDB server for ``plan``."""
    from loadgen.engines import engine_of

    return EmbeddedTidb(plan, place, engine_of(plan.engine))
