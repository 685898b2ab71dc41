"""``--metrics-port`` on real runs: each process serves what the run's own summary says."""

import itertools
import os
import re
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from loadgen.clusters.cluster import Cluster
from tests.sale_runs import RunningSale, dsn_of, run_sale, sale, wait_gone

STEADY = ("--shape", "constant", "--peak-rate", "200", "--duration", "2s", "-u", "8")
parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
pytestmark = [pytest.mark.server("postgres"), pytest.mark.parametrize("engine", ["postgres"])]


@pytest.fixture
def server(cluster: Cluster) -> dict[str, str]:
    """The environment of a run on the session's server."""
    return {"LOADGEN_DSN": dsn_of(cluster.address, "postgres")}


def ports(running: RunningSale) -> list[int]:
    """Where the processes of a run said that they serve their metrics."""
    return [int(port) for port in re.findall(r"^loadgen: metrics of .*:(\d+)/metrics$", running.stderr, re.MULTILINE)]


def scraped(port: int) -> dict[str, float]:
    """``{name and labels: value}`` of one process."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = parser.text_string_to_metric_families(answer.read().decode())
        return {
            sample.name + "".join(f" {name}={sample.labels[name]}" for name in sorted(sample.labels)): sample.value
            for family in families
            for sample in family.samples
        }


def free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that are free, and that no other call of this process was given."""
    first = next(_PORTS)
    while not all(map(_is_free, range(first, first + count))):
        first = next(_PORTS)
    return first


_PORTS = itertools.count(20_000 + os.getpid() % 1_000 * 10, 5)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_run_and_its_load_process_serve_what_the_summary_says(
    tmp_path: Path, server: Mapping[str, str], engine: str
) -> None:
    """In one process, also after the end while the page lives; and the run ends as ever."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        page = str(probe.getsockname()[1])
    asked = str(free_ports(1))
    options = ("--autostart", "--autoquit", "2", "--web-port", page, "--metrics-port", asked, *STEADY)
    with sale(tmp_path, *options, environment=server) as running:
        running.wait_until(lambda: ports(running), "its metrics")
        (port,) = ports(running)
        assert str(port) == asked
        assert scraped(port)["loadgen_run_state state=idle"] + scraped(port)["loadgen_run_state state=ready"] == 1
        running.wait_for_progress()
        urllib.request.urlopen(f"http://127.0.0.1:{page}/", timeout=10).close()  # Locust parses its options again
        now = scraped(port)
        assert now["loadgen_run_state state=running"] == 1 and now["loadgen_phase phase=plateau"] == 1
        assert now["loadgen_sessions_connected"] == 8 and now["loadgen_ops_due_total"] > 20
        running.wait_until(lambda: scraped(port)["loadgen_run_state state=ended"], "its verdict")
        end = scraped(port)
        run = running.end(30)

    orders = run.summary["orders"]
    assert run.exit_code == 0, run
    assert end["loadgen_ops_total answer=placed kind=order outcome=ok"] == orders["placed"] > 200
    assert end["loadgen_ops_total answer=none kind=order outcome=skipped"] == orders["skipped"]
    for name in ("response", "service"):
        times = run.summary[f"{name}_time_ms"]
        for kind in ("order", "pay", "browse"):
            assert end[f"loadgen_{name}_seconds_count kind={kind}"] == times[kind]["count"]
    ended = sum(count for key, count in end.items() if key.startswith("loadgen_ops_total "))
    skipped = sum(count for key, count in end.items() if key.endswith("outcome=skipped"))
    assert end["loadgen_ops_due_total"] == ended
    assert end["loadgen_ops_started_total"] == ended - skipped
    assert end["loadgen_verdict verdict=valid"] == 1 and end["loadgen_exit_code"] == 0
    assert end["loadgen_violations check=oversell"] == 0
    assert end["loadgen_client_cpu_seconds_total"] >= run.summary["client"]["cpu_seconds"]
    assert end["loadgen_ops_in_flight"] == end["loadgen_ops_queued"] == end["loadgen_sessions_busy"] == 0


def test_each_process_has_a_port_of_its_own(tmp_path: Path, server: Mapping[str, str], engine: str) -> None:
    """The master has the one that was asked for, with the run; the workers the next ones, with the load."""
    first = free_ports(3)
    options = ("--headless", "--processes", "2", "--metrics-port", str(first), *STEADY)
    with sale(tmp_path, *options, environment=server) as running:
        running.wait_for_progress()
        told = sorted(ports(running))
        processes = running.processes()
        master, *workers = (scraped(port) for port in told)
        run = running.end()

    assert told == [first, first + 1, first + 2]
    assert master["loadgen_run_state state=running"] == 1 and "loadgen_ops_due_total" not in master
    for worker in workers:
        assert worker["loadgen_ops_due_total"] > 20 and worker["loadgen_sessions_connected"] == 4
        assert "loadgen_run_state state=running" not in worker
    infos = [{key for key in process if key.startswith("loadgen_run_info")} for process in (master, *workers)]
    assert infos[0] == infos[1] == infos[2] and len(infos[0]) == 1
    assert run.exit_code == 0, run
    assert not wait_gone(processes, 5)
    for port in told:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_in_use_is_one_line_before_anything_is_started(
    tmp_path: Path, server: Mapping[str, str], engine: str, taken: int
) -> None:
    """The master's or a worker's: exit code 2, no server is touched and no run directory made."""
    first = free_ports(3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", first + taken))
        other.listen()
        run = run_sale(tmp_path, "--processes", "2", "--metrics-port", str(first), *STEADY, environment=server)

    assert run.exit_code == 2 and run.directory is None, run
    lines = [line for line in run.stderr.splitlines() if line.startswith("loadgen: ")]
    place = "--metrics-host 127.0.0.1 --metrics-port"
    assert lines == [f"loadgen: {place}: {first + taken} cannot be listened on: Address already in use"]
    assert "Traceback" not in run.told
