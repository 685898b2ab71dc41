"""A flash sale: many shoppers, few SKUs, one second. Run it with ``locust -f workloads/flashsale.py``.

Every transaction is a generator: it yields statements and gets their results, so that it reads like the SQL it runs.
An order inserts itself first, then claims the shopper's limit, and touches the hot stock row last: the row's lock is
then held for one round trip less. A plain return commits, ``Refused`` rolls back with an answer.
"""

from collections.abc import Callable, Generator, Sequence

import numpy as np

from loadgen.load import SessionUser, tag, task
from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.catalogue import SALE_CHECKS, examine, extras
from loadgen.shop.lines import lines
from loadgen.shop.options import OPTIONS, resolve
from loadgen.shop.sale import Answer, Kind, Shopping, State
from loadgen.shop.transactions import sale_isolation, stored_transactions
from loadgen.shop.untold import untold
from loadgen.workload import (
    Body,
    Call,
    Conflict,
    Refused,
    Reply,
    Result,
    Statement,
    Table,
    Workload,
    single_statement,
)
from loadgen.workload.workload import Isolation

CREATE_STOCK = """CREATE TABLE stock (
    sku INT NOT NULL, bucket INT NOT NULL, available INT NOT NULL, version BIGINT NOT NULL, price BIGINT NOT NULL,
    PRIMARY KEY (sku, bucket))"""
CREATE_ORDERS = """CREATE TABLE orders (
    id BIGINT NOT NULL PRIMARY KEY, token BIGINT NOT NULL UNIQUE, user_id INT NOT NULL,
    sku_a INT NOT NULL, qty_a INT NOT NULL, sku_b INT NOT NULL, qty_b INT NOT NULL,
    amount BIGINT NOT NULL, state INT NOT NULL)"""
CREATE_PURCHASES = """CREATE TABLE purchases (
    user_id INT NOT NULL, sku INT NOT NULL, units INT NOT NULL, PRIMARY KEY (user_id, sku))"""
CREATE_PAYMENTS = """CREATE TABLE payments (
    id BIGINT NOT NULL PRIMARY KEY, order_id BIGINT NOT NULL, amount BIGINT NOT NULL)"""
CREATE_RELEASES = """CREATE TABLE releases (
    id BIGINT NOT NULL PRIMARY KEY, order_id BIGINT NOT NULL)"""

INSERT_ORDER = Statement(
    "INSERT INTO orders (id, token, user_id, sku_a, qty_a, sku_b, qty_b, amount, state) "
    "VALUES (:id, :token, :user, :sku_a, :qty_a, :sku_b, :qty_b, :amount, 0)"
)
# The limit is kept by a write, never by counting: two counts that miss each other's order would be write skew.
CLAIM_LIMIT = Statement(
    "INSERT INTO purchases (user_id, sku, units) VALUES (:user, :sku, :qty) ON CONFLICT (user_id, sku) "
    "DO UPDATE SET units = purchases.units + excluded.units WHERE purchases.units + excluded.units <= :most",
    mysql="INSERT INTO purchases (user_id, sku, units) VALUES (:user, :sku, :qty) "
    "ON DUPLICATE KEY UPDATE units = IF(units + :qty <= :most, units + :qty, units)",
)
GIVE_LIMIT_BACK = Statement("UPDATE purchases SET units = units - :qty WHERE user_id = :user AND sku = :sku")
SET_STATE = Statement("UPDATE orders SET state = :state WHERE id = :id AND state = 0")
INSERT_PAYMENT = Statement("INSERT INTO payments (id, order_id, amount) VALUES (:id, :order, :amount)")
INSERT_RELEASE = Statement("INSERT INTO releases (id, order_id) VALUES (:id, :order)")

READ = Statement("SELECT available, version FROM stock WHERE sku = :sku AND bucket = 0")
READ_LOCKED = Statement("SELECT available, version FROM stock WHERE sku = :sku AND bucket = 0 FOR UPDATE")
WRITE_BACK = Statement("UPDATE stock SET available = :available, {bump} WHERE sku = :sku AND bucket = 0 {bumped}")
COMPARE_AND_SET = Statement(
    "UPDATE stock SET available = :available, {bump} WHERE sku = :sku AND bucket = 0 AND version = :version {bumped}"
)
DEDUCT = Statement(
    "UPDATE stock SET available = available - :qty, {bump} "
    "WHERE sku = :sku AND bucket = :bucket AND available >= :qty {bumped}"
)
STOCKED = Statement("SELECT bucket FROM stock WHERE sku = :sku AND available >= :qty")
RESTOCK = Statement(
    "UPDATE stock SET available = available + :qty, {bump} WHERE sku = :sku AND bucket = :bucket {bumped}"
)
# One statement, so one snapshot: it may never see one half of a basket.
BROWSE = Statement("SELECT sku, bucket, version FROM stock WHERE sku IN (:sku_a, :sku_b)")

