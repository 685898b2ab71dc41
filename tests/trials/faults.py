"""Faults on correct servers: no false alarm, nothing left behind, every arrival accounted for, an end in time.

    python -m tests.trials.faults [--runs 500] [--seed 1] [--engines postgres,oceanbase,mysql,tidb] [--only NAME]

Each run is a sale of a few seconds with one fault: sessions killed, connections reset, a server or a network that is
silent for a while, a server, worker, master or conductor that dies, a closed or full output, a full disk, a signal. A
run is judged wrongly if it is ``invalid``; if its exit code is not one that the fault allows; if it leaves a process or
an embedded server's data; if its arrivals are not those of the schedule; if it ends later than 15 s after its signal.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.errors import ClusterError, LoadgenError
from loadgen.load.arrivals import plan_arrivals
from loadgen.plan import plan_from_json
from tests.sale_runs import EndedRun, RunningSale, sale, wait_gone
from tests.trials.proxies import Proxy, proxy
from tests.trials.servers import WIRES, proxied_dsn, server
from workloads.flashsale import SALE

DURATION_S = 4
SIGNAL_ENDS_WITHIN_S = 15.0
ENDS_WITHIN_S = 75.0
GONE_WITHIN_S = 10.0
SETTLED_WITHIN_S = 20.0
STRATEGIES = ("pessimistic", "optimistic", "atomic", "bucketed")
SKEWS = ("zipf:0.99", "uniform", "one-hot")
LOAD_SESSIONS = {
    "postgres": "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'loadgen-load%'",
    "oceanbase": "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()",
    "tidb": "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()",
}


@dataclass
class Scene:
    """One run under a fault: what a fault may lay hands on."""

    engine: str
    running: RunningSale
    draw: random.Random
    cluster: Cluster | None
    between: Proxy | None
    signalled: float = 0.0
    """When the run was asked to end, by time.monotonic()."""
    filler: Path | None = None

    def pause(self, least_s: float = 0.2, most_s: float = 2.0) -> None:
        """Let some of the load go by."""
        time.sleep(self.draw.uniform(least_s, most_s))

    def ask_to_end(self, number: int) -> None:
        """Send the run a signal that ends it."""
        self.signalled = time.monotonic()
        self.running.process.send_signal(number)


@dataclass(frozen=True)
class Fault:
    """A fault: what it does to a scene, and the exit codes that the run may end with.

    ``own``: the run starts an embedded server of its own. ``processes``: with ``--processes``. ``whole``: all arrivals
    of the schedule are due. ``judged``: it leaves a summary.
    """

    act: Callable[[Scene], None]
    exit_codes: tuple[int, ...]
    own: bool = False
    processes: int = 0
    whole: bool = False
    judged: bool = True
    stdout: str = ""
    disk: bool = False


def kill_sessions(scene: Scene) -> None:
    """A DBA ends every session of the load, up to three times."""
    assert scene.cluster is not None
    kill = "SELECT pg_terminate_backend({})" if scene.engine == "postgres" else "KILL {}"
    with closing(engine_of(scene.engine).control(scene.cluster.address, "dba")) as control:
        for _ in range(scene.draw.randint(1, 3)):
            for (session,) in control.query(LOAD_SESSIONS[scene.engine]):
                try:
                    control.query(kill.format(session))
                except ClusterError:
                    continue  # it has ended by itself
            time.sleep(0.3)


def reset_connections(scene: Scene) -> None:
    """Every connection is reset, up to four times."""
    assert scene.between is not None
    for _ in range(scene.draw.randint(1, 4)):
        scene.between.cut()
        time.sleep(scene.draw.uniform(0.05, 0.6))


def silence_the_network(scene: Scene) -> None:
    """Nothing comes through for a while, on connections that stay open."""
    assert scene.between is not None
    scene.between.freeze()
    time.sleep(scene.draw.uniform(0.5, 4.0))
    scene.between.thaw()


def silence_and_interrupt(scene: Scene) -> None:
    """The network is silent, and somebody presses Ctrl-C."""
    assert scene.between is not None
    scene.between.freeze()
    time.sleep(scene.draw.uniform(0.1, 1.0))
    scene.ask_to_end(scene.draw.choice((signal.SIGINT, signal.SIGTERM)))


def pause_server(scene: Scene) -> None:
    """The server's processes stand still for a while."""
    processes = server_processes(scene.running)
    for process in processes:
        process.suspend()
    time.sleep(scene.draw.uniform(0.3, 3.0))
    for process in processes:
        process.resume()


