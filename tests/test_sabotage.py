"""Somebody else writes into the shop while a sale runs. Whatever they do is found, by the right check, with proof.

Each sabotage hits rows that the sale has acknowledged, in the middle of a real run on a real server. A run that nobody
disturbs finds nothing. Each round of sabotages shares a run, every one on SKUs and orders of its own. The suite plays
each round on one engine, another one each day; ``python -m tests.trials.sabotage --live 5`` plays everything five times
on all four. ``LOADGEN_SABOTAGE_ALONE=1`` gives each sabotage a run to itself.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.errors import ClusterError
from loadgen.plan import ENGINES
from loadgen.shop.sale import CHECKS, Kind, State
from tests.checks.shop import flashsale
from tests.plans import sale_plan
from tests.sale_runs import RunningSale, dsn_of, sale
from tests.trials import rotating_seed

TRIES = int(os.environ.get("LOADGEN_SABOTAGE_TRIES", "0"))
"""How often everything is played on every engine; 0 for the suite's sample."""
ALONE = bool(os.environ.get("LOADGEN_SABOTAGE_ALONE"))
ACKNOWLEDGED_AFTER_S = 0.5
"""Committed rows that are this old have long been acknowledged: an answer takes milliseconds."""
LOOK_WITHIN_S = 8.0
SLOW = {"tidb": ("--duration", "10s")}
"""The store in one process serves few orders on a busy machine: it gets more time to have some in every state."""
USER_LIMIT = 5
PLAN = sale_plan()
SKUS = 40
OPTIONS = (
    *("--duration", "5s", "--shape", "constant", "--peak-rate", "300", "-u", "16"),
    *("--skus", str(SKUS), "--skew", "uniform", "--stock", "5000", "--user-limit", str(USER_LIMIT)),
)
NEW_ID = 10**12
"""Ids from here on are nobody's op numbers."""
HALF_ID = 2 * NEW_ID
COLUMNS = ("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount", "state")

Row = dict[str, int]


class Saboteur:
    """Somebody with a connection of their own, who knows the shop's tables, and never hits one SKU twice."""

    def __init__(self, control: Any) -> None:
        self._control = control
        self._orders: list[Row] = []
        self._skus = set(range(SKUS))

    def look_around(self) -> None:
        """Note the orders that are there, once there are some in every state, and wait until they are acknowledged."""
        deadline = time.monotonic() + LOOK_WITHIN_S
        while not self._enough():
            assert time.monotonic() < deadline, f"{len(self._orders)} orders are too few"
            rows = self.do(f"SELECT {', '.join(COLUMNS)} FROM loadgen.orders")
            self._orders = [dict(zip(COLUMNS, map(int, row), strict=True)) for row in rows]
        time.sleep(ACKNOWLEDGED_AFTER_S)

    def _enough(self) -> bool:
        states = Counter(order["state"] for order in self._orders)
        return all(states[state] >= 10 for state in (State.PAID, State.CANCELLED, State.RELEASED))

    def do(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once."""
        return [tuple(row) for row in self._control.query(sql)]

    def a_sku(self) -> int:
        """A SKU that was not hit yet."""
        return self._skus.pop()

    def an_order(self, state: State, *, basket: bool = False) -> Row:
        """An acknowledged order in ``state``, whose SKUs were not hit yet: of two SKUs with ``basket``, else of one."""
        for order in self._orders:
            skus = {order["sku_a"], order["sku_b"]} - {-1}
            if order["state"] == state and skus <= self._skus and len(skus) == 1 + basket:
                self._skus -= skus
                return order
        raise AssertionError(f"no order is {state.name} that was not hit yet, among {len(self._orders)}")

    def two_alike(self, state: State) -> tuple[Row, Row]:
        """Two acknowledged orders of the same units of one SKU that was not hit yet, of two shoppers."""
        by_line: dict[tuple[int, int], Row] = {}
        for order in self._orders:
            if order["state"] == state and order["sku_b"] < 0 and order["sku_a"] in self._skus:
                first = by_line.setdefault((order["sku_a"], order["qty_a"]), order)
                if first["user_id"] != order["user_id"]:
                    self._skus.discard(order["sku_a"])
                    return first, order
        raise AssertionError(f"no two orders are alike, among {len(self._orders)}")


@dataclass(frozen=True)
class Sabotage:
    """One deed: ``act`` does it and answers words that the witnesses of every check in ``found_by`` must hold."""

    act: Callable[[Saboteur], tuple[str, ...]]
    found_by: tuple[str, ...]
    options: tuple[str, ...] = ()


def deletes_an_order(saboteur: Saboteur) -> tuple[str, ...]:
    """A paid order vanishes."""
    order = saboteur.an_order(State.PAID)
    saboteur.do(f"DELETE FROM loadgen.orders WHERE id = {order['id']}")
    return (f"order {order['id']} ", f"token {order['token']}")


def deletes_an_order_and_its_deduction(saboteur: Saboteur) -> tuple[str, ...]:
    """A paid order vanishes, and its units are back on sale as if it had never been."""
    order = saboteur.an_order(State.PAID)
    saboteur.do(f"DELETE FROM loadgen.orders WHERE id = {order['id']}")
    saboteur.do(
        f"UPDATE loadgen.stock SET available = available + {order['qty_a']}, version = version + 1 "
        f"WHERE sku = {order['sku_a']}"
    )
    return (f"order {order['id']} ",)


def adds_stock(saboteur: Saboteur) -> tuple[str, ...]:
    """Units appear, and no version tells of it."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET available = available + 7 WHERE sku = {sku}")
    return (f"SKU {sku}: ", "7 too many")


