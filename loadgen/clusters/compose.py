"""The provider ``compose``: a cluster of several nodes by one of the compose files in ``deploy/``.

The same files that a person starts with ``docker compose up``; here under a project name of the run's own, on free
ports of 127.0.0.1, with a random password. What the servers say of their replication goes into ``facts()``.
"""

import os
import secrets
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from loadgen.clusters.binaries import deploy_folder
from loadgen.clusters.cluster import Cluster, Place, connections_of
from loadgen.clusters.container import memory_limit
from loadgen.clusters.daemon import (
    LOOPBACK,
    docker_client,
    docker_errors,
    engine_facts,
    explained,
    of_run,
    remove_run,
    save_logs,
    why_ended,
)
from loadgen.clusters.guard import Guard
from loadgen.clusters.images import PREFIX, image_variables, server_image
from loadgen.clusters.replication import complete_state
from loadgen.databases import DATABASES
from loadgen.databases.database import Topology, resolved
from loadgen.engines import engine_of
from loadgen.engines.address import joined
from loadgen.engines.engine import Address, Engine
from loadgen.errors import ClusterError, PlanError
from loadgen.plan import Plan

DOWN_WITHIN_S = 120.0


class ComposeCluster:
    """One project of ``docker compose``. ``run`` is the label of everything in it."""

    def __init__(self, topology: Topology, *, project: str, run: str, environment: Mapping[str, str]) -> None:
        self.topology = topology
        self.project = project
        self.run = run
        self._environment = {**os.environ, **environment, "LOADGEN_RUN": run}
        self._client = docker_client()

    def up(self, say: Callable[[str], None]) -> None:
        """Start it and wait until every service is healthy. Raises ClusterError with what went wrong where."""
        say(
            f"starting {self.topology.title}: {self.topology.nodes} nodes by deploy/{self.topology.folder}/compose.yaml"
        )
        waiting = ("--detach", "--wait", "--wait-timeout", str(self.topology.start_within_s), "--quiet-pull")
        result = self._compose("up", *waiting, within_s=self.topology.start_within_s + 600)
        if result.returncode:
            raise ClusterError(self._why(result.stderr))

    def down(self) -> None:
        """Remove its containers, networks and volumes, at once. Idempotent."""
        # By label rather than by `docker compose down`, which waits for each server's orderly end.
        with docker_errors(f"stopping {self.topology.title}"):
            remove_run(self._client, self.run)

    def is_there(self) -> bool:
        """Whether any container of it exists, running or not."""
        with docker_errors(f"looking for {self.topology.title}"):
            return bool(self._client.containers.list(all=True, filters=of_run(self.run)))

    def halt(self) -> None:
        """Stop its containers and keep them."""
        self._compose("stop", within_s=DOWN_WITHIN_S)

    def save_logs(self, logs: Path) -> None:
        """Write each container's log into ``logs``."""
        save_logs(self._client, self.run, logs)

    def port_of(self, service: str) -> int:
        """The port on 127.0.0.1 of a service's SQL port."""
        with docker_errors(f"looking for {service}"):
            for container in self._client.containers.list(filters=of_run(self.run)):
                if container.labels.get("com.docker.compose.service") == service:
                    bound = container.attrs["NetworkSettings"]["Ports"].get(f"{self.topology.port}/tcp") or []
                    for binding in bound:
                        return int(binding["HostPort"])
        raise ClusterError(f"{self.topology.title}: {service} has no published port: is it running?")

    def address(self, service: str) -> Address:
        """Where a service is reached from this host."""
        topology = self.topology
        password = self._environment["LOADGEN_PASSWORD"]
        port = self.port_of(service)
        return Address(host=LOOPBACK, port=port, user=topology.user, password=password, database=topology.database)

    def entry(self) -> Address:
        """Where the load goes: every running member that may take writes, now or after a failover.

        Raises ClusterError if none runs.
        """
        found = []
        for service in (self.topology.entry, *self.topology.replicas):
            with suppress(ClusterError):
                found.append(self.address(service))
        return joined(found) if found else self.address(self.topology.entry)

    def replication(self, engine: Engine) -> dict[str, Any]:
        """What the servers say of their replication, once it is complete. Raises ClusterError if it never is."""
        return complete_state(lambda: self.state(engine), self.topology.title)

    def state(self, engine: Engine) -> dict[str, Any]:
        """What the servers say of their replication now. Raises ClusterError if one does not answer."""
        addresses = [self.address(service) for service in self.topology.asked] or [self.entry()]
        with ExitStack() as open_ones:
            queries = []
            for address in addresses:
                control = engine.control(address, "state")
                open_ones.callback(control.close)
                queries.append(control.query)
            state: dict[str, Any] = resolved(self.topology.state)(*queries)
            return state

    def images(self) -> list[str]:
        """The images of its containers."""
        with docker_errors("listing the containers"):
            containers = self._client.containers.list(filters=of_run(self.run))
            return sorted({container.attrs["Config"]["Image"] for container in containers})

    def engine_facts(self) -> dict[str, Any]:
        """What ``plan.json`` says of the Docker engine."""
        with docker_errors("asking the Docker engine"):
            return engine_facts(self._client)

    def _compose(self, *arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
        file = deploy_folder() / self.topology.folder / "compose.yaml"
        command = ["docker", "compose", "--ansi", "never", "--progress", "plain"]
        command += ["--project-name", self.project, "--file", str(file), *arguments]
        try:
            return subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=within_s,
                check=False,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ClusterError("--cluster compose needs the program docker with its compose plugin") from error
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"docker compose {arguments[0]} did not end within {within_s:g} s") from error

    def _why(self, output: str) -> str:
        """Why ``up`` failed: the container that is to blame, with its last words, or what compose said."""
        with suppress(ClusterError), docker_errors("looking for the cause"):
            for container in self._client.containers.list(all=True, filters=of_run(self.run)):
                state = container.attrs["State"]
                healthy = state.get("Health", {}).get("Status", "healthy") == "healthy"
                if state["Status"] == "exited" or (state["Status"] == "running" and not healthy):
                    limit = f"{container.attrs['HostConfig']['Memory'] >> 20}m"
                    service = container.labels.get("com.docker.compose.service", container.name)
                    return why_ended(container, f"{self.topology.title}'s {service}", limit)
        if "unknown command" in output or "is not a docker command" in output or "unknown flag" in output:
            return "this docker has no compose plugin (version 2.24 or newer): install docker-compose-plugin"
        problem = _problem(output)
        if "registry" in output or "pull" in output.lower() or "no such image" in output.lower():
            return (
                f"an image is not here and cannot be pulled ({problem}): name others by {PREFIX}*, or build them from "
                "packages: deploy/images/build.sh"
            )
        return f"starting {self.topology.title}: {explained(problem)}"