def kill_server(scene: Scene) -> None:
    """The server dies."""
    for process in server_processes(scene.running):
        process.kill()


def freeze_client(scene: Scene) -> None:
    """The load stands still for longer than the late limit."""
    scene.running.process.send_signal(signal.SIGSTOP)
    time.sleep(scene.draw.uniform(1.2, 2.5))
    scene.running.process.send_signal(signal.SIGCONT)


def kill_worker(scene: Scene) -> None:
    """One load process dies, hard or by SIGTERM."""
    worker = scene.draw.choice(workers(scene.running))
    worker.send_signal(scene.draw.choice((signal.SIGKILL, signal.SIGTERM)))


def kill_all_workers(scene: Scene) -> None:
    """All load processes die."""
    for worker in workers(scene.running):
        worker.kill()


def pause_master(scene: Scene) -> None:
    """The master stands still for a moment: shorter than its workers wait for it."""
    scene.running.process.send_signal(signal.SIGSTOP)
    time.sleep(scene.draw.uniform(0.5, 3.0))
    scene.running.process.send_signal(signal.SIGCONT)


def kill_master(scene: Scene) -> None:
    """Locust dies."""
    scene.running.process.kill()


def kill_conductor(scene: Scene) -> None:
    """The conductor dies."""
    conductor(scene.running).kill()


def send_signal(scene: Scene) -> None:
    """Somebody ends the run."""
    scene.ask_to_end(scene.draw.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))


def fill_disk(scene: Scene) -> None:
    """The disk of the run directory is full."""
    assert scene.filler is not None
    try:
        with scene.filler.open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    except OSError:
        return


def nothing(scene: Scene) -> None:
    """Nothing at all: what the others are compared with."""


FAULTS = {
    "none": Fault(nothing, (0,), whole=True),
    "sessions-killed": Fault(kill_sessions, (0, 5), whole=True),
    "connections-reset": Fault(reset_connections, (0, 5), whole=True),
    "network-silent": Fault(silence_the_network, (0, 5), whole=True),
    "silent-and-interrupted": Fault(silence_and_interrupt, (1, 5)),
    "server-paused": Fault(pause_server, (0, 5), own=True, whole=True),
    "server-killed": Fault(kill_server, (5,), own=True, whole=True),
    "client-frozen": Fault(freeze_client, (0,), whole=True),
    "worker-killed": Fault(kill_worker, (1,), processes=2, whole=True),
    "all-workers-killed": Fault(kill_all_workers, (1,), processes=2),
    "master-paused": Fault(pause_master, (0, 1), processes=2, whole=True),
    "master-killed": Fault(kill_master, (-9,), own=True, judged=False),
    "master-of-workers-killed": Fault(kill_master, (-9,), own=True, processes=2, judged=False),
    "conductor-killed": Fault(kill_conductor, (1,), own=True, judged=False),
    "signalled": Fault(send_signal, (1,)),
    "signalled-workers": Fault(send_signal, (1,), own=True, processes=2),
    "output-closed": Fault(nothing, (0,), whole=True, stdout="closed"),
    "output-full": Fault(nothing, (0,), whole=True, stdout="/dev/full"),
    "disk-full": Fault(fill_disk, (1, 5), disk=True),
}


def conductor(running: RunningSale) -> psutil.Process:
    """The conductor's process."""
    return next(child for child in running.processes() if "loadgen.conduct.process" in _command(child))


def server_processes(running: RunningSale) -> list[psutil.Process]:
    """The processes of the run's own server."""
    guards = ("loadgen.", "multiprocessing")
    below = conductor(running).children(recursive=True)
    return [child for child in below if not any(part in " ".join(_command(child)) for part in guards)]


