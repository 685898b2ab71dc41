"""What somebody can do to the tables of a finished run: every field of every table, changed, swapped, moved, doubled.

Each deed takes a run and a random generator, spoils the tables, and says what it did: words that the witness must hold
(a token, an id, a user, a SKU). It answers None where the run gives it nothing to spoil. Beside those that touch one
field stand deeds that cover their traces in other tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from loadgen.shop.sale import Answer, Kind, State, price
from tests.checks.shop import Row, Run

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "stock": ("sku", "bucket", "available", "version", "price"),
    "orders": ("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount", "state"),
    "purchases": ("user_id", "sku", "units"),
    "payments": ("id", "order_id", "amount"),
    "releases": ("id", "order_id"),
}
NULL = -(2**63)
"""As a final read tells NULL."""
FAR = 10**12

Act = Callable[[Run, Random], tuple[str, ...] | None]


@dataclass(frozen=True)
class Deed:
    """One deed: its act, and the names of which at least one must tell of it, with the words of the act."""

    act: Act
    names: tuple[str, ...]


def named(table: str, row: Row) -> tuple[str, ...]:
    """Words of which a witness of ``row`` must hold at least one."""
    if table == "stock":
        return (f"SKU {row['sku']}",)
    if table == "purchases":
        return (f"user {row['user_id']} ",)
    if table == "orders":
        # Of an order of which nobody knows whether it happened, the claim and the stock are all that is left.
        return str(row["token"]), f" {row['id']} ", f"user {row['user_id']} ", f"SKU {row['sku_a']}:"
    return (f" {row['order_id']} ", f" {row['order_id']},", f" {row['id']} ")


def change(table: str, column: str, how: Callable[[int, Random], int]) -> Act:
    """Change one field of a row."""

    def act(run: Run, random: Random) -> tuple[str, ...] | None:
        row = _pick(run, table, random)
        if row is None:
            return None
        words = named(table, row)
        value = how(row[column], random)
        if value == row[column]:
            return None
        row[column] = value
        return (*words, *named(table, row))

    return act


def swap(table: str, column: str) -> Act:
    """Two rows exchange a field."""

    def act(run: Run, random: Random) -> tuple[str, ...] | None:
        one, other = _pick(run, table, random), _pick(run, table, random)
        if one is None or other is None or one[column] == other[column]:
            return None
        words = (*named(table, one), *named(table, other))
        rest = [name for name in one if name != column]
        if all(one[name] == other[name] for name in rest):
            return None
        one[column], other[column] = other[column], one[column]
        return (*words, *named(table, one), *named(table, other))

    return act


def delete(table: str) -> Act:
    """Delete a row."""

    def act(run: Run, random: Random) -> tuple[str, ...] | None:
        row = _pick(run, table, random)
        if row is None:
            return None
        run.tables[table].remove(row)
        return named(table, row)

    return act


def double(table: str, **other: Callable[[int, Random], int]) -> Act:
    """Write a row a second time, with ``other`` values of some fields."""

    def act(run: Run, random: Random) -> tuple[str, ...] | None:
        row = _pick(run, table, random)
        if row is None:
            return None
        copy = {**row, **{name: how(row[name], random) for name, how in other.items()}}
        run.tables[table].append(copy)
        return (*named(table, row), *named(table, copy))

    return act


def truncate(table: str) -> Act:
    """Empty a table."""

    def act(run: Run, random: Random) -> tuple[str, ...] | None:
        del random
        if not run.tables[table]:
            return None
        run.tables[table].clear()
        return ("",)

    return act


def exchange_shoppers(run: Run, random: Random) -> tuple[str, ...] | None:
    """Two orders of the same SKUs and units, in the same state, exchange their shoppers."""
    orders = run.tables["orders"]
    random.shuffle(orders)
    same = ("sku_a", "qty_a", "sku_b", "qty_b", "state")
    for one in orders:
        for other in orders:
            if one["user_id"] != other["user_id"] and all(one[name] == other[name] for name in same):
                one["user_id"], other["user_id"] = other["user_id"], one["user_id"]
                return str(one["token"]), str(other["token"])
    return None


def exchange_lines(run: Run, random: Random) -> tuple[str, ...] | None:
    """The two lines of a basket are exchanged."""
    row = _pick(run, "orders", random, lambda row: row["sku_b"] >= 0)
    if row is None:
        return None
    row["sku_a"], row["sku_b"], row["qty_a"], row["qty_b"] = row["sku_b"], row["sku_a"], row["qty_b"], row["qty_a"]
    return (str(row["token"]),)


def raise_quantity(run: Run, random: Random) -> tuple[str, ...] | None:
    """An order holds a unit more, and stock, claim, amount and payment agree."""
    row = _pick(run, "orders", random, lambda row: row["state"] <= State.PAID)
    if row is None:
        return None
    row["qty_a"] += 1
    cost = int(price(row["sku_a"]))
    row["amount"] += cost
    run.row("stock", sku=row["sku_a"])["available"] -= 1
    run.row("purchases", user_id=row["user_id"], sku=row["sku_a"])["units"] += 1
    for payment in run.tables["payments"]:
        payment["amount"] += cost if payment["order_id"] == row["id"] else 0
    return (str(row["token"]),)


def reprice(run: Run, random: Random) -> tuple[str, ...] | None:
    """A paid order and its payment cost less, and another pair so much more: the till is what it was."""
    payments = run.tables["payments"]
    if len(payments) < 2:
        return None
    for payment, by in zip(random.sample(payments, 2), (-3, 3), strict=True):
        payment["amount"] += by
        run.row("orders", id=payment["order_id"])["amount"] += by
        words = (f"order {payment['order_id']} ",)
    return words


def move_payment(run: Run, random: Random) -> tuple[str, ...] | None:
    """A payment is booked for another order."""
    payment = _pick(run, "payments", random)
    target = _pick(run, "orders", random, lambda row: row["state"] != State.PAID)
    if payment is None or target is None:
        return None
    words = (f"order {payment['order_id']} ",)
    payment["order_id"] = target["id"]
    return (*words, f" {target['id']}")


def unpay(run: Run, random: Random) -> tuple[str, ...] | None:
    """A paid order becomes a cancelled one in every table, as if it had been cancelled instead."""
    paid = {row.number for row in run.done(Answer.PAID)}
    row = _pick(run, "orders", random, lambda row: row["state"] == State.PAID and row["id"] in paid)
    if row is None:
        return None
    row["state"] = int(State.CANCELLED)
    run.tables["payments"] = [payment for payment in run.tables["payments"] if payment["order_id"] != row["id"]]
    run.tables["releases"].append({"id": row["id"] * len(Kind) + Kind.CANCEL, "order_id": row["id"]})
    bucket = row["id"] % run.plan.buckets
    for sku, qty in ((row["sku_a"], row["qty_a"]), (row["sku_b"], row["qty_b"])):
        if sku >= 0:
            stock = run.row("stock", sku=sku, bucket=bucket)
            stock["available"], stock["version"] = stock["available"] + qty, stock["version"] + 1
            run.row("purchases", user_id=row["user_id"], sku=sku)["units"] -= qty
    return (str(row["token"]),)


def reserve_again(run: Run, random: Random) -> tuple[str, ...] | None:
    """An order that was given back is reserved again in every table."""
    row = _pick(run, "orders", random, lambda row: row["state"] >= State.CANCELLED)
    if row is None:
        return None
    row["state"] = int(State.RESERVED)
    run.tables["releases"] = [release for release in run.tables["releases"] if release["order_id"] != row["id"]]
    bucket = row["id"] % run.plan.buckets
    for sku, qty in ((row["sku_a"], row["qty_a"]), (row["sku_b"], row["qty_b"])):
        if sku >= 0:
            run.row("stock", sku=sku, bucket=bucket)["available"] -= qty
            run.row("purchases", user_id=row["user_id"], sku=sku)["units"] += qty
    # Of a release of which nobody knows only the version of its write is left over.
    return str(row["token"]), f"SKU {row['sku_a']} "


def move_units(run: Run, random: Random) -> tuple[str, ...] | None:
    """Units of a SKU move from one of its buckets to another."""
    row = _pick(run, "stock", random)
    if row is None or run.plan.buckets == 1:
        return None
    other = run.row("stock", sku=row["sku"], bucket=(row["bucket"] + 1) % run.plan.buckets)
    row["available"], other["available"] = row["available"] + 3, other["available"] - 3
    return (f"SKU {row['sku']} ",)


def move_units_between_skus(run: Run, random: Random) -> tuple[str, ...] | None:
    """Units of one SKU become units of another."""
    one, other = random.sample(run.tables["stock"], 2)
    if one["sku"] == other["sku"]:
        return None
    one["available"], other["available"] = one["available"] + 1, other["available"] - 1
    return (f"SKU {one['sku']}:",)


def _pick(run: Run, table: str, random: Random, which: Callable[[Row], bool] = lambda _: True) -> Row | None:
    rows = [row for row in run.tables[table] if which(row)]
    return random.choice(rows) if rows else None


def _more(value: int, random: Random) -> int:
    return value + random.randint(1, 3)


def _less(value: int, random: Random) -> int:
    return value - random.randint(1, 3)


def _anything(value: int, random: Random) -> int:
    return random.choice((0, 1, -1, 7, 10**6, -(10**6), value // 2))


def _null(value: int, random: Random) -> int:
    del value, random
    return NULL


def _far(value: int, random: Random) -> int:
    del random
    return value + FAR


def _stranger(value: int, random: Random) -> int:
    del random
    return value + 10**6


def _next(value: int, random: Random) -> int:
    del random
    return value + 10


FOUND_BY: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("stock", "sku"): ("stock-not-conserved", "ghost", "money-not-conserved"),
    ("stock", "bucket"): ("stock-not-conserved", "ghost"),
    ("stock", "available"): ("stock-not-conserved", "negative-stock"),
    ("stock", "version"): ("lost-write", "phantom-write"),
    ("stock", "price"): ("money-not-conserved",),
    ("orders", "id"): ("lost-order", "ghost"),
    ("orders", "token"): ("altered-row", "lost-order"),
    **{("orders", column): ("altered-row",) for column in COLUMNS["orders"][2:8]},
    ("orders", "state"): ("altered-row", "ghost", "lost-write", "lost-payment", "money-not-conserved"),
    ("purchases", "user_id"): ("user-limit", "ghost"),
    ("purchases", "sku"): ("user-limit", "ghost"),
    ("purchases", "units"): ("user-limit",),
    ("payments", "id"): ("ghost",),
    ("payments", "order_id"): ("ghost", "lost-payment", "double-payment"),
    ("payments", "amount"): ("altered-row",),
    ("releases", "id"): ("ghost", "lost-write"),
    ("releases", "order_id"): ("ghost", "lost-write", "double-release"),
}
"""Field by field: the names of which one must tell that it was changed."""
_WAYS: Mapping[str, Callable[[int, Random], int]] = {
    "raises": _more, "lowers": _less, "overwrites": _anything, "nulls": _null
}  # fmt: skip
_LOST: Mapping[str, tuple[str, ...]] = {
    "stock": ("stock-not-conserved",),
    "orders": ("lost-order", "stock-not-conserved", "user-limit", "lost-payment", "money-not-conserved"),
    "purchases": ("user-limit",),
    "payments": ("lost-payment",),
    "releases": ("lost-write",),
}

DEEDS: Mapping[str, Deed] = {
    **{
        f"{way} {table}.{column}": Deed(change(table, column, how), FOUND_BY[table, column])
        for way, how in _WAYS.items()
        for table, columns in COLUMNS.items()
        for column in columns
    },
    **{
        f"swaps {table}.{column}": Deed(swap(table, column), FOUND_BY[table, column])
        for table, columns in COLUMNS.items()
        for column in columns
    },
    **{f"deletes a row of {table}": Deed(delete(table), names) for table, names in _LOST.items()},
    **{f"empties {table}": Deed(truncate(table), names) for table, names in _LOST.items()},
    "doubles a row of stock": Deed(double("stock"), ("ghost",)),
    "adds a bucket to stock": Deed(double("stock", bucket=_next), ("ghost",)),
    "doubles a row of orders": Deed(double("orders"), ("ghost", "duplicate-token")),
    "copies a row of orders": Deed(double("orders", id=_far, token=_more), ("ghost",)),
    "doubles a row of purchases": Deed(double("purchases"), ("ghost",)),
    "adds a claim of a stranger": Deed(double("purchases", user_id=_stranger), ("ghost",)),
    "adds a claim to a SKU outside the plan": Deed(double("purchases", sku=_stranger), ("ghost",)),
    "doubles a row of payments": Deed(double("payments"), ("double-payment",)),
    "copies a row of payments": Deed(double("payments", id=_far), ("double-payment",)),
    "doubles a row of releases": Deed(double("releases"), ("double-release",)),
    "copies a row of releases": Deed(double("releases", id=_far), ("double-release",)),
    "lets two orders exchange their shoppers": Deed(exchange_shoppers, ("altered-row",)),
    "swaps the lines of a basket": Deed(exchange_lines, ("altered-row",)),
    "raises a quantity everywhere": Deed(raise_quantity, ("altered-row",)),
    "reprices two orders and their payments": Deed(reprice, ("altered-row",)),
    "books a payment for another order": Deed(move_payment, ("ghost", "lost-payment")),
    "cancels a paid order everywhere": Deed(unpay, ("lost-payment", "ghost", "altered-row")),
    "reserves what was given back everywhere": Deed(reserve_again, ("lost-write", "altered-row", "phantom-write")),
    "moves units between buckets": Deed(move_units, ("stock-not-conserved", "negative-stock")),
    "moves units between SKUs": Deed(move_units_between_skus, ("stock-not-conserved", "negative-stock")),
}

__all__: Sequence[str] = ("COLUMNS", "DEEDS", "Deed")
