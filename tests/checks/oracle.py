"""Judges of tiny histories that try every order: slow, and too simple to be wrong in the way the checker could be.

A transaction is ``Txn(session, invoked, completed, outcome, mops)``, a micro-operation ``(verb, key, value)`` with the
verbs ``append``, ``w`` and ``r``; a list read's value is a tuple, an unread register's None.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from loadgen.formats.build import Builder, Mop
from loadgen.isolation.transactions import READ, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome

Mops = tuple[tuple[str, Any, Any], ...]


class Txn(NamedTuple):
    """One transaction of a tiny history."""

    session: int
    invoked: int
    completed: int
    outcome: Outcome
    mops: Mops


def to_transactions(history: Sequence[Txn], *, lists: bool) -> Transactions:
    """The history as the checker takes it."""
    builder = Builder(HistoryKind.LIST_APPEND if lists else HistoryKind.REGISTER)
    for label, txn in enumerate(history):
        mops = [
            Mop(READ, key, list(value) if lists and value is not None else value)
            if verb == "r"
            else Mop(WRITE, key, value, verb == "append")
            for verb, key, value in txn.mops
        ]
        builder.add(txn.session, txn.invoked, txn.completed, txn.outcome, label, mops)
    return builder.build()


def committed(history: Sequence[Txn]) -> list[int]:
    """The transactions that count: ok ones, and unsure ones of which one that counts saw a write."""
    chosen = {place for place, txn in enumerate(history) if txn.outcome == Outcome.OK}
    while True:
        seen = set()
        for place in chosen:
            for verb, key, value in history[place].mops:
                if verb == "r" and value is not None:
                    seen |= {(key, each) for each in value} if isinstance(value, tuple) else {(key, value)}
        more = {
            place
            for place, txn in enumerate(history)
            if txn.outcome == Outcome.INFO
            and any(verb != "r" and (key, value) in seen for verb, key, value in txn.mops)
        }
        if more <= chosen:
            return sorted(chosen)
        chosen |= more


def run(state: dict[Any, Any], mops: Mops, known: bool) -> bool:
    """Apply a transaction to ``state``; false if a read of it would have been answered otherwise."""
    for verb, key, value in mops:
        if verb == "append":
            state[key] = (*state.get(key, ()), value)
        elif verb == "w":
            state[key] = value
        elif known or value is not None:
            have = state.get(key)
            if (have or None) != (value or None):
                return False
    return True


def before(history: Sequence[Txn], order: str, one: int, two: int) -> bool:
    """Whether ``one`` comes before ``two`` in session order (and real time)."""
    a, b = history[one], history[two]
    if order and a.outcome == Outcome.OK and a.session == b.session and a.session >= 0 and one < two:
        return True
    return order == "realtime" and a.outcome == Outcome.OK and a.completed < b.invoked


def serializable(history: Sequence[Txn], order: str = "") -> bool:
    """Whether some order of the transactions, one after another, gives every answer."""
    live = committed(history)
    for sequence in itertools.permutations(live):
        if any(before(history, order, b, a) for a, b in itertools.combinations(sequence, 2)):
            continue
        state: dict[Any, Any] = {}
        if all(run(state, history[txn].mops, history[txn].outcome == Outcome.OK) for txn in sequence):
            return True
    return False


def snapshot_isolated(history: Sequence[Txn], order: str = "") -> bool:
    """Whether some order of begins and commits gives every answer, no two writers of a key side by side."""
    live = committed(history)
    return _snapshots(history, order, live, [], [], {}, {})


def _snapshots(
    history: Sequence[Txn],
    order: str,
    live: Sequence[int],
    begun: list[int],
    done: list[int],
    state: dict[Any, Any],
    snapshots: dict[int, tuple[int, dict[Any, Any]]],
) -> bool:
    if len(done) == len(live):
        return True
    for txn in live:
        if txn not in begun and all(
            other in done for other in live if other != txn and before(history, order, other, txn)
        ):
            view = dict(state)
            if run(view, history[txn].mops, history[txn].outcome == Outcome.OK) and _snapshots(
                history, order, live, [*begun, txn], done, state, {**snapshots, txn: (len(done), dict(state))}
            ):
                return True
        elif txn in begun and txn not in done:
            since, view = snapshots[txn]
            writes = {key for verb, key, _ in history[txn].mops if verb != "r"}
            rivals = {key for other in done[since:] for verb, key, _ in history[other].mops if verb != "r"}
            if not writes & rivals:
                after = dict(view)
                run(after, history[txn].mops, False)
                new = {**state, **{key: after[key] for key in writes}}
                if _snapshots(history, order, live, begun, [*done, txn], new, snapshots):
                    return True
    return False


class Dsg(NamedTuple):
    """Edges of one choice of version orders, by kind."""

    ww: set[tuple[int, int]]
    wr: set[tuple[int, int]]
    rw: set[tuple[int, int]]


def dirty(history: Sequence[Txn]) -> bool:
    """Whether an ok transaction read what failed, was not final, or was never written, or a broken list."""
    wrote: dict[tuple[Any, Any], tuple[int, bool]] = {}
    for place, txn in enumerate(history):
        last = {key: value for verb, key, value in txn.mops if verb != "r"}
        for verb, key, value in txn.mops:
            if verb != "r":
                wrote[key, value] = (place, last[key] == value)
    for place, txn in enumerate(history):
        if txn.outcome != Outcome.OK:
            continue
        own: set[tuple[Any, Any]] = set()
        for verb, key, value in txn.mops:
            if verb != "r":
                own.add((key, value))
                continue
            seen = value if isinstance(value, tuple) else () if value is None else (value,)
            if len(set(seen)) < len(seen):
                return True
            for each in seen:
                if (key, each) not in wrote or history[wrote[key, each][0]].outcome == Outcome.FAIL:
                    return True
                if wrote[key, each][0] == place and (key, each) not in own:
                    return True
            if seen and wrote[key, seen[-1]][0] != place and not wrote[key, seen[-1]][1]:
                return True
    return False


def internal(history: Sequence[Txn]) -> bool:
    """Whether an ok transaction's read disagrees with what it did before."""
    for txn in history:
        if txn.outcome != Outcome.OK:
            continue
        whole: dict[Any, Any] = {}
        tail: dict[Any, tuple[Any, ...]] = {}
        for verb, key, value in txn.mops:
            if verb == "w":
                whole[key] = value
            elif verb == "append":
                if key in whole:
                    whole[key] = (*whole[key], value)
                else:
                    tail[key] = (*tail.get(key, ()), value)
            else:
                seen = (value or ()) if isinstance(value, tuple) else value
                if key in whole and whole[key] != seen:
                    return True
                if key in tail and tuple(seen[-len(tail[key]) :]) != tail[key]:
                    return True
                whole[key] = seen
                tail.pop(key, None)
    return False


