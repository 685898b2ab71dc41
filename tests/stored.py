"""A small run directory made by code: a correct shop that serves one order after the other, and ways to break it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.history.history import HistoryWriter, ops_batch, write_final, write_json
from loadgen.op import Completion, Outcome
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind, State
from tests.plans import sale_plan

MS = 1_000_000
ORDERS = 40
PLAN = sale_plan(skus=2, stock=12, skew="uniform", duration_s=2.0, kind_weights=(("order", 1), ("pay", 1)))
Rows = dict[str, list[tuple[int, ...]]]

FINAL_COLUMNS = {
    "stock": ("sku", "bucket", "available", "version", "price"),
    "orders": ("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount", "state"),
    "purchases": ("user_id", "sku", "units"),
    "payments": ("id", "order_id", "amount"),
    "releases": ("id", "order_id"),
}


def lose_an_order(rows: Rows) -> None:
    """Delete an acknowledged order behind the shop's back."""
    rows["orders"].pop(0)


def write_stored_run(directory: Path, spoil: Callable[[Rows], None] | None = None) -> Path:
    """Write a finished run without its summary; ``spoil`` changes the final reads first."""
    (directory / "history").mkdir(parents=True)
    (directory / "logs").mkdir()
    columns = sale.invoked(PLAN, 0, ORDERS)
    completions, rows = _serve(sale.shoppings(PLAN, columns))
    if spoil is not None:
        spoil(rows)
    facts = {"run_id": directory.name, "workload": "flashsale"}
    writer = HistoryWriter(directory / "history", "standalone", sale.INVOKED_COLUMNS, facts)
    writer.invoked(columns)
    writer.batch(ops_batch(completions))
    writer.closed(ORDERS)
    writer.close()
    for table, names in FINAL_COLUMNS.items():
        values = np.array(rows[table], dtype=np.int64).reshape(-1, len(names))
        columns_read = {name: values[:, index] for index, name in enumerate(names)}
        write_final(directory / "history", table, columns_read, dict.fromkeys(names, "int64"))
    write_json(directory / "plan.json", plan_facts(directory.name))
    write_json(directory / "load.json", load_facts())
    return directory


def plan_facts(run_id: str) -> dict[str, Any]:
    """The contents of plan.json."""
    return {
        "plan": PLAN.to_json(),
        "run_id": run_id,
        "started_utc": "2025-01-01T00:00:00.000Z",
        "engine": {
            "name": "postgres",
            "title": "PostgreSQL",
            "version": "18.6",
            "edition": "",
            "level": "read committed",
            "means": "read-committed",
            "statement_snapshot": True,
        },
        "cluster": {"provider": "embedded", "nodes": 1},
        "workload": {
            "name": "flashsale",
            "kinds": list(sale.KIND_NAMES),
            "answers": list(sale.ANSWER_NAMES),
            "checks": list(sale.CHECKS),
        },
        "durability": {"fsync": "on", "synchronous_commit": "on"},
        "hardware": {},
        "versions": {},
        "warnings": [],
    }


def load_facts() -> dict[str, Any]:
    """The contents of load.json."""
    client = {"cpu_seconds": 0.01, "cpu_us_per_order": 80.0, "saturated_seconds": 0, "peak_rss_mb": 90.0}
    return {"cut_short": "", "client": client, "died": [], "warnings": [], "error": "", "final_reads": "", "errors": {}}


def _serve(shoppings: list[sale.Shopping]) -> tuple[list[Completion], Rows]:
    available, version = [PLAN.stock] * PLAN.skus, [0] * PLAN.skus
    units: dict[tuple[int, int], int] = {}
    completions: list[Completion] = []
    rows: Rows = {"orders": [], "payments": [], "releases": []}
    for order in shoppings:
        lines = [(order.sku_a, order.qty_a), (order.sku_b, order.qty_b)][: 1 if order.sku_b < 0 else 2]
        due = (1 + 10 * order.number) * MS
        short = [sku for sku, qty in lines if available[sku] < qty]
        if any(units.get((order.user, sku), 0) + qty > PLAN.user_limit for sku, qty in lines):
            completions.append(_completion(order.number, Kind.ORDER, due, Answer.LIMITED, ()))
            continue
        if short:
            completions.append(_completion(order.number, Kind.ORDER, due, Answer.SOLD_OUT, (short[0], -1, -1)))
            continue
        touched: tuple[int, ...] = ()
        for sku, qty in lines:
            available[sku] -= qty
            version[sku] += 1
            units[order.user, sku] = units.get((order.user, sku), 0) + qty
            touched += (sku, -1, version[sku])
        completions.append(_completion(order.number, Kind.ORDER, due, Answer.PLACED, touched))
        completions.append(_completion(order.number, Kind.PAY, due + 5 * MS, Answer.PAID, ()))
        rows["orders"].append(
            (order.number, order.token, order.user, *lines[0], order.sku_b, order.qty_b, order.amount, int(State.PAID))
        )
        rows["payments"].append((order.number, order.number, order.amount))
    prices = sale.price(np.arange(PLAN.skus)).tolist()
    rows["stock"] = [(sku, 0, available[sku], version[sku], prices[sku]) for sku in range(PLAN.skus)]
    rows["purchases"] = [(user, sku, count) for (user, sku), count in units.items()]
    return completions, rows


def _completion(number: int, kind: Kind, due: int, answer: Answer, touched: tuple[int, ...]) -> Completion:
    sent, done = due + MS // 10, due + 2 * MS
    return Completion(number, int(kind), 0, due, sent, done, int(Outcome.OK), int(answer), 1, 0, "", touched)