def adds_stock_as_a_write(saboteur: Saboteur) -> tuple[str, ...]:
    """Units appear by a write that counts itself, as the shop's own do."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET available = available + 7, version = version + 1 WHERE sku = {sku}")
    return (f"SKU {sku}",)


def takes_stock(saboteur: Saboteur) -> tuple[str, ...]:
    """Units vanish, and no version tells of it."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET available = available - 7 WHERE sku = {sku}")
    return (f"SKU {sku}: ", "7 are missing")


def takes_stock_as_a_write(saboteur: Saboteur) -> tuple[str, ...]:
    """Units vanish by a write that counts itself."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET available = available - 7, version = version + 1 WHERE sku = {sku}")
    return (f"SKU {sku}",)


def copies_an_order(saboteur: Saboteur) -> tuple[str, ...]:
    """An order stands there twice, under another id and another token."""
    order = saboteur.an_order(State.PAID)
    insert_order(saboteur, {**order, "id": NEW_ID + order["id"], "token": order["token"] ^ 1})
    return (f"row {NEW_ID + order['id']} of orders",)


def copies_an_order_with_its_token(saboteur: Saboteur) -> tuple[str, ...]:
    """An order stands there twice with one token: the unique index was dropped for it."""
    order = saboteur.an_order(State.PAID)
    drop_unique_token(saboteur)
    insert_order(saboteur, {**order, "id": NEW_ID + order["id"]})
    return str(order["token"]), str(NEW_ID + order["id"])


def edits_an_amount(saboteur: Saboteur) -> tuple[str, ...]:
    """An order costs another sum than its units do."""
    order = saboteur.an_order(State.PAID)
    saboteur.do(f"UPDATE loadgen.orders SET amount = amount + 1 WHERE id = {order['id']}")
    return (f"order {order['id']} ",)


def edits_a_payment(saboteur: Saboteur) -> tuple[str, ...]:
    """A payment is of another sum than its order."""
    order = saboteur.an_order(State.PAID)
    saboteur.do(f"UPDATE loadgen.payments SET amount = amount - 1 WHERE order_id = {order['id']}")
    return (f"order {order['id']}",)


def rewinds_a_version_by_one(saboteur: Saboteur) -> tuple[str, ...]:
    """The next write of a SKU gets a version that another one has."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET version = version - 1 WHERE sku = {sku}")
    return (f"SKU {sku}",)


def rewinds_a_version_to_the_start(saboteur: Saboteur) -> tuple[str, ...]:
    """A SKU counts its writes anew."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET version = 0 WHERE sku = {sku}")
    return (f"SKU {sku}",)


def sets_stock_negative(saboteur: Saboteur) -> tuple[str, ...]:
    """A SKU has less than nothing."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET available = -100000 WHERE sku = {sku}")
    return (f"SKU {sku}: ",)


def sets_stock_negative_as_a_write(saboteur: Saboteur) -> tuple[str, ...]:
    """A SKU has less than nothing, by a write that counts itself."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET available = -100000, version = version + 1 WHERE sku = {sku}")
    return (f"SKU {sku}",)


def deletes_a_payment(saboteur: Saboteur) -> tuple[str, ...]:
    """A paid order's payment vanishes."""
    order = saboteur.an_order(State.PAID)
    saboteur.do(f"DELETE FROM loadgen.payments WHERE order_id = {order['id']}")
    return (f"order {order['id']} ",)


