"""The version witness: every write of a stock row takes the row's next version, and the writer receives it.

The database itself counts, so the sale carries a total order of the writes of every row, at full speed. What a correct
store shows: a write that was computed from a read has the version after the one read, no two writes share a version,
the versions 1 .. final are exactly those of the writes that committed, and a write that was acknowledged before
another was sent has the smaller version.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.account import Versions
from loadgen.shop.asked import Fate
from loadgen.shop.books import MOST_WITNESSES, Books, Group, ending_named, found, order_named, row_named, write_named
from loadgen.shop.final import Orders
from loadgen.shop.sale import Kind, State
from loadgen.shop.writes import acknowledged_first, write_key
from loadgen.verdict import Finding

MOST_NAMED = 3
"""How many of the writes that were lost are named in one witness."""


def lost_update(books: Books) -> Finding:
    """A write was computed from a version that another write had replaced, or two writes have one version.

    The writes between the version read and the version written are the lost ones: what was computed without them
    was written over them. Of two acknowledged writes with one version, one was written over the other; if the
    effect of either is gone from the tables, it is a lost order, and not counted here.
    """
    writes, versions = books.writes, books.versions
    stale = np.flatnonzero((writes.read >= 0) & (writes.wrote != writes.read + 1))
    groups: list[Group] = [(stale, lambda index: _stale(books, index))]
    if versions is not None:
        groups.append((_both_kept(versions), lambda index: _shared(books, index)))
    finding = found("lost-update", *groups)
    lack = books.final.lack("stock", "orders", "releases")
    return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=lack)


def lost_write(books: Books) -> Finding:
    """An acknowledged write is missing from its row's versions, or its effect is missing from the tables."""
    versions, plan = books.versions, books.plan
    nowhere = np.flatnonzero(books.astray.wrote == -1), lambda index: _nowhere(books, index)
    if versions is None:
        finding = found("lost-write", nowhere)
        lack = books.final.lack("stock", "orders", "releases")
        return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=lack)
    writes = books.writes
    beyond = np.flatnonzero(writes.wrote > versions.final[writes.row])
    told = np.bincount(writes.row[beyond], minlength=books.rows) > 0
    excess = versions.standing + versions.open_writes - versions.final
    crowded = np.flatnonzero((excess > 0) & ~told)
    told_skus = (told | (excess > 0)).reshape(plan.skus, plan.buckets).any(axis=1)
    excess_of_sku = excess.reshape(plan.skus, plan.buckets).sum(axis=1) + versions.open_orders
    return found(
        "lost-write",
        nowhere,
        (beyond, lambda index: _overtaken(books, versions, index)),
        (
            crowded,
            lambda row: (
                f"{row_named(books, row)} ends at version {versions.final[row]}, and {versions.standing[row]} "
                f"acknowledged writes and {versions.open_writes[row]} info ones are in the tables"
            ),
        ),
        (
            np.flatnonzero((excess_of_sku > 0) & ~told_skus),
            lambda sku: f"the rows of SKU {sku} have {excess_of_sku[sku]} versions fewer than writes in the tables",
        ),
        *_undone(books),
    )


def phantom_write(books: Books) -> Finding:
    """A version has no acknowledged writer, and no ``info`` op can have written it. Counts versions."""
    versions, plan, orders = books.versions, books.plan, books.final.orders
    set_by_others = found("phantom-write", (np.flatnonzero(books.astray.wrote != -1), lambda at: _beyond(books, at)))
    unknown = books.final.lack("stock", "orders", "releases")
    if orders is not None and orders.unheard.any():
        unknown = "the history lacks orders that the tables hold"
    if {"orders", "releases"} & set(books.final.gone):
        unknown = "the table that shows which open ops wrote is gone"
    if versions is None or unknown:
        return Finding("phantom-write", set_by_others.anomalies, set_by_others.witnesses, unknown)
    spare = versions.unheard - versions.open_writes
    spare_of_sku = np.maximum(spare, 0).reshape(plan.skus, plan.buckets).sum(axis=1) - versions.open_orders
    guilty = np.flatnonzero(spare_of_sku > 0)
    finding = found("phantom-write", (guilty, lambda sku: _phantom(books, versions, sku)))
    anomalies = int(spare_of_sku[guilty].sum()) + set_by_others.anomalies
    return Finding("phantom-write", anomalies, (*finding.witnesses, *set_by_others.witnesses)[:MOST_WITNESSES])


