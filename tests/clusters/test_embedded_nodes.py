"""Several embedded PostgreSQL servers: one takes writes, a connection finds it, and nothing of them stays."""

import asyncio
import dataclasses
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from loadgen import clusters
from loadgen.clusters.cluster import Cluster, Place
from loadgen.engines.address import joined, members_of
from loadgen.engines.engine import CONNECT_TIMEOUT_S, Address, level_of
from loadgen.engines.postgres import ENGINE
from loadgen.engines.session import Session
from loadgen.errors import ClusterError
from tests.clusters.test_process import gone
from tests.plans import sale_plan

pytestmark = pytest.mark.server("postgres")
PLAN = sale_plan(engine="postgres", cluster="embedded", nodes=3, sessions=7)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A primary and two standbys, for all tests that leave them as they were."""
    cluster = clusters.start(PLAN, Place(logs=tmp_path_factory.mktemp("logs"), say=lambda _: None))
    yield cluster
    cluster.stop(keep=False)


def primary_last(cluster: Cluster) -> Address:
    """The cluster's address with its primary behind the standbys."""
    return joined([*cluster.replicas, members_of(cluster.address)[0]])


def ask(address: Address, sql: str) -> object:
    """The one value that the server at ``address`` answers."""
    with closing(ENGINE.control(address, "test")) as control:
        return control.query(sql)[0][0]


async def connect_once(address: Address) -> str:
    """The error code of a load session that is opened; empty if it was."""
    session = Session(ENGINE, address, level_of(ENGINE, ""))
    failure = await session.connect()
    await session.close()
    return failure.code if failure else ""


def test_replicas_are_standbys_that_can_be_read(cluster: Cluster) -> None:
    """Each by its own address, in the same private directory."""
    assert [ask(replica, "SELECT pg_is_in_recovery()") for replica in cluster.replicas] == [True, True]
    assert {replica.socket for replica in cluster.replicas} == {members_of(cluster.address)[0].socket}
    assert Path(cluster.replicas[0].socket).stat().st_mode & 0o777 == 0o700


def test_connections_find_the_primary_wherever_it_stands(cluster: Cluster) -> None:
    """The control's and the load's; standbys alone are told apart from servers that are gone."""
    assert ask(primary_last(cluster), "SELECT pg_is_in_recovery()") is False
    assert asyncio.run(connect_once(primary_last(cluster))) == ""
    assert asyncio.run(connect_once(joined(cluster.replicas))) == "25006"


def test_host_that_is_frozen_costs_its_share_of_the_time_only(cluster: Cluster) -> None:
    """SIGSTOP of the first host: the load's connection goes on to the next ones within the limit of one."""
    frozen = cluster.facts()["members"]["node2"]["process"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert asyncio.run(connect_once(primary_last(cluster))) == ""
        assert time.monotonic() - began < CONNECT_TIMEOUT_S
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_primary_without_its_standbys_cannot_prove_that_it_is_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has may be old, so no final reads are taken from it; with its standbys it can."""
    monkeypatch.setattr("loadgen.engines.postgres_control.PROOF_LIMIT_S", 1.0)
    with closing(ENGINE.control(cluster.address, "test")) as control:
        control.prepare([])
        control.prove_writable()
    standbys = [cluster.facts()["members"][name]["process"] for name in ("node2", "node3")]
    receivers = [int(str(ask(replica, "SELECT pid FROM pg_stat_wal_receiver"))) for replica in cluster.replicas]
    for pid in (*standbys, *receivers):
        os.kill(pid, signal.SIGSTOP)
    try:
        with closing(ENGINE.control(cluster.address, "test")) as control, pytest.raises(ClusterError):
            control.prove_writable()
    finally:
        for pid in (*receivers, *standbys):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_cluster_whose_primary_was_killed_leaves_nothing(tmp_path: Path) -> None:
    """Every server is stopped, whoever lives; all that they wrote is gone."""
    cluster = clusters.start(PLAN.with_(nodes=2), Place(logs=tmp_path, say=lambda _: None))
    facts = cluster.facts()
    os.kill(facts["processes"][0], signal.SIGKILL)
    assert cluster.stop(keep=False) == ""
    assert all(gone(pid) for pid in facts["processes"])
    assert not Path(cluster.replicas[0].socket).exists()


def test_cluster_that_is_kept_starts_again_as_it_was(tmp_path: Path) -> None:
    """By one command: the primary, the standby that follows it, and the way in for a person."""
    cluster = clusters.start(PLAN.with_(nodes=2, keep=True), Place(logs=tmp_path, say=lambda _: None))
    connect = str(cluster.facts()["connect"])
    directory = cluster.replicas[0].socket
    command = cluster.stop(keep=True)
    try:
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, timeout=60)
        made = f"{connect} -Atc 'CREATE TABLE seen (id INT)'"
        subprocess.run(made, shell=True, check=True, capture_output=True, timeout=30)
    finally:
        stop = command.replace(" start", " -m immediate stop")
        subprocess.run(stop, shell=True, check=True, capture_output=True)
        subprocess.run(f"rm -r {shlex.quote(directory)}", shell=True, check=True)


def test_members_of_the_address_differ_in_their_ports_only(cluster: Cluster) -> None:
    """A path may stand where a host does."""
    first, *others = members_of(cluster.address)
    assert [dataclasses.replace(member, port=first.port) for member in others] == [first, first]
    assert tuple(others) == cluster.replicas
