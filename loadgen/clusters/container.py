"""The provider ``container``: one server in a container of testcontainers, published on 127.0.0.1 only.

The server gets a random password and a limit of memory; its log goes into the run directory; and the container goes
with the run, by a guard process if not by us. Which image: loadgen/clusters/images.py.
"""

import os
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from loadgen.clusters.cluster import Cluster, Place, connections_of
from loadgen.clusters.daemon import (
    LOOPBACK,
    RUN_LABEL,
    docker_client,
    docker_errors,
    engine_facts,
    explained,
    have_image,
    remove_run,
    save_logs,
    why_ended,
)
from loadgen.clusters.guard import Guard
from loadgen.clusters.images import PREFIX, server_image
from loadgen.databases import DATABASES
from loadgen.databases.database import resolved
from loadgen.engines import engine_of
from loadgen.engines.engine import Address, Engine
from loadgen.errors import ClusterError, PlanError
from loadgen.plan import Plan

if TYPE_CHECKING:
    from loadgen.clusters.database_containers import OnLoopback

LOGIN_WITHIN_S = 30.0
"""How long the first login may take after the server said that it is ready."""
POLL_S = 0.1
MEMORY_VARIABLE = "LOADGEN_MEMORY"
INITIAL_SQL = "/loadgen-init.sql"
"""The file in a TiDB container that gives root its password."""


def start(plan: Plan, place: Place) -> Cluster:
    """Start the plan's engine in a container. Raises ClusterError; leaves nothing then."""
    if plan.nodes != 1:
        raise PlanError(f"--nodes {plan.nodes}: --cluster container starts one node, --cluster compose starts several")
    return ContainerCluster(plan, place, engine_of(plan.engine))


class ContainerCluster:
    """One server in one container."""

    replicas: tuple[Address, ...] = ()

    def __init__(self, plan: Plan, place: Place, engine: Engine) -> None:
        """Start it and wait for the first login. Raises ClusterError; leaves nothing then."""
        self._plan = plan
        self._logs = place.logs
        self._run = f"{place.logs.parent.name}-{secrets.token_hex(4)}"
        self._stopped = False
        self._kept = ""
        server, image = server_image(plan.engine)
        self._server = server
        self._memory = memory_limit(server.memory)
        self._client = docker_client()
        self._image_id = have_image(
            self._client, image, PREFIX + DATABASES[plan.engine].images[0].name.upper(), place.say
        )
        self._image = image
        self._guard = Guard(self._run, place.logs)
        try:
            place.say(f"starting {server.title} in a container ({image})")
            self._password = secrets.token_hex(24)
            self._start()
            self.address = self._address()
            self._wait_for_login(engine)
        except BaseException:
            self.stop(keep=False)
            raise

    def facts(self) -> dict[str, Any]:
        """What ``plan.json`` says of it."""
        name = self._container.get_wrapped_container().name
        return {
            "provider": "container",
            "nodes": 1,
            "image": self._image,
            "image_id": self._image_id,
            "container": name,
            "memory_limit": self._memory,
            "settings": resolved(self._server.settings)(self._plan) if self._server.settings else {},
            "connect": self._server.by_hand.format(name=name, port=self.address.port),
            **engine_facts(self._client),
        }

    def stop(self, *, keep: bool) -> str:
        """Stop and remove the container with its data; with ``keep`` only stop it."""
        if self._stopped:
            return self._kept
        self._stopped = True
        with docker_errors("stopping the container"):
            save_logs(self._client, self._run, self._logs)
            if keep:
                container = self._container.get_wrapped_container()
                container.stop(timeout=30)
                self._kept = f"docker start {container.name} && docker port {container.name}"
            else:
                remove_run(self._client, self._run)
            self._client.close()
        self._guard.dismiss()
        return self._kept

    def _start(self) -> None:
        from testcontainers.core.config import testcontainers_config

        # Its reaper would be one more image to pull, with the engine's socket in it: the guard does its work.
        testcontainers_config.ryuk_disabled = os.environ.get("TESTCONTAINERS_RYUK_DISABLED") != "false"
        server = self._server
        with docker_errors(f"starting {server.title}"):
            container: OnLoopback = resolved(server.make)(self._plan, self._image, self._password)
            self._container = container
            container.with_name(f"loadgen-{self._run}").with_kwargs(
                labels={RUN_LABEL: self._run},
                mem_limit=self._memory,
                memswap_limit=self._memory,  # no swap on top: a server that swaps is no measure of anything
                network="bridge",
                shm_size="256m",
            )
            try:
                container.start()
            except (TimeoutError, RuntimeError) as error:
                raise ClusterError(why_ended(container.get_wrapped_container(), server.title, self._memory)) from error
            except Exception as error:
                created = container._container
                if created is not None and created.status != "created":
                    created.reload()
                    if created.status != "running":
                        raise ClusterError(why_ended(created, server.title, self._memory)) from error
                raise

    def _address(self) -> Address:
        server = self._server
        port = self._container.get_exposed_port(self._container.port)  # type: ignore[attr-defined]
        return Address(host=LOOPBACK, port=port, user=server.user, password=self._password, database=server.database)

    def _wait_for_login(self, engine: Engine) -> None:
        deadline = time.monotonic() + LOGIN_WITHIN_S
        container = self._container.get_wrapped_container()
        while True:
            try:
                engine.control(self.address, "start").close()
                return
            except ClusterError as error:
                container.reload()
                if container.status != "running":
                    raise ClusterError(why_ended(container, self._server.title, self._memory)) from error
                if time.monotonic() > deadline:
                    raise ClusterError(
                        explained(f"{self._server.title} is up but refuses the login: {error}")
                    ) from error
            time.sleep(POLL_S)


