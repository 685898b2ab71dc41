"""A live run of the load path inside a benchmark: the loop thread drives, the gevent side records and shows."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from locust.stats import RequestStats

from loadgen import clusters
from loadgen.clock import NS_PER_S, now_ns
from loadgen.clusters.cluster import Place
from loadgen.engines import engine_of
from loadgen.engines.engine import Address, Control, Engine, Failure, Level
from loadgen.history.history import HistoryWriter, ops_batch
from loadgen.load.client_cost import calm_collector
from loadgen.load.live_view import LiveView, LocustView
from loadgen.load.loop import LoopThread, sleep_until
from loadgen.load.metrics import LoadMetrics
from loadgen.load.scheduler import Scheduler
from loadgen.op import Completion, Stage
from loadgen.plan import Plan
from loadgen.workload import Call, Result
from tests.bench import four_statements

FLUSH_S = 0.1
BLOCK = 512
BATCH_ROWS = 2_000


class IdleConnection:
    """A connection to a server that has nothing else to do: each answer is there at the loop's next turn."""

    verified: Mapping[str, str] = {}

    async def begin(self) -> None:
        """Answered at once."""
        await asyncio.sleep(0)

    async def execute(self, call: Call) -> Result:
        """Answered at once: one row, written for the first time."""
        await asyncio.sleep(0)
        return Result(1, (), 1)

    async def commit(self) -> None:
        """Answered at once."""
        await asyncio.sleep(0)

    async def rollback(self) -> None:
        """Nothing was done."""

    async def close(self) -> None:
        """Nothing is open."""


class IdleEngine:
    """The engine of IdleConnection: it never fails."""

    name = wire = title = "idle"
    default_level = "serializable"
    levels = {"serializable": Level("serializable", "serializable", "")}  # noqa: RUF012

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """Raise: whatever it is, it is a bug."""
        raise error

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> IdleConnection:
        """Connect to nothing."""
        return IdleConnection()

    def control(self, address: Address, run_id: str) -> Control:
        """There is none."""
        raise NotImplementedError


@dataclass
class Driven:
    """What a live run showed. ``record_ns`` is CPU time of the gevent side's thread for recording and showing."""

    rows: list[Completion]
    record_ns: int
    recorded: int
    cpu_s: float
    lines: list[str] = field(default_factory=list)


@contextlib.contextmanager
def server(engine: str) -> Iterator[tuple[Engine, Address]]:
    """An engine by its name with an embedded server that has the four statements' tables; ``idle`` has none."""
    if engine == "idle":
        yield IdleEngine(), Address()
        return
    plan = four_statements.plan(engine, 1.0)
    with tempfile.TemporaryDirectory() as logs:
        cluster = clusters.start(plan, Place(logs=Path(logs), say=lambda _: None))
        try:
            control = engine_of(engine).control(cluster.address, "bench")
            control.prepare(four_statements.tables(plan))
            control.close()
            yield engine_of(engine), cluster.address
        finally:
            cluster.stop(keep=False)


def drive(
    plan: Plan, engine: Engine, address: Address, first_number: int = 0, metrics: LoadMetrics | None = None
) -> Driven:
    """Drive ``plan`` with the four statements, recording and showing as a run does, with ``metrics`` too if given."""
    thread = LoopThread()
    workload = four_statements.WORKLOAD
    load = Scheduler(plan, workload, engine, address, thread)
    if metrics is not None:
        metrics.attach(plan, "bench", load, thread.call_soon)
    driven = Driven([], 0, 0, 0.0)
    with tempfile.TemporaryDirectory() as directory:
        writer = HistoryWriter(Path(directory), "0", workload.invoked_types, {})
        views = LocustView(workload, RequestStats()), LiveView(plan, workload)
        numbers = first_number
        ahead = max(4_096, int(2 * plan.peak_rate))

        def supply() -> None:
            nonlocal numbers
            while load.numbers_left < ahead:
                columns = workload.invoked(plan, numbers, BLOCK)
                writer.invoked(columns)
                load.supply(workload.ops(plan, columns))
                numbers += BLOCK
                gevent.sleep(0)

        for _ in range(plan.sessions):
            load.add_session([four_statements.order])
        supply()
        writer.batch(ops_batch([]))  # Arrow's first batch takes longer: not in the run.
        assert sleep_until(lambda: load.connected == plan.sessions, 10), load.connect_failures
        calm_collector()
        start = now_ns() + NS_PER_S // 50
        views[1].begin(start)
        load.begin(start)
        cpu = time.process_time()
        line_at = start + NS_PER_S
        while now_ns() < start + plan.duration_s * NS_PER_S:
            supply()
            flush(load, writer, views, driven, metrics)
            if now_ns() > line_at:
                driven.lines.append(views[1].line(now_ns()))
                line_at += NS_PER_S
            gevent.sleep(FLUSH_S)
        thread.submit(load.drain(5)).result(8)
        flush(load, writer, views, driven, metrics)
        driven.cpu_s = time.process_time() - cpu
        writer.closed(load.next_number)
        writer.close()
    thread.stop()
    assert not load.problems, load.problems
    return driven


def flush(
    load: Scheduler,
    writer: HistoryWriter,
    views: tuple[LocustView, LiveView],
    driven: Driven,
    metrics: LoadMetrics | None = None,
) -> None:
    """Record and show what has ended since the last time, in batches that leave the loop its share of the GIL."""
    begun = time.thread_time_ns()
    rows, types = load.take_rows()
    for first in range(0, len(rows), BATCH_ROWS):
        part, kinds = rows[first : first + BATCH_ROWS], types[first : first + BATCH_ROWS]
        views[0].record(part, kinds)
        batch = ops_batch(part, kinds)
        writer.batch(batch)
        if metrics is not None:
            metrics.observe(batch)
        views[1].observe(batch, "0", in_flight=load.in_flight, queued=load.queued)
    driven.record_ns += time.thread_time_ns() - begun
    driven.recorded += len(rows)
    driven.rows += rows


def engine_option(default: str, description: str | None) -> tuple[str, int, float]:
    """``--engine``, ``--repeats`` and ``--seconds`` of the command line."""
    import argparse

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--engine", default=default, help="idle (answers at once, no server), postgres or oceanbase")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    options: Any = parser.parse_args()
    return options.engine, options.repeats, options.seconds
