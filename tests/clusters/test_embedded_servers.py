"""What every embedded server keeps: it gets no more than it needs, opens no port, and ends whatever was done to it."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from loadgen import clusters
from loadgen.clusters.cluster import Cluster, Place
from loadgen.plan import ENGINES
from tests.clusters.test_process import gone
from tests.plans import sale_plan

pytestmark = pytest.mark.server


def started(engine: str, tmp_path: Path) -> tuple[Cluster, list[psutil.Process]]:
    """A server, and its processes."""
    cluster = clusters.start(sale_plan(engine=engine, sessions=4), Place(logs=tmp_path, say=lambda _: None))
    first = psutil.Process(cluster.facts()["processes"][0])
    return cluster, [first, *first.children(recursive=True)]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_of_ours_reaches_it_and_nobody_reaches_it(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables may hold secrets; a port lets in everybody on this machine."""
    monkeypatch.setenv("LOADGEN_DSN", "mysql://root:secret-of-ours@db.example/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    cluster, processes = started(engine, tmp_path)
    try:
        for process in processes:
            assert b"secret-of-ours" not in Path(f"/proc/{process.pid}/environ").read_bytes()
            assert [listening for listening in process.net_connections("inet") if listening.status == "LISTEN"] == []
    finally:
        cluster.stop(keep=False)


@pytest.mark.parametrize(
    ("engine", "also"),
    [("postgres", "nothing"), ("postgres", "kills the first"), *((engine, "the first") for engine in ENGINES)],
)
def test_frozen_processes_end_with_it(tmp_path: Path, engine: str, also: str) -> None:
    """All of its children are stopped (SIGSTOP); the server itself too, or it is killed before it is stopped."""
    cluster, (first, *children) = started(engine, tmp_path)
    try:
        for child in children:
            os.kill(child.pid, signal.SIGSTOP)
        if also != "nothing":
            os.kill(first.pid, signal.SIGSTOP if also == "the first" else signal.SIGKILL)
    finally:
        cluster.stop(keep=False)

    assert all(gone(process.pid) for process in (first, *children))
