"""OceanBase as a child process: the seekdb server from the package ``pylibseekdb``, on a private unix socket.

In its embedded mode the server opens no port (its ``--port`` would listen on every address), and it ends by itself when
no process holds a shared lock on its file ``run/seekdb.clients``. It therefore ends with loadgen, even after SIGKILL.
"""

import fcntl
import importlib.util
import os
import shlex
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.clusters.cluster import Place
from loadgen.clusters.process import ServerProcess, filesystem_of, fresh_directory
from loadgen.engines import engine_of
from loadgen.engines.engine import SCHEMA, Address, Engine
from loadgen.errors import ClusterError
from loadgen.plan import Plan

PREFIX = "loadgen-seekdb"
BASE = "data"
SOCKET = "run/sql.sock"
CLIENTS = "run/seekdb.clients"
SOCKET_PATH_BYTES = 107
READY_WITHIN_S = 60.0
STOP_GRACE_S = 5.0
DISK_BYTES = 1024 * 1024 * 1024
"""What must be free: an empty server takes 200 MB, and writes its log up to twice this."""
LEFT_BYTES = 2 * 1024 * 1024
"""What stays free beside that log: for the run's summary."""
LOG_KEPT_BYTES = 1024 * 1024
"""How much of the server's own log, from its end, the run keeps."""
PARAMETERS = ("log_disk_size=2G", "datafile_size=64M", "datafile_maxsize=20G", "memory_budget=2G", "syslog_level=WARN")
"""The server's settings. The log disk is a bound, filled as the load writes; 2G is the least that it takes."""


class EmbeddedSeekdb:
    """One running seekdb server and its directory."""

    replicas: tuple[Address, ...] = ()

    def __init__(self, plan: Plan, place: Place, engine: Engine) -> None:
        """Start the server and wait until it answers. Raises ClusterError; leaves nothing then."""
        self._plan = plan
        self._logs = place.logs
        self._stopped = False
        self._kept = ""
        self._facts: dict[str, Any] = {}
        self._package = package_directory()
        self._directory = fresh_directory(PREFIX, most_bytes=SOCKET_PATH_BYTES - len(f"/{BASE}/{SOCKET}"))
        self._process: ServerProcess | None = None
        self._clients = -1
        try:
            self._start(engine, place)
        except BaseException:
            self.stop(keep=False)
            raise

    @property
    def address(self) -> Address:
        """The server's socket."""
        return Address(socket=str(self._base / SOCKET), user="root")

    def facts(self) -> dict[str, Any]:
        """What ``plan.json`` says of the server."""
        if not self._facts:
            self._facts = {
                "provider": "embedded",
                "nodes": 1,
                "data": str(self._base),
                "filesystem": filesystem_of(self._directory.path),
                "processes": [self._process.pid] if self._process else [],
                "settings": list(PARAMETERS),
                "connect": f"mysql -u root -S {shlex.quote(self.address.socket)} {SCHEMA}",
            }
        return self._facts

    def stop(self, *, keep: bool) -> str:
        """Stop the server at once. With ``keep`` its data stays, and the answer is how to start it again."""
        if self._stopped:
            return self._kept
        self._stopped = True
        if self._process is not None:
            # Data that goes needs no orderly end.
            self._process.stop(((signal.SIGTERM, STOP_GRACE_S),) if keep else ())
        if self._clients >= 0:
            os.close(self._clients)
        self._copy_log()
        if not keep:
            self._directory.remove()
            return ""
        self._directory.keep(always=self._plan.keep)
        # flock holds the lock for as long as the server runs, and not in the server itself.
        command = ["flock", "--shared", "--close", str(self._base / CLIENTS), *self._command()]
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._settings().items())
        self._kept = f"{settings} {shlex.join(command)}"
        return self._kept

    @property
    def _base(self) -> Path:
        return self._directory.path / BASE

    def _start(self, engine: Engine, place: Place) -> None:
        where = self._directory.path.parent
        free = shutil.disk_usage(where).free
        if free < DISK_BYTES:
            raise ClusterError(
                f"seekdb needs {DISK_BYTES >> 20} MB for its data, and {where} has {free >> 20} MB free: set "
                "TMPDIR to a directory with more space"
            )
        (self._base / "run").mkdir(parents=True)
        self._clients = os.open(self._base / CLIENTS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._clients, fcntl.LOCK_SH)
        place.say(f"starting OceanBase (seekdb) in {self._directory.path}")
        self._process = ServerProcess(
            self._command(),
            title="seekdb",
            log=self._logs / "seekdb.out",
            cwd=self._directory.path,
            # Nothing else of ours reaches it.
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **self._settings()},
        )
        try:
            self._process.wait_until(lambda: self._answers(engine), within_s=READY_WITHIN_S)
        except ClusterError as error:
            # What it says on its output is where its log is, and that goes with the directory.
            alone = all(name == "lo" for _, name in socket.if_nameindex())
            raise ClusterError(
                f"seekdb did not start (within {READY_WITHIN_S:g} s): see its log, {self._logs / 'seekdb.log'}"
                + ("; it needs a network interface besides the loopback, and this host has none" if alone else "")
            ) from error

    def _command(self) -> list[str]:
        options = [f"--parameter={parameter}" for parameter in PARAMETERS]
        return [str(self._package / "seekdb"), "--nodaemon", f"--base-dir={self._base}", "--embedded", *options]

    def _settings(self) -> Mapping[str, str]:
        # The server would report its start to its makers, which is not ours to consent to.
        return {"LD_LIBRARY_PATH": str(self._package), "TELEMETRY_ENABLED": "false"}

    def _answers(self, engine: Engine) -> bool:
        if not Path(self.address.socket).is_socket():
            return False
        try:
            engine.control(self.address, "start").close()
        except ClusterError:
            return False
        return True

    def _copy_log(self) -> None:
        """The end of the server's own log, beside the run's others, where the run's own files have room enough."""
        log = self._base / "log" / "seekdb.log"
        try:
            if shutil.disk_usage(self._logs).free < LEFT_BYTES + LOG_KEPT_BYTES:
                return
            with log.open("rb") as source, (self._logs / "seekdb.log").open("wb") as kept:
                source.seek(max(0, log.stat().st_size - LOG_KEPT_BYTES))
                shutil.copyfileobj(source, kept)
        except OSError:
            return


def package_directory() -> Path:
    """Where the package's server is. Raises ClusterError that says what to install."""
    spec = importlib.util.find_spec("pylibseekdb")
    found = Path(spec.origin).parent if spec is not None and spec.origin else None
    if found is None or not (found / "seekdb").is_file():
        raise ClusterError(
            "--cluster embedded needs its servers: run pip install -e '.[embedded]', or name one by --dsn"
        )
    return found


def start(plan: Plan, place: Place) -> EmbeddedSeekdb:
    """Start one seekdb server for ``plan``. Raises ClusterError; leaves nothing behind then."""
    return EmbeddedSeekdb(plan, place, engine_of(plan.engine))
