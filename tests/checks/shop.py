"""A correct shop in memory: the sale's own bodies on a store that runs each transaction whole, at one instant.

What it makes is a History as a run would have left it: ops that overlap in time, refusals, conflicts tried again,
baskets, buckets, ops that are ``info`` and did or did not happen, load processes that die, follow-ups that were
skipped or never sent. Whatever the seed, nothing in it is a violation.
"""

import heapq
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import loadgen.workload
from loadgen.engines.columns import as_column
from loadgen.history.history import ROW_DONE, ROW_TRY, History, HistoryWriter, ops_batch, read_history, write_final
from loadgen.op import Completion, Outcome, Stage
from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.books import Books, open_books
from loadgen.shop.sale import Answer, Shopping
from loadgen.workload import Conflict, Refused, Result
from tests.plans import sale_plan

FLASHSALE = Path(__file__).parents[2] / "workloads" / "flashsale.py"
WEIGHTS = (("order", 10), ("browse", 2), ("pay", 8), ("cancel", 1), ("release", 1))
SHOPPERS = 25
MS = 1_000_000

Row = dict[str, int]


@lru_cache(maxsize=1)
def flashsale() -> Any:
    """The workload file, without Locust: its decorators do nothing here."""
    stub = types.ModuleType("loadgen.load")
    stub.SessionUser = object  # type: ignore[attr-defined]
    stub.tag = stub.task = lambda *_: lambda body: body  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("flashsale_without_locust", FLASHSALE)
    assert spec is not None and spec.loader is not None and loadgen.workload
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {"loadgen.load": stub}):
        spec.loader.exec_module(module)
    return module


def invoked(plan: Plan, first: int, count: int) -> dict[str, Any]:
    """The sale's identities, with so few shoppers that some of them meet the limit."""
    with patch.object(sale, "SHOPPERS", SHOPPERS):
        return sale.invoked(plan, first, count)