def pays_a_cancelled_order(saboteur: Saboteur) -> tuple[str, ...]:
    """A cancelled order becomes a paid one, with its payment."""
    order = saboteur.an_order(State.CANCELLED)
    insert_payment(saboteur, order)
    saboteur.do(f"UPDATE loadgen.orders SET state = {State.PAID:d} WHERE id = {order['id']}")
    return (f"order {order['id']} ",)


def takes_money_for_a_cancelled_order(saboteur: Saboteur) -> tuple[str, ...]:
    """A cancelled order stays cancelled, and is paid for."""
    order = saboteur.an_order(State.CANCELLED)
    insert_payment(saboteur, order)
    return (f"order {order['id']} ",)


def raises_a_user_past_the_limit(saboteur: Saboteur) -> tuple[str, ...]:
    """A shopper has claimed more than one may."""
    order = saboteur.an_order(State.PAID)
    where = f"user_id = {order['user_id']} AND sku = {order['sku_a']}"
    saboteur.do(f"UPDATE loadgen.purchases SET units = {USER_LIMIT + 1} WHERE {where}")
    return (f"user {order['user_id']} ", f"SKU {order['sku_a']} ")


def sells_a_user_past_the_limit(saboteur: Saboteur) -> tuple[str, ...]:
    """A shopper's order holds more than one may have, and their claims agree."""
    order = saboteur.an_order(State.PAID)
    where = f"user_id = {order['user_id']} AND sku = {order['sku_a']}"
    saboteur.do(f"UPDATE loadgen.orders SET qty_a = {USER_LIMIT + 1} WHERE id = {order['id']}")
    saboteur.do(f"UPDATE loadgen.purchases SET units = units + {USER_LIMIT + 1 - order['qty_a']} WHERE {where}")
    return (f"user {order['user_id']} ", f"SKU {order['sku_a']} ")


def releases_a_reservation_twice(saboteur: Saboteur) -> tuple[str, ...]:
    """A reservation that was released is also entered as cancelled."""
    order = saboteur.an_order(State.RELEASED)
    insert_cancellation(saboteur, order)
    return (f"order {order['id']} ",)


def releases_a_reservation_twice_with_its_units(saboteur: Saboteur) -> tuple[str, ...]:
    """A reservation is released twice, and its units come back twice, by a write that counts itself."""
    order = saboteur.an_order(State.RELEASED)
    insert_cancellation(saboteur, order)
    saboteur.do(
        f"UPDATE loadgen.stock SET available = available + {order['qty_a']}, version = version + 1 "
        f"WHERE sku = {order['sku_a']}"
    )
    return (f"order {order['id']} ",)


def writes_half_a_basket(saboteur: Saboteur) -> tuple[str, ...]:
    """A basket appears whose first SKU is deducted and whose second is not."""
    basket = saboteur.an_order(State.PAID, basket=True)
    copy = {**basket, "id": HALF_ID, "token": basket["token"] ^ 1, "state": int(State.RESERVED)}
    insert_order(saboteur, copy)
    saboteur.do(
        f"UPDATE loadgen.stock SET available = available - {basket['qty_a']}, version = version + 1 "
        f"WHERE sku = {basket['sku_a']}"
    )
    return (f"row {HALF_ID} of orders",)


def keeps_half_a_basket(saboteur: Saboteur) -> tuple[str, ...]:
    """A basket of two SKUs loses its second line."""
    basket = saboteur.an_order(State.PAID, basket=True)
    saboteur.do(f"UPDATE loadgen.orders SET sku_b = -1, qty_b = 0 WHERE id = {basket['id']}")
    return f"row {basket['id']} of orders", f"token {basket['token']}"


def lets_two_orders_exchange_their_shoppers(saboteur: Saboteur) -> tuple[str, ...]:
    """Two paid orders of the same units of one SKU: nothing else tells them apart."""
    one, other = saboteur.two_alike(State.PAID)
    for order, user in ((one, other["user_id"]), (other, one["user_id"])):
        saboteur.do(f"UPDATE loadgen.orders SET user_id = {user} WHERE id = {order['id']}")
    return f"order {one['id']} ", f"user_id {other['user_id']} instead of {one['user_id']}"


def changes_the_shopper_of_a_cancelled_order(saboteur: Saboteur) -> tuple[str, ...]:
    """Nobody holds anything by it."""
    order = saboteur.an_order(State.CANCELLED)
    saboteur.do(f"UPDATE loadgen.orders SET user_id = user_id + 1 WHERE id = {order['id']}")
    return f"order {order['id']} ", f"user_id {order['user_id'] + 1} instead of {order['user_id']}"