def real_time_order(books: Books) -> Finding:
    """A write was acknowledged before another was sent, and yet it has the larger version of the row.

    By row and clock, only the earliest acknowledgement among all larger versions matters. If it is before the sending
    of a write, that pair breaks real time. A suffix minimum, so n log n.
    """
    writes = books.writes
    if not len(writes.key):
        return Finding("real-time-order")
    boot = np.asarray(books.times.boots)[writes.process]
    # Ordered by row, clock and version already, unless there is more than one clock.
    order = np.lexsort((writes.wrote, writes.row, boot)) if len(set(books.times.boots)) > 1 else np.arange(len(boot))
    row, wrote, done = writes.row[order], writes.wrote[order], writes.done[order]
    starts = np.concatenate(([True], (row[1:] != row[:-1]) | (boot[order][1:] != boot[order][:-1])))
    group = np.cumsum(starts)
    # The first position after each one that has another version, or is of another group.
    new = np.concatenate((starts[1:] | (wrote[1:] != wrote[:-1]), [True]))
    after = np.minimum.accumulate(np.where(new, np.arange(1, len(order) + 1), len(order))[::-1])[::-1]
    inside = after < len(order)
    inside[inside] = group[after[inside]] == group[inside]
    late = np.flatnonzero(inside)
    earlier = acknowledged_first(starts, done)[after[late]]
    reversed_pairs = done[earlier] < writes.sent[order][late]
    late, earlier = late[reversed_pairs], earlier[reversed_pairs]
    return found(
        "real-time-order",
        (np.arange(len(late)), lambda index: _reversed(books, int(order[earlier[index]]), int(order[late[index]]))),
    )


def _both_kept(versions: Versions) -> NDArray[np.int64]:
    """The writes that took effect and have the version of an earlier write that also took effect."""
    group = np.cumsum(versions.first)
    standing = np.flatnonzero(versions.stands)
    return np.asarray(standing[1:][group[standing[1:]] == group[standing[:-1]]])


def _stale(books: Books, index: int) -> str:
    writes = books.writes
    row, read, wrote = int(writes.row[index]), int(writes.read[index]), int(writes.wrote[index])
    text = f"{write_named(books, index)} computed from version {read} of {row_named(books, row)} and wrote {wrote}"
    ends = write_key(np.array([row, row]), np.array([read + 1, wrote]))
    first, last = np.searchsorted(writes.key, ends).tolist()
    between = wrote - read - 1
    if between < 1:
        return f"{text}, a version that was there already"
    lost = range(first, min(last, first + MOST_NAMED))
    named = [f"{writes.wrote[index]} by {write_named(books, index)}" for index in lost]
    more = f" and {between - len(named)} more" if between > len(named) else ""
    return f"{text}, over {'; '.join(named) or 'versions that no acknowledged write has'}{more if named else ''}"


def _shared(books: Books, index: int) -> str:
    writes = books.writes
    assert books.versions is not None
    twin = next(at for at in range(index - 1, -1, -1) if books.versions.stands[at])
    return (
        f"{write_named(books, twin)} and {write_named(books, index)} both wrote version {writes.wrote[index]} of "
        f"{row_named(books, int(writes.row[index]))}, and both are in the tables"
    )


def _undone(books: Books) -> list[Group]:
    """Cancellations and releases that left no trace although acknowledged, or that left only half of one."""
    orders, releases, asked = books.final.orders, books.final.releases, books.asked
    assert orders is not None and releases is not None
    groups: list[Group] = []
    for kind, state in ((Kind.CANCEL, State.CANCELLED), (Kind.RELEASE, State.RELEASED)):
        begun = np.flatnonzero(asked.may_have_happened(kind) & (orders.row_of >= 0))
        moved, entered = orders.state[orders.row_of[begun]] == state, releases.by_kind[kind][begun]
        half = (moved != entered) & ~_moved_on(orders, begun, state)
        done = asked.fates[kind][begun] == Fate.DONE
        groups.append((begun[np.where(done, ~(moved & entered), half)], _undone_named(books, kind)))
    return groups


