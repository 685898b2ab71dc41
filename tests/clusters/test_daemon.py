"""Docker's errors reach a person as one line with a remedy."""

import pytest

from loadgen.clusters.container import memory_limit, start
from loadgen.clusters.daemon import docker_client, explained
from loadgen.errors import ClusterError, PlanError
from tests.plans import sale_plan


def test_engine_that_does_not_answer_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker down: where it was looked for, how to start it, and what works without it."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(
        ClusterError, match=r"nowhere/docker\.sock.*systemctl start docker.*--cluster embedded"
    ) as raised:
        docker_client()
    assert "\n" not in str(raised.value)


def test_engine_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A published port on 127.0.0.1 of another machine can't be reached from here."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(ClusterError, match="another machine"):
        docker_client()


def test_taken_port_is_explained() -> None:
    """The engine's own words, and what to do."""
    assert "choose another port" in explained("Bind for 127.0.0.1:3306 failed: port is already allocated")
    assert explained("something else") == "something else"


def test_memory_limit_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that Docker would not understand is refused before anything starts."""
    monkeypatch.delenv("LOADGEN_MEMORY", raising=False)
    assert memory_limit("2g") == "2g"
    monkeypatch.setenv("LOADGEN_MEMORY", "lots")
    with pytest.raises(PlanError, match="LOADGEN_MEMORY"):
        memory_limit("2g")


def test_several_nodes_in_a_container_are_refused() -> None:
    """One container is one node; compose starts more."""
    with pytest.raises(PlanError, match="--cluster compose"):
        start(sale_plan(engine="mysql", cluster="container", nodes=3), None)  # type: ignore[arg-type]