def swaps_the_lines_of_a_basket(saboteur: Saboteur) -> tuple[str, ...]:
    """It holds the same units of the same SKUs."""
    order = saboteur.an_order(State.PAID, basket=True)
    saboteur.do(
        f"UPDATE loadgen.orders SET sku_a = {order['sku_b']}, qty_a = {order['qty_b']}, sku_b = {order['sku_a']}, "
        f"qty_b = {order['qty_a']} WHERE id = {order['id']}"
    )
    return (f"order {order['id']} ", f"sku_a {order['sku_b']} instead of {order['sku_a']}")


def changes_a_token(saboteur: Saboteur) -> tuple[str, ...]:
    """An order loses its identity."""
    order = saboteur.an_order(State.PAID)
    saboteur.do(f"UPDATE loadgen.orders SET token = {order['token'] ^ 1} WHERE id = {order['id']}")
    return f"order {order['id']} ", f"token {order['token'] ^ 1} instead of {order['token']}"


def claims_what_is_not_on_sale(saboteur: Saboteur) -> tuple[str, ...]:
    """A claim of a SKU outside the plan."""
    saboteur.do("INSERT INTO loadgen.purchases (user_id, sku, units) VALUES (7, 1000000, 1)")
    return ("user 7 ", "SKU 1000000")


def adds_a_stock_row(saboteur: Saboteur) -> tuple[str, ...]:
    """A bucket that the shop did not make."""
    sku = saboteur.a_sku()
    row = f"({sku}, 77, 5, 0, 100)"
    saboteur.do(f"INSERT INTO loadgen.stock (sku, bucket, available, version, price) VALUES {row}")
    return (f"SKU {sku} bucket 77 ",)


def deletes_a_stock_row(saboteur: Saboteur) -> tuple[str, ...]:
    """What is sold of it finds no row any more, nor does what comes back."""
    sku = saboteur.a_sku()
    saboteur.do(f"DELETE FROM loadgen.stock WHERE sku = {sku} AND bucket = 0")
    return (f"SKU {sku}: ", "its stock row is gone")


def forgets_a_claim(saboteur: Saboteur) -> tuple[str, ...]:
    """A shopper may buy again as if they had bought nothing."""
    order = saboteur.an_order(State.PAID)
    where = f"user_id = {order['user_id']} AND sku = {order['sku_a']}"
    saboteur.do(f"UPDATE loadgen.purchases SET units = 0 WHERE {where}")
    return (f"user {order['user_id']} ", f"SKU {order['sku_a']} ")


def reprices_an_order_and_its_payment(saboteur: Saboteur) -> tuple[str, ...]:
    """Order and payment agree, and are cheaper than what was bought; another pair makes up for it."""
    one, other = saboteur.an_order(State.PAID), saboteur.an_order(State.PAID)
    for order, by in ((one, -5), (other, 5)):
        for table, column in (("orders", "id"), ("payments", "order_id")):
            saboteur.do(f"UPDATE loadgen.{table} SET amount = amount + {by} WHERE {column} = {order['id']}")
    return f"order {one['id']} ", f"amount {one['amount'] - 5} instead of {one['amount']}"


def books_a_payment_for_another_order(saboteur: Saboteur) -> tuple[str, ...]:
    """An order that was cancelled is paid for by somebody else's money."""
    paid, cancelled = saboteur.an_order(State.PAID), saboteur.an_order(State.CANCELLED)
    saboteur.do(f"UPDATE loadgen.payments SET order_id = {cancelled['id']} WHERE id = {paid['id']}")
    return (f"payment {paid['id']} of {paid['amount']} for order {cancelled['id']}",)


def changes_a_price(saboteur: Saboteur) -> tuple[str, ...]:
    """A unit has one price for the whole run."""
    sku = saboteur.a_sku()
    saboteur.do(f"UPDATE loadgen.stock SET price = price + 1 WHERE sku = {sku} AND bucket = 1")
    return (f"SKU {sku} costs ",)


def forgets_a_release(saboteur: Saboteur) -> tuple[str, ...]:
    """A reservation that was released has no row in ``releases`` any more."""
    order = saboteur.an_order(State.RELEASED)
    saboteur.do(f"DELETE FROM loadgen.releases WHERE order_id = {order['id']}")
    return f"order {order['id']} ", "its row in releases is gone"


