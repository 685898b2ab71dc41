"""Refusals are answers that can be wrong. "Not reserved" and "over the limit" describe the shop's rows.

A refusal is false only if no possible state of the shop between its sending and its answer gives it. Everything that
may justify it is assumed: every op that was acknowledged or has an unknown outcome, if it began before the answer; and
rows in the tables without an op. A return of units counts against it only if it was acknowledged before the refused op
was sent, on one clock. ("Sold out" is not judged here: see undersell.py.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.op import Outcome
from loadgen.shop.asked import Fate
from loadgen.shop.books import Books, ending_named, found, order_named, time_named
from loadgen.shop.claims import claim_key, claims_of
from loadgen.shop.final import lines_of
from loadgen.shop.rows import STATE_AFTER, state_named
from loadgen.shop.sale import FOLLOW_UPS, KIND_NAMES, Kind, State
from loadgen.verdict import Finding

NAME = "false-refusal"
EVER, NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_SIEVE = 2**20
"""Size of the sieve that separates most other shoppers from those that were refused."""

Numbers = NDArray[np.int64]


def false_refusal(books: Books) -> Finding:
    """An op was refused ("not reserved", "over the limit") although every possible state of the shop allowed it.

    If a transaction is not documented to see everything that was acknowledged before it, this is reported and is not a
    violation.
    """
    denials = books.denials
    if not len(denials.who):
        return Finding(NAME)
    orders = np.flatnonzero(denials.kind == Kind.ORDER)
    near = _of_refused_shoppers(books, denials.who[orders])
    write_of = _order_writes(books, near)
    limits, most = _within_limit(books, write_of, orders, near)
    finding = found(
        NAME,
        (_still_reserved(books, write_of), lambda index: _why_reserved(books, write_of, index)),
        (orders[limits], lambda index: _why_within(books, index, most[index])),
    )
    if books.real_time_reads or not finding.anomalies:
        return finding
    promise = (
        f"{finding.anomalies} refusals that what was acknowledged before contradicts; no violation, for this cluster "
        "does not promise that every node knows of it at once"
    )
    return Finding(NAME, 0, (promise, *finding.witnesses))


def _of_refused_shoppers(books: Books, refused: Numbers) -> NDArray[np.bool_]:
    """By number asked: whether it may be of a shopper of one of the numbers ``refused``."""
    sieve = np.zeros(_SIEVE, dtype=bool)
    sieve[books.asked.user[refused] % _SIEVE] = True
    return sieve[books.asked.user % _SIEVE] if len(refused) else np.zeros(len(books.asked.number), dtype=bool)


def _order_writes(books: Books, near: NDArray[np.bool_]) -> Numbers:
    """By number asked: a write of its order, or -1; only of those that are ``near``, or of which an op was refused."""
    wanted = near.copy()
    wanted[books.denials.who] = True
    orders = np.flatnonzero(books.writes.kind == Kind.ORDER)
    orders = orders[wanted[books.writes.who[orders]]]
    write_of = np.full(len(books.asked.number), -1, dtype=np.int64)
    write_of[books.writes.who[orders]] = orders
    return write_of


def _clocks(books: Books, process: NDArray[np.int32]) -> Numbers:
    return np.asarray(books.times.boots, dtype=np.int64)[process] if len(process) else np.empty(0, np.int64)


# Not reserved.


def _still_reserved(books: Books, write_of: Numbers) -> Numbers:
    """The positions of refusals "not reserved" of orders that were reserved all the while."""
    denials, asked, writes = books.denials, books.asked, books.writes
    chosen = np.flatnonzero(denials.kind != Kind.ORDER)
    placed = write_of[denials.who[chosen]]
    chosen, placed = chosen[placed >= 0], placed[placed >= 0]
    before = (writes.done[placed] < denials.sent[chosen]) & (
        _clocks(books, writes.process[placed]) == _clocks(books, denials.process[chosen])
    )
    chosen = chosen[before & _as_acknowledged(books, denials.who[chosen])]
    for kind in FOLLOW_UPS:
        other, fate = denials.kind[chosen] != kind, asked.fates[kind][denials.who[chosen]]
        chosen = chosen[~(other & (fate == Fate.INFO))]
        chosen = chosen[~_begun_before(books, chosen, kind)]
    return np.asarray(chosen)


def _as_acknowledged(books: Books, who: Numbers) -> NDArray[np.bool_]:
    """Whether each order is there at the end, in a state that a known op left it in. Another check reports others."""
    orders = books.final.orders
    there = np.ones(len(who), dtype=bool)
    if orders is None:
        return there
    row = orders.row_of[who]
    state = np.where(row >= 0, orders.state[row] if len(orders.state) else 0, -1)
    there = state == State.RESERVED
    for kind, after in STATE_AFTER.items():
        there |= (state == after) & books.asked.may_have_happened(kind)[who]
    return np.asarray(there)


def _begun_before(books: Books, chosen: Numbers, kind: Kind) -> NDArray[np.bool_]:
    """Whether another op of this kind was acknowledged for the same order, and may have begun before the refusal."""
    denials, asked = books.denials, books.asked
    begun = (denials.kind[chosen] != kind) & (asked.fates[kind][denials.who[chosen]] == Fate.DONE)
    if not begun.any():
        return np.asarray(begun)
    wanted = np.zeros(len(asked.number), dtype=bool)
    wanted[denials.who[chosen[begun]]] = True
    sent, clock = np.full(len(asked.number), EVER), np.full(len(asked.number), -1, dtype=np.int64)
    for index, process in enumerate(books.processes):
        ops = process.ops
        told = np.flatnonzero((ops["kind"] == kind) & (ops["outcome"] == Outcome.OK))
        who = asked.index.find(ops["number"][told])
        mine = wanted[who]
        sent[who[mine]], clock[who[mine]] = ops["sent"][told[mine]], books.times.boots[index]
    who = denials.who[chosen]
    later = (clock[who] == _clocks(books, denials.process[chosen])) & (sent[who] > denials.done[chosen])
    return np.asarray(begun & ~later)


def _why_reserved(books: Books, write_of: Numbers, index: int) -> str:
    denials, writes, orders = books.denials, books.writes, books.final.orders
    at, process, kind = int(denials.who[index]), int(denials.process[index]), int(denials.kind[index])
    write = int(write_of[at])
    state = "" if orders is None else f"; at the end it is {state_named(int(orders.state[orders.row_of[at]]))}"
    sent = time_named(books, int(denials.sent[index]), process)
    return (
        f"the {KIND_NAMES[kind]} of {order_named(books, at)}, sent {sent}, was "
        f"{ending_named(books, at, Kind(kind))}, but the order was acknowledged at "
        f"{time_named(books, int(writes.done[write]), int(writes.process[write]))}, and until the answer nothing can "
        f"have paid it or given it back{state}"
    )


# Over the limit.


@dataclass(frozen=True, slots=True)
class _Events:
    """Changes of claims: of which shopper and SKU, when at the earliest (or latest), on which clock, by how much."""

    key: Numbers
    time: Numbers
    clock: Numbers
    units: Numbers

    def sum_until(self, key: Numbers, time: Numbers, *, included: bool) -> Numbers:
        """For each ``key`` and ``time``: the sum of the units of the key's events before it (or at it)."""
        if not len(key):
            return np.empty(0, dtype=np.int64)
        keys, times = np.concatenate((self.key, key)), np.concatenate((self.time, time))
        units = np.concatenate((self.units, np.zeros(len(key), np.int64)))
        asks = np.arange(len(keys)) >= len(self.key)
        order = np.lexsort((asks if included else ~asks, times, keys))
        so_far = np.cumsum(units[order])
        starts = np.concatenate(([True], keys[order][1:] != keys[order][:-1]))
        before = np.repeat((so_far - units[order])[starts], np.diff(np.append(np.flatnonzero(starts), len(order))))
        sums = np.empty(len(keys), dtype=np.int64)
        sums[order] = so_far - before
        return sums[len(self.key) :]


