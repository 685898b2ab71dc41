"""TPC-C's new-order and payment, judged by the specification's consistency conditions 1 to 4 (clause 3.3.2)."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from loadgen.draws import Draws
from loadgen.load import SessionUser, tag, task
from loadgen.workload import (
    Body,
    Check,
    Evidence,
    Finding,
    Option,
    Plan,
    Refused,
    Reply,
    Statement,
    Table,
    Workload,
    single_statement,
    versioned_row,
)

DISTRICTS, CUSTOMERS, ITEMS, MOST_LINES = 10, 30, 1000, 15
ORDERED, UNKNOWN_ITEM, PAID, SEEN = range(1, 5)
WAREHOUSE, DISTRICT, STOCK = range(3)
"""The tables with a version column, by their place."""
CAREFUL = True

CUSTOMER = Statement(
    "SELECT c_discount, w_tax FROM customer JOIN warehouse ON w_id = c_w_id "
    "WHERE c_w_id = :w_id1 AND c_d_id = :d_id AND c_id = :c_id"
)
NEXT = Statement("SELECT d_next_o_id, d_tax, version FROM district WHERE d_w_id = :w_id1 AND d_id = :d_id FOR UPDATE")
TAKE_NEXT = Statement(
    "UPDATE district SET d_next_o_id = d_next_o_id + 1, {bump} WHERE d_w_id = :w_id1 AND d_id = :d_id {bumped}"
)
ORDER = Statement(
    "INSERT INTO orders (o_w_id, o_d_id, o_id, o_c_id, o_entry_d, o_carrier_id, o_ol_cnt) "
    "VALUES (:w_id1, :d_id, :o_id, :c_id, :entry_d, :carrier, :ol_cnt)",
    blind=True,
)
NEW_ORDER = Statement("INSERT INTO new_order (no_w_id, no_d_id, no_o_id) VALUES (:w_id1, :d_id, :o_id)", blind=True)
ITEM = Statement("SELECT i_price FROM item WHERE i_id = :i_id")
TAKE = Statement(
    "UPDATE stock SET s_quantity = CASE WHEN s_quantity >= :quantity + 10 THEN s_quantity - :quantity "
    "ELSE s_quantity - :quantity + 91 END, s_ytd = s_ytd + :quantity, {bump} "
    "WHERE s_w_id = :w_id1 AND s_i_id = :i_id {bumped}"
)
LINE = Statement(
    "INSERT INTO order_line (ol_w_id, ol_d_id, ol_o_id, ol_number, ol_i_id, ol_quantity, ol_amount) "
    "VALUES (:w_id1, :d_id, :o_id, :number, :i_id, :quantity, :amount)",
    blind=True,
)
PAY_WAREHOUSE = Statement("UPDATE warehouse SET w_ytd = w_ytd + :amount, {bump} WHERE w_id = :w_id1 {bumped}")
YTD = Statement("SELECT w_ytd, version FROM warehouse WHERE w_id = :w_id1")
SET_YTD = Statement("UPDATE warehouse SET w_ytd = :w_ytd, {bump} WHERE w_id = :w_id1 {bumped}")
PAY_DISTRICT = Statement(
    "UPDATE district SET d_ytd = d_ytd + :amount, {bump} WHERE d_w_id = :w_id1 AND d_id = :d_id {bumped}"
)
LOOK = Statement(
    "SELECT w.version, d.d_id, d.version FROM warehouse w JOIN district d ON d.d_w_id = w.w_id WHERE w.w_id = :w_id1"
)


class Terminal(NamedTuple):
    """What one number means."""

    number: int
    kind: int
    w_id: int
    d_id: int
    c_id: int
    lines: int
    unknown: int

    def items(self) -> list[tuple[int, int]]:
        """Items and quantities, in ascending order, so that two orders never wait for each other."""
        random = np.random.default_rng(self.number)
        chosen = np.sort(random.choice(ITEMS, self.lines, replace=False)) + 1
        items = list(zip(chosen.tolist(), random.integers(1, 11, self.lines).tolist(), strict=True))
        return [*items[:-1], (ITEMS + 1, 1)] if self.unknown else items


def table(name: str, key: str, columns: str, fill: Callable[[Plan], Any] | None = None, **more: Any) -> Table:
    """A table of columns like ``w_id:int``, keyed by some of them."""
    sql = {"int": "BIGINT NOT NULL", "int?": "BIGINT", "money": "DECIMAL(12,2) NOT NULL", "rate": "DECIMAL(4,4)"}
    kinds = {"int": "int64", "int?": "int64?", "money": "decimal(12,2)", "rate": "decimal(4,4)", "time": "timestamp"}
    pairs = [column.split(":") for column in columns.split()]
    create = {
        wire: f"CREATE TABLE {name} ({', '.join(f'{a} {sql.get(b, time)}' for a, b in pairs)}, PRIMARY KEY ({key}))"
        for wire, time in (("postgres", "TIMESTAMP"), ("mysql", "DATETIME(6)"))
    }
    return Table(name, create, {each: kinds[kind] for each, kind in pairs}, batches=fill, **more)


def tables(plan: Plan) -> tuple[Table, ...]:
    """The tables of the specification, with the columns that the two transactions need."""
    houses, rate, zero = range(1, plan.warehouses + 1), Decimal("0.1"), Decimal(0)
    places = [(w, d) for w in houses for d in range(1, DISTRICTS + 1)]

    def stock(_: Plan) -> Iterator[dict[str, Any]]:
        i_id, same = np.arange(1, ITEMS + 1), np.ones(ITEMS, np.int64)
        for w in houses:
            yield {"s_w_id": w * same, "s_i_id": i_id, "s_quantity": 50 * same, "s_ytd": 0 * same, "version": 0 * same}

    def customers(_: Plan) -> Iterator[list[tuple[Any, ...]]]:
        for w, d in places:
            yield [(w, d, c, rate) for c in range(1, CUSTOMERS + 1)]

    return (
        table("warehouse", "w_id", "w_id:int w_tax:rate w_ytd:money version:int",
              lambda _: [[(w, rate, zero, 0) for w in houses]], version="version", row="w_id"),
        table("district", "d_w_id, d_id", "d_w_id:int d_id:int d_tax:rate d_ytd:money d_next_o_id:int version:int",
              lambda _: [[(w, d, rate, zero, 1, 0) for w, d in places]], version="version",
              row=lambda _, rows: place(rows["d_w_id"], rows["d_id"])),
        table("stock", "s_w_id, s_i_id", "s_w_id:int s_i_id:int s_quantity:int s_ytd:int version:int", stock,
              version="version", row=lambda _, rows: rows["s_w_id"] * (ITEMS + 1) + rows["s_i_id"]),
        table("item", "i_id", "i_id:int i_price:money",
              lambda _: [[(i, Decimal(100 + i) / 100) for i in range(1, ITEMS + 1)]]),
        table("customer", "c_w_id, c_d_id, c_id", "c_w_id:int c_d_id:int c_id:int c_discount:rate", customers),
        table("orders", "o_w_id, o_d_id, o_id",
              "o_w_id:int o_d_id:int o_id:int o_c_id:int o_entry_d:time o_carrier_id:int? o_ol_cnt:int"),
        table("new_order", "no_w_id, no_d_id, no_o_id", "no_w_id:int no_d_id:int no_o_id:int"),
        table("order_line", "ol_w_id, ol_d_id, ol_o_id, ol_number",
              "ol_w_id:int ol_d_id:int ol_o_id:int ol_number:int ol_i_id:int ol_quantity:int ol_amount:money"),
    )  # fmt: skip


def place(w_id: Any, d_id: Any) -> Any:
    """The number of a district among all."""
    return w_id * (DISTRICTS + 1) + d_id


def invoked(plan: Plan, first: int, count: int) -> dict[str, Any]:
    """Half of them order, four in ten pay, one in ten looks; one order in a hundred asks for an unknown item."""
    draws = Draws(plan.seed, numbers := np.arange(first, first + count, dtype=np.int64))
    spans = {"w_id": plan.warehouses, "d_id": DISTRICTS, "c_id": CUSTOMERS, "lines": MOST_LINES - 4}
    columns = {name: 1 + (draws.uniform(at) * span).astype(np.int64) for at, (name, span) in enumerate(spans.items())}
    columns["lines"] += 4
    kinds = np.searchsorted([0.5, 0.9], draws.uniform(4), side="right").astype(np.uint8)
    return {"number": numbers, "kind": kinds, **columns, "unknown": (draws.uniform(5) < 0.01).astype(np.uint8)}


def ops(plan: Plan, columns: Any) -> list[Terminal]:
    """The same numbers as Python values."""
    return [Terminal(*row) for row in zip(*(columns[name].tolist() for name in Terminal._fields), strict=True)]


def of_districts(evidence: Evidence, name: str, prefix: str, value: str, start: int, find: np.ufunc) -> Any:
    """By district: ``find`` of the values in its rows of a table; of none, ``start``."""
    rows, d_id = evidence.final[name], "d_id" if prefix == "d" else f"{prefix}_d_id"
    found = np.full(place(evidence.plan.warehouses, DISTRICTS) + 1, start, np.int64)
    find.at(found, place(rows[f"{prefix}_w_id"], rows[d_id]), rows[value] if value else 1)
    return found


def told(name: str, wrong: Any, text: str, *values: Any) -> Finding:
    """A finding for each district that is wrong."""
    words = [
        f"district {at % (DISTRICTS + 1)} of warehouse {at // (DISTRICTS + 1)}: "
        + text.format(*(value[at] for value in values))
        for at in np.flatnonzero(wrong).tolist()
    ]
    return Finding(name, len(words), tuple(words[:20]))


def condition_1(evidence: Evidence) -> Finding:
    """W_YTD = sum(D_YTD)."""
    sums: dict[int, Decimal] = {}
    rows, words = evidence.final["district"], []
    for w_id, ytd in zip(rows["d_w_id"].tolist(), rows["d_ytd"], strict=True):
        sums[w_id] = sums.get(w_id, Decimal(0)) + ytd
    rows = evidence.final["warehouse"]
    for w_id, ytd in zip(rows["w_id"].tolist(), rows["w_ytd"], strict=True):
        if ytd != sums[w_id]:
            words.append(f"warehouse {w_id} was paid {ytd}, and its districts {sums[w_id]}")
    return Finding("condition-1", len(words), tuple(words[:20]))


def condition_2(evidence: Evidence) -> Finding:
    """D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID)."""
    follows = of_districts(evidence, "district", "d", "d_next_o_id", 1, np.maximum)
    order = of_districts(evidence, "orders", "o", "o_id", 0, np.maximum)
    new = of_districts(evidence, "new_order", "no", "no_o_id", 0, np.maximum)
    wrong = (follows - 1 != order) | (order != new)
    return told("condition-2", wrong, "the next order is {}, the last {}, the last new one {}", follows, order, new)


def condition_3(evidence: Evidence) -> Finding:
    """max(NO_O_ID) - min(NO_O_ID) + 1 = the number of rows in NEW_ORDER."""
    last = of_districts(evidence, "new_order", "no", "no_o_id", 0, np.maximum)
    first = of_districts(evidence, "new_order", "no", "no_o_id", 2**62, np.minimum)
    count = of_districts(evidence, "new_order", "no", "", 0, np.add)
    return told(
        "condition-3", (count > 0) & (last - first + 1 != count), "new orders {} to {} are {} rows", first, last, count
    )


def condition_4(evidence: Evidence) -> Finding:
    """sum(O_OL_CNT) = the number of rows in ORDER_LINE."""
    wanted = of_districts(evidence, "orders", "o", "o_ol_cnt", 0, np.add)
    count = of_districts(evidence, "order_line", "ol", "", 0, np.add)
    return told("condition-4", wanted != count, "orders of {} lines have {} of them", wanted, count)


def lost_order(evidence: Evidence) -> Finding:
    """Fewer orders of a district than were acknowledged, or more than were asked for."""
    sure = evidence.meaning(evidence.acknowledged("new_order"))
    open_ones = evidence.meaning(evidence.may_have_happened("new_order"))
    count = of_districts(evidence, "orders", "o", "", 0, np.add)
    least = np.bincount(place(sure["w_id"], sure["d_id"]), minlength=len(count))
    most = least + np.bincount(place(open_ones["w_id"], open_ones["d_id"]), minlength=len(count))
    return told("lost-order", (count < least) | (count > most), "{} orders, and {} to {} were made", count, least, most)


def order_amount(evidence: Evidence) -> Finding:
    """A line's amount is its quantity times the item's price."""
    prices, rows = evidence.final["item"], evidence.final["order_line"]
    price = dict(zip(prices["i_id"].tolist(), prices["i_price"], strict=True))
    lines = zip(rows["ol_o_id"], rows["ol_i_id"].tolist(), rows["ol_quantity"].tolist(), rows["ol_amount"], strict=True)
    words = [f"order {o}: {q} of item {i} for {amount}" for o, i, q, amount in lines if amount != q * price[i]]
    return Finding("order-amount", len(words), tuple(words[:20]))


TPCC = Workload(
    name="tpcc",
    kinds=("new_order", "payment", "look"),
    answers=("none", "ordered", "unknown_item", "paid", "seen"),
    arrivals=("new_order", "payment", "look"),
    refused=("unknown_item",),
    good="ordered",
    noun="order",
    tables=tables,
    invoked_types=dict.fromkeys(Terminal._fields, "int64") | {"kind": "uint8", "unknown": "uint8"},
    invoked=invoked,
    ops=ops,
    snapshot_reads=("look",),
    options=(Option("warehouses", 1, "how many warehouses there are", least=1, most=1000),),
    checks=(
        Check("condition-1", condition_1, "A warehouse's payments are not the sum of its districts'."),
        Check("condition-2", condition_2, "A district's next order does not follow its last one."),
        Check("condition-3", condition_3, "A new order is missing between two others."),
        Check("condition-4", condition_4, "Orders have more or fewer lines than they say."),
        Check("lost-order", lost_order, "An acknowledged order is missing, or one is there that nobody made."),
        Check("order-amount", order_amount, "A line's amount is not its quantity times the price."),
    ),
)


class Clerk(SessionUser):
    """One session."""

    workload = TPCC

    @tag("new_order")
    @task(5)
    def new_order(self, op: Terminal) -> Body:
        """Order some items; one that nobody knows rolls all of it back."""
        _ = (yield CUSTOMER(op.w_id, op.d_id, op.c_id)).rows[0]
        o_id, _, version = (yield NEXT(op.w_id, op.d_id)).rows[0]
        taken = yield TAKE_NEXT(op.w_id, op.d_id)
        touched = [versioned_row(DISTRICT, place(op.w_id, op.d_id)), version, taken.version]
        yield ORDER(op.w_id, op.d_id, o_id, op.c_id, datetime.now(UTC), None, op.lines)
        yield NEW_ORDER(op.w_id, op.d_id, o_id)
        for number, (i_id, quantity) in enumerate(op.items(), 1):
            if not (item := (yield ITEM(i_id))).rows:
                raise Refused(UNKNOWN_ITEM)
            stock = yield TAKE(quantity, op.w_id, i_id)
            touched += [versioned_row(STOCK, op.w_id * (ITEMS + 1) + i_id), -1, stock.version]
            yield LINE(op.w_id, op.d_id, o_id, number, i_id, quantity, quantity * item.rows[0][0])
        return Reply(ORDERED, tuple(touched))

    @tag("payment")
    @task(4)
    def payment(self, op: Terminal) -> Body:
        """Pay an amount to a warehouse and one of its districts."""
        amount, read = Decimal(100 + op.number % 1000) / 100, -1
        if CAREFUL:
            house = yield PAY_WAREHOUSE(amount, op.w_id)
        else:
            ytd, read = (yield YTD(op.w_id)).rows[0]
            house = yield SET_YTD(ytd + amount, op.w_id)
        paid = yield PAY_DISTRICT(amount, op.w_id, op.d_id)
        district = versioned_row(DISTRICT, place(op.w_id, op.d_id))
        return Reply(PAID, (versioned_row(WAREHOUSE, op.w_id), read, house.version, district, -1, paid.version))

    @tag("look")
    @task(1)
    @single_statement
    def look(self, op: Terminal) -> Body:
        """See a warehouse and its districts in one statement: a payment to both, or none of it."""
        touched: list[int] = []
        for house, d_id, version in (yield LOOK(op.w_id)).rows:
            touched = touched or [versioned_row(WAREHOUSE, op.w_id), house, -1]
            touched += [versioned_row(DISTRICT, place(op.w_id, d_id)), version, -1]
        return Reply(SEEN, tuple(touched))
