"""Servers in containers, for real: each engine starts, says what it is, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Place
from loadgen.clusters.container import start
from loadgen.clusters.daemon import LOOPBACK, RUN_LABEL, docker_client
from loadgen.engines import engine_of
from loadgen.errors import ClusterError
from loadgen.plan import ENGINES
from tests.plans import sale_plan

GONE_WITHIN_S = 30.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A run directory of the test's own name, which its containers carry."""
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
    """The containers of this test's run, running or not."""
    listed = client.containers.list(all=True, filters={"label": RUN_LABEL})
    run = place.logs.parent.name
    return [container.name for container in listed if container.labels[RUN_LABEL].startswith(f"{run}-")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.container
def test_server_in_a_container_answers_and_leaves_nothing(engine: str, place: Place, client: Any) -> None:
    """It is on 127.0.0.1, takes its random password, says its version, and goes with its log kept."""
    cluster = start(sale_plan(engine=engine, cluster="container"), place)
    try:
        control = engine_of(engine).control(cluster.address, "test")
        assert control.facts()["version"]
        control.close()
        assert cluster.address.host == LOOPBACK
        container = client.containers.get(cluster.facts()["container"])
        published = [one for bound in container.attrs["NetworkSettings"]["Ports"].values() for one in bound or []]
        assert {one["HostIp"] for one in published} == {LOOPBACK}
        assert container.attrs["HostConfig"]["Memory"] > 0
        assert cluster.address.password not in str(cluster.facts())
    finally:
        cluster.stop(keep=False)

    assert left_by(client, place) == []
    assert [file.suffix for file in place.logs.iterdir()] == [".log"]
    assert cluster.stop(keep=False) == ""


@pytest.mark.container("postgres")
def test_wrong_password_is_refused_once_the_server_is_ready(place: Place) -> None:
    """Readiness comes after the password, so nobody gets in without it."""
    cluster = start(sale_plan(cluster="container"), place)
    try:
        from dataclasses import replace

        with pytest.raises(ClusterError):
            engine_of("postgres").control(replace(cluster.address, password="wrong"), "test")
    finally:
        cluster.stop(keep=False)


@pytest.mark.container("mysql")
def test_server_without_enough_memory_says_so(place: Place, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory: one line with the limit and the server's last words; nothing stays."""
    monkeypatch.setenv("LOADGEN_MEMORY", "64m")
    with pytest.raises(ClusterError, match=r"MySQL was .*out of memory \(limit 64m; LOADGEN_MEMORY raises it\): .+"):
        start(sale_plan(engine="mysql", cluster="container"), place)
    assert left_by(client, place) == []


@pytest.mark.container("mysql")
def test_container_that_dies_shows_its_last_words(place: Place, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrong image for an engine: its exit code and last log lines are in the message, and nothing stays."""
    from loadgen.clusters.images import image_of

    monkeypatch.setenv("LOADGEN_IMAGE_POSTGRES", image_of("mysql"))
    with pytest.raises(ClusterError, match=r"PostgreSQL ended with exit code \d+ while it was starting: .*postgres"):
        start(sale_plan(cluster="container"), place)
    assert left_by(client, place) == []


@pytest.mark.container("postgres")
def test_missing_image_names_the_ways_to_have_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is nowhere: the override and the build script are in the message."""
    monkeypatch.setenv("LOADGEN_IMAGE_POSTGRES", "registry.invalid/postgres:none")
    with pytest.raises(ClusterError, match=r"registry\.invalid.*LOADGEN_IMAGE_POSTGRES.*deploy/images/build\.sh"):
        start(sale_plan(cluster="container"), place)


@pytest.mark.container("postgres")
def test_container_goes_even_when_its_owner_is_killed(place: Place, client: Any) -> None:
    """SIGKILL leaves us no chance; the guard removes the container."""
    script = (
        "import sys; from pathlib import Path\n"
        "from loadgen.clusters.cluster import Place; from loadgen.clusters.container import start\n"
        "from loadgen.plan import Plan\n"
        "start(Plan(cluster='container'), Place(Path(sys.argv[1]), print))\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(place.logs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None and owner.stdin is not None
    assert "ready\n" in iter(owner.stdout.readline, "")
    assert left_by(client, place)

    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()

    deadline = time.monotonic() + GONE_WITHIN_S
    while left_by(client, place):
        assert time.monotonic() < deadline, "the guard did not remove the container"
        time.sleep(0.1)