def workers(running: RunningSale) -> list[psutil.Process]:
    """The workers that Locust has forked."""
    command = psutil.Process(running.process.pid).cmdline()
    return [child for child in running.processes() if _command(child) == command]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@dataclass(frozen=True)
class Result:
    """One run under a fault; ``wrong`` is empty if all was as it should be."""

    fault: str
    engine: str
    seed: int
    exit_code: int
    verdict: str
    took_s: float
    wrong: str


def play(name: str, engine: str, seed: int, place: Path, cluster: Cluster | None) -> Result:
    """One run under the fault ``name``; ``cluster`` is a server that lives longer, used where the fault spares it."""
    fault, draw = FAULTS[name], random.Random(f"{name} {engine} {seed}")
    options = [
        *("--headless", "--engine", engine, "--duration", f"{DURATION_S}s", "--seed", str(seed)),
        *("--strategy", draw.choice(STRATEGIES), "--skew", draw.choice(SKEWS), "--skus", "40", "-u", "12"),
        *("--shape", draw.choice(("constant", "double11", "ramp")), "--peak-rate", str(draw.choice((80, 150)))),
    ]
    environment: dict[str, str] = {}
    with ExitStack() as stack:
        between = None
        if not fault.own:
            assert cluster is not None
            between = stack.enter_context(proxy(WIRES[engine], cluster.address))
            environment["LOADGEN_DSN"] = proxied_dsn(engine, cluster, between.port)
        if fault.processes:
            options += ["--processes", str(fault.processes)]
        filler = None
        if fault.disk:
            filler = stack.enter_context(small_disk(place)) / "filler"
            options += ["--run-dir", "disk/run"]
        running = stack.enter_context(sale(place, *options, environment=environment, before_exec=_output(fault.stdout)))
        try:
            _wait_for_load(running, fault)
            scene = Scene(engine, running, draw, cluster, between, filler=filler)
            processes = running.processes()
            scene.pause()
            fault.act(scene)
            began = scene.signalled or time.monotonic()
            run = running.end(ENDS_WITHIN_S)
        except (AssertionError, StopIteration, psutil.Error) as error:
            return Result(name, engine, seed, -1, "", 0.0, f"it did not go as planned: {str(error)[-900:]}")
        took_s = time.monotonic() - began
        wrong = _wrong(fault, run, took_s if scene.signalled else 0.0)
        if left := wait_gone(processes, GONE_WITHIN_S):
            wrong = wrong or f"{len(left)} processes were left: {' '.join(_command(left[0]))[:100]}"
        data = run.plan.get("cluster", {}).get("data") if fault.own else None
        if data and Path(data).exists() and run.exit_code != 4 and fault.judged:
            wrong = wrong or f"the server's data was left in {data}"
    return Result(name, engine, seed, run.exit_code, str(run.summary.get("verdict", "")), round(took_s, 1), wrong)


def _output(stdout: str) -> Callable[[], None] | None:
    if not stdout:
        return None

    def redirect() -> None:
        if stdout == "closed":
            reader, writer = os.pipe()
            os.dup2(writer, 1)
            os.close(reader)
            os.close(writer)
        else:
            os.dup2(os.open(stdout, os.O_WRONLY), 1)

    return redirect


