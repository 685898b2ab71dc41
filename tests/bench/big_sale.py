"""A large correct sale, made in numpy rather than run: what the judge's benchmark judges.

Orders arrive evenly, a tenth of them over the limit, for one shopper holds all that one may have of each SKU. The
others are placed and then paid, cancelled, released, or paid and released at once. Every write has its version by the
order of the commits, which lie between sent and done.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.history.history import OPS_SCHEMA, ROW_DONE, HistoryWriter, write_final, write_json
from loadgen.op import Outcome
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind, State
from tests.plans import sale_plan

WEIGHTS = (("order", 10), ("browse", 2), ("pay", 8), ("cancel", 1), ("release", 1))
PLAN = sale_plan(skus=1_000, stock=10_000_000, user_limit=1_000_000, kind_weights=WEIGHTS)
OPS_PER_NUMBER = 1.774
BLOCK, BATCH_ROWS = 512, 2_000
SPACING_NS = 200_000
LIMITED_SHARE = 0.1
HOARDER = sale.SHOPPERS
"""The shopper whose first order of each SKU takes all that one may have, and whose others are refused."""
LATER = 200
"""So many numbers later that order has long been acknowledged."""

Columns = dict[str, NDArray[Any]]


def write_run(run_dir: Path, ops: int, processes: int = 2) -> int:
    """Write the run directory of about ``ops`` ops by that many load processes; how many ops it really has."""
    (run_dir / "history").mkdir(parents=True)
    random = np.random.default_rng(1)
    asked = sale.invoked(PLAN, 0, int(ops / OPS_PER_NUMBER))
    rows = _ops(asked, _hoard(asked, random), random)
    lines = _versioned(asked, rows)
    final = _final(asked, rows, lines)
    for table, columns in final.items():
        write_final(run_dir / "history", table, columns, dict.fromkeys(columns, "int64"))
    owner = (asked["number"] // BLOCK) % processes
    for process in range(processes):
        _write_process(run_dir / "history", str(process), asked, rows, lines, owner == process)
    engine = {"name": "postgres", "version": "0", "edition": "", "level": "read committed", "statement_snapshot": True}
    workload = {"name": "flashsale", "checks": list(sale.CHECKS)}
    write_json(
        run_dir / "plan.json", {"plan": PLAN.to_json(), "engine": engine, "workload": workload, "started_utc": ""}
    )
    write_json(run_dir / "load.json", {"cut_short": "", "client": {}, "died": [], "warnings": [], "error": ""})
    return len(rows["number"])


def _hoard(asked: Columns, random: np.random.Generator) -> NDArray[np.bool_]:
    """Let one shopper have the first order of each SKU, and some later ones; which: those are over the limit."""
    orders = np.flatnonzero((asked["kind"] == Kind.ORDER) & (asked["sku_b"] < 0))
    skus, first = np.unique(asked["sku_a"][orders], return_index=True)
    first = orders[first]
    began = np.full(PLAN.skus, len(asked["number"]))
    began[skus] = first
    later = (asked["kind"] == Kind.ORDER) & (asked["number"] > began[asked["sku_a"]] + LATER)
    limited = later & (random.random(len(later)) < LIMITED_SHARE)
    asked["user"][limited] = asked["user"][first] = HOARDER
    asked["qty_a"][first] = PLAN.user_limit
    asked["amount"][first] = PLAN.user_limit * sale.price(asked["sku_a"][first])
    asked["hoarding"] = np.isin(asked["number"], first)
    return limited


def _ops(asked: Mapping[str, NDArray[Any]], limited: NDArray[np.bool_], random: np.random.Generator) -> Columns:
    """Every op by its number and kind, with its times, its answer and the instant of its commit, by the end of it."""
    count = len(asked["number"])
    is_order = asked["kind"] == Kind.ORDER
    placed = is_order & ~limited
    due = np.arange(count, dtype=np.int64) * SPACING_NS
    first_done = due + random.integers(200_000, 6_000_000, count)
    answer = np.where(placed, Answer.PLACED, np.where(limited, Answer.LIMITED, Answer.SEEN))
    arrivals = {"number": asked["number"], "kind": asked["kind"].astype(np.int64), "due": due, "answer": answer}
    fate = random.choice([Kind.PAY, Kind.CANCEL, Kind.RELEASE], count, p=[0.8, 0.1, 0.1])
    fate[asked["hoarding"]] = Kind.PAY
    race = placed & (random.random(count) < 0.03)
    parts = [arrivals]
    for kind, good in ((Kind.PAY, Answer.PAID), (Kind.CANCEL, Answer.CANCELLED), (Kind.RELEASE, Answer.RELEASED)):
        chosen = placed & (fate == kind) & ~race
        parts.append(_follow(asked, chosen, kind, good, first_done + random.integers(10**6, 10**9, count)))
    at_once = first_done + 10**9
    parts.append(_follow(asked, race, Kind.PAY, Answer.PAID, at_once))
    parts.append(_follow(asked, race, Kind.RELEASE, Answer.NOT_RESERVED, at_once))
    rows = {name: np.concatenate([part[name] for part in parts]) for name in arrivals}
    size = len(rows["number"])
    rows["sent"] = rows["due"] + random.integers(0, 100_000, size)
    rows["commit"] = rows["sent"] + random.integers(50_000, 5_000_000, size)
    rows["done"] = rows["commit"] + random.integers(10_000, 400_000, size)
    first = slice(0, count)
    rows["done"][first] = np.maximum(first_done, rows["sent"][first] + 100_000)
    rows["commit"][first] = (rows["sent"][first] + rows["done"][first]) // 2
    order = np.argsort(rows["done"], kind="stable")
    return {name: values[order] for name, values in rows.items()}


def _follow(
    asked: Mapping[str, NDArray[Any]], chosen: NDArray[np.bool_], kind: Kind, answer: Answer, due: NDArray[np.int64]
) -> Columns:
    numbers = asked["number"][chosen]
    whole = (np.full(len(numbers), int(value)) for value in (kind, answer))
    kinds, answers = whole
    return {"number": numbers, "kind": kinds, "due": due[chosen], "answer": answers}


def _versioned(asked: Mapping[str, NDArray[Any]], rows: Columns) -> Columns:
    """The touches of all ops, by the op's place, and the version of each write by the order of the commits."""
    writes = np.isin(rows["answer"], (Answer.PLACED, Answer.CANCELLED, Answer.RELEASED))
    looks = rows["answer"] == Answer.SEEN
    at = rows["number"]
    parts = []
    for line, name in enumerate(("sku_a", "sku_b")):
        touching = np.flatnonzero((writes | looks) & (asked[name][at] >= 0))
        parts.append((touching, asked[name][at[touching]].astype(np.int64), np.full(len(touching), line)))
    op, sku, line = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    by_commit = np.lexsort((rows["commit"][op], sku))
    wrote = writes[op][by_commit]
    so_far = np.cumsum(wrote)
    starts = np.searchsorted(sku[by_commit], np.arange(PLAN.skus))
    before = np.concatenate(([0], so_far))[starts][sku[by_commit]]
    version = np.empty(len(op), dtype=np.int64)
    version[by_commit] = so_far - before
    order = np.lexsort((line, op))
    return {"op": op[order], "row": sku[order], "version": version[order], "wrote": writes[op][order]}


