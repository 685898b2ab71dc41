"""What a saboteur with a connection of their own does to a sale, and the name under which it must be found.

Each act takes the simulation in mid-run and says what it did, with the number of the order or the SKU that the
witness must name; it does nothing and answers None while there is nothing to spoil.
"""

from collections.abc import Mapping
from typing import Any

from loadgen.shop.sale import Answer, Kind, State
from tests.checks.shop import Row, Sabotage, Simulation

FAR = 10**12
"""Ids far above any op's number."""


def delete_order(simulation: Simulation) -> str | None:
    """Delete an acknowledged order."""
    number = _pick(simulation, simulation.acknowledged(Answer.PLACED))
    if number is None:
        return None
    del simulation.store.tables["orders"][number]
    return f"order {number} "


def delete_payment(simulation: Simulation) -> str | None:
    """Delete a payment, acknowledged or not."""
    number = _pick(simulation, simulation.acknowledged(Answer.PAID))
    if number is None:
        return None
    del simulation.store.tables["payments"][number]
    return f"order {number} "


def change_stock(units: int, *, bump: bool) -> Sabotage:
    """Add stock, or take some."""

    def act(simulation: Simulation) -> str:
        row = simulation.random.choice(list(simulation.store.tables["stock"].values()))
        row["available"] += units
        row["version"] += bump
        return f"SKU {row['sku']}"

    return act


def copy_order(*, same_token: bool) -> Sabotage:
    """Copy a live order under a new id; its token too, where nothing forbids that."""

    def act(simulation: Simulation) -> str | None:
        source = _pick(simulation, [row for row in simulation.store.tables["orders"].values() if row["state"] < 2])
        if source is None:
            return None
        token = source["token"] if same_token else simulation.random.randrange(2**62)
        simulation.store.tables["orders"][FAR] = {**source, "id": FAR, "token": token}
        return str(source["token"]) if same_token else str(FAR)

    return act


def edit_amount(table: str) -> Sabotage:
    """Edit an amount."""

    def act(simulation: Simulation) -> str | None:
        row = _pick(simulation, list(simulation.store.tables[table].values()))
        if row is None:
            return None
        row["amount"] += 1
        return str(row["id"])

    return act


def rewind_version(steps: int) -> Sabotage:
    """Set a version back."""

    def act(simulation: Simulation) -> str | None:
        row = _pick(simulation, [row for row in simulation.store.tables["stock"].values() if row["version"] >= steps])
        if row is None:
            return None
        row["version"] -= steps
        return f"SKU {row['sku']}"

    return act


def set_stock_negative(*, bump: bool) -> Sabotage:
    """Set a stock below zero, further than any release brings it back."""

    def act(simulation: Simulation) -> str:
        row = simulation.random.choice(list(simulation.store.tables["stock"].values()))
        row["available"] = -1_000
        row["version"] += bump
        return f"SKU {row['sku']}"

    return act


def pay_cancelled(simulation: Simulation) -> str | None:
    """Pay an order that was given back."""
    orders = simulation.store.tables["orders"].values()
    row = _pick(simulation, [row for row in orders if row["state"] in (State.CANCELLED, State.RELEASED)])
    if row is None:
        return None
    if simulation.random.random() < 0.5:
        row["state"] = int(State.PAID)
    payment = {"id": row["id"], "order_id": row["id"], "amount": row["amount"]}
    simulation.store.tables["payments"][row["id"]] = payment
    return f"order {row['id']} "


def raise_purchases(simulation: Simulation) -> str | None:
    """Raise what a shopper has claimed past the limit."""
    row = _pick(simulation, list(simulation.store.tables["purchases"].values()))
    if row is None:
        return None
    row["units"] += simulation.plan.user_limit
    return f"user {row['user_id']} "


def raise_order(simulation: Simulation) -> str | None:
    """Raise the units in a live order past the limit."""
    row = _pick(simulation, [row for row in simulation.store.tables["orders"].values() if row["state"] == State.PAID])
    if row is None:
        return None
    row["qty_a"] += simulation.plan.user_limit
    return f"user {row['user_id']} "


