"""The embedded OceanBase server, for real: it serves the sale, keeps its isolation levels, and never outlives us."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from loadgen.clusters.cluster import Cluster, Place
from loadgen.clusters.embedded_seekdb import PREFIX, start
from loadgen.engines.engine import Address, level_of
from loadgen.engines.mysql_control import MysqlControl
from loadgen.engines.oceanbase import ENGINE
from loadgen.engines.session import Session, Try
from loadgen.op import Outcome, Stage
from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.options import STRATEGIES
from loadgen.shop.sale import Answer, Shopping
from loadgen.workload import Body, Reply, Statement
from tests.plans import sale_plan
from workloads.flashsale import SALE, Shopper

pytestmark = pytest.mark.server("oceanbase")

READ = Statement("SELECT available, version FROM stock WHERE sku = :sku AND bucket = 0")
WRITE = Statement("UPDATE stock SET available = :available, {bump} WHERE sku = :sku AND bucket = 0 {bumped}")
PLAN = sale_plan(engine="oceanbase", skus=2, stock=40, user_limit=1000, kind_weights=(("order", 1),))


@pytest.fixture
def control(oceanbase_cluster: Cluster) -> Iterator[MysqlControl]:
    """A control connection that holds the lock, with the sale's tables of PLAN made anew."""
    control = ENGINE.control(oceanbase_cluster.address, "test")
    assert isinstance(control, MysqlControl)
    control.lock()
    control.prepare(SALE.tables(PLAN))
    yield control
    control.close()


def with_sessions(
    address: Address, level: str, count: int, use: Callable[[list[Session]], Awaitable[list[Try]]]
) -> list[Try]:
    """What ``use`` does with ``count`` connected sessions."""

    async def run() -> list[Try]:
        sessions = [Session(ENGINE, address, level_of(ENGINE, level)) for _ in range(count)]
        for session in sessions:
            assert await session.connect() is None
        try:
            return await use(sessions)
        finally:
            for session in sessions:
                await session.close()

    return uvloop.run(run())


def orders(plan: Plan, count: int) -> list[Shopping]:
    """The first orders of ``plan``."""
    return list(sale.shoppings(plan, sale.invoked(plan, 0, count)))


def shopper(plan: Plan) -> Shopper:
    """The workload's user class, without Locust around it: its bodies need the plan only."""
    found = Shopper.__new__(Shopper)
    found.plan = plan
    return found


