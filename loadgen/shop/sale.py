"""The flash sale as values: its nouns, and what each op number means. Both the driving and the judging side read it.

Everything that identifies an op is a pure function of the plan and the op's number, made here for a whole block of
numbers at once. An *arrival* (an order or a browse) has a number; what follows an order (its payment, its
cancellation, its release) carries the order's number, so ``(number, kind)`` names an op.
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadgen.draws import Draws, mix
from loadgen.plan import Plan
from loadgen.workload.facts import WorkloadFacts

SHOPPERS = 50_000
"""How many shoppers there are: small enough that some come back and meet the limit."""
BASKET_SHARE = 0.1
"""The share of orders that ask for two SKUs in one transaction."""
MOST_UNITS = 2
"""The most units of one line."""
TWO_UNITS_SHARE = 0.2
"""The share of lines that ask for two units instead of one."""
RACE_SHARE = 0.03
"""The share of orders whose shopper pays just as the hold runs out: payment and release meet."""
PAY_DELAY_SHARE = 1 / 16
"""A payment trails its order by an exponential time with this share of the duration as its mean.

Payments of Double 11 2016-17 peaked 5-10 minutes after the orders of a two-hour sale."""
HOLD_SHARE = 1 / 8
"""How long a reservation is held before it is released, as a share of the duration."""


class Kind(IntEnum):
    """What a shopper, or the shop on their behalf, asks for."""

    ORDER = 0
    PAY = 1
    CANCEL = 2
    RELEASE = 3
    BROWSE = 4


class Answer(IntEnum):
    """What the shop answered. An op that is not ``ok`` has NONE."""

    NONE = 0
    PLACED = 1
    SOLD_OUT = 2
    LIMITED = 3
    PAID = 4
    CANCELLED = 5
    RELEASED = 6
    NOT_RESERVED = 7
    """The order was not, or no longer, reserved: nothing was changed."""
    SEEN = 8


REFUSALS = (Answer.SOLD_OUT, Answer.LIMITED, Answer.NOT_RESERVED)
"""Answers by which nothing was changed."""


class State(IntEnum):
    """The states of an order in its row."""

    RESERVED = 0
    PAID = 1
    CANCELLED = 2
    RELEASED = 3
    """Timed out: the hold was released."""


CHECKS = (
    "oversell",
    "negative-stock",
    "stock-not-conserved",
    "order-without-deduction",
    "deduction-without-order",
    "duplicate-token",
    "user-limit",
    "lost-order",
    "lost-payment",
    "ghost",
    "altered-row",
    "double-payment",
    "paid-cancelled",
    "double-release",
    "money-not-conserved",
    "fractured-read",
    "lost-update",
    "lost-write",
    "phantom-write",
    "real-time-order",
    "false-refusal",
)
"""The names of the checks that hold for the sale, in the order in which they are reported."""

FOLLOW_UPS = (Kind.PAY, Kind.CANCEL, Kind.RELEASE)
KIND_NAMES = tuple(kind.name.lower() for kind in Kind)
ANSWER_NAMES = tuple(answer.name.lower() for answer in Answer)

FACTS = WorkloadFacts(
    kinds=KIND_NAMES,
    answers=ANSWER_NAMES,
    arrivals=("order", "browse"),
    refused=tuple(answer.name.lower() for answer in REFUSALS),
    good="placed",
    noun="order",
    figures="orders",
    titles={"order": "order placed", "order_refused": "order refused", "limited": "over limit"},
)
"""The words of the sale."""

INVOKED_COLUMNS: Mapping[str, str] = {
    "number": "int64",
    "kind": "uint8",
    "token": "int64",
    "user": "int32",
    "sku_a": "int32",
    "qty_a": "int32",
    "sku_b": "int32",
    "qty_b": "int32",
    "amount": "int64",
}
"""The columns of the history for every number that a load process received, and the Arrow type of each.

``sku_b`` is -1 where there is one line only. A browse reads ``sku_a`` and, where there is one, ``sku_b``.
"""

Columns = Mapping[str, NDArray[Any]]


class Shopping(NamedTuple):
    """What one number means, as Python values: the arguments of a transaction body."""

    number: int
    kind: int
    token: int
    user: int
    sku_a: int
    qty_a: int
    sku_b: int
    qty_b: int
    amount: int
    start: int
    """A random start: the bucket that a bucketed order probes first, modulo the buckets."""
    follow_ups: tuple[tuple[int, int], ...]
    """What follows if the order is placed: ``(kind, delay_ns)`` from the instant of the answer."""


def invoked(plan: Plan, first: int, count: int) -> dict[str, NDArray[Any]]:
    """INVOKED_COLUMNS of the numbers ``first .. first + count - 1``."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    draw = Draws(plan.seed, numbers)
    kind = np.where(draw.uniform(0) < order_share(plan), Kind.ORDER, Kind.BROWSE).astype(np.uint8)
    sku = _skus(plan, draw.uniform(1))
    low = sku & ~np.int32(1)
    has_partner = low + 1 < plan.skus
    # A browse reads a pair wherever there is one, so that it can see the halves of a basket.
    pair = has_partner & ((draw.uniform(2) < BASKET_SHARE) | (kind == Kind.BROWSE))
    sku_a = np.where(pair, low, sku).astype(np.int32)
    sku_b = np.where(pair, low + 1, -1).astype(np.int32)
    most = min(MOST_UNITS, plan.user_limit)
    qty_a = np.where(draw.uniform(3) < TWO_UNITS_SHARE, most, 1).astype(np.int32)
    qty_b = np.where(pair, np.where(draw.uniform(4) < TWO_UNITS_SHARE, most, 1), 0).astype(np.int32)
    return {
        "number": numbers,
        "kind": kind,
        "token": tokens(plan.seed, numbers),
        "user": (draw.bits(6) % np.uint64(SHOPPERS)).astype(np.int32),
        "sku_a": sku_a,
        "qty_a": qty_a,
        "sku_b": sku_b,
        "qty_b": qty_b,
        "amount": qty_a * price(sku_a) + np.where(pair, qty_b * price(sku_b), 0),
    }


