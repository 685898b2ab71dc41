"""``loadgen up | down | status``: clusters that stay between runs, by the compose files in ``deploy/``.

Each engine has one at most. What is needed to reach it (its password too) is in a 0600 file in the cache folder;
``down`` removes what ``up`` started, and nothing else.
"""

import json
import os
import secrets
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.clusters.binaries import cache_folder, is_file
from loadgen.clusters.compose import TOPOLOGIES, ComposeCluster, image_environment, topology_of
from loadgen.clusters.container import memory_limit
from loadgen.clusters.daemon import RUN_LABEL
from loadgen.clusters.install import Say, tell
from loadgen.databases import DATABASES
from loadgen.dsn import written_dsn
from loadgen.engines import engine_of
from loadgen.engines.address import hosts_of
from loadgen.engines.engine import Address
from loadgen.errors import ClusterError, LoadgenError, PlanError
from loadgen.plan import ENGINES

CONNECTIONS = 300
"""How many connections a standing server takes: it can't know the sessions of the runs to come."""
PORTS_MOST = 3
STATE = {"project", "run", "folder", "started_utc", "environment"}
"""What the file of a standing cluster holds."""


def add_up_arguments(parser: ArgumentParser) -> None:
    """Fill the parser of ``loadgen up``."""
    parser.description = "Start a replicated cluster with docker compose, leave it running, and print its DSN."
    parser.add_argument("engine", choices=ENGINES, help="the engine")
    parser.add_argument("--port", type=int, default=0, help="its first port on 127.0.0.1 (default: the engine's own)")
    parser.set_defaults(command=run_up)


def add_down_arguments(parser: ArgumentParser) -> None:
    """Fill the parser of ``loadgen down``."""
    parser.description = "Remove the clusters that 'loadgen up' started, with their data."
    # No choices here: with nargs="*" Python 3.11 holds the empty list against them.
    parser.add_argument("engine", nargs="*", help=f"one or more of {', '.join(ENGINES)} (default: all)")
    parser.set_defaults(command=run_down)


def add_status_arguments(parser: ArgumentParser) -> None:
    """Fill the parser of ``loadgen status``."""
    parser.description = "Show the clusters that 'loadgen up' started, and what their servers report about replication."
    parser.add_argument("--json", action="store_true", help="print JSON, including passwords")
    parser.set_defaults(command=run_status)


def run_up(options: Namespace) -> int:
    """``loadgen up``: the exit code."""
    dsn = up(options.engine, say=tell, port=options.port)
    tell("")
    tell("  LOADGEN_DSN='" + dsn + "' \\")
    tell(f"      locust -f workloads/flashsale.py --headless --engine {options.engine}")
    return 0


def run_down(options: Namespace) -> int:
    """``loadgen down``: the exit code."""
    engines = options.engine or [engine for engine in ENGINES if is_file(_state_file(engine))]
    for engine in engines:
        if engine not in ENGINES:
            raise PlanError(f"down {engine!r}: it is one of {', '.join(ENGINES)}")
        down(engine, say=tell)
    if not engines:
        tell("no cluster is standing")
    return 0


def run_status(options: Namespace) -> int:
    """``loadgen status``: the exit code."""
    found = status()
    if options.json:
        tell(json.dumps(found, indent=2))
        return 0
    for one in found:
        replication = one["replication"]
        tell(f"{one['engine']}, started {one['started_utc']}: {one['state']}")
        for line in filter(None, (one["dsn"], replication.get("kind"))):
            tell(f"  {line}")
        for member in replication.get("members") or replication.get("standbys") or replication.get("stores") or []:
            tell("  " + "  ".join(str(value) for value in member.values()))
    if not found:
        tell("no cluster is standing; `loadgen up ENGINE` starts one")
    return 0