NO_ROW = (0, 0)

Touched = tuple[int, ...]
Deduct = Callable[[Plan, Shopping, int, int], Generator[Call, Result, Touched]]


def _row(read: Result) -> Sequence[int]:
    """What is available of a SKU, and its version; nothing where there is no row."""
    return read.rows[0] if read.rows else NO_ROW


def naive(plan: Plan, order: Shopping, sku: int, qty: int) -> Generator[Call, Result, Touched]:
    """Read, decide in the client, write back: the control that must break below snapshot isolation."""
    available, version = _row((yield READ(sku)))
    if available < qty:
        raise Refused(Answer.SOLD_OUT, (sku * plan.buckets, -1, -1))
    written = yield WRITE_BACK(available - qty, sku)
    return sku * plan.buckets, version, written.version


def pessimistic(plan: Plan, order: Shopping, sku: int, qty: int) -> Generator[Call, Result, Touched]:
    """Lock the row as it is read, so that no other transaction writes between the read and the write."""
    available, version = _row((yield READ_LOCKED(sku)))
    if available < qty:
        raise Refused(Answer.SOLD_OUT, (sku * plan.buckets, -1, -1))
    written = yield WRITE_BACK(available - qty, sku)
    return sku * plan.buckets, version, written.version


def optimistic(plan: Plan, order: Shopping, sku: int, qty: int) -> Generator[Call, Result, Touched]:
    """Compare and set on the version; a miss reads again, in a new transaction (a snapshot would stay the same)."""
    available, version = _row((yield READ(sku)))
    if available < qty:
        raise Refused(Answer.SOLD_OUT, (sku * plan.buckets, -1, -1))
    written = yield COMPARE_AND_SET(available - qty, sku, version)
    if not written.rowcount:
        raise Conflict("version-miss")
    return sku * plan.buckets, version, written.version


def atomic(plan: Plan, order: Shopping, sku: int, qty: int) -> Generator[Call, Result, Touched]:
    """One conditional UPDATE: the database compares and deducts under its own lock."""
    written = yield DEDUCT(qty, sku, 0)
    if not written.rowcount:
        raise Refused(Answer.SOLD_OUT, (sku * plan.buckets, -1, -1))
    return sku * plan.buckets, -1, written.version


def bucketed(plan: Plan, order: Shopping, sku: int, qty: int) -> Generator[Call, Result, Touched]:
    """The stock in several rows: a random one, and if that has not enough, those that have, one after the other.

    Which ones have enough is asked without a lock. Trying all of them would lock them all: a server may keep the lock
    on a row that an UPDATE found and did not change (InnoDB does), and orders that go round would wait in a circle.
    """
    home = order.start % plan.buckets
    written = yield DEDUCT(qty, sku, home)
    if written.rowcount:
        return sku * plan.buckets + home, -1, written.version
    stocked = {bucket for (bucket,) in (yield STOCKED(sku, qty)).rows}
    for probe in range(1, plan.buckets):
        bucket = (home + probe) % plan.buckets
        if bucket in stocked:
            written = yield DEDUCT(qty, sku, bucket)
            if written.rowcount:
                return sku * plan.buckets + bucket, -1, written.version
    raise Refused(Answer.SOLD_OUT, (sku * plan.buckets, -1, -1))


STRATEGIES: dict[str, Deduct] = {
    "naive": naive,
    "pessimistic": pessimistic,
    "optimistic": optimistic,
    "atomic": atomic,
    "bucketed": bucketed,
}


def tables(plan: Plan) -> tuple[Table, ...]:
    """The shop's tables, with the stock filled."""
    prices = sale.price(np.arange(plan.skus)).tolist()
    stock = [
        (sku, bucket, sale.bucket_stock(plan, bucket), 0, prices[sku])
        for sku in range(plan.skus)
        for bucket in range(plan.buckets)
    ]
    whole = dict.fromkeys
    return (
        Table(
            "stock",
            CREATE_STOCK,
            {**whole(("sku", "bucket"), "int32"), **whole(("available", "version", "price"), "int64")},
            stock,
        ),
        Table(
            "orders",
            CREATE_ORDERS,
            whole(("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount", "state"), "int64"),
        ),
        Table("purchases", CREATE_PURCHASES, whole(("user_id", "sku", "units"), "int64")),
        Table("payments", CREATE_PAYMENTS, whole(("id", "order_id", "amount"), "int64")),
        Table("releases", CREATE_RELEASES, whole(("id", "order_id"), "int64")),
    )