def shoppings(plan: Plan, columns: Columns) -> list[Shopping]:
    """The same numbers as Python values, with what only the driving side needs."""
    draw = Draws(plan.seed, columns["number"])
    starts = (draw.bits(7) % np.uint64(plan.buckets)).astype(np.int64)
    follow_ups = _follow_ups(plan, draw, columns["kind"])
    lists = [columns[name].tolist() for name in INVOKED_COLUMNS]
    return [Shopping(*values) for values in zip(*lists, starts.tolist(), follow_ups, strict=True)]


def tokens(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The idempotency token of each number: positive, spread over 63 bits, and never the same for two numbers.

    An odd factor and a shift permute the numbers modulo 2^63."""
    shift = mix(np.array([seed], dtype=np.uint64))
    spread = numbers.astype(np.uint64) * np.uint64(0x5851F42D4C957F2D) + shift
    return np.asarray((spread & np.uint64(2**63 - 1)).astype(np.int64))


def price(sku: NDArray[Any]) -> NDArray[np.int64]:
    """The price of one unit in cents: fixed for each SKU, from 100 to 9,999."""
    return 100 + (np.asarray(sku, dtype=np.int64) * 7919) % 9900


def bucket_stock(plan: Plan, bucket: int) -> int:
    """How many of a SKU's units are in one of its buckets at the start, as even as whole numbers allow."""
    return int(plan.stock // plan.buckets) + (1 if bucket < plan.stock % plan.buckets else 0)


def order_share(plan: Plan) -> float:
    """The share of arrivals that are orders, from the mix: the others browse."""
    weights = dict(plan.kind_weights)
    order, browse = weights.get("order", 0), weights.get("browse", 0)
    return order / (order + browse) if order + browse else 1.0


def first_follow_ups(plan: Plan, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The kind of what follows each of these orders first if it is placed, and its delay in ns; kind -1 for nothing."""
    fates, delays, races, hold_ns = _follow_up_draws(plan, Draws(plan.seed, numbers))
    if not len(fates):
        return np.full(len(numbers), -1), np.zeros(len(numbers), dtype=np.int64)
    kinds = np.where(races, Kind.PAY, np.array(FOLLOW_UPS, dtype=np.int64)[fates])
    return kinds, np.where(races | (kinds == Kind.RELEASE), hold_ns, delays)


def _follow_up_draws(plan: Plan, draw: "Draws") -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], int]:
    """For each number the place of its fate in FOLLOW_UPS, the delay of one who pays or cancels, whether two follow at
    once, and the hold; empty where nothing follows."""
    weights = dict(plan.kind_weights)
    shares = np.cumsum([weights.get(follow.name.lower(), 0) for follow in FOLLOW_UPS], dtype=float)
    hold_ns = int(plan.duration_s * HOLD_SHARE * 1e9)
    if not shares[-1]:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool), hold_ns
    fates = np.searchsorted(shares / shares[-1], draw.uniform(8), side="right").clip(0, 2)
    # Exponential, cut at the hold: a shopper who would pay later than that finds the order released.
    delays = np.minimum(-np.log1p(-draw.uniform(9)) * plan.duration_s * PAY_DELAY_SHARE * 1e9, hold_ns).astype(np.int64)
    races = (draw.uniform(10) < RACE_SHARE) & bool(weights.get("pay") and weights.get("release"))
    return fates, delays, races, hold_ns


def _follow_ups(plan: Plan, draw: "Draws", kind: NDArray[Any]) -> list[tuple[tuple[int, int], ...]]:
    """What follows each number if it is placed: pay, cancel or release by their weights; a few pay at the release."""
    fates, delays, races, hold_ns = _follow_up_draws(plan, draw)
    if not len(fates):
        return [()] * len(kind)
    follow_ups: list[tuple[tuple[int, int], ...]] = []
    columns = (kind.tolist(), fates.tolist(), delays.tolist(), races.tolist())
    for op_kind, fate, delay, race in zip(*columns, strict=True):
        if op_kind != Kind.ORDER:
            follow_ups.append(())
        elif race:
            follow_ups.append(((int(Kind.PAY), hold_ns), (int(Kind.RELEASE), hold_ns)))
        else:
            follow = FOLLOW_UPS[fate]
            follow_ups.append(((int(follow), hold_ns if follow is Kind.RELEASE else delay),))
    return follow_ups


def _skus(plan: Plan, uniform: NDArray[np.float64]) -> NDArray[np.int32]:
    if plan.skew == "one-hot":
        return np.zeros(len(uniform), dtype=np.int32)
    if plan.skew == "uniform":
        return np.asarray(np.minimum((uniform * plan.skus).astype(np.int32), plan.skus - 1))
    cumulative = _zipf(plan.skus, float(plan.skew.removeprefix("zipf:")))
    return np.asarray(np.minimum(np.searchsorted(cumulative, uniform, side="right"), plan.skus - 1).astype(np.int32))


@lru_cache(maxsize=4)
def _zipf(skus: int, exponent: float) -> NDArray[np.float64]:
    """The cumulative distribution of Zipf's law over SKUs 0 .. skus-1: SKU k has weight (k+1)^-exponent."""
    weights = np.arange(1, skus + 1, dtype=np.float64) ** -exponent
    cumulative = np.cumsum(weights)
    return np.asarray(cumulative / cumulative[-1])