class Store:
    """The shop's tables, and what each of the sale's statements does to them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tables: dict[str, dict[Any, Row]] = {"orders": {}, "purchases": {}, "payments": {}, "releases": {}}
        names = ("sku", "bucket", "available", "version", "price")
        stock = next(table for table in flashsale().tables(plan) if table.name == "stock")
        self._before: list[tuple[str, Any, Row | None]] = []
        self.tables["stock"] = {tuple(row[:2]): dict(zip(names, row, strict=True)) for row in stock.rows}
        module = flashsale()
        self._run = {
            module.INSERT_ORDER: self._insert_order,
            module.CLAIM_LIMIT: self._claim_limit,
            module.GIVE_LIMIT_BACK: self._give_limit_back,
            module.SET_STATE: self._set_state,
            module.INSERT_PAYMENT: lambda id, order, amount: self._insert(
                "payments", id=id, order_id=order, amount=amount
            ),
            module.INSERT_RELEASE: lambda id, order: self._insert("releases", id=id, order_id=order),
            module.READ: self._read,
            module.READ_LOCKED: self._read,
            module.WRITE_BACK: lambda available, sku: self._write(sku, 0, available),
            module.COMPARE_AND_SET: self._compare_and_set,
            module.DEDUCT: self._deduct,
            module.STOCKED: self._stocked,
            module.RESTOCK: self._restock,
            module.BROWSE: self._browse,
        }

    def execute(self, call: Any) -> Result:
        """Run one statement."""
        statement, values = call
        return self._run[statement](*values)

    def commit(self) -> None:
        """Keep what was done since the last commit."""
        self._before.clear()

    def roll_back(self) -> None:
        """Undo what was done since the last commit."""
        for table, key, row in reversed(self._before):
            if row is None:
                del self.tables[table][key]
            else:
                self.tables[table][key] = row
        self._before.clear()

    def _keep(self, table: str, key: Any) -> None:
        row = self.tables[table].get(key)
        self._before.append((table, key, None if row is None else dict(row)))

    def _insert(self, table: str, **row: int) -> Result:
        if row["id"] in self.tables[table]:
            raise Conflict("a primary key twice")
        self._keep(table, row["id"])
        self.tables[table][row["id"]] = row
        return Result(1, (), 0)

    def _insert_order(self, *values: int) -> Result:
        names = ("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount")
        return self._insert("orders", **dict(zip(names, values, strict=True)), state=0)

    def _claim_limit(self, user: int, sku: int, qty: int, most: int) -> Result:
        self._keep("purchases", (user, sku))
        row = self.tables["purchases"].setdefault((user, sku), {"user_id": user, "sku": sku, "units": 0})
        if row["units"] + qty > most:
            return Result(0, (), 0)
        row["units"] += qty
        return Result(1, (), 0)

    def _give_limit_back(self, qty: int, user: int, sku: int) -> Result:
        if (user, sku) not in self.tables["purchases"]:
            return Result(0, (), 0)
        self._keep("purchases", (user, sku))
        self.tables["purchases"][user, sku]["units"] -= qty
        return Result(1, (), 0)

    def _set_state(self, state: int, order: int) -> Result:
        row = self.tables["orders"].get(order)
        if row is None or row["state"] != 0:
            return Result(0, (), 0)
        self._keep("orders", order)
        row["state"] = state
        return Result(1, (), 0)

    def _read(self, sku: int) -> Result:
        row = self.tables["stock"].get((sku, 0))
        return Result(1, [(row["available"], row["version"])], 0) if row else Result(0, (), 0)

    def _write(self, sku: int, bucket: int, available: int) -> Result:
        if (sku, bucket) not in self.tables["stock"]:
            return Result(0, (), 0)
        self._keep("stock", (sku, bucket))
        row = self.tables["stock"][sku, bucket]
        row["available"] = available
        row["version"] += 1
        return Result(1, (), row["version"])

    def _compare_and_set(self, available: int, sku: int, version: int) -> Result:
        if (sku, 0) not in self.tables["stock"] or self.tables["stock"][sku, 0]["version"] != version:
            return Result(0, (), 0)
        return self._write(sku, 0, available)

    def _deduct(self, qty: int, sku: int, bucket: int) -> Result:
        row = self.tables["stock"].get((sku, bucket))
        enough = row is not None and row["available"] >= qty
        return self._write(sku, bucket, row["available"] - qty) if row and enough else Result(0, (), 0)

    def _stocked(self, sku: int, qty: int) -> Result:
        rows = [row for row in self.tables["stock"].values() if row["sku"] == sku and row["available"] >= qty]
        return Result(len(rows), [(row["bucket"],) for row in rows], 0)

    def _restock(self, qty: int, sku: int, bucket: int) -> Result:
        row = self.tables["stock"].get((sku, bucket))
        return self._write(sku, bucket, row["available"] + qty) if row else Result(0, (), 0)

    def _browse(self, sku_a: int, sku_b: int) -> Result:
        rows = [row for row in self.tables["stock"].values() if row["sku"] in (sku_a, sku_b)]
        return Result(len(rows), [(row["sku"], row["bucket"], row["version"]) for row in rows], 0)


@dataclass
class Run:
    """What a run left behind, for a test to change before it is judged: completions as they stand, tables as rows."""

    plan: Plan
    rows: dict[str, list[Completion]] = field(default_factory=dict)
    tries: dict[str, list[Completion]] = field(default_factory=dict)
    handed: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    closed_at: dict[str, int | None] = field(default_factory=dict)
    clocks: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    sabotaged: str = ""
    """What the sabotage did."""
    broken_promises: int = 0
    """How many stale reads the store let through: 0 for a correct store."""

    def write(self, directory: Path) -> None:
        """Write the history, as a run would have."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, rows in self.rows.items():
            writer = HistoryWriter(directory, name, sale.INVOKED_COLUMNS, self.clocks[name])
            for first, count in self.handed[name]:
                writer.invoked(invoked(self.plan, first, count))
            tries, end = self.tries[name], self.closed_at[name]
            writer.batch(ops_batch([*tries, *rows], [ROW_TRY] * len(tries) + [ROW_DONE] * len(rows)))
            if end is not None:
                writer.closed(end)
            writer.close()
        for table in flashsale().tables(self.plan):
            rows = self.tables[table.name]
            columns = {name: as_column([row[name] for row in rows], kind) for name, kind in table.final.items()}
            write_final(directory, table.name, columns, table.final)

    def history(self) -> History:
        """The run, written and read back."""
        with tempfile.TemporaryDirectory() as directory:
            self.write(Path(directory))
            return read_history(Path(directory))

    def books(self) -> Books:
        """The run's books."""
        return open_books(self.history(), self.plan)

    def done(self, answer: Answer) -> list[Completion]:
        """The acknowledged ops with this answer."""
        return [
            row for rows in self.rows.values() for row in rows if row.outcome == Outcome.OK and row.answer == answer
        ]

    def row(self, table: str, **where: int) -> Row:
        """The first row of a table with these values."""
        return next(row for row in self.tables[table] if where.items() <= row.items())