class RunCluster:
    """The cluster of one run: gone with it, and known to it as its Cluster."""

    def __init__(self, plan: Plan, place: Place, topology: Topology) -> None:
        """Start it. Raises ClusterError; leaves nothing then."""
        self._engine = engine_of(plan.engine)
        self._place = place
        self._stopped = False
        self._kept = ""
        identity = secrets.token_hex(4)
        run = f"{place.logs.parent.name}-{identity}"
        # An empty port is a free one.
        ports = {f"LOADGEN_PORT_{number}": "" for number in (1, 2, 3)}
        environment = {
            **image_environment(plan.engine),
            # 32 characters are the most that MySQL takes for a replication user.
            "LOADGEN_PASSWORD": secrets.token_hex(16),
            "LOADGEN_CONNECTIONS": str(connections_of(plan)),
            **ports,
        }
        project = f"loadgen-{plan.engine}-{identity}"
        self._compose = ComposeCluster(topology, project=project, run=run, environment=environment)
        self._guard = Guard(run, place.logs)
        try:
            self._compose.up(place.say)
            self.replicas = tuple(map(self._compose.address, topology.replicas))
            self.address = self._compose.entry()
            self._replication = self._compose.replication(self._engine)
        except BaseException:
            self.stop(keep=False)
            raise

    def facts(self) -> dict[str, Any]:
        """What ``plan.json`` says of it, with the state of its replication as the servers report it."""
        compose, topology = self._compose, self._compose.topology
        return {
            "provider": "compose",
            "nodes": topology.nodes,
            "compose_file": f"deploy/{topology.folder}/compose.yaml",
            "project": compose.project,
            "images": compose.images(),
            "members": {service: f"{LOOPBACK}:{compose.port_of(service)}" for service in topology.members},
            "replication": self._replication,
            "connect": f"docker compose --project-name {compose.project} exec {topology.entry} bash",
            **compose.engine_facts(),
        }

    def stop(self, *, keep: bool) -> str:
        """Stop and remove everything; with ``keep`` only stop it."""
        if self._stopped:
            return self._kept
        self._stopped = True
        self._compose.save_logs(self._place.logs)
        if keep:
            self._compose.halt()
            self._kept = f"docker compose --project-name {self._compose.project} start"
        else:
            self._compose.down()
        self._guard.dismiss()
        return self._kept


def start(plan: Plan, place: Place) -> Cluster:
    """Start the cluster of the plan's engine. Raises PlanError, ClusterError; leaves nothing then."""
    topology = topology_of(plan.engine)
    if plan.nodes not in (1, topology.nodes):  # 1 is what a plan says when nobody named a number
        raise PlanError(
            f"--nodes {plan.nodes}: deploy/{topology.folder}/compose.yaml starts {topology.nodes} "
            f"node{'s' if topology.nodes > 1 else ''} of {topology.title}"
        )
    memory_limit("")  # refused now, if it is wrong, rather than by compose
    return RunCluster(plan, place, topology)


def topology_of(engine: str) -> Topology:
    """The compose cluster of an engine, or of its edition whose image is asked for."""
    database = DATABASES[engine]
    return database.topologies[database.images.index(server_image(engine)[0])]


def image_environment(engine: str) -> dict[str, str]:
    """The images of a compose file; an edition's goes by the variable of the engine that it belongs to."""
    server, chosen = server_image(engine)
    return {**image_variables(), f"{PREFIX}{server.name.upper()}": chosen}


TOPOLOGIES: Mapping[str, Topology] = {
    topology.folder: topology for database in DATABASES.values() for topology in database.topologies
}
"""By their folders."""


def _problem(output: str) -> str:
    """What went wrong, of all that compose printed: its last error, or the last lines where it names none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return errors[-1].removeprefix("Error response from daemon: ") if errors else " | ".join(lines[-3:])