def memory_limit(default: str) -> str:
    """How much memory a server may take, as Docker spells it. Raises PlanError."""
    memory = os.environ.get(MEMORY_VARIABLE, "") or default
    if memory and not re.fullmatch(r"[1-9]\d*[mg]", memory.lower()):
        raise PlanError(f"{MEMORY_VARIABLE}={memory!r} is not a size such as 512m or 4g")
    return memory.lower()


def postgres(plan: Plan, image: str, password: str) -> "OnLoopback":
    """A container of PostgreSQL."""
    from loadgen.clusters.database_containers import Postgres

    made = Postgres(image, username="postgres", password=password, dbname="postgres", driver=None)
    options = [f"{name}={value}" for name, value in postgres_settings(plan).items()]
    made.with_command(["postgres", *(word for option in options for word in ("-c", option))])
    return made.with_loopback_ports(made.port)


def postgres_settings(plan: Plan) -> dict[str, str]:
    """The settings of a PostgreSQL container."""
    return {"max_connections": str(connections_of(plan)), "max_wal_size": "2GB"}


def mysql(plan: Plan, image: str, password: str) -> "OnLoopback":
    """A container of MySQL."""
    from loadgen.clusters.database_containers import MySql

    made = MySql(image, username="root", password=password, root_password=password, dbname="test")
    made.with_command(["mysqld", *(f"--{name}={value}" for name, value in mysql_settings(plan).items())])
    return made.with_loopback_ports(made.port)


def mysql_settings(plan: Plan) -> dict[str, str]:
    """The settings of a MySQL container."""
    return {"max_connections": str(connections_of(plan)), "mysqlx": "OFF"}


def tidb(_plan: Plan, image: str, password: str) -> "OnLoopback":
    """A container of TiDB."""
    from loadgen.clusters.database_containers import TiDBContainer

    return TiDBContainer(image, password=password, initial_sql=INITIAL_SQL)


def oceanbase(_plan: Plan, image: str, password: str) -> "OnLoopback":
    """A container of OceanBase."""
    from loadgen.clusters.database_containers import OceanBaseCEContainer

    return OceanBaseCEContainer(image, password=password)


def seekdb(_plan: Plan, image: str, password: str) -> "OnLoopback":
    """A container of seekdb."""
    from loadgen.clusters.database_containers import SeekdbContainer

    return SeekdbContainer(image, password=password)
