"""The provider ``container``: one server in a container of testcontainers, published on 127.0.0.1 only.

The server gets a random password and a limit of memory; its log goes into the run directory; and the container goes
with the run, by a guard process if not by us. Which image: loadgen/clusters/images.py.
"""

import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadgen.clusters.cluster import Cluster, Place
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
from loadgen.clusters.images import PREFIX, image_of
from loadgen.engines import engine_of
from loadgen.engines.engine import Address, Engine
from loadgen.errors import ClusterError, PlanError
from loadgen.plan import Plan

if TYPE_CHECKING:
    from loadgen.clusters.database_containers import OnLoopback

SPARE_CONNECTIONS = 20
"""Connections beside the load's: control, auditors, and a person who looks on."""
LOGIN_WITHIN_S = 30.0
"""How long the first login may take after the server said that it is ready."""
POLL_S = 0.1
MEMORY_VARIABLE = "LOADGEN_MEMORY"
INITIAL_SQL = "/loadgen-init.sql"
"""The file in a TiDB container that gives root its password."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one kind of server is run in a container."""

    title: str
    make: Callable[[Plan, str, str], "OnLoopback"]
    user: str
    memory: str
    by_hand: str
    """How a person gets in, with {name} of the container and {port} on 127.0.0.1."""
    database: str = ""
    settings: Callable[[Plan], dict[str, str]] = lambda _plan: {}


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
        image = image_of(plan.engine)
        self._server = server = SERVERS["seekdb" if is_seekdb(plan.engine, image) else plan.engine]
        self._memory = memory_limit(server.memory)
        self._client = docker_client()
        self._image_id = have_image(self._client, image, PREFIX + plan.engine.upper(), place.say)
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
            "settings": self._server.settings(self._plan),
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
            self._container = container = server.make(self._plan, self._image, self._password)
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


def is_seekdb(engine: str, image: str) -> bool:
    """Whether OceanBase is to be run by an image of seekdb, its single-node edition: the image's name tells."""
    return engine == "oceanbase" and "seekdb" in image.rsplit("/", 1)[-1]


def memory_limit(default: str) -> str:
    """How much memory a server may take, as Docker spells it. Raises PlanError."""
    memory = os.environ.get(MEMORY_VARIABLE, "") or default
    if memory and not re.fullmatch(r"[1-9]\d*[mg]", memory.lower()):
        raise PlanError(f"{MEMORY_VARIABLE}={memory!r} is not a size such as 512m or 4g")
    return memory.lower()


def _postgres(plan: Plan, image: str, password: str) -> "OnLoopback":
    from loadgen.clusters.database_containers import Postgres

    made = Postgres(image, username="postgres", password=password, dbname="postgres", driver=None)
    options = [f"{name}={value}" for name, value in _postgres_settings(plan).items()]
    made.with_command(["postgres", *(word for option in options for word in ("-c", option))])
    return made.with_loopback_ports(made.port)


def _postgres_settings(plan: Plan) -> dict[str, str]:
    return {"max_connections": str(plan.sessions + SPARE_CONNECTIONS), "max_wal_size": "2GB"}


def _mysql(plan: Plan, image: str, password: str) -> "OnLoopback":
    from loadgen.clusters.database_containers import MySql

    made = MySql(image, username="root", password=password, root_password=password, dbname="test")
    made.with_command(["mysqld", *(f"--{name}={value}" for name, value in _mysql_settings(plan).items())])
    return made.with_loopback_ports(made.port)


def _mysql_settings(plan: Plan) -> dict[str, str]:
    return {"max_connections": str(plan.sessions + SPARE_CONNECTIONS), "mysqlx": "OFF"}


def _tidb(_plan: Plan, image: str, password: str) -> "OnLoopback":
    from loadgen.clusters.database_containers import TiDBContainer

    return TiDBContainer(image, password=password, initial_sql=INITIAL_SQL)


def _oceanbase(_plan: Plan, image: str, password: str) -> "OnLoopback":
    from loadgen.clusters.database_containers import OceanBaseCEContainer

    return OceanBaseCEContainer(image, password=password)


def _seekdb(_plan: Plan, image: str, password: str) -> "OnLoopback":
    from loadgen.clusters.database_containers import SeekdbContainer

    return SeekdbContainer(image, password=password)


_BY_HAND = "docker exec -it {name} "
SERVERS = {
    "postgres": Server(
        "PostgreSQL",
        _postgres,
        user="postgres",
        memory="2g",
        by_hand=_BY_HAND + "psql -U postgres",
        database="postgres",
        settings=_postgres_settings,
    ),
    "mysql": Server(
        "MySQL",
        _mysql,
        user="root",
        memory="2g",
        by_hand=_BY_HAND + "sh -c 'MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql loadgen'",
        settings=_mysql_settings,
    ),
    # Its image has no client; the password is in the file.
    "tidb": Server(
        "TiDB",
        _tidb,
        user="root",
        memory="4g",
        by_hand="docker exec {name} cat " + INITIAL_SQL + "; mysql -h 127.0.0.1 -P {port} -u root -p loadgen",
    ),
    "oceanbase": Server(
        "OceanBase",
        _oceanbase,
        user="root@test",
        memory="10g",
        by_hand=_BY_HAND + "sh -c 'obclient -h127.1 -P2881 -uroot@test -p$OB_TENANT_PASSWORD'",
    ),
    "seekdb": Server(
        "seekdb",
        _seekdb,
        user="root",
        memory="4g",
        by_hand=_BY_HAND + "sh -c 'MYSQL_PWD=$ROOT_PASSWORD mysql -h127.0.0.1 -P2881 -uroot loadgen'",
    ),
}
