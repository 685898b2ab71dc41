"""``loadgen up | status | down``: a cluster that stays keeps its data until somebody says ``down``."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen.clusters.daemon import RUN_LABEL, docker_client
from loadgen.commands import standing
from loadgen.commands.main import main
from loadgen.engines import engine_of
from loadgen.engines.address import parse_dsn

ANSWERS_WITHIN_S = 60.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no cluster of a person is found, or touched."""
    monkeypatch.setenv("LOADGEN_CACHE", str(tmp_path))
    monkeypatch.delenv("LOADGEN_MEMORY", raising=False)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that is refused."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_nothing_stands_at_first(capsys: pytest.CaptureFixture[str]) -> None:
    """That is no error, whoever asks; an engine that there is not, is."""
    for arguments in (["status"], ["down"], ["down", "postgres"]):
        assert main(arguments) == 0
    assert capsys.readouterr().out.count("standing") == 3
    assert "'oracle'" in refusal(capsys, "down", "oracle")


def test_up_refuses_what_it_cannot_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is none, a memory that is no size, an engine of Docker's that is not there."""
    assert "--port 70000" in refusal(capsys, "up", "postgres", "--port", "70000")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert "Docker does not answer" in refusal(capsys, "up", "postgres")
    monkeypatch.setenv("LOADGEN_MEMORY", "lots")
    assert "LOADGEN_MEMORY" in refusal(capsys, "up", "postgres")


@pytest.mark.parametrize("text", ["{", "[]", '{"project": "x"}'])
def test_file_that_says_nothing_is_told_and_kept(cache: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it stood for can't be known, so nothing is removed."""
    file = cache / "standing" / "mysql.json"
    file.parent.mkdir()
    file.write_text(text)

    assert "mysql.json does not say what is standing" in refusal(capsys, "down")
    assert main(["status"]) == 0
    assert "mysql.json does not say what is standing" in capsys.readouterr().out
    assert file.read_text() == text


@pytest.fixture
def dsn() -> Iterator[str]:
    """A standing PostgreSQL on free ports, removed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] - 3
    try:
        yield standing.up("postgres", say=print, port=port)
    finally:
        standing.down("postgres", say=print)


@pytest.mark.container("postgres")
def test_cluster_whose_server_has_died_keeps_its_data(
    dsn: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up again finds it; with its primary dead, up and status say so; started again, it has what it had."""
    control = engine_of("postgres").control(parse_dsn(dsn, {}), "test")
    control.query("CREATE TABLE public.kept (id INT)")
    control.close()
    assert main(["up", "postgres"]) == 0
    assert dsn in capsys.readouterr().out

    run = standing._read(cache / "standing" / "postgres.json")["run"]
    client = docker_client()
    (primary,) = client.containers.list(filters={"label": [f"{RUN_LABEL}={run}", "com.docker.compose.service=node1"]})
    primary.kill()
    assert "starts it again with its data" in refusal(capsys, "up", "postgres")
    assert main(["status"]) == 0
    assert "not as it should be" in capsys.readouterr().out

    primary.start()
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while standing.status()[0]["state"] != "up":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    control = engine_of("postgres").control(parse_dsn(dsn, {}), "test")
    assert control.query("SELECT count(*) FROM public.kept") == [(0,)]
    control.close()

    standing.down("postgres", say=print)
    assert not client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={run}"})
    assert not client.volumes.list(filters={"label": f"{RUN_LABEL}={run}"})
    client.close()