def version_orders(history: Sequence[Txn], live: Sequence[int]) -> Iterator[dict[Any, list[tuple[Any, int]]]]:
    """Every choice of an order of versions (value, writer) of each key that list reads allow."""
    wrote: dict[Any, list[tuple[Any, int]]] = {}
    for txn in live:
        for verb, key, value in history[txn].mops:
            if verb != "r":
                wrote.setdefault(key, []).append((value, txn))
    reads: dict[Any, list[tuple[Any, ...]]] = {}
    for txn in live:
        for verb, key, value in history[txn].mops:
            if verb == "r" and isinstance(value, tuple):
                reads.setdefault(key, []).append(value)
    choices = []
    for key, versions in wrote.items():
        good = []
        for order in itertools.permutations(versions):
            values = tuple(value for value, _ in order)
            in_turn = all(
                order.index((a, txn)) < order.index((b, txn))
                for txn in {writer for _, writer in order}
                for a, b in itertools.pairwise([value for value, writer in versions if writer == txn])
            )
            if in_turn and all(values[: len(seen)] == seen for seen in reads.get(key, ())):
                good.append(list(order))
        choices.append([(key, each) for each in good])
    for combination in itertools.product(*choices):
        yield dict(combination)


def graph(history: Sequence[Txn], live: Sequence[int], orders: dict[Any, list[tuple[Any, int]]]) -> Dsg:
    """The direct serialization graph of one choice of version orders."""
    made = Dsg(set(), set(), set())
    for order in orders.values():
        made.ww.update((a, b) for (_, a), (_, b) in itertools.combinations(order, 2) if a != b)
    for txn in live:
        for verb, key, value in history[txn].mops:
            if verb != "r" or (value is None and history[txn].outcome != Outcome.OK):
                continue
            order = orders.get(key, [])
            last = value[-1] if isinstance(value, tuple) and value else None if isinstance(value, tuple) else value
            place = next((at for at, (each, _) in enumerate(order) if each == last), -1) if last is not None else -1
            if place >= 0 and order[place][1] != txn:
                made.wr.add((order[place][1], txn))
            made.rw.update((txn, writer) for _, writer in order[place + 1 :] if writer != txn)
    return made