SALE = Workload(
    name="flashsale",
    kinds=sale.KIND_NAMES,
    answers=sale.ANSWER_NAMES,
    arrivals=("order", "browse"),
    followed_on=Answer.PLACED,
    tables=tables,
    invoked_types=sale.INVOKED_COLUMNS,
    invoked=sale.invoked,
    ops=sale.shoppings,
    refused=sale.FACTS.refused,
    good="placed",
    noun="order",
    figures="orders",
    titles=sale.FACTS.titles,
    options=OPTIONS,
    resolve=resolve,
    checks=SALE_CHECKS,
    examine=examine,
    extras=extras,
    lines=lines,
    untold=untold,
    isolation=Isolation(sale_isolation, transactions=stored_transactions),
)


class Shopper(SessionUser):
    """One session. Its tasks are the transactions, and their weights are the mix.

    Orders arrive at the plan's rate, and browsing comes on top: 2 for 10 orders. What follows a placed order is its
    payment, its cancellation, or the release of its hold: 8 : 1 : 1.
    """

    workload = SALE

    @tag("order")
    @task(10)
    def order(self, order: Shopping) -> Body:
        """Reserve: the order, the shopper's limit and the stock change together or not at all."""
        yield INSERT_ORDER(
            order.number, order.token, order.user, order.sku_a, order.qty_a, order.sku_b, order.qty_b, order.amount
        )
        deduct = STRATEGIES[self.plan.strategy]
        # Rows in ascending order of their keys, everywhere: two baskets can then never wait for each other.
        lines = ((order.sku_a, order.qty_a), (order.sku_b, order.qty_b))[: 1 if order.sku_b < 0 else 2]
        for sku, qty in lines:
            claimed = yield CLAIM_LIMIT(order.user, sku, qty, self.plan.user_limit)
            if not claimed.rowcount:
                raise Refused(Answer.LIMITED)
        touched: Touched = ()
        for sku, qty in lines:
            touched += yield from deduct(self.plan, order, sku, qty)
        return Reply(Answer.PLACED, touched)

    @tag("pay")
    @task(8)
    def pay(self, order: Shopping) -> Body:
        """Pay for a reserved order, once."""
        moved = yield SET_STATE(State.PAID, order.number)
        if not moved.rowcount:
            raise Refused(Answer.NOT_RESERVED)
        yield INSERT_PAYMENT(order.number, order.number, order.amount)
        return Reply(Answer.PAID)

    @tag("cancel")
    @task(1)
    def cancel(self, order: Shopping) -> Body:
        """The shopper takes the order back."""
        return self._give_back(order, Kind.CANCEL, State.CANCELLED, Answer.CANCELLED)

    @tag("release")
    @task(1)
    def release(self, order: Shopping) -> Body:
        """The hold has run out: the shop takes the order back."""
        return self._give_back(order, Kind.RELEASE, State.RELEASED, Answer.RELEASED)

    @tag("browse")
    @task(2)
    @single_statement
    def browse(self, look: Shopping) -> Body:
        """Look at one or two SKUs, with their versions."""
        seen = yield BROWSE(look.sku_a, look.sku_b)
        touched: Touched = ()
        buckets = self.plan.buckets
        for sku, bucket, version in seen.rows:
            # A row that somebody else put there has no number; the final read shows it.
            if 0 <= bucket < buckets:
                touched += (sku * buckets + bucket, version, -1)
        return Reply(Answer.SEEN, touched)

    def _give_back(self, order: Shopping, kind: Kind, state: State, answer: Answer) -> Body:
        moved = yield SET_STATE(state, order.number)
        if not moved.rowcount:
            raise Refused(Answer.NOT_RESERVED)
        yield INSERT_RELEASE(order.number * len(Kind) + kind, order.number)
        lines = ((order.sku_a, order.qty_a), (order.sku_b, order.qty_b))[: 1 if order.sku_b < 0 else 2]
        for sku, qty in lines:
            yield GIVE_LIMIT_BACK(qty, order.user, sku)
        touched: Touched = ()
        bucket = order.number % self.plan.buckets
        for sku, qty in lines:
            restocked = yield RESTOCK(qty, sku, bucket)
            # Without a row to give them back to, the units are lost: it says that it wrote nothing.
            version = restocked.version if restocked.rowcount else -1
            touched += (sku * self.plan.buckets + bucket, -1, version)
        return Reply(answer, touched)
