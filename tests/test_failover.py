"""The load follows the writable node: a primary dies in mid-run, another takes over, and no order is lost."""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from loadgen.clock import NS_PER_S
from loadgen.clusters.daemon import docker_client
from loadgen.clusters.images import image_of
from loadgen.engines.engine import Address
from loadgen.engines.oceanbase import ENGINE as OCEANBASE
from loadgen.engines.postgres import ENGINE as POSTGRES
from loadgen.errors import ClusterError
from loadgen.history.history import read_history
from loadgen.op import Outcome
from tests.sale_runs import EndedRun, run_sale, sale, wait_gone

STEADY = ("--shape", "constant", "--peak-rate", "100", "-u", "16")
IMAGES = {name: value for name, value in os.environ.items() if name.startswith("LOADGEN_IMAGE_")}
COMPOSE_WITHIN_S = 240.0
"""How long a cluster in Docker may take to its first arrival, or to be gone, on a busy machine."""


def acknowledged_after(run: EndedRun, instant_ns: int) -> int:
    """How many ops of ``run`` were acknowledged later than ``instant_ns`` of the monotonic clock."""
    assert run.directory is not None
    processes = read_history(run.directory / "history").processes
    return sum(int(np.sum((one.ops["outcome"] == Outcome.OK) & (one.ops["done"] > instant_ns))) for one in processes)


def member(plan: Mapping[str, Any], name: str) -> Address:
    """One server of an embedded PostgreSQL cluster."""
    facts = plan["cluster"]["members"][name]
    directory = Path(facts["data"]).parent
    password = (directory / "pgpass").read_text().strip().rpartition(":")[2]
    return Address("", facts["port"], "postgres", password, "postgres", str(directory))


def container_of(client: Any, cluster: Mapping[str, Any], service: str) -> Any:
    """The container of one service of a run's compose cluster."""
    labels = [f"com.docker.compose.project={cluster['project']}", f"com.docker.compose.service={service}"]
    (found,) = client.containers.list(filters={"label": labels})
    return found


def takes_writes(address: Address) -> bool:
    """Whether a PostgreSQL server is there, and says that it is no standby."""
    with suppress(ClusterError), closing(POSTGRES.control(address, "test")) as control:
        return control.query("SHOW transaction_read_only") == [("off",)]
    return False


def kill_server(pid: int) -> None:
    """SIGKILL to a PostgreSQL server and all that belongs to it, as if its machine had died."""
    children = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    for child in children:
        if child.is_running():
            child.kill()


def promote_most_advanced(plan: Mapping[str, Any], dead: str) -> str:
    """Promote the standby that has received most, and let the others follow it; its name."""
    controls = {
        name: POSTGRES.control(member(plan, name), "test") for name in plan["cluster"]["members"] if name != dead
    }
    try:
        received = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn"
        best = max(controls, key=lambda name: int(controls[name].query(received)[0][0]))
        assert controls[best].query("SELECT pg_promote()") == [(True,)]
        for name in controls.keys() - {best}:
            source = str(controls[name].query("SHOW primary_conninfo")[0][0])
            old, new = (f"port={member(plan, one).port}" for one in (dead, best))
            repointed = source.replace(old, new).replace("'", "''")
            controls[name].query(f"ALTER SYSTEM SET primary_conninfo = '{repointed}'")
            controls[name].query("SELECT pg_reload_conf()")
        return best
    finally:
        for control in controls.values():
            control.close()


@pytest.mark.server("postgres")
def test_sale_on_a_replicated_embedded_postgres_is_valid(tmp_path: Path) -> None:
    """Three servers without Docker; what they say of their replication is on record, and the figures name the nodes."""
    run = run_sale(tmp_path, "--nodes", "3", "--duration", "3s", *STEADY)

    assert run.exit_code == 0, run
    cluster = run.plan["cluster"]
    assert cluster["nodes"] == run.summary["engine"]["nodes"] == 3
    assert cluster["replication"]["complete"] is True
    assert [one["name"] for one in cluster["replication"]["standbys"]] == ["node2", "node3"]
    assert {one["sync_state"] for one in cluster["replication"]["standbys"]} == {"quorum"}
    assert "3 nodes (synchronous standbys)" in run.stdout
    assert not Path(cluster["data"]).parent.exists()
    assert [pid for pid in cluster["processes"] if psutil.pid_exists(pid)] == []


