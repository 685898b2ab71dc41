"""A database in memory, behind the same protocols as a real engine: the sale runs on it end to end, without a server.

Transactions are serializable, by one lock. Each statement of the workload is a Python function on tables of dicts,
and each write leaves its undo. Faults are injected where a real server has them.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from loadgen.engines.engine import Address, Control, Failure, Level
from loadgen.op import Outcome, Stage
from loadgen.plan import Plan
from loadgen.shop.sale import bucket_stock
from loadgen.workload import Call, Result, Statement
from tests import plans
from workloads import flashsale

Fault = Callable[[str, int], str]
"""``(step, how many steps of this name came before) -> what goes wrong``: empty, or one of FAULTS.

Steps are connect, begin, execute, commit and rollback."""

FAULTS: Mapping[str, tuple[str, bool]] = {
    "conflict": ("conflict", False),
    "lost": ("connection", True),
    "refused": ("connection", True),
    "constraint": ("constraint", False),
    # The commit was carried out, and the answer was lost.
    "lost-after": ("connection", True),
    # No answer ever: only a cut of the connection ends it.
    "hang": ("timeout", True),
}
"""What can go wrong: the class of the error, and whether the connection is lost with it."""


def no_fault(step: str, index: int) -> str:
    """Nothing goes wrong."""
    return ""


class FakeError(Exception):
    """What the fake driver raises."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class FakeServer:
    """The tables, and one lock for a transaction at a time."""

    def __init__(self, plan: Plan, fault: Fault = no_fault) -> None:
        self.plan = plan
        self.fault = fault
        self.steps: dict[str, int] = {}
        self.stock = {
            (sku, bucket): [bucket_stock(plan, bucket), 0] for sku in range(plan.skus) for bucket in range(plan.buckets)
        }
        """(sku, bucket) -> available, version."""
        self.orders: dict[int, list[int]] = {}
        """id -> token, user, sku_a, qty_a, sku_b, qty_b, amount, state."""
        self.purchases: dict[tuple[int, int], int] = {}
        self.payments: dict[int, tuple[int, int]] = {}
        self.releases: dict[int, int] = {}
        self.undo: list[Callable[[], Any]] = []
        self.lock = asyncio.Lock()
        self.commits = 0

    def goes_wrong(self, step: str) -> str:
        """The fault at this step, if any."""
        index = self.steps.get(step, 0)
        self.steps[step] = index + 1
        return self.fault(step, index)

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Write ``value``, and remember how to take it back."""
        if key in table:
            self.undo.append(lambda old=table[key]: table.__setitem__(key, old))
        else:
            self.undo.append(lambda: table.pop(key))
        table[key] = value

    def roll_back(self) -> None:
        """Take back what was written since the last commit."""
        while self.undo:
            self.undo.pop()()

    def run(self, call: Call) -> Result:
        """Execute one statement of the sale."""
        statement, values = call
        return STATEMENTS[statement](self, *values)

    def deduct_if(self, holds: bool, key: tuple[int, int], available: int) -> Result:
        """Write a stock row, and count the write, if ``holds``."""
        if not holds:
            return Result(0, (), 0)
        version = self.stock[key][1] + 1
        self.put(self.stock, key, [available, version])
        return Result(1, (), version)


def _insert_order(server: FakeServer, number: int, *values: int) -> Result:
    if number in server.orders:
        raise FakeError("constraint")
    server.put(server.orders, number, [*values, 0])
    return Result(1, (), 0)


def _claim(server: FakeServer, user: int, sku: int, qty: int, most: int) -> Result:
    units = server.purchases.get((user, sku), 0) + qty
    if units > most:
        return Result(0, (), 0)
    server.put(server.purchases, (user, sku), units)
    return Result(1, (), 0)


def _give_back(server: FakeServer, qty: int, user: int, sku: int) -> Result:
    server.put(server.purchases, (user, sku), server.purchases[user, sku] - qty)
    return Result(1, (), 0)


def _set_state(server: FakeServer, state: int, number: int) -> Result:
    order = server.orders.get(number)
    if order is None or order[-1] != 0:
        return Result(0, (), 0)
    server.put(server.orders, number, [*order[:-1], state])
    return Result(1, (), 0)


def _pay(server: FakeServer, number: int, order: int, amount: int) -> Result:
    server.put(server.payments, number, (order, amount))
    return Result(1, (), 0)


def _release(server: FakeServer, number: int, order: int) -> Result:
    server.put(server.releases, number, order)
    return Result(1, (), 0)


def _read(server: FakeServer, sku: int) -> Result:
    return Result(1, [tuple(server.stock[sku, 0])], 0)


def _write_back(server: FakeServer, available: int, sku: int) -> Result:
    return server.deduct_if(True, (sku, 0), available)


def _compare_and_set(server: FakeServer, available: int, sku: int, version: int) -> Result:
    return server.deduct_if(server.stock[sku, 0][1] == version, (sku, 0), available)


def _deduct(server: FakeServer, qty: int, sku: int, bucket: int) -> Result:
    available = server.stock[sku, bucket][0]
    return server.deduct_if(available >= qty, (sku, bucket), available - qty)


def _stocked(server: FakeServer, sku: int, qty: int) -> Result:
    rows = [(bucket,) for (owner, bucket), (available, _) in server.stock.items() if owner == sku and available >= qty]
    return Result(len(rows), rows, 0)


def _restock(server: FakeServer, qty: int, sku: int, bucket: int) -> Result:
    return server.deduct_if(True, (sku, bucket), server.stock[sku, bucket][0] + qty)


def _browse(server: FakeServer, sku_a: int, sku_b: int) -> Result:
    rows = [(*key, version) for key, (_, version) in server.stock.items() if key[0] in (sku_a, sku_b)]
    return Result(len(rows), rows, 0)


STATEMENTS: Mapping[Statement, Callable[..., Result]] = {
    flashsale.INSERT_ORDER: _insert_order,
    flashsale.CLAIM_LIMIT: _claim,
    flashsale.GIVE_LIMIT_BACK: _give_back,
    flashsale.SET_STATE: _set_state,
    flashsale.INSERT_PAYMENT: _pay,
    flashsale.INSERT_RELEASE: _release,
    flashsale.READ: _read,
    flashsale.READ_LOCKED: _read,
    flashsale.WRITE_BACK: _write_back,
    flashsale.COMPARE_AND_SET: _compare_and_set,
    flashsale.DEDUCT: _deduct,
    flashsale.STOCKED: _stocked,
    flashsale.RESTOCK: _restock,
    flashsale.BROWSE: _browse,
}


class FakeConnection:
    """One connection. Other sessions run between any two of its steps."""

    verified: Mapping[str, str] = {}

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._in_transaction = False
        self._cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        """Wait for the lock: one transaction at a time."""
        await self._step("begin")
        await self._server.lock.acquire()
        self._in_transaction = True

    async def execute(self, call: Call) -> Result:
        """Run one statement on the tables; outside a transaction it waits for the others' end, as a snapshot does."""
        await self._step("execute")
        if self._in_transaction:
            return self._server.run(call)
        async with self._server.lock:
            result = self._server.run(call)
            self._server.undo.clear()
            return result

    async def commit(self) -> None:
        """Keep what was written."""
        await self._step("commit")
        self._server.undo.clear()
        self._server.commits += 1
        self._unlock()

    async def rollback(self) -> None:
        """Take back what was written."""
        await self._step("rollback")
        self._abandon()

    async def close(self) -> None:
        """Close; whoever waits for an answer loses the connection."""
        if not self._cut.done():
            self._cut.set_result(None)
        self._abandon()

    async def _step(self, step: str) -> None:
        await asyncio.sleep(0)
        fault = self._server.goes_wrong(step)
        if fault == "hang":
            await self._cut
        if fault == "lost-after" and step == "commit":
            self._server.undo.clear()
            self._unlock()
        if fault:
            if FAULTS[fault][1]:
                self._abandon()
            raise FakeError(fault)
        if self._cut.done():
            self._abandon()
            raise FakeError("lost")

    def _abandon(self) -> None:
        if self._in_transaction:
            self._server.roll_back()
            self._unlock()

    def _unlock(self) -> None:
        self._in_transaction = False
        self._server.lock.release()