def _wait_for_load(running: RunningSale, fault: Fault) -> None:
    if fault.stdout:
        history = lambda: any((running.directory or Path("/nonexistent")).glob("history/*.ops.arrows"))  # noqa: E731
        running.wait_until(history, "its history")
        time.sleep(1)
    else:
        running.wait_for_progress(1)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 6 MB in ``place``."""
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], check=True, capture_output=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _wrong(fault: Fault, run: EndedRun, after_signal_s: float) -> str:
    if after_signal_s > SIGNAL_ENDS_WITHIN_S:
        return f"it ended {after_signal_s:.1f} s after its signal"
    if run.exit_code not in fault.exit_codes:
        reasons = {name: run.summary.get(name) for name in ("verdict", "unknown", "cut_short", "error", "warnings")}
        return f"exit code {run.exit_code} is none of {fault.exit_codes}: {reasons} {run.stderr[-400:]}"
    if "Traceback" in run.told:
        return f"a traceback: {run.told[run.told.index('Traceback') :][:600]}"
    if not fault.judged:
        return _judged_later(run)
    if run.summary.get("verdict") == "invalid" or any(run.summary.get("violations", {}).values()):
        return f"a false alarm: {run.summary.get('violations')}"
    orders = run.summary["orders"]
    if orders["due"] != orders["started"] + orders["skipped"]:
        return f"due {orders['due']} is not started {orders['started']} + skipped {orders['skipped']}"
    if orders["started"] != orders["ok"] + orders["fail"] + orders["info"]:
        return f"started is not ok + fail + info: {orders}"
    return _differs_from_schedule(run) if fault.whole else ""


def _differs_from_schedule(run: EndedRun) -> str:
    """Orders due beside those of the schedule: arrivals of all kinds come in a fixed order of numbers for a process."""
    plan = plan_from_json(run.plan["plan"])
    processes = max(1, len(run.summary.get("died", ())) and 2)
    scheduled = sum(len(chunk) for index in range(processes) for chunk in plan_arrivals(plan, SALE, index, processes))
    weights = dict(plan.kind_weights)
    share = weights.get("order", 10) / (weights.get("order", 10) + weights.get("browse", 2))
    due = int(run.summary["orders"]["due"])
    expected = scheduled * share
    # Which of them are orders is drawn, number by number.
    allowed = 5 * (scheduled * share * (1 - share)) ** 0.5 + 1
    return "" if abs(due - expected) <= allowed else f"{due} orders were due, and the schedule has {expected:.0f}"


def _judged_later(run: EndedRun) -> str:
    """What `loadgen check` says of a run that nobody could judge: anything but violated."""
    if run.directory is None:
        return "there is no run directory"
    command = [sys.executable, "-m", "loadgen", "check", str(run.directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode not in (1, 5) or "Traceback" in done.stderr:
        return f"loadgen check ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}"
    return ""


def settled(cluster: Cluster, engine: str) -> None:
    """Wait until the server takes connections again. Raises ClusterError if it does not."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        try:
            engine_of(engine).control(cluster.address, "dba").close()
        except LoadgenError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def campaign(runs: int, seed: int, engines: list[str], only: str = "") -> Iterator[Result]:
    """``runs`` runs: engines and faults in a drawn order, each fault as often as the others."""
    names = [name for name in FAULTS if only in name]
    plan: list[tuple[str, str, int]] = [
        (engines[index % len(engines)], names[(index // len(engines)) % len(names)], seed * 100_000 + index)
        for index in range(runs)
    ]
    random.Random(seed).shuffle(plan)
    plan.sort(key=lambda each: engines.index(each[0]))  # one server at a time
    for engine in engines:
        with server(engine) as cluster:
            for _, name, run_seed in (each for each in plan if each[0] == engine):
                with tempfile.TemporaryDirectory(prefix="trial-") as place:
                    yield play(name, engine, run_seed, Path(place), cluster)
                settled(cluster, engine)


def main() -> int:
    """Run the campaign; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="how many runs (500; each takes about 8 s)")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn by (1)")
    parser.add_argument("--engines", default="postgres,oceanbase,mysql,tidb", help="which engines, with commas")
    parser.add_argument("--only", default="", help="only the faults with this in their name")
    options = parser.parse_args()
    wrong: list[Result] = []
    counts: Counter[str] = Counter()
    for number, result in enumerate(campaign(options.runs, options.seed, options.engines.split(","), options.only), 1):
        counts[f"{result.fault}: {result.verdict or 'not judged'}, exit code {result.exit_code}"] += 1
        if result.wrong:
            wrong.append(result)
            told = f"WRONG: {result.wrong}"
        else:
            told = f"{result.verdict or 'not judged'}, exit code {result.exit_code}"
        print(f"{number:4}/{options.runs} {result.engine:9} {result.fault:24} seed {result.seed}: {told}", flush=True)
    for line, count in sorted(counts.items()):
        print(f"{count:5} {line}")
    facts: dict[str, Any] = {"name": "faults", "runs": sum(counts.values()), "wrong": len(wrong)}
    print(json.dumps(facts))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
