"""Poolers and proxies of Debian in front of an embedded PostgreSQL: PgBouncer, Pgpool and HAProxy, each as a process.

Each listens on 127.0.0.1 as the account of the server (two of them refuse root), with files in a directory of its own.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from loadgen.engines.engine import Address

UP_WITHIN_S = 15.0
STOP_WITHIN_S = 5.0
EVERY_PARAMETER = (
    "extra_float_digits,search_path,options,default_transaction_isolation,statement_timeout,lock_timeout,jit"
)


def program(name: str) -> str | None:
    """Where ``name`` is installed; Debian puts servers where not everybody looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


@contextmanager
def pgbouncer(address: Address, *, database: str = "", **settings: str | int) -> Iterator[Address]:
    """PgBouncer in front of ``address``; ``database`` are more words of the database's line. The address to use."""
    with _place(address) as (directory, port):
        target = f"host={address.socket} port={address.port} dbname={address.database}"
        known = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": directory / "users",
            "pool_mode": "session",
            **settings,
        }
        lines = [f"{name} = {value}" for name, value in known.items()]
        text = "\n".join(["[databases]", f"{address.database} = {target} {database}", "[pgbouncer]", *lines, ""])
        (directory / "users").write_text(f'"{address.user}" "{address.password}"\n')
        (directory / "pgbouncer.ini").write_text(text)
        with _running(directory, address, ["pgbouncer", str(directory / "pgbouncer.ini")], port):
            yield _at(address, port)


@contextmanager
def pgpool(addresses: Sequence[Address], **settings: str | int) -> Iterator[Address]:
    """Pgpool in front of ``addresses``, the first of which is the primary. The address to use."""
    address = addresses[0]
    with _place(address) as (directory, port):
        known: dict[str, object] = {
            "backend_clustering_mode": "streaming_replication" if len(addresses) > 1 else "raw",
            "listen_addresses": "127.0.0.1",
            "port": port,
            "pcp_listen_addresses": "",
            "socket_dir": directory,
            "pcp_socket_dir": directory,
            "wd_ipc_socket_dir": directory,
            "logdir": directory,
            "pid_file_name": directory / "pgpool.pid",
            "pool_passwd": directory / "users",
            "allow_clear_text_frontend_auth": "on",
            "num_init_children": 40,
            "sr_check_period": 0,
            **settings,
        }
        for number, backend in enumerate(addresses):
            known |= {
                f"backend_hostname{number}": backend.socket,
                f"backend_port{number}": backend.port,
                f"backend_weight{number}": 1,
                f"backend_flag{number}": "ALWAYS_PRIMARY" if not number and len(addresses) > 1 else "ALLOW_TO_FAILOVER",
            }
        (directory / "users").write_text(f"{address.user}:TEXT{address.password}\n")
        (directory / "pgpool.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in known.items()))
        (directory / "hba").write_text("")
        (directory / "pcp").write_text("")
        command = ["pgpool", "-n", "-f", str(directory / "pgpool.conf"), "-a", str(directory / "hba")]
        with _running(directory, address, [*command, "-F", str(directory / "pcp")], port):
            yield _at(address, port)


@contextmanager
def haproxy(addresses: Sequence[Address], *, client_s: float = 30, server_s: float = 30) -> Iterator[Address]:
    """HAProxy in front of ``addresses`` in turn, with its time-outs for silence of client and server."""
    with _place(addresses[0]) as (directory, port):
        servers = "".join(f"  server s{number} unix@{_socket(address)}\n" for number, address in enumerate(addresses))
        (directory / "haproxy.cfg").write_text(
            f"defaults\n  mode tcp\n  timeout connect 5s\n  timeout client {int(client_s * 1000)}ms\n"
            f"  timeout server {int(server_s * 1000)}ms\nlisten pg\n  bind 127.0.0.1:{port}\n{servers}"
        )
        with _running(directory, addresses[0], ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")], port):
            yield _at(addresses[0], port)


def dsn_through(address: Address, **parameters: str) -> str:
    """The DSN of an address on 127.0.0.1."""
    query = "&".join(f"{name}={value}" for name, value in {"sslmode": "disable", **parameters}.items())
    return f"postgres://{address.user}:{address.password}@127.0.0.1:{address.port}/{address.database}?{query}"


def _socket(address: Address) -> Path:
    """The socket's file: on the MySQL wire the address names it itself."""
    named = Path(address.socket)
    return named / f".s.PGSQL.{address.port}" if named.is_dir() else named


def _at(address: Address, port: int) -> Address:
    parameters = {"sslmode": "disable"} if Path(address.socket).is_dir() else {}
    return replace(address, socket="", host="127.0.0.1", port=port, parameters=parameters)


@contextmanager
def _place(address: Address) -> Iterator[tuple[Path, int]]:
    with tempfile.TemporaryDirectory(prefix="loadgen-pooler-", dir="/tmp") as name, socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = int(unheard.getsockname()[1])
        unheard.close()
        owner = Path(address.socket).stat()
        if os.geteuid() == 0:
            os.chown(name, owner.st_uid, owner.st_gid)
        yield Path(name), port


@contextmanager
def _running(directory: Path, address: Address, command: list[str], port: int) -> Iterator[None]:
    found = program(command[0])
    assert found is not None, f"{command[0]} is not installed"
    owner = Path(address.socket).stat()
    account: Mapping[str, int] = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    for path in directory.iterdir():
        if account:
            os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o600)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [found, *command[1:]],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            extra_groups=[] if account else None,
            **account,  # type: ignore[arg-type]
        )
    try:
        deadline = time.monotonic() + UP_WITHIN_S
        while not _answers(port):
            told = (directory / "log").read_text(errors="replace")
            assert process.poll() is None and time.monotonic() < deadline, f"{command[0]} does not listen: {told}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
