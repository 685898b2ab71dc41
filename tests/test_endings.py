"""How a run ends when it does not end by itself: it is judged as far as it went, and nothing of it stays behind."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.plan import ENGINES, plan_from_json
from loadgen.schedule import plan_arrivals
from loadgen.shop.sale import order_share
from tests.sale_runs import EndedRun, RunningSale, dsn_of, run_sale, sale, wait_gone

LONG = ("--headless", "--duration", "60s", "--shape", "constant", "--peak-rate", "200", "-u", "16")
SHORT = ("--headless", "--duration", "4s", "--shape", "constant", "--peak-rate", "200", "-u", "16")
JUDGED_WITHIN_S = 10.0
GONE_WITHIN_S = 5.0
EVERY_ENGINE = pytest.mark.parametrize("engine", ENGINES)


def assert_nothing_left(run: RunningSale, processes: list[psutil.Process], within_s: float = GONE_WITHIN_S) -> None:
    """No process of the run is there any more, nor the directory of the server that it started."""
    assert processes
    left = wait_gone(processes, within_s)
    assert not left, [(process.pid, process.name()) for process in left]
    directory = server_directory(run)
    deadline = time.monotonic() + within_s
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not directory.exists()


def server_directory(run: RunningSale) -> Path:
    """The directory of the embedded server, with its socket in it."""
    return Path(run.plan["cluster"]["data"]).parent


def server_process(run: RunningSale) -> psutil.Process:
    """The embedded server."""
    return psutil.Process(run.plan["cluster"]["processes"][0])


def assert_cut_short(run: EndedRun) -> None:
    """The run was judged as far as it went: valid, it says that it was cut, and exits as a run that was."""
    assert run.exit_code == 1, run
    assert run.summary["verdict"] == "valid", run
    assert run.summary["complete"] is False
    assert run.summary["cut_short"]
    assert run.summary["duration_s"] < 30
    assert run.summary["orders"]["placed"] > 0
    assert "cut short" in run.stdout.lower()


def to_the_process(run: RunningSale, number: int) -> None:
    """As ``kill`` does."""
    run.process.send_signal(number)


def to_the_group(run: RunningSale, number: int) -> None:
    """As a terminal does on Ctrl-C: every process of the job gets it."""
    os.killpg(run.process.pid, number)


def ignore_interrupts() -> None:
    """As a shell without job control does for ``locust ... &``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "number", "send", "options", "before_exec"),
    [
        ("postgres", signal.SIGINT, to_the_group, (), None),
        ("mysql", signal.SIGTERM, to_the_process, (), None),
        ("tidb", signal.SIGINT, to_the_process, (), ignore_interrupts),
        ("oceanbase", signal.SIGINT, to_the_group, ("--processes", "2"), None),
        ("postgres", signal.SIGTERM, to_the_process, ("--processes", "2"), ignore_interrupts),
    ],
    ids=["ctrl-c", "terminate", "interrupt-in-background", "ctrl-c-with-workers", "terminate-with-workers"],
)
def test_signal_in_mid_run_has_it_judged_within_ten_seconds(
    tmp_path: Path,
    engine: str,
    number: int,
    send: Callable[[RunningSale, int], None],
    options: tuple[str, ...],
    before_exec: Callable[[], None] | None,
) -> None:
    """The run stops, what it did is judged and reported as cut short, and its server is gone."""
    with sale(tmp_path, *LONG, "--engine", engine, *options, before_exec=before_exec) as running:
        running.wait_for_progress()
        processes = running.processes()
        began = time.monotonic()
        send(running, number)
        run = running.end(JUDGED_WITHIN_S)

        assert time.monotonic() - began < JUDGED_WITHIN_S
        assert_cut_short(run)
        assert "signal" in run.summary["cut_short"]
        assert "Traceback" not in run.told
        assert_nothing_left(running, processes)


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "number"), [("postgres", signal.SIGTERM), ("oceanbase", signal.SIGINT)], ids=["terminate", "interrupt"]
)
def test_second_signal_ends_at_once(tmp_path: Path, engine: str, number: int) -> None:
    """Whoever asks twice does not want the verdict: no report, and the server is gone all the same."""
    with sale(tmp_path, *LONG, "--engine", engine) as running:
        running.wait_for_progress()
        processes = running.processes()
        running.process.send_signal(number)
        running.wait_until(lambda: "waiting for the last sessions" in running.stdout, "the end of its load")
        running.process.send_signal(number)
        run = running.end(GONE_WITHIN_S)

        assert run.exit_code != 0, run
        assert "VALID" not in run.stdout
        assert_nothing_left(running, processes)


