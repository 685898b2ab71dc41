"""Load processes that come late, fall silent or go: each arrival of the schedule is driven or counted, and told."""

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadgen import engines
from loadgen.clusters.cluster import Cluster
from tests.sale_runs import EndedRun, RunningSale, dsn_of, run_sale, sale, wait_gone
from tests.test_endings import assert_due_is_the_schedule, workers
from tests.test_page import page

STEADY = ("--headless", "--shape", "constant", "--peak-rate", "150", "-u", "12")
TOKEN = {"LOADGEN_TOKEN": "of this test"}
pytestmark = [pytest.mark.server("postgres"), pytest.mark.parametrize("engine", ["postgres"])]


@pytest.fixture
def server(cluster: Cluster, engine: str) -> Mapping[str, str]:
    """The environment of runs on the session's server."""
    return {"LOADGEN_DSN": dsn_of(cluster.address, engine)}


@contextmanager
def by_hand(directory: Path, server: Mapping[str, str], count: int, *options: str) -> Iterator[tuple[RunningSale, str]]:
    """A master that awaits ``count`` workers, and these; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**server, **TOKEN}
    options = (*STEADY, "--master", "--expect-workers", str(count), "--master-bind-port", port, *options)
    with sale(directory, *options, environment=environment) as master:
        hired = [hire(directory, server, port) for _ in range(count)]
        try:
            yield master, port
        finally:
            for worker in hired:
                worker.destroy()


def hire(directory: Path, server: Mapping[str, str], port: str) -> RunningSale:
    """A worker that is started by hand."""
    return RunningSale(directory, ("--worker", "--master-port", port), environment={**server, **TOKEN})


def assert_lost(run: EndedRun, load_processes: int, lost: int) -> None:
    """It is told, counted as skipped, and exit 1; nothing is accused."""
    assert run.exit_code == 1, run
    assert run.summary["verdict"] == "valid" and not run.summary["complete"]
    assert len(run.summary["lost"]) + len(run.summary["died"]) == lost
    assert "lost" in run.summary["exit_reason"] and "exit code 1" in run.stdout
    assert run.summary["skipped_because"]["worker_lost"] > 20
    assert_due_is_the_schedule(run, load_processes)


@pytest.mark.parametrize("moment", ["preparing", "waiting"])
def test_worker_that_ends_before_the_load_begins_refuses_the_run(
    tmp_path: Path, server: Mapping[str, str], engine: str, moment: str
) -> None:
    """Its part would be missing: one line, exit 2, no process left. Also where Locust still waits for its workers."""
    options = (*STEADY, "--processes", "3", "--duration", "5s", *(["-r", "4"] if moment == "waiting" else []))
    with sale(tmp_path, *options, environment=server) as running:
        running.wait_until(lambda: "preparing" in running.stdout, "its preparation")
        if moment == "waiting":
            time.sleep(2.0)
        processes = running.processes()
        workers(running)[1].kill()
        run = running.end(30)

    assert run.exit_code == 2, run
    assert "1 of 3 load processes ended before the load began" in run.stderr
    assert "Traceback" not in run.told and not run.summary
    assert not wait_gone(processes, 5)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_workers_that_are_terminated_are_lost(
    tmp_path: Path, server: Mapping[str, str], engine: str, all_of_them: bool
) -> None:
    """They end in order, and yet nobody drives the rest of their schedule. Without any the run ends at once."""
    with sale(tmp_path, *STEADY, "--processes", "2", "--duration", "5s", environment=server) as running:
        running.wait_for_progress(2)
        for worker in workers(running)[: 2 if all_of_them else 1]:
            worker.terminate()
        run = running.end(20)

    assert_lost(run, 2, 2 if all_of_them else 1)
    assert "load process" in run.stdout and "was lost" in run.stdout
    assert run.summary["sessions"][-1][1] == (0 if all_of_them else 12)
    assert bool(run.summary["cut_short"]) is all_of_them


def test_silence_of_the_master_costs_nothing_until_its_workers_give_up(
    tmp_path: Path, server: Mapping[str, str], engine: str
) -> None:
    """Five seconds cost nothing. After ten they start nothing any more: told, counted as skipped, exit 1."""
    with sale(tmp_path, *STEADY, "--processes", "2", "--duration", "22s", environment=server) as running:
        running.wait_for_progress(2)
        for pause_s in (5.0, 12.0):
            os.kill(running.process.pid, signal.SIGSTOP)
            time.sleep(pause_s)
            os.kill(running.process.pid, signal.SIGCONT)
            time.sleep(1.0)
        run = running.end(20)

    assert_lost(run, 2, 2)
    assert all("no word from its master for 10 s" in reason for reason in run.summary["lost"].values())
    assert run.summary["skipped_because"]["no_number"] == 0
    assert run.summary["orders"]["started"] > 0.9 * 150 * 15


def test_worker_that_comes_late_waits_and_takes_no_session_away(
    tmp_path: Path, server: Mapping[str, str], engine: str
) -> None:
    """Locust would give it users of the others, which then would do nothing."""
    with by_hand(tmp_path, server, 2, "--duration", "9s") as (master, port):
        master.wait_for_progress()
        late = hire(tmp_path, server, port)
        run = master.end(30)
        late.end(10)

    assert run.exit_code == 0, run
    assert run.summary["sessions"] == [[0, 12]]
    assert any("a worker came" in warning for warning in run.summary["warnings"])
    assert "this worker waits for the next one" in late.stderr
    assert_due_is_the_schedule(run, 2)


def test_worker_without_its_master_stops_within_seconds(
    tmp_path: Path, cluster: Cluster, server: Mapping[str, str], engine: str
) -> None:
    """Nobody records what it does: it starts nothing later than ten seconds after its master's last word."""
    with by_hand(tmp_path, server, 1, "--duration", "60s") as (master, _):
        master.wait_for_progress(2)
        master.process.kill()
        killed = time.monotonic()
        control = engines.engine_of(engine).control(cluster.address, "test")
        orders, last_change = -1, killed
        while time.monotonic() < min(killed + 20, last_change + 2):
            count = control.query("SELECT count(*) FROM loadgen.orders")[0][0]
            if count != orders:
                orders, last_change = count, time.monotonic()
            time.sleep(0.1)
        control.close()

    assert 5 < last_change - killed < 11


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_after_the_load_keeps_the_code_of_the_verdict(
    tmp_path: Path, server: Mapping[str, str], engine: str, number: int
) -> None:
    """The schedule was served whole: whoever asks for the end now gets it anyway."""
    with sale(tmp_path, *STEADY, "--duration", "2s", environment=server) as running:
        running.wait_until(lambda: "reading the tables" in running.stdout, "its final reads")
        running.process.send_signal(number)
        run = running.end(20)

    assert run.exit_code == 0, run
    assert run.summary["complete"] and not run.summary["signalled"]