Sabotage = Callable[["Simulation"], str | None]
"""What somebody else does to the tables while the sale runs; what it did in words, None if there is no chance yet."""


def simulate(
    plan: Plan,
    seed: int,
    *,
    numbers: int = 120,
    processes: int = 2,
    trouble: float = 0.1,
    snapshots: bool = True,
    sabotage: Sabotage | None = None,
) -> Run:
    """One run of ``numbers`` arrivals; ``trouble`` is the share of ops that fail, are ``info``, or are skipped.

    Without ``snapshots`` the store lets a transaction write over what it has not seen, as at read committed.
    ``sabotage`` strikes once, at some instant of the run.
    """
    simulation = Simulation(plan, seed, numbers, processes, trouble, snapshots)
    if sabotage is not None:
        simulation.sabotage(sabotage)
    return simulation.run()


class Simulation:
    """Events in the order of their instants. Every transaction happens whole at one instant between sent and done."""

    def __init__(self, plan: Plan, seed: int, numbers: int, processes: int, trouble: float, snapshots: bool) -> None:
        self.random = Random(seed)
        self.plan, self.trouble, self.snapshots = plan, trouble, snapshots
        self.store = Store(plan)
        self.shopper = flashsale().Shopper()
        self.shopper.plan = plan
        self.events: list[tuple[int, int, Any]] = []
        self.result = Run(plan)
        self.names = [str(index) for index in range(processes)]
        self.ops = {op.number: op for op in sale.shoppings(plan, invoked(plan, 0, numbers))}
        self.end = int(plan.duration_s * 1_000) * MS
        self.past: dict[int, list[tuple[int, int, int]]] = {}
        self._hand_out(numbers)

    def sabotage(self, strike: Sabotage) -> None:
        """Let ``strike`` have its chance, from some instant on until it takes it."""

        def attempt(at: int) -> None:
            self.result.sabotaged = strike(self) or ""
            self.store.commit()
            self._remember(at)
            if not self.result.sabotaged and at < self.end:
                self._at(at + 20 * MS, attempt)

        self._at(self.random.randrange(self.end // 2), attempt)

    def held(self) -> Run:
        """The run as it is now, its tables as rows to spoil; see ``put``."""
        tables = {name: [dict(row) for row in rows.values()] for name, rows in self.store.tables.items()}
        return Run(self.plan, rows=self.result.rows, tables=tables)

    def put(self, tables: dict[str, list[Row]]) -> bool:
        """Let the tables hold these rows from now on; false, and nothing is changed, if two have one primary key."""
        pairs = {"stock": ("sku", "bucket"), "purchases": ("user_id", "sku")}
        put: dict[str, dict[Any, Row]] = {}
        for name, rows in tables.items():
            pair = pairs.get(name)
            put[name] = {row["id"] if pair is None else (row[pair[0]], row[pair[1]]): row for row in rows}
        if any(len(put[name]) != len(rows) for name, rows in tables.items()):
            return False
        self.store.tables.update(put)
        return True

    def acknowledged(self, answer: Answer) -> list[int]:
        """The numbers of the ops that were acknowledged with ``answer`` until now."""
        return [row.number for row in self.result.done(answer)]

    def run(self) -> Run:
        """Let all events happen."""
        while self.events:
            at, _, act = heapq.heappop(self.events)
            act(at)
        self.result.tables = {name: [dict(row) for row in rows.values()] for name, rows in self.store.tables.items()}
        for rows in self.result.rows.values():
            rows.sort(key=lambda row: row.done)
        return self.result

    def _hand_out(self, numbers: int) -> None:
        """Blocks of numbers in turn; arrivals in the order of their numbers, some never started, some processes die."""
        random, result = self.random, self.result
        self.dies = {
            name: random.randrange(self.end) if random.random() < 0.25 else 2 * self.end for name in self.names
        }
        self.skew = dict.fromkeys(self.names, 0)
        boots = random.choice(([0] * len(self.names), list(range(len(self.names)))))
        for index, name in enumerate(self.names):
            result.rows[name], result.tries[name], result.handed[name] = [], [], []
            # Each boot's monotonic clock began at another time, and its wall clock is a little off.
            began = (1 + 7 * boots[index]) * 10**9
            self.skew[name] = began
            wall = 1_700_000_000 * 10**9 + began + random.randrange(-5 * MS, 5 * MS)
            result.clocks[name] = {"boot_id": f"b{boots[index]}", "wall_ns": str(wall), "monotonic_ns": str(began)}
        mine: dict[str, list[int]] = {name: [] for name in self.names}
        for index, first in enumerate(range(0, numbers, 16)):
            name = self.names[index % len(self.names)]
            block = range(first, min(first + 16, numbers))
            result.handed[name].append((first, len(block)))
            mine[name] += block
        for name, own in mine.items():
            started = own[: random.randrange(len(own) // 2, len(own) + 1)]
            dues = sorted(random.randrange(self.end) for _ in started)
            for number, due in zip(started, dues, strict=True):
                self._at(due, lambda at, n=number, p=name: self._due(at, p, n, self.ops[n].kind))
            died = self.dies[name] <= self.end
            result.closed_at[name] = None if died else own[len(started)] if len(started) < len(own) else numbers

    def _at(self, instant: int, act: Any) -> None:
        heapq.heappush(self.events, (instant, len(self.events) * 10**6 + self.random.randrange(10**6), act))

    def _due(self, due: int, process: str, number: int, kind: int) -> None:
        if due >= self.dies[process]:
            return
        if self.random.random() < self.trouble / 4:
            self._complete(process, number, kind, due, due, due, Outcome.SKIPPED)
            return
        sent = due + self.random.randrange(5 * MS)
        self._at(sent, lambda at: self._try(at, process, number, kind, due, sent, 1))

    def _try(self, now: int, process: str, number: int, kind: int, due: int, sent: int, tries: int) -> None:
        if sent >= self.dies[process]:
            return
        random, draw = self.random, self.random.random()
        commit = now + random.randrange(10 * MS)
        if draw < self.trouble / 2:
            # Nobody knows: it may happen, at once or long after, or never.
            done = commit + random.randrange(5 * MS)
            if random.random() < 0.5:
                late = commit + random.randrange(200 * MS)
                self._at(late, lambda at: self._transaction(at, now, self.ops[number], kind))
            self._complete(process, number, kind, due, sent, done, Outcome.INFO, tries=tries, stage=Stage.COMMIT)
        elif draw < self.trouble:
            self._again(commit, process, number, kind, due, sent, tries, retry=random.random() < 0.7)
        else:
            self._at(commit, lambda at: self._commit(at, now, process, number, kind, due, sent, tries))

    def _commit(
        self, at: int, began: int, process: str, number: int, kind: int, due: int, sent: int, tries: int
    ) -> None:
        op = self.ops[number]
        answered = self._transaction(at, began, op, kind)
        if answered is None:
            self._again(at, process, number, kind, due, sent, tries, retry=tries < 20)
            return
        answer, touched = answered
        done = at + self.random.randrange(5 * MS)
        self._complete(process, number, kind, due, sent, done, Outcome.OK, answer, touched, tries=tries)
        if answer == Answer.PLACED:
            for follow, delay in op.follow_ups:
                later = done + delay
                if later < self.end:
                    self._at(later, lambda instant, k=follow: self._due(instant, process, number, k))

    def _transaction(self, at: int, began: int, op: Shopping, kind: int) -> tuple[int, tuple[int, ...]] | None:
        """Run a body at one instant; None if it must be tried again. What it reads unlocked may be older."""
        body = getattr(self.shopper, sale.KIND_NAMES[kind])(op)
        result = None
        stale = False
        try:
            while True:
                call = body.send(result)
                result = self.store.execute(call)
                if call[0] is flashsale().READ:
                    result, old = self._older(result, call[1][0], began, at)
                    stale |= old
        except StopIteration as end:
            if stale and self.snapshots:
                # First committer wins: a snapshot transaction that saw the row before another's write is refused.
                self.store.roll_back()
                return None
            self.result.broken_promises += stale
            self._remember(at)
            self.store.commit()
            return end.value.answer, end.value.touched
        except Refused as refused:
            self.store.roll_back()
            return refused.answer, refused.touched
        except Conflict:
            self.store.roll_back()
            return None

    def _older(self, result: Result, sku: int, began: int, at: int) -> tuple[Result, bool]:
        """The row as it was at some instant since ``began``, and whether it has changed since."""
        if not result.rows:
            return result, False
        instant = self.random.randrange(began, at + 1)
        known = [(0, sale.bucket_stock(self.plan, 0), 0), *self.past.get(sku, [])]
        _, available, version = [entry for entry in known if entry[0] <= instant][-1]
        return Result(1, [(available, version)], 0), version != result.rows[0][1]

    def _remember(self, at: int) -> None:
        for (sku, bucket), row in self.store.tables["stock"].items():
            past = self.past.setdefault(sku, [])
            now = (row["available"], row["version"])
            if bucket == 0 and (not past or past[-1][1:] != now):
                past.append((at, *now))

    def _again(
        self, at: int, process: str, number: int, kind: int, due: int, sent: int, tries: int, *, retry: bool
    ) -> None:
        if retry:
            skew = self.skew[process]
            times = (due + skew, sent + skew, at + skew)
            failed = Completion(number, kind, 0, *times, Outcome.FAIL, 0, tries, Stage.STATEMENT, "40001", ())
            self.result.tries[process].append(failed)
            again = at + self.random.randrange(MS)
            self._at(again, lambda now: self._try(now, process, number, kind, due, sent, tries + 1))
        else:
            self._complete(process, number, kind, due, sent, at, Outcome.FAIL, tries=tries, stage=Stage.STATEMENT)

    def _complete(
        self,
        process: str,
        number: int,
        kind: int,
        due: int,
        sent: int,
        done: int,
        outcome: Outcome,
        answer: int = 0,
        touched: tuple[int, ...] = (),
        *,
        tries: int = 0,
        stage: Stage = Stage.NONE,
    ) -> None:
        if done >= self.dies[process]:
            return
        code = "" if outcome in (Outcome.OK, Outcome.SKIPPED) else "57014"
        skew = self.skew[process]
        times = (due + skew, sent + skew, done + skew)
        self.result.rows[process].append(
            Completion(number, kind, 0, *times, outcome, answer, tries, stage, code, touched)
        )


def small_plan(**changes: Any) -> Plan:
    """A plan whose stock runs out within a hundred orders."""
    base = sale_plan(skus=6, stock=12, skew="zipf:0.8", duration_s=1.0, kind_weights=WEIGHTS, user_limit=3)
    return base.with_(**changes)