def release_twice(*, bump: bool) -> Sabotage:
    """Give an order's units back once more."""

    def act(simulation: Simulation) -> str | None:
        tables = simulation.store.tables
        release = _pick(simulation, list(tables["releases"].values()))
        if release is None:
            return None
        order = tables["orders"][release["order_id"]]
        tables["releases"][FAR] = {"id": FAR, "order_id": order["id"]}
        _stock(simulation, order, "a", order["qty_a"], bump)
        if order["sku_b"] >= 0:
            _stock(simulation, order, "b", order["qty_b"], bump)
        return f"order {order['id']} "

    return act


def half_basket_placed(*, bump: bool) -> Sabotage:
    """Write an order of two SKUs, and deduct one of them."""

    def act(simulation: Simulation) -> str | None:
        order = _pick(simulation, _baskets(simulation))
        if order is None:
            return None
        token = simulation.random.randrange(2**62)
        simulation.store.tables["orders"][FAR] = {**order, "id": FAR, "token": token, "state": 0}
        _stock(simulation, order, "a", -order["qty_a"], bump)
        return str(FAR)

    return act


def half_basket_put_back(*, bump: bool) -> Sabotage:
    """Undo one half of a basket's deduction."""

    def act(simulation: Simulation) -> str | None:
        order = _pick(simulation, _baskets(simulation))
        if order is None:
            return None
        _stock(simulation, order, "b", order["qty_b"], bump)
        return f"SKU {order['sku_b']}"

    return act


def half_basket_row(simulation: Simulation) -> str | None:
    """Turn a basket's row into that of a single order."""
    order = _pick(simulation, [row for row in _baskets(simulation) if row["state"] == State.PAID])
    if order is None:
        return None
    order.update(sku_b=-1, qty_b=0)
    return str(order["id"])


ACTS: Mapping[str, tuple[Sabotage, tuple[str, ...]]] = {
    "deletes an acknowledged order": (delete_order, ("lost-order",)),
    "adds stock": (change_stock(5, bump=False), ("stock-not-conserved",)),
    "adds stock in order": (change_stock(5, bump=True), ("stock-not-conserved", "phantom-write")),
    "takes stock": (change_stock(-1, bump=False), ("stock-not-conserved",)),
    "takes stock in order": (change_stock(-1, bump=True), ("stock-not-conserved", "phantom-write")),
    "copies an order": (copy_order(same_token=False), ("ghost", "order-without-deduction")),
    "copies an order and its token": (copy_order(same_token=True), ("duplicate-token",)),
    "edits an order's amount": (edit_amount("orders"), ("money-not-conserved",)),
    "edits a payment's amount": (edit_amount("payments"), ("money-not-conserved",)),
    "rewinds a version by 1": (rewind_version(1), ("lost-write",)),
    "rewinds a version by 4": (rewind_version(4), ("lost-write",)),
    "sets stock negative": (set_stock_negative(bump=False), ("negative-stock",)),
    "sets stock negative in order": (set_stock_negative(bump=True), ("negative-stock",)),
    "deletes a payment": (delete_payment, ("lost-payment",)),
    "pays a cancelled order": (pay_cancelled, ("paid-cancelled",)),
    "raises a claim past the limit": (raise_purchases, ("user-limit",)),
    "raises an order past the limit": (raise_order, ("user-limit",)),
    "releases twice": (release_twice(bump=False), ("double-release",)),
    "releases twice in order": (release_twice(bump=True), ("double-release",)),
    "places half a basket": (half_basket_placed(bump=False), ("order-without-deduction",)),
    "places half a basket in order": (half_basket_placed(bump=True), ("order-without-deduction",)),
    "puts half a basket back": (half_basket_put_back(bump=False), ("order-without-deduction", "stock-not-conserved")),
    "puts half a basket back in order": (half_basket_put_back(bump=True), ("stock-not-conserved",)),
    "turns a basket into one line": (half_basket_row, ("stock-not-conserved", "deduction-without-order")),
}


def _pick(simulation: Simulation, choices: list[Any]) -> Any:
    return simulation.random.choice(choices) if choices else None


def _baskets(simulation: Simulation) -> list[Row]:
    orders = simulation.store.tables["orders"].values()
    return [row for row in orders if row["sku_b"] >= 0 and row["state"] < State.CANCELLED]


def _stock(simulation: Simulation, order: Row, line: str, units: int, bump: bool) -> None:
    bucket = order["id"] % simulation.plan.buckets
    row = simulation.store.tables["stock"][order[f"sku_{line}"], bucket]
    row["available"] += units
    row["version"] += bump


assert len(Kind) == 5, "the ids of releases count by kinds"