@pytest.mark.server("postgres")
def test_load_goes_on_at_the_promoted_postgres_and_no_order_is_lost(tmp_path: Path) -> None:
    """SIGKILL of the primary under load, and the most advanced standby is promoted."""
    with sale(tmp_path, "--headless", "--nodes", "3", "--duration", "10s", *STEADY) as running:
        running.wait_for_progress(3)
        plan = running.plan
        processes = running.processes()
        kill_server(plan["cluster"]["members"]["node1"]["process"])
        promote_most_advanced(plan, "node1")
        promoted = time.monotonic_ns()
        run = running.end()

    assert run.exit_code == 0, run
    assert run.summary["verdict"] == "valid"
    assert acknowledged_after(run, promoted + 2 * NS_PER_S) > 100
    assert wait_gone(processes, 5.0) == []
    assert not Path(plan["cluster"]["data"]).parent.exists()


@pytest.mark.server("postgres")
def test_old_primary_that_comes_back_is_not_taken_for_the_writable_one(tmp_path: Path) -> None:
    """It is replaced while it is frozen, and back before the end, first in the address: what it has is old."""
    with sale(tmp_path, "--headless", "--nodes", "3", "--duration", "14s", *STEADY) as running:
        running.wait_for_progress(2)
        plan = running.plan
        old = psutil.Process(plan["cluster"]["members"]["node1"]["process"])
        old.suspend()
        for child in old.children():
            child.kill()
        promote_most_advanced(plan, "node1")
        promoted = time.monotonic_ns()
        running.wait_for_progress(6)
        # It finds its processes dead, recovers, and is a primary as before.
        old.resume()
        running.wait_until(lambda: takes_writes(member(plan, "node1")), "the old primary's return")
        run = running.end()

    assert run.exit_code == 0, run
    assert run.summary["verdict"] == "valid"
    assert acknowledged_after(run, promoted + 2 * NS_PER_S) > 100


@pytest.mark.container("mysql")
def test_load_goes_on_at_the_primary_that_the_mysql_group_elects(tmp_path: Path) -> None:
    """docker kill of the primary under load: the group elects another by itself, and the load finds it."""
    # By default the group gives a silent member five seconds more before it expels it.
    environment = {**IMAGES, "LOADGEN_EXPEL_TIMEOUT": "0"}
    options = ("--headless", "--engine", "mysql", "--cluster", "compose", "--duration", "20s", *STEADY)
    with sale(tmp_path, *options, environment=environment) as running, closing(docker_client()) as client:
        running.wait_until(lambda: running.progress_lines() >= 3, "the load", within_s=COMPOSE_WITHIN_S)
        cluster = running.plan["cluster"]
        container_of(client, cluster, "node1").kill()
        killed = time.monotonic_ns()
        run = running.end(COMPOSE_WITHIN_S)
        left = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={cluster['project']}"})

    assert run.exit_code == 0, run
    assert run.summary["verdict"] == "valid"
    assert run.summary["engine"]["nodes"] == 3
    assert acknowledged_after(run, killed + 2 * NS_PER_S) > 100
    assert left == []


@pytest.mark.container("oceanbase")
def test_load_goes_on_at_the_standby_that_is_activated(tmp_path: Path) -> None:
    """seekdb's primary is killed: what its standby never got may be proved lost, and what is left adds up."""
    if "seekdb" not in image_of("oceanbase"):
        pytest.skip("the image of oceanbase is not seekdb's")
    options = ("--headless", "--engine", "oceanbase", "--cluster", "compose", "--duration", "12s", *STEADY)
    with sale(tmp_path, *options, environment=IMAGES) as running, closing(docker_client()) as client:
        running.wait_until(lambda: running.progress_lines() >= 3, "the load", within_s=COMPOSE_WITHIN_S)
        cluster = running.plan["cluster"]
        variables = dict(one.split("=", 1) for one in container_of(client, cluster, "node2").attrs["Config"]["Env"])
        host, _, port = cluster["members"]["node2"].partition(":")
        container_of(client, cluster, "node1").kill()
        standby = Address(host, int(port), "root", variables["ROOT_PASSWORD"])
        with closing(OCEANBASE.control(standby, "test")) as control:
            control.query("ALTER SYSTEM ACTIVATE STANDBY")
        activated = time.monotonic_ns()
        run = running.end(COMPOSE_WITHIN_S)

    assert acknowledged_after(run, activated + 2 * NS_PER_S) > 100
    assert run.exit_code == (4 if run.found else 0), run
    assert run.found.isdisjoint({"oversell", "negative-stock", "stock-not-conserved", "duplicate-token", "user-limit"})
    assert "asynchronous" in run.stdout