def up(engine: str, *, say: Say, port: int = 0) -> str:
    """Start the standing cluster of ``engine``, or find it running; its DSN. Raises ClusterError, leaving nothing.

    A cluster that runs but does not answer is never removed, because its data may be needed.
    """
    if port and not 1 <= port <= 65535 - PORTS_MOST:
        raise ClusterError(f"--port {port} is not from 1 to {65535 - PORTS_MOST}")
    memory_limit("")  # refused now, if it is wrong, rather than by compose
    file = _state_file(engine)
    if is_file(file):
        standing = _cluster(_read(file))
        if standing.is_there():
            return _dsn_of_standing(engine, standing, say)
        down(engine, say=say)
    state = _fresh_state(engine, port)
    cluster = _cluster(state)
    _write(file, state)
    try:
        cluster.up(say)
        cluster.replication(engine_of(engine))
        return _dsn(engine, cluster.entry())
    except BaseException:
        cluster.down()
        file.unlink()
        raise


def down(engine: str, *, say: Say) -> None:
    """Remove the standing cluster of ``engine`` with its data. Idempotent. Raises ClusterError."""
    file = _state_file(engine)
    if not is_file(file):
        say(f"{engine} is not standing")
        return
    _cluster(_read(file)).down()
    file.unlink()
    say(f"{engine} is down, and its data removed")


def status() -> list[dict[str, Any]]:
    """Every standing cluster: ``engine``, ``state``, ``started_utc``, ``dsn``, ``replication``."""
    found = []
    for engine in ENGINES:
        file = _state_file(engine)
        if not is_file(file):
            continue
        one: dict[str, Any] = {"engine": engine, "started_utc": "?", "dsn": "", "replication": {}}
        try:
            state = _read(file)
            one["started_utc"] = state["started_utc"]
            cluster = _cluster(state)
            one["dsn"] = _dsn(engine, cluster.entry())
            one["replication"] = cluster.state(engine_of(engine))
            one["state"] = "up" if one["replication"]["complete"] else "up, but not complete"
        except LoadgenError as error:
            one["state"] = f"not as it should be: {error}"
        found.append(one)
    return found


def _dsn_of_standing(engine: str, standing: ComposeCluster, say: Say) -> str:
    try:
        for service in (standing.topology.entry, *standing.topology.replicas):
            standing.port_of(service)  # one that is down might hold the newest data: not to be left out unsaid
        dsn = _dsn(engine, standing.entry())
    except ClusterError as error:
        raise ClusterError(
            f"{error} `docker compose --project-name {standing.project} start` starts it again with its data; "
            f"`loadgen down {engine}` removes both"
        ) from error
    say(f"{engine} is standing already: `loadgen down {engine}` removes it")
    return dsn


def _fresh_state(engine: str, port: int) -> dict[str, Any]:
    # Another user of this machine may have one too.
    identity = f"standing-{engine}-{secrets.token_hex(4)}"
    numbers = range(1, PORTS_MOST + 1)
    return {
        "project": f"loadgen-{identity}",
        "run": identity,
        "folder": topology_of(engine).folder,
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": {
            **image_environment(engine),
            # 32 characters are the most that MySQL takes for a replication user.
            "LOADGEN_PASSWORD": secrets.token_hex(16),
            "LOADGEN_CONNECTIONS": str(CONNECTIONS),
            **({f"LOADGEN_PORT_{number}": str(port + number - 1) for number in numbers} if port else {}),
        },
    }


def _cluster(state: Mapping[str, Any]) -> ComposeCluster:
    environment = state["environment"]
    return ComposeCluster(
        TOPOLOGIES[state["folder"]], project=state["project"], run=state["run"], environment=environment
    )


def _dsn(engine: str, address: Address) -> str:
    scheme = DATABASES[engine].scheme
    return written_dsn(scheme, address.user, address.password, hosts_of(address), address.database)


def _state_file(engine: str) -> Path:
    return cache_folder() / "standing" / f"{engine}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text())
        if values.keys() >= STATE and values["folder"] in TOPOLOGIES:
            return values
        problem = "it lacks what it should hold"
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise ClusterError(
        f"{file} does not say what is standing ({problem}): remove the file, and remove its containers "
        f"yourself (`docker ps --filter label={RUN_LABEL}`)"
    )


def _write(file: Path, state: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump(state, opened)
    except OSError as error:
        raise ClusterError(f"cannot write {file}: {error} (set LOADGEN_CACHE)") from error
