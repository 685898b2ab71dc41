"""Somebody else writes into the shop while a sale runs. Whatever they do is found, by the right check, with proof.

Each sabotage hits rows that the sale has acknowledged, in the middle of a real run on a real server. A run that nobody
disturbs finds nothing. ``LOADGEN_SABOTAGE_TRIES=5`` does each of them five times.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.sale import CHECKS, Kind, State
from tests.sale_runs import EndedRun, dsn_of, sale

TRIES = int(os.environ.get("LOADGEN_SABOTAGE_TRIES", "1"))
ACKNOWLEDGED_AFTER_S = 0.5
"""Committed rows that are this old have long been acknowledged: an answer takes milliseconds."""
USER_LIMIT = 5
OPTIONS = (
    *("--duration", "5s", "--shape", "constant", "--peak-rate", "250", "-u", "16"),
    *("--skus", "20", "--skew", "zipf:0.99", "--stock", "5000", "--user-limit", str(USER_LIMIT)),
)
NEW_ID = 10**12
"""Ids from here on are nobody's op numbers."""

Row = dict[str, int]


class Saboteur:
    """Somebody with a connection of their own, who knows the shop's tables."""

    def __init__(self, control: Any) -> None:
        self._control = control

    def do(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once."""
        return [tuple(row) for row in self._control.query(sql)]

    def an_order(self, condition: str) -> Row:
        """An acknowledged order that holds to ``condition`` and has done so for ACKNOWLEDGED_AFTER_S."""
        names = ("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount", "state")
        select = f"SELECT {', '.join(names)} FROM loadgen.orders WHERE {condition} ORDER BY id LIMIT 200"
        before = self._some(select)
        time.sleep(ACKNOWLEDGED_AFTER_S)
        still = [row for row in self.do(select) if row in before]
        assert still, f"no order was {condition} for {ACKNOWLEDGED_AFTER_S} s"
        return dict(zip(names, map(int, still[len(still) // 2]), strict=True))

    def _some(self, select: str) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + 3
        while not (rows := self.do(select)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return rows


@dataclass(frozen=True)
class Sabotage:
    """One deed: ``act`` does it and answers words that the witness of every check in ``found_by`` must hold."""

    act: Callable[[Saboteur], tuple[str, ...]]
    found_by: tuple[str, ...]


def deletes_an_order(saboteur: Saboteur) -> tuple[str, ...]:
    """A paid order vanishes."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    saboteur.do(f"DELETE FROM loadgen.orders WHERE id = {order['id']}")
    return f"order {order['id']} ", f"token {order['token']}"


def deletes_an_order_and_its_deduction(saboteur: Saboteur) -> tuple[str, ...]:
    """A paid order vanishes, and its units are back on sale as if it had never been."""
    order = saboteur.an_order(f"state = {State.PAID:d} AND sku_b < 0")
    saboteur.do(f"DELETE FROM loadgen.orders WHERE id = {order['id']}")
    saboteur.do(
        f"UPDATE loadgen.stock SET available = available + {order['qty_a']}, version = version + 1 "
        f"WHERE sku = {order['sku_a']}"
    )
    return (f"order {order['id']} ",)


def adds_stock(saboteur: Saboteur) -> tuple[str, ...]:
    """Units appear, and no version tells of it."""
    saboteur.do("UPDATE loadgen.stock SET available = available + 7 WHERE sku = 3")
    return "SKU 3:", "7 too many"


def adds_stock_as_a_write(saboteur: Saboteur) -> tuple[str, ...]:
    """Units appear by a write that counts itself, as the shop's own do."""
    saboteur.do("UPDATE loadgen.stock SET available = available + 7, version = version + 1 WHERE sku = 3")
    return ("SKU 3",)


def takes_stock(saboteur: Saboteur) -> tuple[str, ...]:
    """Units vanish, and no version tells of it."""
    saboteur.do("UPDATE loadgen.stock SET available = available - 7 WHERE sku = 3")
    return "SKU 3:", "7 are missing"


def takes_stock_as_a_write(saboteur: Saboteur) -> tuple[str, ...]:
    """Units vanish by a write that counts itself."""
    saboteur.do("UPDATE loadgen.stock SET available = available - 7, version = version + 1 WHERE sku = 3")
    return ("SKU 3",)


def copies_an_order(saboteur: Saboteur) -> tuple[str, ...]:
    """An order stands there twice, under another id and another token."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    insert_order(saboteur, {**order, "id": NEW_ID + order["id"], "token": order["token"] ^ 1})
    return (f"row {NEW_ID + order['id']} of orders",)


def copies_an_order_with_its_token(saboteur: Saboteur) -> tuple[str, ...]:
    """An order stands there twice with one token: the unique index was dropped for it."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    drop_unique_token(saboteur)
    insert_order(saboteur, {**order, "id": NEW_ID + order["id"]})
    return str(order["token"]), str(NEW_ID + order["id"])


def edits_an_amount(saboteur: Saboteur) -> tuple[str, ...]:
    """An order costs another sum than its units do."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    saboteur.do(f"UPDATE loadgen.orders SET amount = amount + 1 WHERE id = {order['id']}")
    return (f"order {order['id']} ",)


def edits_a_payment(saboteur: Saboteur) -> tuple[str, ...]:
    """A payment is of another sum than its order."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    saboteur.do(f"UPDATE loadgen.payments SET amount = amount - 1 WHERE order_id = {order['id']}")
    return (f"order {order['id']}",)


def rewinds_a_version_by_one(saboteur: Saboteur) -> tuple[str, ...]:
    """The next write of the best-seller gets a version that another one has."""
    saboteur.do("UPDATE loadgen.stock SET version = version - 1 WHERE sku = 0")
    return ("SKU 0",)


def rewinds_a_version_to_the_start(saboteur: Saboteur) -> tuple[str, ...]:
    """The best-seller counts its writes anew."""
    saboteur.do("UPDATE loadgen.stock SET version = 0 WHERE sku = 0")
    return ("SKU 0",)


def sets_stock_negative(saboteur: Saboteur) -> tuple[str, ...]:
    """A SKU has less than nothing."""
    saboteur.do("UPDATE loadgen.stock SET available = -100000 WHERE sku = 2")
    return ("SKU 2:",)


def sets_stock_negative_as_a_write(saboteur: Saboteur) -> tuple[str, ...]:
    """A SKU has less than nothing, by a write that counts itself."""
    saboteur.do("UPDATE loadgen.stock SET available = -100000, version = version + 1 WHERE sku = 2")
    return ("SKU 2",)


def deletes_a_payment(saboteur: Saboteur) -> tuple[str, ...]:
    """A paid order's payment vanishes."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    saboteur.do(f"DELETE FROM loadgen.payments WHERE order_id = {order['id']}")
    return (f"order {order['id']} ",)


def pays_a_cancelled_order(saboteur: Saboteur) -> tuple[str, ...]:
    """A cancelled order becomes a paid one, with its payment."""
    order = saboteur.an_order(f"state = {State.CANCELLED:d}")
    insert_payment(saboteur, order)
    saboteur.do(f"UPDATE loadgen.orders SET state = {State.PAID:d} WHERE id = {order['id']}")
    return (f"order {order['id']} ",)


def takes_money_for_a_cancelled_order(saboteur: Saboteur) -> tuple[str, ...]:
    """A cancelled order stays cancelled, and is paid for."""
    order = saboteur.an_order(f"state = {State.CANCELLED:d}")
    insert_payment(saboteur, order)
    return (f"order {order['id']} ",)


def raises_a_user_past_the_limit(saboteur: Saboteur) -> tuple[str, ...]:
    """A shopper has claimed more than one may."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    where = f"user_id = {order['user_id']} AND sku = {order['sku_a']}"
    saboteur.do(f"UPDATE loadgen.purchases SET units = {USER_LIMIT + 1} WHERE {where}")
    return (f"user {order['user_id']} ", f"SKU {order['sku_a']} ")


def sells_a_user_past_the_limit(saboteur: Saboteur) -> tuple[str, ...]:
    """A shopper's order holds more than one may have, and their claims agree."""
    order = saboteur.an_order(f"state = {State.PAID:d}")
    where = f"user_id = {order['user_id']} AND sku = {order['sku_a']}"
    saboteur.do(f"UPDATE loadgen.orders SET qty_a = {USER_LIMIT + 1} WHERE id = {order['id']}")
    saboteur.do(f"UPDATE loadgen.purchases SET units = units + {USER_LIMIT + 1 - order['qty_a']} WHERE {where}")
    return (f"user {order['user_id']} ", f"SKU {order['sku_a']} ")


def releases_a_reservation_twice(saboteur: Saboteur) -> tuple[str, ...]:
    """A reservation that was released is also entered as cancelled."""
    order = saboteur.an_order(f"state = {State.RELEASED:d}")
    insert_cancellation(saboteur, order)
    return (f"order {order['id']} ",)


def releases_a_reservation_twice_with_its_units(saboteur: Saboteur) -> tuple[str, ...]:
    """A reservation is released twice, and its units come back twice, by a write that counts itself."""
    order = saboteur.an_order(f"state = {State.RELEASED:d} AND sku_b < 0")
    insert_cancellation(saboteur, order)
    saboteur.do(
        f"UPDATE loadgen.stock SET available = available + {order['qty_a']}, version = version + 1 "
        f"WHERE sku = {order['sku_a']}"
    )
    return ()


def writes_half_a_basket(saboteur: Saboteur) -> tuple[str, ...]:
    """A basket appears whose first SKU is deducted and whose second is not."""
    basket = saboteur.an_order(f"state = {State.PAID:d} AND sku_b >= 0")
    copy = {**basket, "id": NEW_ID, "token": basket["token"] ^ 1, "state": int(State.RESERVED)}
    insert_order(saboteur, copy)
    saboteur.do(
        f"UPDATE loadgen.stock SET available = available - {basket['qty_a']}, version = version + 1 "
        f"WHERE sku = {basket['sku_a']}"
    )
    return (f"row {NEW_ID} of orders",)


def keeps_half_a_basket(saboteur: Saboteur) -> tuple[str, ...]:
    """A basket of two SKUs loses its second line."""
    basket = saboteur.an_order(f"state = {State.PAID:d} AND sku_b >= 0")
    saboteur.do(f"UPDATE loadgen.orders SET sku_b = -1, qty_b = 0 WHERE id = {basket['id']}")
    return f"row {basket['id']} of orders", f"token {basket['token']}"


SABOTAGES = (
    Sabotage(deletes_an_order, ("lost-order",)),
    Sabotage(deletes_an_order_and_its_deduction, ("lost-order",)),
    Sabotage(adds_stock, ("stock-not-conserved",)),
    Sabotage(adds_stock_as_a_write, ("stock-not-conserved", "phantom-write")),
    Sabotage(takes_stock, ("stock-not-conserved",)),
    Sabotage(takes_stock_as_a_write, ("stock-not-conserved", "phantom-write")),
    Sabotage(copies_an_order, ("ghost", "order-without-deduction")),
    Sabotage(copies_an_order_with_its_token, ("duplicate-token",)),
    Sabotage(edits_an_amount, ("money-not-conserved",)),
    Sabotage(edits_a_payment, ("money-not-conserved",)),
    Sabotage(rewinds_a_version_by_one, ("lost-update",)),
    Sabotage(rewinds_a_version_to_the_start, ("lost-update", "lost-write")),
    Sabotage(sets_stock_negative, ("negative-stock",)),
    Sabotage(sets_stock_negative_as_a_write, ("negative-stock", "phantom-write")),
    Sabotage(deletes_a_payment, ("lost-payment",)),
    Sabotage(pays_a_cancelled_order, ("paid-cancelled",)),
    Sabotage(takes_money_for_a_cancelled_order, ("paid-cancelled",)),
    Sabotage(raises_a_user_past_the_limit, ("user-limit",)),
    Sabotage(sells_a_user_past_the_limit, ("user-limit",)),
    Sabotage(releases_a_reservation_twice, ("double-release",)),
    Sabotage(releases_a_reservation_twice_with_its_units, ("double-release", "phantom-write")),
    Sabotage(writes_half_a_basket, ("ghost", "order-without-deduction")),
    Sabotage(keeps_half_a_basket, ("deduction-without-order",)),
)


@pytest.fixture
def saboteur(cluster: Cluster, engine: str) -> Iterator[Saboteur]:
    """Somebody with a connection to the engine's server."""
    control = engine_of(engine).control(cluster.address, "saboteur")
    yield Saboteur(control)
    control.close()


@pytest.mark.server
@pytest.mark.parametrize("attempt", range(TRIES))
@pytest.mark.parametrize("engine", ["postgres", "oceanbase"])
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.act.__name__)
def test_sabotage_in_mid_run_is_found_by_the_right_check(
    tmp_path: Path, cluster: Cluster, engine: str, saboteur: Saboteur, sabotage: Sabotage, attempt: int
) -> None:
    """The run exits with 4, and the witness of the right check names what was hit."""
    with start(tmp_path, cluster, engine, seed=attempt + 1) as running:
        running.wait_for_progress()
        words = sabotage.act(saboteur)
        assert "waiting for the last sessions" not in running.stdout, "the load was over before the sabotage"
        run = running.end()

    assert run.exit_code == 4, run
    assert run.summary["verdict"] == "invalid"
    for name in sabotage.found_by:
        assert run.summary["violations"][name] > 0, (name, run.summary["violations"])
        told = " ".join(run.check(name)["witnesses"])
        assert all(word in told for word in words), (words, told)
        assert run.check(name)["witness"] in " ".join(run.stdout.split()) or name in run.stdout, run