@pytest.mark.server
@EVERY_ENGINE
def test_signal_while_the_server_starts_leaves_nothing(tmp_path: Path, engine: str) -> None:
    """An interrupt before the load has begun: no verdict, no server."""
    with sale(tmp_path, *LONG, "--engine", engine) as running:
        running.wait_until(lambda: "starting " in running.stdout, "the start of its server")
        processes = running.processes()
        running.process.send_signal(signal.SIGINT)
        run = running.end(JUDGED_WITHIN_S)

        assert run.exit_code != 0, run
        assert not wait_gone(processes, GONE_WITHIN_S)


def test_interrupt_while_a_server_gives_no_answer_is_one_line(tmp_path: Path) -> None:
    """A black hole at the start: no traceback, no run directory, no process, and forked workers go, too."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        dsn = f"postgres://user:secret@127.0.0.1:{hole.getsockname()[1]}/db"
        with sale(tmp_path, *SHORT, "--processes", "2", environment={"LOADGEN_DSN": dsn}) as running:
            running.wait_until(lambda: running.stderr.count("reported as ready") == 2, "its workers")
            processes = running.processes()
            running.process.send_signal(signal.SIGINT)
            run = running.end(GONE_WITHIN_S)

    assert run.exit_code == 130, run
    assert run.stderr.splitlines()[-1] == "loadgen: interrupted while the run was prepared: nothing was run"
    assert "Traceback" not in run.told
    assert run.directory is None
    assert not wait_gone(processes, GONE_WITHIN_S)


@pytest.mark.server("postgres")
def test_killed_worker_costs_its_open_ops_and_raises_no_false_alarm(tmp_path: Path) -> None:
    """What the dead process should have driven is skipped, the other's ops are whole, the exit code tells."""
    with sale(tmp_path, *SHORT, "--processes", "2") as running:
        running.wait_for_progress(2)
        processes = running.processes()
        workers(running)[0].kill()
        run = running.end()

        assert run.exit_code == 1, run
        assert run.summary["verdict"] == "valid"
        assert not any(run.summary["violations"].values())
        assert len(run.summary["died"]) == 1
        assert run.summary["orders"]["placed"] > 200
        assert run.summary["skipped_because"]["worker_lost"] == run.summary["orders"]["skipped"] > 50
        assert_due_is_the_schedule(run, 2)
        assert_nothing_left(running, processes)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_run_whose_workers_are_all_killed_is_judged(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """Nobody is left to drive the load: the run ends before its time, and what was told is judged."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    with sale(tmp_path, *LONG, "--processes", "2", environment=environment) as running:
        running.wait_for_progress()
        for worker in workers(running):
            worker.kill()
        run = running.end(30)

        assert run.exit_code == 1, run
        assert run.summary["verdict"] == "valid"
        assert sorted(run.summary["died"]) == ["0", "1"]
        assert run.summary["client"]["cpu_seconds"] is None
        assert "VALID" in run.stdout


def assert_due_is_the_schedule(run: EndedRun, load_processes: int) -> None:
    """Every order of the plan was due, was started or skipped, and stands in a second."""
    assert run.directory is not None
    plan = plan_from_json(run.plan["plan"])
    shares = [plan_arrivals(plan, ("order", "browse"), index, load_processes) for index in range(load_processes)]
    due = sum(len(chunk) for share in shares for chunk in share)
    orders = run.summary["orders"]
    seconds = pd.read_csv(run.directory / "seconds.csv")
    # Which of them are orders depends on who got which number: their share is that of the mix.
    assert abs(orders["due"] - due * order_share(plan)) < 6 * due**0.5
    assert orders["due"] == orders["started"] + orders["skipped"]
    assert orders["started"] == orders["ok"] + orders["fail"] + orders["info"]
    for name in ("due", "skipped", "fail", "info", "placed"):
        assert seconds[name].sum() == orders[name], name


def workers(running: RunningSale) -> list[psutil.Process]:
    """The workers that Locust has forked."""
    command = psutil.Process(running.process.pid).cmdline()
    return [child for child in running.processes() if child.cmdline() == command]


@pytest.mark.server
@EVERY_ENGINE
def test_killed_load_leaves_no_server(tmp_path: Path, engine: str) -> None:
    """SIGKILL of Locust gives nobody a chance to clean up, and yet the server goes with it."""
    with sale(tmp_path, *LONG, "--engine", engine) as running:
        running.wait_for_progress()
        processes = running.processes()
        running.process.kill()
        running.end(GONE_WITHIN_S)

        assert_nothing_left(running, processes)


@pytest.mark.server("postgres")
def test_killed_master_leaves_neither_worker_nor_server(tmp_path: Path) -> None:
    """Forked workers do not go on with a load that nobody records."""
    with sale(tmp_path, *LONG, "--processes", "2") as running:
        running.wait_for_progress()
        processes = running.processes()
        running.process.kill()
        running.end(GONE_WITHIN_S)

        assert_nothing_left(running, processes)


@pytest.mark.server("postgres")
def test_killed_conductor_ends_in_our_own_error(tmp_path: Path) -> None:
    """Without the conductor nobody can judge: exit code 1, one line that says so, and no server."""
    with sale(tmp_path, *SHORT) as running:
        running.wait_for_progress()
        processes = running.processes()
        conductor = next(child for child in processes if "loadgen.conduct.process" in child.cmdline())
        conductor.kill()
        run = running.end()

        assert run.exit_code == 1, run
        assert "conductor" in run.told
        assert "Traceback" not in run.told
        assert not wait_gone(processes, GONE_WITHIN_S)


@pytest.mark.server
@EVERY_ENGINE
def test_killed_server_is_judged_as_unknown(tmp_path: Path, engine: str) -> None:
    """Without final reads nothing is valid: the ops after the kill fail, the verdict is unknown, nothing stays."""
    with sale(tmp_path, *SHORT, "--engine", engine) as running:
        running.wait_for_progress(2)
        processes = running.processes()
        server_process(running).kill()
        run = running.end()

        assert run.exit_code == 5, run
        assert run.summary["verdict"] == "unknown"
        assert run.summary["orders"]["fail"] > 0
        assert not any(run.summary["violations"].values())
        assert "UNKNOWN" in run.stdout
        assert_nothing_left(running, processes)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("workload", ["append", "register", "bank", "longfork"])
def test_probe_whose_server_is_killed_is_unknown(tmp_path: Path, workload: str) -> None:
    """What the probe was told is on a server that nobody can read any more: however its transactions look, unknown."""
    with sale(tmp_path, *SHORT, workload=workload) as running:
        running.wait_for_progress(2)
        server_process(running).kill()
        run = running.end()

        assert run.exit_code == 5, run
        assert run.summary["verdict"] == "unknown"
        assert run.summary["complete"] is False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB; skips where it cannot be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_full_disk_stops_the_load_and_what_is_written_is_judged(
    tmp_path: Path, cluster: Cluster, engine: str, small_disk: Path
) -> None:
    """When the history can take no more, the load stops, and the summary still finds room."""
    options = (*LONG, "--run-dir", "disk/run")
    with sale(tmp_path, *options, environment={"LOADGEN_DSN": dsn_of(cluster.address, engine)}) as running:
        running.wait_for_progress(2)
        with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        run = running.end()

    assert_stopped_by_its_history(run)
    assert "disk is full" in run.stdout
    assert run.directory is not None
    assert (run.directory / "seconds.csv").is_file()


@pytest.mark.server
@pytest.mark.parametrize("engine", ["oceanbase", "mysql", "tidb"])
def test_server_of_ours_leaves_room_for_the_summary(tmp_path: Path, engine: str, small_disk: Path) -> None:
    """What it writes to the run's logs at its end comes after."""
    with sale(tmp_path, *LONG, "--engine", engine, "--run-dir", "disk/run") as running:
        running.wait_for_progress(2)
        with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        run = running.end()

    assert run.summary["verdict"] in ("valid", "unknown"), run
    assert run.exit_code in (1, 5), run


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_history_that_cannot_grow_stops_the_load(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """The same where the operating system refuses to let a file grow any further."""
    with sale(tmp_path, *LONG, environment={"LOADGEN_DSN": dsn_of(cluster.address, engine)}) as running:
        running.wait_for_progress(2)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        run = running.end()

    assert_stopped_by_its_history(run)


def assert_stopped_by_its_history(run: EndedRun) -> None:
    """Judged as cut short, without a false alarm: what was not written counts as ``info``."""
    assert run.exit_code == 1, run
    assert run.summary["verdict"] == "valid", run
    assert run.summary["complete"] is False
    assert "history" in run.summary["cut_short"]
    assert run.summary["orders"]["placed"] > 100
    assert "Traceback" not in run.told


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
@pytest.mark.parametrize(
    ("options", "cut"),
    [(("-t", "2s"), False), (("-t", "2s", "--duration", "40s"), True), (("-t", "40s", "--duration", "2s"), False)],
    ids=["alone", "before-the-end", "after-the-end"],
)
def test_run_time_is_the_duration_or_cuts_it(
    tmp_path: Path, cluster: Cluster, engine: str, options: tuple[str, ...], cut: bool
) -> None:
    """-t alone is the duration; beside --duration it cuts the run, if it comes first."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    run = run_sale(tmp_path, *options, "--shape", "constant", "--peak-rate", "200", environment=environment)

    assert run.exit_code == 0, run
    assert run.summary["complete"] is not cut
    assert bool(run.summary["cut_short"]) is cut
    assert 1.5 < run.summary["duration_s"] < 3.5
    assert run.plan["plan"]["duration_s"] == (40.0 if cut else 2.0)


def family_of(run: RunningSale) -> list[psutil.Process]:
    """Every process of the embedded server."""
    return [
        process
        for pid in run.plan["cluster"]["processes"]
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]


@pytest.mark.server
@EVERY_ENGINE
def test_interrupt_while_the_server_is_frozen_is_answered_in_time(tmp_path: Path, engine: str) -> None:
    """Nothing that waits for a server which gives no answer holds the end up, and it is gone with the run."""
    with sale(tmp_path, *LONG, "--engine", engine) as running:
        running.wait_for_progress()
        processes, frozen = running.processes(), family_of(running)
        for process in frozen:
            process.suspend()
        began = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        run = running.end(JUDGED_WITHIN_S)

        assert time.monotonic() - began < JUDGED_WITHIN_S
        assert run.exit_code == 5, run
        assert "no answer" in run.summary["unknown"]
        assert not any(run.summary["violations"].values())
        assert "Traceback" not in run.told
        assert_nothing_left(running, [*processes, *frozen])


@pytest.mark.server("postgres")
def test_frozen_backends_go_with_their_server(tmp_path: Path) -> None:
    """They are in sessions of their own, and do not see their postmaster's end."""
    with sale(tmp_path, *SHORT) as running:
        running.wait_for_progress()
        frozen = family_of(running)
        for process in frozen[1:]:
            process.suspend()
        running.process.send_signal(signal.SIGTERM)
        run = running.end(2 * JUDGED_WITHIN_S)

        # Unknown where one of them was in the middle of a transaction, else valid and cut short.
        assert run.exit_code in (1, 5), run
        assert_nothing_left(running, frozen)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
@pytest.mark.parametrize(
    ("number", "send", "options"),
    [
        (signal.SIGHUP, to_the_group, ()),
        (signal.SIGHUP, to_the_group, ("--processes", "2")),
        (signal.SIGQUIT, to_the_group, ("--processes", "2")),
    ],
    ids=["terminal-closed", "terminal-closed-with-workers", "quit-with-workers"],
)
def test_other_ends_of_a_terminal_are_judged_too(
    tmp_path: Path,
    cluster: Cluster,
    engine: str,
    number: int,
    send: Callable[[RunningSale, int], None],
    options: tuple[str, ...],
) -> None:
    """As SIGTERM is: every process of the job gets the signal, and the run is judged as far as it went."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    with sale(tmp_path, *LONG, *options, environment=environment) as running:
        running.wait_for_progress()
        processes = running.processes()
        send(running, number)
        run = running.end(JUDGED_WITHIN_S)

    assert_cut_short(run)
    assert not run.summary["died"]
    assert not wait_gone(processes, GONE_WITHIN_S)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_terminal_that_is_closed_under_nohup_changes_nothing(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """Whoever started it so wants it to go on."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}

    def as_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with sale(tmp_path, *SHORT, environment=environment, before_exec=as_nohup) as running:
        running.wait_for_progress()
        to_the_group(running, signal.SIGHUP)
        run = running.end()

    assert run.exit_code == 0, run
    assert run.summary["complete"] is True


def broken_pipe() -> int:
    """A pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def stuck_pipe() -> int:
    """A pipe that is full, and whose reader never reads."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return writer


def full_disk() -> int:
    """A device that has no room."""
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
@pytest.mark.parametrize(
    ("opened", "descriptors", "options"),
    [
        (None, (1,), ()),
        (None, (0, 1, 2), ("--processes", "2")),
        (full_disk, (1,), ()),
        (full_disk, (2,), ("--csv", "sale")),
        (broken_pipe, (1,), ("--processes", "2")),
        (broken_pipe, (1, 2), ()),
        (stuck_pipe, (1,), ()),
    ],
    ids=["closed", "all-closed", "full", "errors-full", "reader-gone", "both-readers-gone", "reader-asleep"],
)
def test_output_that_nobody_reads_costs_nothing(
    tmp_path: Path,
    cluster: Cluster,
    engine: str,
    opened: Callable[[], int] | None,
    descriptors: tuple[int, ...],
    options: tuple[str, ...],
) -> None:
    """The run goes on to its end at its time, is judged, and keeps its exit code."""

    def redirect() -> None:
        for descriptor in descriptors:
            if opened is None:
                os.close(descriptor)
            else:
                os.dup2(opened(), descriptor)

    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    short = (*SHORT, "--duration", "2s", "--strategy", "naive", "--skew", "one-hot", "--isolation", "read committed")
    began = time.monotonic()
    with sale(tmp_path, *short, *options, environment=environment, before_exec=redirect) as running:
        run = running.end(40)

    assert time.monotonic() - began < 30
    assert run.exit_code == 4, run
    assert run.summary["complete"] is True
    assert run.summary["orders"]["due"] > 350