def _final(asked: Mapping[str, NDArray[Any]], rows: Columns, lines: Columns) -> dict[str, Columns]:
    count = len(asked["number"])
    state = np.full(count, -1, dtype=np.int64)
    states = {Answer.PLACED: State.RESERVED, Answer.PAID: State.PAID}
    states |= {Answer.CANCELLED: State.CANCELLED, Answer.RELEASED: State.RELEASED}
    for answer, becomes in states.items():
        state[rows["number"][rows["answer"] == answer]] = becomes
    there = state >= 0
    names = {"number": "id", "token": "token", "user": "user_id", "amount": "amount"}
    names |= {name: name for name in ("sku_a", "qty_a", "sku_b", "qty_b")}
    orders = {final: asked[name][there].astype(np.int64) for name, final in names.items()} | {"state": state[there]}
    live = orders["state"] < State.CANCELLED
    basket = live & (orders["sku_b"] >= 0)
    skus = np.concatenate((orders["sku_a"][live], orders["sku_b"][basket]))
    units = np.concatenate((orders["qty_a"][live], orders["qty_b"][basket]))
    # What was given back leaves its claim there, of 0 units.
    two = orders["sku_b"] >= 0
    claims = orders["user_id"] * PLAN.skus + orders["sku_a"], (orders["user_id"] * PLAN.skus + orders["sku_b"])[two]
    claimed = np.concatenate((orders["qty_a"] * live, (orders["qty_b"] * live)[two]))
    keys, place = np.unique(np.concatenate(claims), return_inverse=True)
    sold = np.bincount(skus, weights=units, minlength=PLAN.skus).astype(np.int64)
    paid = orders["state"] == State.PAID
    back = np.flatnonzero(np.isin(rows["answer"], (Answer.CANCELLED, Answer.RELEASED)))
    sku = np.arange(PLAN.skus)
    return {
        "stock": {
            "sku": sku,
            "bucket": np.zeros_like(sku),
            "available": PLAN.stock - sold,
            "version": np.bincount(lines["row"][lines["wrote"]], minlength=PLAN.skus),
            "price": sale.price(sku),
        },
        "orders": orders,
        "purchases": {
            "user_id": keys // PLAN.skus,
            "sku": keys % PLAN.skus,
            "units": np.bincount(place, weights=claimed).astype(np.int64),
        },
        "payments": {"id": orders["id"][paid], "order_id": orders["id"][paid], "amount": orders["amount"][paid]},
        "releases": {
            "id": rows["number"][back] * len(Kind) + rows["kind"][back],
            "order_id": rows["number"][back],
        },
    }