def acyclic(edges: set[tuple[int, int]]) -> bool:
    """Whether the edges have no cycle."""
    left = set(edges)
    while left:
        sources = {a for a, _ in left} - {b for _, b in left}
        if not sources:
            return False
        left = {(a, b) for a, b in left if a not in sources}
    return True


def _extra(history: Sequence[Txn], live: Sequence[int], order: str) -> set[tuple[int, int]]:
    return {(a, b) for a, b in itertools.permutations(live, 2) if before(history, order, a, b)}


def by_graph(history: Sequence[Txn], order: str, judge: Callable[[Dsg], set[tuple[int, int]]]) -> bool:
    """Whether for some version order the edges that ``judge`` picks have no cycle."""
    live = committed(history)
    extra = _extra(history, live, order)
    return any(acyclic(judge(graph(history, live, orders)) | extra) for orders in version_orders(history, live))


def read_committed(history: Sequence[Txn], order: str = "") -> bool:
    """PL-2."""
    return not dirty(history) and by_graph(history, order, lambda dsg: dsg.ww | dsg.wr)


def repeatable_read(history: Sequence[Txn], order: str = "") -> bool:
    """PL-2.99 on items."""
    return not dirty(history) and by_graph(history, order, lambda dsg: dsg.ww | dsg.wr | dsg.rw)


def visible_model(history: Sequence[Txn], *, causal: bool) -> bool:
    """Biswas and Enea's axioms, read literally, over every total order of the transactions."""
    if dirty(history) or internal(history):
        return False
    live = committed(history)
    so = _extra(history, live, "process")
    source: dict[tuple[int, Any], int | None] = {}
    writes: dict[Any, set[int]] = {}
    wrote: dict[tuple[Any, Any], int] = {}
    lists: dict[Any, list[tuple[Any, ...]]] = {}
    for txn in live:
        for verb, key, value in history[txn].mops:
            if verb != "r":
                writes.setdefault(key, set()).add(txn)
                wrote[key, value] = txn
    for txn in live:
        own: set[Any] = set()
        for verb, key, value in history[txn].mops:
            if verb != "r":
                own.add(key)
                continue
            if value is None and history[txn].outcome != Outcome.OK:
                continue
            if isinstance(value, tuple):
                lists.setdefault(key, []).append(value)
            if isinstance(value, tuple):
                # What it appended itself stands last; before that stands what it read of others.
                foreign = [each for each in value if wrote[key, each] != txn]
                last = foreign[-1] if foreign else None
            else:
                last = value
            if (key not in own or isinstance(value, tuple)) and (txn, key) not in source:
                source[txn, key] = None if last is None else wrote[key, last]
    wr = {(writer, txn) for (txn, _), writer in source.items() if writer is not None}
    visible = so | wr
    if causal:
        while True:
            more = {(a, d) for a, b in visible for c, d in visible if b == c} - visible
            if not more:
                break
            visible |= more
    for sequence in itertools.permutations(live):
        place = {txn: at for at, txn in enumerate(sequence)}
        if any(place[a] >= place[b] for a, b in so | wr):
            continue
        if not _lists_fit(history, sequence, lists):
            continue
        if all(
            writer is not None and place[other] < place[writer]
            for (txn, key), writer in source.items()
            for other in writes.get(key, ())
            if other != writer and (other, txn) in visible
        ):
            return True
    return False


def _lists_fit(history: Sequence[Txn], sequence: Sequence[int], lists: dict[Any, list[tuple[Any, ...]]]) -> bool:
    """Whether every list read is a start of what the sequence appends."""
    for key, reads in lists.items():
        whole = tuple(
            value for txn in sequence for verb, each, value in history[txn].mops if verb == "append" and each == key
        )
        if any(whole[: len(seen)] != seen for seen in reads):
            return False
    return True


ORACLES: dict[str, Callable[[Sequence[Txn]], bool]] = {
    "read-committed": read_committed,
    "strong-session-read-committed": lambda history: read_committed(history, "process"),
    "read-atomic": lambda history: visible_model(history, causal=False),
    "causal": lambda history: visible_model(history, causal=True),
    "repeatable-read": repeatable_read,
    "strong-session-repeatable-read": lambda history: repeatable_read(history, "process"),
    "snapshot-isolation": snapshot_isolated,
    "strong-session-snapshot-isolation": lambda history: snapshot_isolated(history, "process"),
    "strong-snapshot-isolation": lambda history: snapshot_isolated(history, "realtime"),
    "serializable": serializable,
    "strong-session-serializable": lambda history: serializable(history, "process"),
    "strict-serializable": lambda history: serializable(history, "realtime"),
}
"""Whether a history keeps each model."""
