"""What every engine promises, tried on a real server: subclass EngineContract, give it a server, and run it.

A subclass names its ``server`` fixture (an engine with an address to go to), the facts that differ between engines,
and how to end the load's sessions from outside.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import uvloop

from loadgen.engines.address import joined
from loadgen.engines.engine import (
    LOCK_TABLE,
    LOCK_TIMEOUT_S,
    META_TABLE,
    Address,
    Connection,
    Control,
    Engine,
    Failure,
    level_of,
)
from loadgen.engines.heartbeat import Heartbeat
from loadgen.engines.session import Session, Try
from loadgen.errors import ClusterError
from loadgen.history.history import read_history, write_final
from loadgen.op import Outcome, Stage
from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.options import STRATEGIES
from loadgen.shop.sale import Answer, Shopping, State
from loadgen.workload import Body, Refused, Reply, Statement, Table
from tests.plans import sale_plan
from workloads import flashsale

READ = Statement("SELECT available, version FROM stock WHERE sku = :sku AND bucket = 0")
WRITE = Statement("UPDATE stock SET available = :available, {bump} WHERE sku = :sku AND bucket = 0 {bumped}")
TAKE = Statement("UPDATE stock SET available = available - :qty, {bump} WHERE sku = :sku AND bucket = 0 {bumped}")
NOTE = Statement("INSERT INTO releases (id, order_id) VALUES (:id, :order)", blind=True)
KINDS = {
    "postgres": "CREATE TABLE kinds (id INT NOT NULL PRIMARY KEY, amount DECIMAL(20,4), data BYTEA,"
    " ratio DOUBLE PRECISION, at TIMESTAMP, flag BOOLEAN, number BIGINT, name VARCHAR(40))",
    "mysql": "CREATE TABLE kinds (id INT NOT NULL PRIMARY KEY, amount DECIMAL(20,4), data VARBINARY(300), ratio DOUBLE,"
    " at DATETIME(6), flag BOOLEAN, number BIGINT, name VARCHAR(40))",
}
KINDS_FINAL = {
    "id": "int32",
    "amount": "decimal(20,4)",
    "data": "binary",
    "ratio": "float64?",
    "at": "timestamp",
    "flag": "bool",
    "number": "int64?",
    "name": "string?",
}
VALUES: list[tuple[Any, ...]] = [
    (
        Decimal("-12345678901234.5600"),
        bytes(range(256)),
        0.1,
        datetime(2026, 11, 11, 0, 0, 0, 1),
        True,
        2**63 - 1,
        "né",
    ),
    (None,) * 7,
    (Decimal("0.0001"), b"", -1e300, datetime(1999, 12, 31, 23, 59, 59), False, -(2**63), ""),
    (Decimal(0), b"' %s :x \\ \0", 3.0, datetime(2026, 2, 28, 12), True, 0, "' %s :x \\ % \""),
]
ADD_KINDS = Statement(
    "INSERT INTO kinds (id, amount, data, ratio, at, flag, number, name)"
    " VALUES (:id, :amount, :data, :ratio, :at, :flag, :number, :name)"
)
READ_KINDS = Statement("SELECT amount, data, ratio, at, flag, number, name FROM kinds WHERE id = :id")
MOST_TRIES = 200
BOUND_S = 30.0
"""A test that hangs would hide what it found."""


@dataclass(frozen=True)
class Server:
    """An engine and where its server is."""

    engine: Engine
    address: Address


class EngineContract:
    """The promises. Tests share one server, and each makes the schema anew."""

    p4_allowed: ClassVar[Sequence[str]]
    """Levels at which a lost update (P4) is possible."""
    p4_prevented: ClassVar[Sequence[str]]
    """The engine's other levels, at which it is not: one of the two writers is told to try again."""

    level: ClassVar[str] = ""
    """The level at which all else is tried; empty for the default."""

    def end_sessions(self, control: Control) -> None:
        """Make the server end the load's sessions."""
        raise NotImplementedError

    @pytest.fixture
    def plan(self) -> Plan:
        """A small sale."""
        return sale_plan(skus=3, stock=30, user_limit=1_000, kind_weights=(("order", 1),))

    @pytest.fixture
    def tables(self, plan: Plan) -> tuple[Table, ...]:
        """Its tables."""
        return flashsale.tables(plan)

    @pytest.fixture
    def control(self, server: Server, tables: tuple[Table, ...]) -> Iterator[Control]:
        """The control connection, with the tables made."""
        control = server.engine.control(server.address, "contract")
        control.prepare(tables)
        yield control
        with suppress(ClusterError):
            control.unlock()
        control.close()

    # Control

    def test_facts_say_what_the_server_is(self, control: Control) -> None:
        """Version, edition, durability, how many connections are left, and what to warn of."""
        facts = control.facts()

        assert facts["version"]
        assert facts["edition"]
        assert facts["durability"]
        assert facts["connections_free"] > 0
        assert isinstance(facts["warnings"], list)

    def test_second_run_is_refused_while_the_first_one_lives(self, server: Server, control: Control) -> None:
        """The lock is kept by its beat, whatever becomes of a connection, until it is given back."""
        control.lock()
        heartbeat = Heartbeat(lambda: server.engine.control(server.address, "contract"), lambda _: None)
        with closing(server.engine.control(server.address, "second")) as second:
            with pytest.raises(ClusterError, match="another run"):
                second.lock()
            assert not heartbeat.lost
            heartbeat.stop()

            control.beat()
            control.unlock()
            second.lock()
            second.unlock()

    def test_host_that_is_gone_is_passed_over(
        self, server: Server, control: Control, tables: tuple[Table, ...]
    ) -> None:
        """Of several hosts both kinds of connection take the one that takes writes, and it can prove that it does."""
        control.lock()
        nobody = replace(server.address, host="127.0.0.1", port=1, socket="")
        address = joined([nobody, server.address])

        with closing(server.engine.control(address, "contract")) as other:
            other.prove_writable()
            assert other.final_reads(tables)["releases"]["id"].size == 0
        with sessions_in_steps(Server(server.engine, address), 2, self.level) as (_, sessions):
            assert all(session.connected for session in sessions)

    def test_prepare_makes_our_tables_anew(self, control: Control, tables: tuple[Table, ...]) -> None:
        """Nothing of an earlier run is left."""
        control.query("INSERT INTO releases (id, order_id) VALUES (1, 1)")
        control.prepare(tables)

        assert control.final_reads(tables)["releases"]["id"].size == 0

    def test_table_that_is_not_ours_refuses_the_run(self, control: Control, tables: tuple[Table, ...]) -> None:
        """It and our own tables stay as they were."""
        control.query("CREATE TABLE payroll (name INT NOT NULL)")
        control.query("INSERT INTO payroll (name) VALUES (1)")
        control.query("INSERT INTO releases (id, order_id) VALUES (1, 1)")
        try:
            with pytest.raises(ClusterError, match="payroll"):
                control.prepare(tables)

            assert control.query("SELECT count(*) FROM payroll") == [(1,)]
            assert control.query("SELECT count(*) FROM releases") == [(1,)]
        finally:
            control.query("DROP TABLE payroll")

    def test_tables_without_the_mark_refuse_the_run(self, control: Control, tables: tuple[Table, ...]) -> None:
        """Without the mark nothing is ours, whatever its name."""
        for name in (META_TABLE, LOCK_TABLE):
            control.query(f"DROP TABLE IF EXISTS {name}")
        try:
            with pytest.raises(ClusterError, match="loadgen_meta"):
                control.prepare(tables)
            assert len(control.query("SELECT sku FROM stock")) == 3
        finally:
            for table in tables:
                control.query(f"DROP TABLE {table.name}")

    def test_final_reads_return_what_the_tables_hold(self, control: Control, tables: tuple[Table, ...]) -> None:
        """Every column in its type, every row once; an empty table has empty columns."""
        read = control.final_reads(tables)

        assert sorted(zip(*(read["stock"][name].tolist() for name in tables[0].final), strict=True)) == [
            tuple(values) for values in tables[0].rows
        ]
        assert read["stock"]["sku"].dtype == np.int32
        assert read["orders"]["token"].dtype == np.int64
        assert read["orders"]["token"].size == 0

    def test_final_reads_name_a_table_that_is_gone_and_read_the_others(
        self, control: Control, tables: tuple[Table, ...]
    ) -> None:
        """Also one that lost a column; a view in a table's place is read."""
        control.query("DROP TABLE releases")
        control.query("ALTER TABLE payments DROP COLUMN amount")
        control.query("ALTER TABLE orders RENAME TO others")
        control.query("CREATE VIEW orders AS SELECT * FROM others")
        try:
            read = control.final_reads(tables)
        finally:
            control.query("DROP VIEW orders")
            control.query("ALTER TABLE others RENAME TO orders")
            control.query(next(table.create for table in tables if table.name == "releases"))

        assert set(read) == {"stock", "orders", "purchases"} and len(read["stock"]["sku"]) == 3
        assert set(read.gone) == {"releases"} and set(read.unread) == {"payments"}
        assert "releases" in read.gone["releases"] and "amount" in read.unread["payments"]

    def test_final_reads_keep_what_is_no_number_of_ours_apart(
        self, server: Server, control: Control, tables: tuple[Table, ...]
    ) -> None:
        """A NULL, a fraction and a text are no number, and are not rounded to one."""
        change = "MODIFY {} {} NULL" if server.engine.wire == "mysql" else "ALTER {} TYPE {}"
        if server.engine.wire == "postgres":
            control.query("ALTER TABLE payments ALTER order_id DROP NOT NULL")
        control.query(f"ALTER TABLE payments {change.format('amount', 'DECIMAL(10,2)')}")
        control.query(f"ALTER TABLE payments {change.format('order_id', 'VARCHAR(20)')}")
        control.query(
            "INSERT INTO payments (id, order_id, amount) VALUES (1, '7', 5.00), (2, 'seven', 5.50), (3, NULL, 5.00)"
        )
        table = next(table for table in tables if table.name == "payments")

        read = control.final_reads(tables)["payments"]

        rows = sorted(zip(*(read[name].tolist() for name in table.final), strict=True))
        least = -(2**63)
        assert rows == [(1, 7, 5), (2, least, least), (3, least, 5)]

    def test_final_reads_return_many_rows(self, control: Control) -> None:
        """More than one piece of the stream, with both ends of the types' ranges, and text."""
        rows = [(number, (-1) ** number * (2**63 - 1 - number), f"né {number}") for number in range(60_000)]
        create = "CREATE TABLE numbers (id INT NOT NULL PRIMARY KEY, large BIGINT NOT NULL{})"
        table = Table("numbers", create.format(""), {"id": "int32", "large": "int64"}, [row[:2] for row in rows])
        texts = Table(
            "texts",
            create.format(", text VARCHAR(20) NOT NULL").replace("numbers", "texts"),
            {"id": "int64", "large": "int64", "text": "string"},
            rows[:30_000],
        )
        control.prepare([table, texts])
        read = control.final_reads([table, texts])
        order = np.argsort(read["numbers"]["id"])
        by_id = np.argsort(read["texts"]["id"])

        assert read["numbers"]["large"][order].tolist() == [row[1] for row in rows]
        assert read["texts"]["text"][by_id].tolist() == [row[2] for row in rows[:30_000]]

    def test_values_of_each_type_come_back_as_they_were_written(
        self, server: Server, control: Control, tmp_path: Path
    ) -> None:
        """As a table's rows, as parameters, in results and in final reads, NULL among them; the history keeps them."""
        table = Table("kinds", KINDS, KINDS_FINAL, [(number, *values) for number, values in enumerate(VALUES)])
        control.prepare([table])

        async def use(connections: list[Connection]) -> list[Sequence[Any]]:
            (connection,) = connections
            for number, values in enumerate(VALUES, len(VALUES)):
                assert (await connection.execute(ADD_KINDS(number, *values))).rowcount == 1
            return [tuple((await connection.execute(READ_KINDS(at))).rows[0]) for at in range(2 * len(VALUES))]

        results = self.with_connections(server, 1, use)
        read = control.final_reads([table])
        assert not read.unread
        found = read["kinds"]
        write_final(tmp_path, table.name, found, table.final)
        stored = read_history(tmp_path).final["kinds"]

        assert results == VALUES * 2
        assert [*map(type, results[0][:4])] == [*map(type, VALUES[0][:4])]
        for columns in (found, stored):
            order = np.argsort(columns["id"])
            rows = [tuple(columns[name][order][at] for name in list(KINDS_FINAL)[1:]) for at in range(len(order))]
            assert [tuple(map(_python, row)) for row in rows] == VALUES * 2
            assert {name: columns[name].dtype.kind for name in columns} == {
                **dict.fromkeys(KINDS_FINAL, "O"),
                "id": "i",
                "at": "M",
            }

    def test_number_that_the_final_type_cannot_hold_is_not_rounded(self, control: Control) -> None:
        """A table whose values are no longer what it was made for is named, and not read wrongly."""
        create = "CREATE TABLE prices (id INT NOT NULL PRIMARY KEY, price DECIMAL(12,4))"
        table = Table("prices", create, {"id": "int32", "price": "decimal(10,2)"}, [(1, Decimal("1.25")), (2, None)])
        control.prepare([table])
        assert control.final_reads([table])["prices"]["price"].tolist() == [Decimal("1.25"), None]
        control.query("UPDATE prices SET price = 1.255 WHERE id = 1")

        read = control.final_reads([table])

        assert "prices" not in read and "decimal(10,2)" in read.unread["prices"]

    def test_large_table_is_filled_by_batches(self, control: Control) -> None:
        """Of rows and of columns, by a CREATE TABLE of the engine's own; each batch is asked for when it is wanted."""
        create = "CREATE TABLE large (id INT NOT NULL PRIMARY KEY, value BIGINT)"
        asked: list[int] = []

        def batches(plan: Plan) -> Iterator[Any]:
            for start in range(0, plan.seed, 1500):
                asked.append(start)
                ids = np.arange(start, start + 1500)
                yield {"value": ids * 2, "id": ids} if start else [(int(number), None) for number in ids]

        table = Table(
            "large", {"postgres": create, "mysql": create}, {"id": "int32", "value": "int64?"}, batches=batches
        )
        told: list[str] = []
        control.prepare([table], Plan(seed=6000), told.append)
        read = control.final_reads([table])["large"]
        order = np.argsort(read["id"])

        assert asked == [0, 1500, 3000, 4500] and read["id"].dtype == np.int32
        assert read["id"][order].tolist() == list(range(6000))
        assert read["value"][order].tolist() == [None] * 1500 + [2 * number for number in range(1500, 6000)]

    def test_text_may_hold_what_looks_like_a_parameter(self, server: Server, control: Control) -> None:
        """A quoted colon, a time, a percent sign and a cast are the statement's own."""
        said = "at 12:30:45 :id is 100 % of %s"
        text = f"SELECT '{said}', sku{{}} FROM stock WHERE sku = :w_id1{{}} AND '%s' LIKE '%%' AND bucket = 0 -- :id"
        look = Statement(text.format("::int", "::int"), mysql=text.format("", ""))

        async def use(connections: list[Connection]) -> Sequence[Any]:
            return (await connections[0].execute(look(2))).rows[0]

        assert tuple(self.with_connections(server, 1, use)) == (said, 2)

    def test_sessions_counts_the_load_and_nothing_else(self, server: Server, control: Control) -> None:
        """The control connection is not the load, and a session whose client is gone ends soon."""

        async def use(connections: list[Connection]) -> int:
            for number, connection in enumerate(connections):
                await connection.begin()
                await connection.execute(NOTE(number, number))
            return await asyncio.to_thread(control.sessions)

        assert control.sessions() == 0
        assert self.with_connections(server, 3, use) == 3
        self.wait_until(lambda: control.sessions() == 0)

    # Transactions

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_order_of_each_strategy_keeps_the_books(self, server: Server, control: Control, strategy: str) -> None:
        """One shopper at a time: each strategy sells what there is, and every write knows its version."""
        plan = sale_plan(
            skus=2, stock=20, user_limit=1_000, strategy=strategy, buckets=4 if strategy == "bucketed" else 1
        )
        tables = flashsale.tables(plan)
        control.prepare(tables)
        self.with_sessions(server, 1, lambda sessions: self.sell(plan, sessions, orders(plan, 40)))

        self.check_books(plan, control.final_reads(tables))

    @pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "naive"])
    def test_order_under_contention_never_oversells(self, server: Server, control: Control, strategy: str) -> None:
        """Eight sessions want the same rows: sold exactly what there was, each version written once."""
        plan = sale_plan(
            skus=2,
            stock=25,
            user_limit=1_000,
            skew="one-hot",
            strategy=strategy,
            buckets=4 if strategy == "bucketed" else 1,
        )
        tables = flashsale.tables(plan)
        control.prepare(tables)
        tries = self.with_sessions(server, 8, lambda sessions: self.sell(plan, sessions, orders(plan, 40)))
        read = control.final_reads(tables)
        self.check_books(plan, read)

        assert Counter(tried.answer for tried in tries)[Answer.SOLD_OUT] > 0
        wrote = Counter(
            (row, version)
            for tried in tries
            for row, version in zip(tried.touched[::3], tried.touched[2::3], strict=True)
            if version >= 0
        )
        final = {
            int(sku) * plan.buckets + int(bucket): int(version)
            for sku, bucket, version in zip(
                *(read["stock"][name] for name in ("sku", "bucket", "version")), strict=True
            )
        }
        assert wrote == Counter({(row, version): 1 for row, last in final.items() for version in range(1, last + 1)})

    def test_life_of_an_order_reaches_its_end(self, server: Server, control: Control, tables: Any, plan: Plan) -> None:
        """Placed, paid once, not cancelled then; another cancelled and its units back."""
        first, second = orders(plan, 2)

        async def use(sessions: list[Session]) -> list[int]:
            session = sessions[0]
            shop = shopper(plan)
            bodies = [
                flashsale.Shopper.order(shop, first),
                flashsale.Shopper.order(shop, second),
                flashsale.Shopper.pay(shop, first),
                flashsale.Shopper.pay(shop, first),
                flashsale.Shopper.cancel(shop, second),
                flashsale.Shopper.release(shop, second),
            ]
            return [(await session.run(body)).answer for body in bodies]

        assert self.with_sessions(server, 1, use) == [
            Answer.PLACED,
            Answer.PLACED,
            Answer.PAID,
            Answer.NOT_RESERVED,
            Answer.CANCELLED,
            Answer.NOT_RESERVED,
        ]
        read = control.final_reads(tables)
        assert sorted(read["orders"]["state"].tolist()) == [State.PAID, State.CANCELLED]
        assert read["payments"]["amount"].tolist() == [first.amount]
        assert read["releases"]["order_id"].tolist() == [second.number]
        self.check_books(plan, read)

    def test_browse_reads_versions_without_a_transaction(self, server: Server, control: Control, plan: Plan) -> None:
        """One statement by itself."""
        look = orders(plan, 1)[0]._replace(sku_a=0, sku_b=1)

        async def use(sessions: list[Session]) -> Try:
            return await sessions[0].run(flashsale.Shopper.browse(shopper(plan), look), single_statement=True)

        tried = self.with_sessions(server, 1, use)
        assert (tried.outcome, tried.answer) == (Outcome.OK, Answer.SEEN)
        assert sorted(zip(tried.touched[::3], tried.touched[1::3], strict=True)) == [(0, 0), (1, 0)]

    def test_refusal_rolls_everything_back(self, server: Server, control: Control, tables: Any) -> None:
        """What the body did before it refused is gone, and the session goes on."""

        def refuse() -> Body:
            yield NOTE(1, 1)
            yield TAKE(1, 0)
            raise Refused(Answer.SOLD_OUT, (0, -1, -1))

        async def use(sessions: list[Session]) -> list[Try]:
            return [await sessions[0].run(refuse()), await sessions[0].run(note(2))]

        tried = self.with_sessions(server, 1, use)
        assert tried[0] == (Outcome.OK, Answer.SOLD_OUT, (0, -1, -1), Stage.NONE, None)
        read = control.final_reads(tables)
        assert read["releases"]["id"].tolist() == [2]
        assert set(read["stock"]["available"].tolist()) == {30}

    def test_error_rolls_everything_back_and_is_a_fail(self, server: Server, control: Control, tables: Any) -> None:
        """A constraint that a statement breaks: nothing of the transaction stays, and it is not tried again."""

        def twice() -> Body:
            yield TAKE(1, 0)
            yield NOTE(1, 1)
            yield NOTE(1, 2)
            return Reply(Answer.PLACED)

        async def use(sessions: list[Session]) -> list[Try]:
            return [await sessions[0].run(twice()), await sessions[0].run(note(2))]

        tried = self.with_sessions(server, 1, use)
        assert tried[0].outcome is Outcome.FAIL
        assert tried[0].failure is not None
        assert (tried[0].failure.error_class, tried[0].failure.retry) == ("constraint", False)
        assert tried[1].outcome is Outcome.OK
        read = control.final_reads(tables)
        assert read["releases"]["id"].tolist() == [2]
        assert set(read["stock"]["available"].tolist()) == {30}

    def test_value_that_does_not_fit_is_a_fail_and_the_session_goes_on(self, server: Server, control: Control) -> None:
        """A bug of a workload costs its own ops alone."""

        def large() -> Body:
            yield TAKE(1, 2**40)
            yield NOTE(2**70, 1)
            return Reply(Answer.PLACED)

        async def use(sessions: list[Session]) -> list[Try]:
            return [await sessions[0].run(large()), await sessions[0].run(note(2))]

        tried = self.with_sessions(server, 1, use)
        assert [one.outcome for one in tried] == [Outcome.FAIL, Outcome.OK]

    # Isolation, by two sessions in turns

    def test_lost_update_happens_where_the_level_allows_it(self, server: Server, control: Control) -> None:
        """Both read, both write what they computed: one deduction is gone, and the versions tell."""
        for level in self.p4_allowed:
            control.prepare(flashsale.tables(sale_plan(skus=1, stock=10)))
            ends = self.interleave(server, level)

            assert [getattr(end, "version", end) for end in ends] == [1, 2], "both were computed from version 0"
            assert control.query("SELECT available, version FROM stock") == [(9, 2)]

    def test_lost_update_is_a_conflict_where_the_level_prevents_it(self, server: Server, control: Control) -> None:
        """One of the two is told so and may try again, and the other's write stands."""
        assert {*self.p4_allowed, *self.p4_prevented} == set(server.engine.levels)
        for level in self.p4_prevented:
            control.prepare(flashsale.tables(sale_plan(skus=1, stock=10)))
            ends = self.interleave(server, level)

            # Where a snapshot decides, the first writer wins; where read locks do, the server picks a victim.
            (failure,) = (end for end in ends if isinstance(end, Failure))
            assert (failure.outcome, failure.retry) == (Outcome.FAIL, True)
            assert failure.error_class in ("conflict", "deadlock", "timeout")
            assert control.query("SELECT available, version FROM stock") == [(9, 1)]

    # Failures

    def test_lock_that_never_comes_is_a_timeout(self, server: Server, control: Control) -> None:
        """The server gives up by the timeout that every engine gets; the transaction is rolled back."""

        async def use(connections: list[Connection]) -> float:
            holder, waiter = connections
            await holder.begin()
            await holder.execute(TAKE(1, 0))
            await waiter.begin()
            begun = asyncio.get_running_loop().time()
            with pytest.raises(Exception) as raised:
                await waiter.execute(TAKE(1, 0))
            waited = asyncio.get_running_loop().time() - begun
            failure = server.engine.classify(raised.value, Stage.STATEMENT)
            assert (failure.outcome, failure.error_class, failure.retry) == (Outcome.FAIL, "timeout", True)
            await waiter.rollback()
            await holder.rollback()
            return waited

        assert LOCK_TIMEOUT_S - 0.5 < self.with_connections(server, 2, use) < LOCK_TIMEOUT_S + 2

    def test_session_that_the_server_ends_is_a_fail_and_comes_back(self, server: Server, control: Control) -> None:
        """Before COMMIT a lost connection is a fail that may be tried again, on a new connection."""

        with sessions_in_steps(server, 1, self.level) as (steps, (session,)):
            assert steps.do(session.run(note(1))).outcome is Outcome.OK
            self.end_sessions(control)
            lost, again = steps.do(session.run(note(2))), steps.do(session.run(note(3)))

        assert (lost.outcome, again.outcome) == (Outcome.FAIL, Outcome.OK)
        assert lost.failure is not None
        assert (lost.failure.retry, lost.failure.drop) == (True, True)
        assert sorted(control.query("SELECT id FROM releases")) == [(1,), (3,)]

    def test_connection_that_is_closed_in_a_statement_ends_it(self, server: Server, control: Control) -> None:
        """A session that is cut while it waits for a lock does not hang, and what it did is gone."""

        async def use(connections: list[Connection]) -> Try:
            holder = connections[0]
            await holder.begin()
            await holder.execute(TAKE(1, 0))
            session = Session(server.engine, server.address, level_of(server.engine, self.level))
            waiting = asyncio.create_task(session.run(take_and_note(7)))
            done, _ = await asyncio.wait({waiting}, timeout=LOCK_TIMEOUT_S / 4)
            assert not done, "it should wait for the lock"
            await session.close()
            tried = await asyncio.wait_for(waiting, LOCK_TIMEOUT_S / 4)
            await holder.rollback()
            return tried

        tried = self.with_connections(server, 1, use)
        assert tried.outcome is Outcome.FAIL
        self.wait_until(lambda: control.sessions() == 0)
        assert control.query("SELECT count(*) FROM releases") == [(0,)]

    # Means

    def with_sessions(self, server: Server, count: int, use: Callable[[list[Session]], Awaitable[Any]]) -> Any:
        """What ``use`` returns, given ``count`` connected sessions."""

        with sessions_in_steps(server, count, self.level) as (steps, sessions):
            return steps.do(use(sessions))

    def with_connections(
        self, server: Server, count: int, use: Callable[[list[Connection]], Awaitable[Any]], level: str = ""
    ) -> Any:
        """What ``use`` returns, given ``count`` bare connections."""

        async def run() -> Any:
            async with _connections(server, count, level or self.level) as connections:
                return await use(connections)

        return uvloop.run(asyncio.wait_for(run(), BOUND_S))

    def interleave(self, server: Server, level: str) -> list[Any]:
        """Two transactions read one row, then both write what they computed, the first one first; how each ended.

        That is the result of its write, or the failure of that or of its COMMIT.
        """

        async def end(connection: Connection, writing: "asyncio.Task[Any]") -> Any:
            stage, ended = Stage.STATEMENT, await writing
            written = ended
            if not isinstance(ended, BaseException):
                stage, ended = Stage.COMMIT, await _caught(connection.commit())
            if not isinstance(ended, BaseException):
                return written
            await connection.rollback()
            return server.engine.classify(ended, stage)

        async def use(connections: list[Connection]) -> list[Any]:
            for connection in connections:
                await connection.begin()
                assert (await connection.execute(READ(0))).rows[0][0] == 10
            writing = []
            for connection in connections:
                writing.append(asyncio.create_task(_caught(connection.execute(WRITE(9, 0)))))
                # The second waits for the first's write; at a level of locks the first for the second's read.
                await asyncio.wait(writing, timeout=0.1)
            return await asyncio.gather(*map(end, connections, writing))

        ended: list[Any] = self.with_connections(server, 2, use, level)
        return ended

    async def sell(self, plan: Plan, sessions: list[Session], wanted: list[Shopping]) -> list[Try]:
        """Place the orders on all sessions, trying again what may be; how each ended."""
        left = iter(wanted)
        ended: list[Try] = []

        async def one(session: Session) -> None:
            for order in left:
                for _ in range(MOST_TRIES):
                    tried = await session.run(flashsale.Shopper.order(shopper(plan), order))
                    if tried.outcome is Outcome.OK or tried.failure is None or not tried.failure.retry:
                        break
                ended.append(tried)

        await asyncio.gather(*map(one, sessions))
        assert all(tried.outcome is Outcome.OK for tried in ended), ended
        return ended

    def check_books(self, plan: Plan, read: dict[str, dict[str, Any]]) -> None:
        """Stock + what live orders hold = the stock at the start, for every SKU; nothing below zero."""
        held: Counter[int] = Counter()
        alive = [state in (State.RESERVED, State.PAID) for state in read["orders"]["state"].tolist()]
        for line in "ab":
            for sku, qty, live in zip(
                read["orders"][f"sku_{line}"].tolist(), read["orders"][f"qty_{line}"].tolist(), alive, strict=True
            ):
                held[sku] += qty if live and sku >= 0 else 0
        left: Counter[int] = Counter()
        for sku, available in zip(read["stock"]["sku"].tolist(), read["stock"]["available"].tolist(), strict=True):
            assert available >= 0
            left[sku] += available
        assert {sku: held[sku] + left[sku] for sku in range(plan.skus)} == dict.fromkeys(range(plan.skus), plan.stock)

    def wait_until(self, true: Callable[[], bool], within_s: float = 5.0) -> None:
        """Return once ``true``, which asks the server, holds."""
        deadline = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline


def shopper(plan: Plan) -> Any:
    """As much of the Locust user as a body needs."""
    shop = SimpleNamespace(plan=plan)
    shop._give_back = lambda *arguments: flashsale.Shopper._give_back(shop, *arguments)
    return shop


def orders(plan: Plan, count: int) -> list[Shopping]:
    """The first orders of ``plan``."""
    return sale.shoppings(plan, sale.invoked(plan, 0, count))


def note(number: int) -> Body:
    """One row."""
    yield NOTE(number, number)
    return Reply(Answer.PLACED)


def take_and_note(number: int) -> Body:
    """One row, and one unit of SKU 0."""
    yield NOTE(number, number)
    yield TAKE(1, 0)
    return Reply(Answer.PLACED)


class Steps:
    """A loop that runs only while it is told to, so that a test can use the control connection in between.

    A thread beside the loop would not do: Locust patches threads, and their kind never runs while a loop does.
    """

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()

    def do(self, work: Awaitable[Any]) -> Any:
        """Run ``work`` to its end, and return what it returns."""
        return self._loop.run_until_complete(asyncio.wait_for(work, BOUND_S))

    def begin(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Let ``work`` go on whenever the loop runs."""
        return self._loop.create_task(work)

    def close(self) -> None:
        """End the loop."""
        self._loop.close()


@contextmanager
def sessions_in_steps(server: Server, count: int, level: str = "") -> Iterator[tuple[Steps, list[Session]]]:
    """``count`` connected sessions, and the steps that run them."""
    steps = Steps()
    sessions = [Session(server.engine, server.address, level_of(server.engine, level)) for _ in range(count)]
    try:
        for session in sessions:
            assert steps.do(session.connect()) is None
        yield steps, sessions
    finally:
        for session in sessions:
            steps.do(session.close())
        steps.close()


async def _caught(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return error


@asynccontextmanager
async def _connections(server: Server, count: int, level: str) -> AsyncIterator[list[Connection]]:
    connections: list[Connection] = []
    try:
        connections += [
            await server.engine.connect(server.address, level_of(server.engine, level), "") for _ in range(count)
        ]
        yield connections
    finally:
        for connection in connections:
            await connection.close()


def _python(value: Any) -> Any:
    """A value of a column as Python has it."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value.item()
    return value