def _write_process(
    directory: Path, name: str, asked: Columns, rows: Columns, lines: Columns, mine: NDArray[np.bool_]
) -> None:
    writer = HistoryWriter(directory, name, sale.INVOKED_COLUMNS, {})
    own = np.flatnonzero(mine)
    for first in range(0, len(own), BLOCK):
        block = own[first : first + BLOCK]
        writer.invoked({column: asked[column][block] for column in sale.INVOKED_COLUMNS})
    batch = _batch(rows, lines, mine[rows["number"]])
    for first in range(0, batch.num_rows, BATCH_ROWS):
        writer.batch(batch.slice(first, BATCH_ROWS))
    writer.closed(len(mine))
    writer.close()


def _batch(rows: Columns, lines: Columns, chosen: NDArray[np.bool_]) -> Any:
    size = int(chosen.sum())
    counts = np.bincount(lines["op"], minlength=len(chosen))[chosen]
    own = chosen[lines["op"]]
    version, wrote = lines["version"][own], lines["wrote"][own]
    touches = {"row": lines["row"][own], "read": np.where(wrote, -1, version), "wrote": np.where(wrote, version, -1)}
    struct = pa.StructArray.from_arrays([pa.array(values) for values in touches.values()], list(touches))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    constant = {"type": ROW_DONE, "process": 0, "outcome": Outcome.OK, "tries": 1, "stage": 0}
    columns = {field: np.full(size, int(value)) for field, value in constant.items()}
    columns |= {field: rows[field][chosen] for field in ("number", "kind", "due", "sent", "done", "answer")}
    arrays = [
        pa.array(columns[field.name].astype(str(field.type)))
        for field in OPS_SCHEMA
        if field.name not in ("code", "touched")
    ]
    arrays += [pa.array([""] * size), pa.ListArray.from_arrays(pa.array(offsets), struct)]
    cast = [array.cast(field.type) for array, field in zip(arrays, OPS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(cast, schema=OPS_SCHEMA)
