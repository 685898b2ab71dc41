"""Driving with replicas: single reads go there, spread evenly, and all else stays on the writable node."""

import asyncio
from collections import Counter

from loadgen.clock import NS_PER_S, now_ns
from loadgen.engines.engine import Address, Level
from loadgen.load.loop import LoopThread, sleep_until
from loadgen.load.scheduler import Scheduler
from loadgen.op import Completion, Outcome
from loadgen.plan import Plan
from loadgen.shop.sale import Kind
from tests.load.fake_engine import FakeConnection, FakeEngine, FakeError, FakeServer, Fault, sale_bodies, sale_plan
from workloads.flashsale import SALE

MARK = 1_000_000
"""A replica's rows have this version times its number, so that a read tells where it was."""


class FakeCluster(FakeEngine):
    """Servers by their ports: 0 is the writable one."""

    def __init__(self, plan: Plan, replicas: int) -> None:
        super().__init__(FakeServer(plan))
        self.members = [self.server, *(FakeServer(plan) for _ in range(replicas))]
        for number, member in enumerate(self.members):
            for row in member.stock.values():
                row[1] = number * MARK

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> FakeConnection:
        """Connect to one server, unless that goes wrong."""
        server = self.members[address.port]
        await asyncio.sleep(0)
        if fault := server.goes_wrong("connect"):
            raise FakeError(fault)
        return FakeConnection(server)


def run(
    fault: Fault | None = None,
    *,
    of: int = 1,
    sessions: int = 8,
    share: tuple[int, int] = (0, 1),
) -> tuple[FakeCluster, list[Completion]]:
    """A short run on two replicas; ``fault`` is that of server ``of``, once all sessions are connected."""
    plan = sale_plan(kind_weights=(("order", 1), ("browse", 1)), peak_rate=800.0)
    cluster, thread = FakeCluster(plan, 2), LoopThread()
    try:
        replicas = [Address(port=1), Address(port=2)]
        scheduler = Scheduler(plan, SALE, cluster, Address(port=0), thread, replicas=replicas, share=share)
        for _ in range(sessions):
            scheduler.add_session(sale_bodies(plan))
        scheduler.supply(SALE.ops(plan, SALE.invoked(plan, 0, 2000)))
        assert sleep_until(lambda: scheduler.connected == sessions, 5)
        if fault is not None:
            cluster.members[of].fault = fault
        start = now_ns()
        scheduler.begin(start)
        sleep_until(lambda: now_ns() > start + plan.duration_s * NS_PER_S, plan.duration_s + 1)
        thread.submit(scheduler.drain(1.0)).result(5)
        rows, _ = scheduler.take_rows()
    finally:
        assert thread.stop()
    assert not scheduler.problems
    return cluster, rows


def read_at(row: Completion) -> int:
    """The number of the server that a browse was answered by."""
    return row.touched[1] // MARK


def test_browses_go_to_replicas_and_orders_do_not() -> None:
    """Each session has one replica, which its number names, and half of the sessions have each."""
    cluster, rows = run()

    browses = [row for row in rows if row.kind == Kind.BROWSE]
    assert {row.outcome for row in rows} == {Outcome.OK}
    assert len(browses) > 50
    assert all(read_at(row) == 1 + row.process % 2 for row in browses)
    assert {read_at(row) for row in browses} == {1, 2}
    assert [member.steps["connect"] for member in cluster.members] == [8, 4, 4]
    assert [bool(member.orders) for member in cluster.members] == [True, False, False]
    assert cluster.server.commits == len(rows) - len(browses)


def test_load_processes_spread_their_sessions_together() -> None:
    """Two load processes of one session each use both replicas."""
    used = [run(sessions=1, share=(index, 2))[0] for index in range(2)]

    assert Counter(index for cluster in used for index in (1, 2) if cluster.members[index].steps) == {1: 1, 2: 1}


def test_replica_that_is_lost_fails_its_reads_and_stops_no_order() -> None:
    """Its sessions go on with everything else, and read there again once it is back."""

    def fault(step: str, index: int) -> str:
        down = index < 12
        return "lost" if down and step == "execute" else "refused" if down and step == "connect" else ""

    _, rows = run(fault)

    failed = [row for row in rows if row.outcome == Outcome.FAIL]
    assert failed
    assert {(row.kind, row.process % 2) for row in failed} == {(Kind.BROWSE, 0)}
    assert {row.outcome for row in rows if row.kind == Kind.ORDER} == {Outcome.OK}
    last = max(row.done for row in failed)
    assert any(read_at(row) == 1 and row.done > last for row in rows if row.kind == Kind.BROWSE and row.touched)


def test_process_that_takes_over_reads_from_the_replica_of_its_own_number() -> None:
    """After an op that is info the session goes on as another process, and the history still tells the replica."""
    _, rows = run(lambda step, index: "lost-after" if step == "commit" and index % 10 == 3 else "", of=0, sessions=5)

    browses = [row for row in rows if row.kind == Kind.BROWSE and row.outcome == Outcome.OK]
    assert max(row.process for row in browses) >= 5
    assert all(read_at(row) == 1 + row.process % 2 for row in browses)