@pytest.mark.server
@pytest.mark.parametrize("attempt", range(TRIES))
@pytest.mark.parametrize("engine", ["postgres", "oceanbase"])
def test_run_that_nobody_disturbs_is_valid(tmp_path: Path, cluster: Cluster, engine: str, attempt: int) -> None:
    """The same run without a sabotage finds nothing at all."""
    with start(tmp_path, cluster, engine, seed=attempt + 1) as running:
        run: EndedRun = running.end()

    assert run.exit_code == 0, run
    assert run.summary["violations"] == dict.fromkeys(CHECKS, 0)
    assert run.summary["orders"]["placed"] > 1000


def start(directory: Path, cluster: Cluster, engine: str, *, seed: int) -> Any:
    """The run that is sabotaged: some thousand ops in five seconds, with every kind among them."""
    options = ("--headless", "--engine", engine, "--seed", str(seed), *OPTIONS)
    return sale(directory, *options, environment={"LOADGEN_DSN": dsn_of(cluster.address, engine)})


def insert_order(saboteur: Saboteur, row: Row) -> None:
    """Insert a row into ``orders``."""
    values = ", ".join(str(value) for value in row.values())
    saboteur.do(f"INSERT INTO loadgen.orders ({', '.join(row)}) VALUES ({values})")


def insert_payment(saboteur: Saboteur, order: Row) -> None:
    """Insert a payment of an order, as the shop does."""
    values = f"{order['id']}, {order['id']}, {order['amount']}"
    saboteur.do(f"INSERT INTO loadgen.payments (id, order_id, amount) VALUES ({values})")


def insert_cancellation(saboteur: Saboteur, order: Row) -> None:
    """Insert the row that the order's cancellation would write."""
    values = f"{order['id'] * len(Kind) + Kind.CANCEL}, {order['id']}"
    saboteur.do(f"INSERT INTO loadgen.releases (id, order_id) VALUES ({values})")


def drop_unique_token(saboteur: Saboteur) -> None:
    """Let a token stand in two orders."""
    found = saboteur.do(
        "SELECT constraint_name FROM information_schema.table_constraints "
        "WHERE table_schema = 'loadgen' AND table_name = 'orders' AND constraint_type = 'UNIQUE'"
    )
    name = str(found[0][0])
    try:
        saboteur.do(f"ALTER TABLE loadgen.orders DROP CONSTRAINT {name}")
    except Exception:  # noqa: BLE001 - the MySQL wire calls it an index
        saboteur.do(f"ALTER TABLE loadgen.orders DROP INDEX {name}")