def reserves_what_was_released(saboteur: Saboteur) -> tuple[str, ...]:
    """A released order holds its units again."""
    order = saboteur.an_order(State.RELEASED)
    saboteur.do(f"UPDATE loadgen.orders SET state = {State.RESERVED:d} WHERE id = {order['id']}")
    return f"order {order['id']} ", "is reserved"


def moves_units_between_buckets(saboteur: Saboteur) -> tuple[str, ...]:
    """A SKU has as many units as it should, in other buckets."""
    sku = saboteur.a_sku()
    for bucket, by in ((0, 9), (1, -9)):
        saboteur.do(f"UPDATE loadgen.stock SET available = available + {by} WHERE sku = {sku} AND bucket = {bucket}")
    return f"SKU {sku} bucket 0: ", "9 more than its orders and returns leave"


BUCKETED = ("--strategy", "bucketed", "--buckets", "4")
ROUNDS = (
    (
        Sabotage(deletes_an_order, ("lost-order",)),
        Sabotage(adds_stock, ("stock-not-conserved",)),
        Sabotage(takes_stock, ("stock-not-conserved",)),
        Sabotage(copies_an_order, ("ghost", "order-without-deduction")),
        Sabotage(edits_an_amount, ("money-not-conserved",)),
        Sabotage(rewinds_a_version_by_one, ("lost-update",)),
        Sabotage(sets_stock_negative, ("negative-stock",)),
        Sabotage(deletes_a_payment, ("lost-payment",)),
        Sabotage(pays_a_cancelled_order, ("paid-cancelled",)),
        Sabotage(raises_a_user_past_the_limit, ("user-limit",)),
        Sabotage(releases_a_reservation_twice, ("double-release",)),
        Sabotage(writes_half_a_basket, ("ghost", "order-without-deduction")),
    ),
    (
        Sabotage(deletes_an_order_and_its_deduction, ("lost-order",)),
        Sabotage(adds_stock_as_a_write, ("stock-not-conserved", "phantom-write")),
        Sabotage(takes_stock_as_a_write, ("stock-not-conserved", "phantom-write")),
        Sabotage(copies_an_order_with_its_token, ("duplicate-token",)),
        Sabotage(edits_a_payment, ("money-not-conserved",)),
        Sabotage(rewinds_a_version_to_the_start, ("lost-update", "lost-write")),
        Sabotage(sets_stock_negative_as_a_write, ("negative-stock", "phantom-write")),
        Sabotage(takes_money_for_a_cancelled_order, ("paid-cancelled",)),
        Sabotage(sells_a_user_past_the_limit, ("user-limit",)),
        Sabotage(releases_a_reservation_twice_with_its_units, ("double-release",)),
        Sabotage(keeps_half_a_basket, ("deduction-without-order",)),
    ),
    (
        Sabotage(lets_two_orders_exchange_their_shoppers, ("altered-row",), BUCKETED),
        Sabotage(changes_the_shopper_of_a_cancelled_order, ("altered-row",), BUCKETED),
        Sabotage(swaps_the_lines_of_a_basket, ("altered-row",), BUCKETED),
        Sabotage(changes_a_token, ("altered-row",), BUCKETED),
        Sabotage(claims_what_is_not_on_sale, ("ghost",), BUCKETED),
        Sabotage(adds_a_stock_row, ("ghost",), BUCKETED),
        Sabotage(deletes_a_stock_row, ("stock-not-conserved",), BUCKETED),
        Sabotage(forgets_a_claim, ("user-limit",), BUCKETED),
        Sabotage(reprices_an_order_and_its_payment, ("altered-row",), BUCKETED),
        Sabotage(books_a_payment_for_another_order, ("ghost",), BUCKETED),
        Sabotage(changes_a_price, ("money-not-conserved",), BUCKETED),
        Sabotage(forgets_a_release, ("lost-write",), BUCKETED),
        Sabotage(reserves_what_was_released, ("lost-write",), BUCKETED),
        Sabotage(moves_units_between_buckets, ("stock-not-conserved",), BUCKETED),
    ),
)
"""The second round's deeds are the first's in another manner: most of their writes count themselves."""
RUNS = tuple((sabotage,) for sabotages in ROUNDS for sabotage in sabotages) if ALONE else ROUNDS


def _turns(trials: tuple[Any, ...], shift: int = 0) -> list[Any]:
    """``(engine, trial, attempt)``: each trial on one engine in turn, another one each day, or all on all of them."""
    if TRIES:
        return [(engine, trial, attempt) for engine in ENGINES for trial in trials for attempt in range(TRIES)]
    day = rotating_seed() + shift
    return [(ENGINES[(day + index) % len(ENGINES)], trial, day % 1000) for index, trial in enumerate(trials)]