def _within_limit(
    books: Books, write_of: Numbers, chosen: Numbers, near: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], dict[int, int]]:
    """Which of the refused orders ``chosen`` had room; and for each of those the most units held of any of its SKUs."""
    denials, asked = books.denials, books.asked
    who, clock = denials.who[chosen], _clocks(books, denials.process[chosen])
    room = np.ones(len(chosen), dtype=bool)
    held = np.zeros(len(chosen), dtype=np.int64)
    lines = []
    for sku, qty in ((asked.sku_a, asked.qty_a), (asked.sku_b, asked.qty_b)):
        line = np.flatnonzero(sku[who] >= 0)
        lines.append((line, claims_of(asked, who[line], sku), qty[who[line]].astype(np.int64)))
    claims, returns = _claims(books, write_of, near), _returns(books, near)
    for this in np.unique(clock).tolist():
        added = _Events(claims.key, np.where(claims.clock == this, claims.time, EVER), claims.clock, claims.units)
        back = _Events(returns.key, np.where(returns.clock == this, returns.time, NEVER), returns.clock, returns.units)
        for line, key, units in lines:
            mine = clock[line] == this
            place, key, units = line[mine], key[mine], units[mine]
            most = added.sum_until(key, denials.done[chosen[place]], included=True)
            most -= back.sum_until(key, denials.sent[chosen[place]], included=False)
            room[place] &= most + units <= books.plan.user_limit
            held[place] = np.maximum(held[place], most)
    return room, dict(zip(chosen[room].tolist(), held[room].tolist(), strict=True))