async def sell(sessions: list[Session], plan: Plan, count: int) -> list[Try]:
    """Run ``count`` orders on all sessions at once, each until it ends in something else than a retry."""
    user, todo, done = shopper(plan), iter(orders(plan, count)), []

    async def work(session: Session) -> None:
        for order in todo:
            tried = await session.run(user.order(order))
            while tried.failure is not None and tried.failure.retry:
                tried = await session.run(user.order(order))
            done.append(tried)

    await asyncio.gather(*map(work, sessions))
    return done


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_strategy_sells_out_and_every_version_is_witnessed(
    oceanbase_cluster: Cluster, control: MysqlControl, strategy: str, level: str
) -> None:
    """Sixteen sessions sell two SKUs out; each row's versions are 1, 2, 3 ... without a gap."""
    plan = PLAN.with_(strategy=strategy, buckets=4 if strategy == "bucketed" else 1, skew="uniform")
    control.prepare(SALE.tables(plan))

    tries = with_sessions(oceanbase_cluster.address, level, 16, lambda sessions: sell(sessions, plan, 150))

    assert {tried.outcome for tried in tries} == {Outcome.OK}
    counts = Counter(tried.answer for tried in tries)
    wrote = sorted(
        (tried.touched[start], tried.touched[start + 2])
        for tried in tries
        if tried.answer == Answer.PLACED
        for start in range(0, len(tried.touched), 3)
    )
    last = {row[0]: row[1] for row in control.query("SELECT sku * 4 + bucket, version FROM stock")}
    rows = {row * (4 // plan.buckets) for row, _ in wrote}
    assert counts[Answer.SOLD_OUT] > 0 or (strategy, level) == ("naive", "read committed")
    assert [(row, version) for row in sorted(rows) for version in range(1, last[row] + 1)] == [
        (row * (4 // plan.buckets), version) for row, version in wrote
    ]
    if strategy != "naive" or level == "repeatable read":
        sold = control.query("SELECT SUM(qty_a) + SUM(qty_b) FROM orders")[0][0]
        left = control.query("SELECT SUM(available) FROM stock")[0][0]
        assert (sold + left, control.query("SELECT MIN(available) FROM stock")[0][0] >= 0) == (80, True)


def test_limit_that_leaves_the_row_unchanged_is_refused(oceanbase_cluster: Cluster, control: MysqlControl) -> None:
    """An upsert that changes nothing reports no row, so the order ends as limited and leaves nothing behind."""
    plan = PLAN.with_(user_limit=1, skus=1)
    (order,) = orders(plan, 1)

    async def twice(sessions: list[Session]) -> list[Try]:
        again = order._replace(number=order.number + 1, token=order.token + 1)
        return [await sessions[0].run(shopper(plan).order(this)) for this in (order, again)]

    tries = with_sessions(oceanbase_cluster.address, "read committed", 1, twice)

    assert [tried.answer for tried in tries] == [Answer.PLACED, Answer.LIMITED]
    assert control.query("SELECT COUNT(*) FROM orders") == [(1,)]


def test_refused_order_leaves_nothing(oceanbase_cluster: Cluster, control: MysqlControl) -> None:
    """Refused is an answer, and the transaction is rolled back."""
    control.query("UPDATE stock SET available = 0")

    tries = with_sessions(oceanbase_cluster.address, "read committed", 1, lambda sessions: sell(sessions, PLAN, 3))

    assert {tried.answer for tried in tries} == {Answer.SOLD_OUT}
    assert control.query("SELECT COUNT(*) FROM orders") == [(0,)]
    assert control.query("SELECT COUNT(*) FROM purchases") == [(0,)]


def read_then_write(between: Callable[[], object]) -> Body:
    """Read, let another write the row, write back what was computed from the read."""
    available, version = (yield READ(0)).rows[0]
    between()
    written = yield WRITE(available - 1, 0)
    return Reply(1, (0, version, written.version))


def tried_beside_a_rival(address: Address, level: str, control: MysqlControl) -> Try:
    """One such transaction at ``level``, whose rival takes one unit at the worst moment."""
    rival = "UPDATE stock SET available = available - 1, version = version + 1 WHERE sku = 0"

    async def once(sessions: list[Session]) -> list[Try]:
        return [await sessions[0].run(read_then_write(lambda: control.query(rival)))]

    (tried,) = with_sessions(address, level, 1, once)
    return tried


def test_read_committed_loses_an_update_and_the_versions_show_it(
    oceanbase_cluster: Cluster, control: MysqlControl
) -> None:
    """It commits, and wrote a version that is not the one after what it had read."""
    tried = tried_beside_a_rival(oceanbase_cluster.address, "read committed", control)

    assert (tried.outcome, tried.touched) == (Outcome.OK, (0, 0, 2))
    assert control.query("SELECT available FROM stock WHERE sku = 0") == [(39,)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_snapshot_isolation_refuses_the_second_writer_and_it_rolls_back(
    oceanbase_cluster: Cluster, control: MysqlControl, level: str
) -> None:
    """It gets 6235, which may be tried again, and its transaction is gone."""
    tried = tried_beside_a_rival(oceanbase_cluster.address, level, control)

    assert tried.failure is not None
    assert (tried.failure.code, tried.failure.outcome, tried.failure.retry) == ("6235", Outcome.FAIL, True)
    assert control.query("SELECT available, version FROM stock WHERE sku = 0") == [(39, 1)]


@pytest.mark.parametrize("code", ["6235", "1205"])
def test_error_that_leaves_the_transaction_open_is_rolled_back(
    oceanbase_cluster: Cluster, control: MysqlControl, code: str
) -> None:
    """After 6235 and 1205 the server would still commit the half that was done: nothing of it may stay."""
    insert = Statement("INSERT INTO payments (id, order_id, amount) VALUES (:id, :order, :amount)")
    blocker = ENGINE.control(oceanbase_cluster.address, "blocker")
    level = "repeatable read" if code == "6235" else "read committed"

    def half() -> Body:
        yield READ(0)
        yield insert(1, 1, 1)
        blocker.query("USE loadgen")
        if code == "1205":
            blocker.query("BEGIN")
        blocker.query("UPDATE stock SET available = available - 1 WHERE sku = 0")
        yield WRITE(1, 0)
        return Reply(1)

    async def once(sessions: list[Session]) -> list[Try]:
        tried = await sessions[0].run(half())
        # The same connection goes on: a COMMIT of its own would keep whatever was left open.
        blocker.query("ROLLBACK")
        return [tried, await sessions[0].run(read_only())]

    def read_only() -> Body:
        yield READ(0)
        return Reply(0)

    tries = with_sessions(oceanbase_cluster.address, level, 1, once)
    blocker.close()

    assert tries[0].failure is not None
    assert (tries[0].failure.code, tries[0].stage) == (code, Stage.STATEMENT)
    assert tries[1].outcome is Outcome.OK
    assert control.query("SELECT COUNT(*) FROM payments") == [(0,)]


def test_final_reads_see_one_snapshot_and_all_tables(oceanbase_cluster: Cluster, control: MysqlControl) -> None:
    """The final reads bring every row of every table, as numpy columns of the declared types."""
    with_sessions(oceanbase_cluster.address, "read committed", 4, lambda sessions: sell(sessions, PLAN, 20))

    eventually(lambda: quiet(control))
    tables = SALE.tables(PLAN)
    found = control.final_reads(tables)

    assert set(found) == {table.name for table in tables}
    assert len(found["orders"]["id"]) == control.query("SELECT COUNT(*) FROM orders")[0][0]
    assert found["stock"]["version"].dtype == "int64"
    assert len(found["payments"]["id"]) == 0


def test_server_listens_on_its_socket_only_and_tells_nobody(oceanbase_cluster: Cluster) -> None:
    """No port is open, and the directory belongs to us alone."""
    facts = oceanbase_cluster.facts()
    directory = Path(facts["data"]).parent
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{facts['processes'][0]}/fd").iterdir() if fd.is_symlink()}
    inodes = {name[8:-1] for name in sockets if name.startswith("socket:")}
    listening = {
        line.split()[9]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }

    assert not inodes & listening
    assert directory.stat().st_mode & 0o777 == 0o700


def test_stop_leaves_nothing(tmp_path: Path) -> None:
    """After stop the process is gone, and its directory too; a second stop does nothing."""
    cluster = start(PLAN, Place(tmp_path, lambda _: None))
    facts = cluster.facts()

    assert cluster.stop(keep=False) == ""
    assert cluster.stop(keep=False) == ""
    assert not Path(f"/proc/{facts['processes'][0]}").exists()
    assert not Path(facts["data"]).parent.exists()
    assert (tmp_path / "seekdb.log").stat().st_size > 0


def test_kept_data_is_served_again_by_the_command(tmp_path: Path) -> None:
    """The command that keep answers starts a server on the same data, on the same socket."""
    cluster = start(PLAN.with_(keep=True), Place(tmp_path, lambda _: None))
    before = ENGINE.control(cluster.address, "keep")
    before.prepare(SALE.tables(PLAN))
    before.close()
    command = cluster.stop(keep=True)
    again = subprocess.Popen(["bash", "-c", f"exec env {command}"], start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        control = eventually(lambda: ENGINE.control(cluster.address, "again"))
        assert control.query("SELECT COUNT(*) FROM loadgen.stock") == [(2,)]
        control.close()
    finally:
        os.killpg(again.pid, signal.SIGKILL)
        again.wait()
        subprocess.run(["rm", "-rf", str(Path(cluster.facts()["data"]).parent)], check=True)


def test_killed_parent_takes_the_server_along(tmp_path: Path) -> None:
    """SIGKILL of the process that started the server ends the server, and the next start removes what is left."""
    code = (
        "import sys, time; from pathlib import Path; from loadgen.clusters.cluster import Place\n"
        "from loadgen.clusters.embedded_seekdb import start; from loadgen.plan import Plan\n"
        "cluster = start(Plan(engine='oceanbase'), Place(Path(sys.argv[1]), lambda _: None))\n"
        "print(cluster.facts()['processes'][0], cluster.facts()['data'], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().split()

    parent.kill()
    parent.wait()

    eventually(lambda: gone(int(pid)))
    start(PLAN, Place(tmp_path, lambda _: None)).stop(keep=False)
    assert not Path(directory).parent.exists()
    assert Path(directory).parent.name.startswith(PREFIX)


def quiet(control: MysqlControl) -> None:
    """Raises OSError while the server knows a session of the load."""
    if control.sessions():
        raise OSError("there are sessions")


def gone(pid: int) -> None:
    """Raises OSError while the process is there (a zombie that its new parent has not reaped yet is gone)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return
    if state != "Z":
        raise OSError(f"process {pid} is still there")


def eventually(attempt):  # type: ignore[no-untyped-def]
    """What ``attempt`` answers as soon as it raises nothing, within 20 seconds."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return attempt()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