class FakeEngine:
    """The dialect of the fake: its outcome table, and one server in place of an address."""

    name = "fake"
    wire = "postgres"
    title = "a database in memory"
    default_level = "serializable"
    levels: Mapping[str, Level] = {"serializable": Level("serializable", "serializable", "")}

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """By the code and the stage; what the fake did not inject is a bug, and raised."""
        if not isinstance(error, FakeError):
            raise error
        error_class, drop = FAULTS[error.code]
        unknown = stage is Stage.COMMIT and error_class != "conflict"
        outcome = Outcome.INFO if unknown else Outcome.FAIL
        retry = outcome is Outcome.FAIL and error_class in ("conflict", "connection")
        return Failure(outcome, error.code, error_class, retry=retry, drop=drop, sample=f"injected: {error.code}")

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> FakeConnection:
        """Connect, unless that goes wrong."""
        await asyncio.sleep(0)
        fault = self.server.goes_wrong("connect")
        if fault:
            raise FakeError(fault)
        return FakeConnection(self.server)

    def control(self, address: Address, run_id: str) -> Control:
        """None: the fake's tables can be looked at."""
        raise NotImplementedError("the fake has no control plane: its tables can be looked at")


MIX = (("order", 10), ("pay", 8), ("cancel", 1), ("release", 1), ("browse", 2))


def sale_plan(**changes: Any) -> Plan:
    """A short, small sale with the whole mix."""
    base = plans.sale_plan(
        skus=4, stock=1_000_000, peak_rate=1000.0, duration_s=0.2, shape="constant", kind_weights=MIX
    )
    return base.with_(**changes)


def sale_bodies(plan: Plan) -> list[Any]:
    """The sale's transaction bodies, by kind code, without a Locust environment."""
    shopper = object.__new__(flashsale.Shopper)
    shopper.plan = plan
    kinds = dict(plan.kind_weights)
    return [getattr(shopper, kind) if kind in kinds else None for kind in flashsale.SALE.kinds]