def _moved_on(orders: Orders, who: NDArray[np.int64], state: State) -> NDArray[np.bool_]:
    """Whether each order is in another state that an op leaves it in: then this one's row in releases is a ghost."""
    now = orders.state[orders.row_of[who]]
    return np.asarray((now != State.RESERVED) & (now != state))


def _undone_named(books: Books, kind: Kind) -> Callable[[int], str]:
    def describe(at: int) -> str:
        orders, releases = books.final.orders, books.final.releases
        assert orders is not None and releases is not None
        state = int(orders.state[orders.row_of[at]])
        name = State(state).name.lower() if 0 <= state < len(State) else f"in state {state}"
        row = "its row in releases is there" if releases.by_kind[kind][at] else "its row in releases is gone"
        told = ending_named(books, at, kind)
        return f"the {kind.name.lower()} of {order_named(books, at)} was {told}, and at the end it is {name}, and {row}"

    return describe


def _overtaken(books: Books, versions: Versions, index: int) -> str:
    writes, stock = books.writes, books.final.stock
    row = int(writes.row[index])
    gone = stock is not None and stock.gone[row]
    ends = "whose row is gone" if gone else f"which ends at version {versions.final[row]}"
    return f"{write_named(books, index)} wrote version {writes.wrote[index]} of {row_named(books, row)}, {ends}"


def _nowhere(books: Books, index: int) -> str:
    row = int(books.astray.row[index])
    return f"{write_named(books, index, books.astray)} found no row of {row_named(books, row)} in stock to write to"


def _beyond(books: Books, index: int) -> str:
    astray = books.astray
    read = f"read version {astray.read[index]} and " if astray.read[index] != -1 else ""
    return (
        f"{write_named(books, index, astray)} {read}wrote version {astray.wrote[index]} of "
        f"{row_named(books, int(astray.row[index]))}, which no count of writes reaches: another client set it"
    )


def _phantom(books: Books, versions: Versions, sku: int) -> str:
    plan, writes = books.plan, books.writes
    rows = np.arange(sku * plan.buckets, (sku + 1) * plan.buckets)
    row = int(rows[np.argmax((versions.unheard - versions.open_writes)[rows])])
    first, last = np.searchsorted(writes.row, [row, row + 1])
    known = writes.wrote[first:last]
    missing = _absent(known[known <= versions.final[row]], int(versions.final[row]))
    named = ", ".join(map(str, missing[:MOST_NAMED])) + (", …" if len(missing) > MOST_NAMED else "")
    explained = int(versions.open_writes[row] + versions.open_orders[sku])
    return (
        f"{row_named(books, row)} ends at version {versions.final[row]}, and {versions.unheard[row]} versions "
        f"({named}) have no acknowledged writer; {explained} info ops in the tables can each account for one"
    )


def _absent(known: NDArray[np.int64], final: int) -> list[int]:
    """The first MOST_NAMED + 1 of 1 .. final that are not in ``known``."""
    bounds = np.concatenate(([0], np.unique(known), [final + 1]))
    absent: list[int] = []
    for at in np.flatnonzero(np.diff(bounds) > 1)[: MOST_NAMED + 1].tolist():
        absent += range(int(bounds[at]) + 1, min(int(bounds[at + 1]), int(bounds[at]) + MOST_NAMED + 2))
    return absent[: MOST_NAMED + 1]


def _reversed(books: Books, earlier: int, late: int) -> str:
    writes = books.writes
    return (
        f"{write_named(books, earlier)} ended before {write_named(books, late)} was sent, and yet it wrote version "
        f"{writes.wrote[earlier]} of {row_named(books, int(writes.row[late]))}, and the other {writes.wrote[late]}"
    )