def test_too_few_sessions_are_told_first(tmp_path: Path, server: Mapping[str, str], engine: str) -> None:
    """The database was idle: the figures are those of two sessions, and the report says how many it needs."""
    options = ("--shape", "constant", "--peak-rate", "4000", "-u", "1", "--duration", "3s")
    run = run_sale(tmp_path, *options, environment=server)
    first_lines = " ".join(line.strip() for line in run.stdout.partition("VALID ")[2].splitlines()[:4])

    assert run.exit_code == 0, run
    assert run.summary["limited_by"] == "sessions"
    assert run.summary["sessions_needed"] > 1
    assert "too few sessions (1)" in first_lines and f"-u {run.summary['sessions_needed']}" in first_lines
    assert "its CPU was not the bottleneck, its sessions were too few" in " ".join(run.stdout.split())


def test_sessions_that_are_edited_on_the_page_are_recorded(
    tmp_path: Path, server: Mapping[str, str], engine: str
) -> None:
    """The report says how many there were from which second on; so does the table of seconds."""
    form = {"user_count": "8", "spawn_rate": "100", "shape": "constant", "peak_rate": "100", "duration": "5s"}
    with page(tmp_path, environment=server) as (shown, running):
        assert shown.start(**form)["success"]
        running.wait_for_progress(2)
        assert shown.start(**{**form, "user_count": "3"})["success"]
        running.wait_until(lambda: "3 from second" in running.stdout, "its report")
        running.process.send_signal(signal.SIGINT)
        run = running.end(20)

    assert run.exit_code == 0, run
    assert [count for _, count in run.summary["sessions"]] == [8, 3]
    assert "sessions over time: 8 from second 0, 3 from second" in run.stdout


@pytest.mark.parametrize("slo", ["placed_per_second>=5", "skipped<=1%", "order.p99<=1s"])
def test_objective_that_a_probe_can_not_measure_is_refused(
    tmp_path: Path, server: Mapping[str, str], engine: str, slo: str
) -> None:
    """One line before anything starts, and no run directory; so is one on what the tags have taken."""
    assert engine
    run = run_sale(tmp_path, "--tags", "browse", "--slo", slo, environment=server)

    assert run.exit_code == 2, run
    assert f"--slo {slo!r} can't be measured" in run.stderr.splitlines()[-1]
    assert run.directory is None