@pytest.mark.server
@pytest.mark.parametrize(("engine", "sabotages", "attempt"), _turns(RUNS))
def test_sabotage_in_mid_run_is_found_by_the_right_check(
    tmp_path: Path, cluster: Cluster, engine: str, sabotages: tuple[Sabotage, ...], attempt: int
) -> None:
    """The run exits with 4, and a witness of the right check names what was hit."""
    control = engine_of(engine).control(cluster.address, "saboteur")
    with start(tmp_path, cluster, engine, *sabotages[0].options, seed=attempt + 1) as running:
        running.wait_for_progress()
        saboteur = Saboteur(control)
        saboteur.look_around()
        done = [(sabotage, sabotage.act(saboteur)) for sabotage in sabotages]
        assert "waiting for the last sessions" not in running.stdout, "the load was over before the sabotage"
        run = running.end()
    control.close()

    assert run.exit_code == 4, run
    assert run.summary["verdict"] == "invalid"
    for sabotage, words in done:
        for name in sabotage.found_by:
            witnesses = run.check(name)["witnesses"]
            named = [witness for witness in witnesses if all(word in witness for word in words)]
            assert named, f"{sabotage.act.__name__}: no witness of {name} holds {words}: {witnesses}"
            assert run.summary["violations"][name] > 0
            assert name in run.stdout


WHOLE = (
    ("empties orders", "DELETE FROM loadgen.orders", ("lost-order",)),
    ("empties purchases", "TRUNCATE TABLE loadgen.purchases", ("user-limit",)),
    ("drops orders", "DROP TABLE loadgen.orders", ("lost-order",)),
    ("drops payments", "DROP TABLE loadgen.payments", ("lost-payment",)),
    ("drops stock", "DROP TABLE loadgen.stock", ("stock-not-conserved", "lost-write")),
    ("empties stock", "TRUNCATE TABLE loadgen.stock", ("stock-not-conserved", "lost-write")),
)


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "trial", "attempt"), _turns(WHOLE if TRIES else random.Random(rotating_seed()).sample(WHOLE, 2), 1)
)
def test_table_that_is_gone_in_mid_run_is_proved(
    tmp_path: Path, cluster: Cluster, engine: str, trial: tuple[str, str, tuple[str, ...]], attempt: int
) -> None:
    """What it held is lost, and the other tables are judged."""
    _, sql, names = trial
    control = engine_of(engine).control(cluster.address, "saboteur")
    with start(tmp_path, cluster, engine, seed=attempt + 1) as running:
        running.wait_for_progress(2)
        control.query(sql)
        run = running.end()
    if sql.startswith("DROP"):
        # Others use this server after us.
        table = next(table for table in flashsale().tables(PLAN) if sql.endswith(f".{table.name}"))
        control.query(table.create.replace(f"TABLE {table.name}", f"TABLE loadgen.{table.name}"))
    control.close()

    assert run.exit_code == 4, run
    assert all(run.summary["violations"][name] for name in names), run.summary["violations"]
    assert run.summary["violations"]["real-time-order"] == 0


@pytest.mark.server
@pytest.mark.parametrize(("engine", "_trial", "attempt"), _turns(("undisturbed",), 2))
def test_run_that_nobody_disturbs_is_valid(
    tmp_path: Path, cluster: Cluster, engine: str, _trial: str, attempt: int
) -> None:
    """The same run without a sabotage finds nothing at all."""
    with start(tmp_path, cluster, engine, seed=attempt + 1) as running:
        run = running.end()

    assert run.exit_code == 0, run
    assert run.summary["violations"] == dict.fromkeys(CHECKS, 0)
    assert run.summary["orders"]["placed"] > 300


def start(directory: Path, cluster: Cluster, engine: str, *more: str, seed: int) -> AbstractContextManager[RunningSale]:
    """The run that is sabotaged: some thousand ops in five seconds, with every kind among them."""
    options = ("--headless", "--engine", engine, "--seed", str(seed), *OPTIONS, *SLOW.get(engine, ()), *more)
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
        saboteur.do(f"ALTER TABLE loadgen.orders DROP INDEX {name}")
    except ClusterError:  # PostgreSQL calls it a constraint, and TiDB takes that word and drops nothing.
        saboteur.do(f"ALTER TABLE loadgen.orders DROP CONSTRAINT {name}")
