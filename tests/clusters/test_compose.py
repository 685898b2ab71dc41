"""Clusters by compose, for real: replicated as they should be, in the servers' own words, and gone afterwards."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.binaries import deploy_folder
from loadgen.clusters.cluster import Cluster, Place
from loadgen.clusters.compose import TOPOLOGIES, start
from loadgen.clusters.daemon import RUN_LABEL, docker_client
from loadgen.clusters.images import image_of
from loadgen.engines import engine_of
from loadgen.engines.address import members_of
from loadgen.engines.engine import Address
from loadgen.errors import ClusterError, PlanError
from tests.plans import sale_plan


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A run directory of the test's own name."""
    logs = tmp_path / "logs"
    logs.mkdir()
    return Place(logs=logs, say=lambda _: None)


@pytest.fixture
def client() -> Iterator[Any]:
    """The Docker engine."""
    client = docker_client()
    yield client
    client.close()


def left_by(client: Any, place: Place) -> list[str]:
    """Containers, networks and volumes of this test's run."""
    run = f"{place.logs.parent.name}-"
    filters = {"label": RUN_LABEL}
    things = [
        *((one.name, one.labels) for one in client.containers.list(all=True, filters=filters)),
        *((one.name, one.attrs["Labels"]) for one in client.networks.list(filters=filters)),
        *((one.name, one.attrs["Labels"]) for one in client.volumes.list(filters=filters)),
    ]
    return [name for name, labels in things if labels[RUN_LABEL].startswith(run)]


def read_only_members(cluster: Cluster, engine: str) -> list[Address]:
    """Those of a cluster's members that say of themselves that they take no writes."""
    found = []
    for member in (*members_of(cluster.address), *cluster.replicas):
        with closing(engine_of(engine).control(member, "test")) as control:
            if control.read_only() and member not in found:
                found.append(member)
    return found


def test_number_of_nodes_that_the_file_has_not_is_refused(place: Place) -> None:
    """The message says how many there are."""
    with pytest.raises(PlanError, match="starts 3 nodes of PostgreSQL"):
        start(sale_plan(cluster="compose", nodes=5), place)


@pytest.mark.parametrize("folder", sorted(TOPOLOGIES))
def test_compose_file_is_valid(folder: str) -> None:
    """docker compose itself takes it, as a person starts it."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], check=False).returncode:
        pytest.skip("no docker compose")
    command = ["docker", "compose", "config", "--quiet"]
    directory = deploy_folder() / TOPOLOGIES[folder].folder
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.container("postgres")
def test_postgres_has_two_synchronous_standbys_and_leaves_nothing(place: Place, client: Any) -> None:
    """Both stream, both count for the quorum; afterwards no container, network or volume is there."""
    cluster = start(sale_plan(cluster="compose", nodes=3), place)
    try:
        facts = cluster.facts()
        assert facts["nodes"] == 3
        assert [standby["sync_state"] for standby in facts["replication"]["standbys"]] == ["quorum", "quorum"]
        assert read_only_members(cluster, "postgres") == list(cluster.replicas)
    finally:
        cluster.stop(keep=False)
    assert left_by(client, place) == []
    assert len(list(place.logs.glob("*.log"))) == 3


@pytest.mark.container("mysql")
def test_mysql_group_has_three_members_and_one_primary(place: Place, client: Any) -> None:
    """Group Replication is complete, and the entry is its primary."""
    cluster = start(sale_plan(engine="mysql", cluster="compose"), place)
    try:
        members = cluster.facts()["replication"]["members"]
        assert [member["state"] for member in members] == ["ONLINE"] * 3
        assert [member["name"] for member in members if member["role"] == "PRIMARY"] == ["node1"]
        assert read_only_members(cluster, "mysql") == list(cluster.replicas)
    finally:
        cluster.stop(keep=False)
    assert left_by(client, place) == []


@pytest.mark.container("oceanbase")
def test_seekdb_pair_says_that_it_is_asynchronous(place: Place, client: Any) -> None:
    """Primary and standby have their roles, and the record says what that is worth."""
    if "seekdb" not in image_of("oceanbase"):
        pytest.skip("the image of oceanbase is not seekdb's")
    cluster = start(sale_plan(engine="oceanbase", cluster="compose"), place)
    try:
        replication = cluster.facts()["replication"]
        assert [member["role"] for member in replication["members"]] == ["PRIMARY", "STANDBY"]
        assert "asynchronous" in replication["kind"]
        assert read_only_members(cluster, "oceanbase") == list(cluster.replicas)
    finally:
        cluster.stop(keep=False)
    assert left_by(client, place) == []


@pytest.mark.container("postgres")
def test_member_that_dies_is_named_with_its_last_words(
    place: Place, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory for a member: which one, why, and nothing stays."""
    monkeypatch.setenv("LOADGEN_MEMORY", "12m")
    with pytest.raises(ClusterError, match=r"PostgreSQL's node1 .+: .+"):
        start(sale_plan(cluster="compose"), place)
    assert left_by(client, place) == []


@pytest.mark.container("postgres")
def test_missing_image_of_a_member_names_the_ways_to_have_one(
    place: Place, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is nowhere: one line, and nothing stays."""
    monkeypatch.setenv("LOADGEN_IMAGE_POSTGRES", "registry.invalid/postgres:none")
    with pytest.raises(ClusterError, match=r"registry\.invalid.*LOADGEN_IMAGE_\*.*deploy/images/build\.sh") as raised:
        start(sale_plan(cluster="compose"), place)
    assert "\n" not in str(raised.value)
    assert left_by(client, place) == []


@pytest.mark.container("postgres")
def test_docker_without_its_compose_plugin_is_said_to_be_so(
    place: Place, tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Docker's client says then, and what to install."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match=r"no compose plugin.*install docker-compose-plugin"):
        start(sale_plan(cluster="compose"), place)
    assert left_by(client, place) == []
