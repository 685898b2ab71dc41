"""The servers as testcontainers' classes: its own for PostgreSQL and MySQL, ours, in its manner, for what it lacks.

All are published on 127.0.0.1 only, and found there without testcontainers' guess.
"""

import re
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from docker.errors import APIError
from testcontainers.community.mysql import MySqlContainer
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
from testcontainers.core.waiting_utils import WaitStrategy, WaitStrategyTarget

from loadgen.clusters.daemon import LOOPBACK

POLL_S = 0.1
START_WITHIN_S = 120
"""Said here, lest testcontainers' own variables, made for another project on this machine, decide it."""
ANSWER_WITHIN_S = 1.0
"""How long a server that takes a connection may be silent before it is asked again."""


class RunningUntil(WaitStrategy):
    """Wait until ``ready`` answers true, but only while the container runs.

    testcontainers' own strategies for HTTP and for a command wait their whole time for a container that has died.
    Raises RuntimeError when it is not running any more, TimeoutError when the time is over.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._ready = ready
        self._poll_interval = POLL_S

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Poll."""
        deadline = time.monotonic() + self._startup_timeout
        while not self._ready():
            container.reload()
            if container.status != "running":
                raise RuntimeError(f"the container is {container.status}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {self._startup_timeout:g} s")
            time.sleep(self._poll_interval)


class OnLoopback(DockerContainer):
    """A container whose ports are published on 127.0.0.1, each on a free port, and nowhere else."""

    def with_loopback_ports(self, *ports: int) -> "OnLoopback":
        """Publish the container's ``ports``."""
        for port in ports:
            self.ports[str(port)] = (LOOPBACK, None)  # type: ignore[assignment]
        return self

    def get_container_host_ip(self) -> str:
        """127.0.0.1, always: it would guess a bridge's address where we run in a container ourselves."""
        return LOOPBACK

    def get_exposed_port(self, port: int) -> int:
        """The port on 127.0.0.1 of the container's ``port``."""
        container = self.get_wrapped_container()
        container.reload()
        bound = container.attrs["NetworkSettings"]["Ports"].get(f"{port}/tcp")
        if not bound:
            raise ConnectionError(f"port {port} is not published: the container is {container.status}")
        return int(bound[0]["HostPort"])

    def said(self, port: int, hello: bytes, most_bytes: int) -> bytes:
        """What the server says to ``hello`` on ``port``, at most so many bytes; empty as long as no server listens.

        It asks the server itself: a command in the container, or its log over and over, costs the Docker engine
        several times as much, on the cores on which the server starts.
        """
        with suppress(OSError):
            where = (LOOPBACK, self.get_exposed_port(port))
            with socket.create_connection(where, timeout=ANSWER_WITHIN_S) as connection:
                connection.sendall(hello)
                return connection.recv(most_bytes)
        return b""

    def succeeds(self, shell_command: str) -> bool:
        """Whether a command inside the container exits with 0."""
        try:
            return self.exec(["sh", "-c", shell_command]).exit_code == 0
        except APIError:  # the container is not running
            return False


class Postgres(OnLoopback, PostgresContainer):
    """PostgreSQL. Ready when it asks for the password over TCP: the first start's temporary server has a socket only.

    A server that is not ready answers the same question with an error.
    """

    def _connect(self) -> None:
        body = b"\x00\x03\x00\x00user\x00" + self.username.encode() + b"\x00\x00"  # protocol 3.0
        hello = (len(body) + 4).to_bytes(4, "big") + body
        ready = RunningUntil(lambda: self.said(self.port, hello, 1) == b"R")
        ready.with_startup_timeout(START_WITHIN_S).wait_until_ready(self)


class MySql(OnLoopback, MySqlContainer):
    """MySQL. Ready when it greets over TCP: the first start's temporary server has a socket only."""

    def _connect(self) -> None:
        # Three bytes of length, the sequence number, and the protocol's version: an error would have 255 there.
        ready = RunningUntil(lambda: self.said(self.port, b"", 5)[4:] == b"\x0a")
        ready.with_startup_timeout(START_WITHIN_S).wait_until_ready(self)


class TiDBContainer(OnLoopback):
    """TiDB in one process, with the store unistore. Ready when ``/status`` answers.

    ``password`` is given to root by the file ``initial_sql``, which TiDB runs at its first start, before it listens.
    """

    def __init__(
        self,
        image: str,
        *,
        password: str = "",
        initial_sql: str = "/initial.sql",
        **kwargs: Any,
    ) -> None:
        super().__init__(image, **kwargs)
        self.port = 4000
        self.status_port = 10080
        self.username = "root"
        self.password = password
        self.with_loopback_ports(self.port, self.status_port)
        if password:
            quoted = password.replace("\\", "\\\\").replace("'", "''")
            statement = f"ALTER USER 'root'@'%' IDENTIFIED BY '{quoted}';\n"
            self.with_copy_into_container(statement.encode(), initial_sql, 0o600)
            self.with_command(["-L", "warn", "--initialize-sql-file", initial_sql])
        self.waiting_for(RunningUntil(self._has_status).with_startup_timeout(START_WITHIN_S))

    def _has_status(self) -> bool:
        with suppress(OSError):
            url = f"http://{LOOPBACK}:{self.get_exposed_port(self.status_port)}/status"
            with urllib.request.urlopen(url, timeout=ANSWER_WITHIN_S) as answer:
                return bool(answer.status == 200)
        return False


class OceanBaseCEContainer(OnLoopback):
    """OceanBase community edition, one server, one tenant. Ready when its log says "boot success!".

    Its script opens the server with an empty password while it boots and sets the tenant's last, so a port that
    answers, or a login without password, is not readiness.
    """

    def __init__(
        self,
        image: str,
        *,
        password: str = "",
        mode: str = "mini",
        tenant: str = "test",
        startup_timeout_s: int = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(image, **kwargs)
        self.port = 2881
        self.username = f"root@{tenant}"
        self.password = password
        self.with_loopback_ports(self.port)
        self.with_envs(MODE=mode, OB_TENANT_NAME=tenant, OB_TENANT_PASSWORD=password, EXIT_WHILE_ERROR="true")
        ready = LogMessageWaitStrategy(re.compile(r"boot success!"))
        self.waiting_for(ready.with_startup_timeout(startup_timeout_s).with_poll_interval(1.0))


class SeekdbContainer(OnLoopback):
    """seekdb, OceanBase's single-node edition. Ready when a login with the password succeeds: it is set at the end."""

    def __init__(
        self,
        image: str,
        *,
        password: str = "",
        startup_timeout_s: int = 180,
        **kwargs: Any,
    ) -> None:
        super().__init__(image, **kwargs)
        self.port = 2881
        self.username = "root"
        self.password = password
        self.with_loopback_ports(self.port)
        self.with_env("ROOT_PASSWORD", password)
        query = 'MYSQL_PWD="$ROOT_PASSWORD" mysql -h127.0.0.1 -P2881 -uroot -e "SHOW DATABASES"'
        ready = RunningUntil(lambda: self.succeeds(query))
        self.waiting_for(ready.with_startup_timeout(startup_timeout_s).with_poll_interval(0.3))