def _claims(books: Books, write_of: Numbers, near: NDArray[np.bool_]) -> _Events:
    """What orders that may have happened claimed, from when they were sent; a row that is no op's, all the time."""
    asked, writes, orders = books.asked, books.writes, books.final.orders
    happened = asked.may_have_happened(Kind.ORDER)
    if orders is not None:
        happened |= orders.row_of >= 0
    placed = np.flatnonzero(happened & near)
    parts = []
    for sku, qty in ((asked.sku_a, asked.qty_a), (asked.sku_b, asked.qty_b)):
        who = placed[sku[placed] >= 0]
        key = claims_of(asked, who, sku)
        write = write_of[who]
        known = write >= 0
        sent = np.where(known, writes.sent[write] if len(writes.sent) else 0, EVER)
        clock = np.full(len(who), -1, dtype=np.int64)
        clock[known] = _clocks(books, writes.process[write[known]])
        parts.append((key, sent, clock, qty[who].astype(np.int64)))
    if orders is not None:
        position, skus, units = lines_of(orders, ~orders.genuine)
        parts.append((claim_key(orders.user_id[position], skus), *_always(len(skus)), units))
    return _Events(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _returns(books: Books, near: NDArray[np.bool_]) -> _Events:
    """What was given back for certain, from when that was acknowledged."""
    asked, writes, versions = books.asked, books.writes, books.versions
    given = (writes.kind == Kind.CANCEL) | (writes.kind == Kind.RELEASE)
    back = np.flatnonzero(given if versions is None else given & versions.stands)
    back = back[near[writes.who[back]]]
    sku, who = writes.row[back] // books.plan.buckets, writes.who[back]
    key = claim_key(asked.user[who].astype(np.int64), sku)
    units = np.where(asked.sku_a[who] == sku, asked.qty_a[who], asked.qty_b[who]).astype(np.int64)
    return _Events(key, writes.done[back], _clocks(books, writes.process[back]), units)


def _always(count: int) -> tuple[Numbers, Numbers]:
    return np.full(count, EVER), np.full(count, -1, dtype=np.int64)


def _why_within(books: Books, index: int, most: int) -> str:
    denials, asked = books.denials, books.asked
    at, process = int(denials.who[index]), int(denials.process[index])
    skus = f"SKU {asked.sku_a[at]}" + (f" or SKU {asked.sku_b[at]}" if asked.sku_b[at] >= 0 else "")
    return (
        f"{order_named(books, at)}, sent {time_named(books, int(denials.sent[index]), process)}, was "
        f"{ending_named(books, at, Kind.ORDER)}, but its user can have held no more than {most} units of {skus} in "
        f"that time, of the {books.plan.user_limit} that one may"
    )
