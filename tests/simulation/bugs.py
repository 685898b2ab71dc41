"""Seeded bugs: what a broken database may do, each played once amid correct load, with the names it must be found by.

Every bug is a function that drives the store through the schedule in which the bug shows; ``Bug.names`` holds the
anomalies of which at least one must be reported, ``Bug.breaks`` a model that must be found invalid.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loadgen.isolation.transactions import HistoryKind
from loadgen.op import Outcome
from tests.simulation.stores import Level, Store

_X, _Y = 100, 101
"""Keys of the scenario itself, which the random load does not touch."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A seeded bug."""

    name: str
    kind: HistoryKind
    breaks: str
    names: frozenset[str]
    play: Callable[[Store], None]


def simulate(bug: Bug, seed: int) -> Store:
    """A run of a strictly serializable store that has the bug: load, the bug, load, and final reads."""
    store = Store(Level.SERIALIZABLE, bug.kind, seed)
    store.run(10 + seed % 7)
    bug.play(store)
    store.run(10 + seed % 5)
    store.final_reads()
    return store


def _base(store: Store) -> None:
    """Something in both keys, so that a bug does not meet the initial state."""
    txn = store.begin()
    store.write(txn, _X)
    store.write(txn, _Y)
    store.commit(txn)


def _lost_acknowledgement(store: Store) -> None:
    txn = store.begin()
    store.write(txn, _X)
    store.commit(txn, report=Outcome.FAIL)


def _lost_write(store: Store) -> None:
    _base(store)
    txn = store.begin()
    store.write(txn, _X)
    store.commit(txn, apply=False)


def _lost_after_read(store: Store) -> None:
    _base(store)
    before = store.state[_X]
    _write_one(store, _X)
    _read_one(store, _X)
    store.state[_X] = before


def _double_apply(store: Store) -> None:
    txn = store.begin()
    store.write(txn, _X)
    store.commit(txn)
    store.apply(txn)


def _dirty_read(store: Store) -> None:
    writer, reader = store.begin(), store.begin()
    store.write(writer, _X)
    store.read(reader, _X, {_X: store.after(writer, _X, store.state.get(_X))})
    store.end(writer, Outcome.FAIL)
    store.commit(reader)


def _intermediate_read(store: Store) -> None:
    writer, reader = store.begin(), store.begin()
    store.write(writer, _X)
    store.read(reader, _X, {_X: store.after(writer, _X, store.state.get(_X))})
    store.write(writer, _X)
    store.commit(writer)
    store.commit(reader, check=False)


def _non_repeatable_read(store: Store) -> None:
    _base(store)
    reader = store.begin()
    store.read(reader, _X)
    _write_one(store, _X)
    store.read(reader, _X, store.state)
    store.commit(reader, check=False)


def _own_write_not_seen(store: Store) -> None:
    _base(store)
    txn = store.begin()
    before = store.state[_X]
    store.write(txn, _X)
    store.answer(txn, _X, before)
    store.commit(txn)


def _read_skew(store: Store) -> None:
    _base(store)
    reader = store.begin()
    store.read(reader, _X)
    writer = store.begin()
    store.write(writer, _X)
    store.write(writer, _Y)
    store.commit(writer)
    store.read(reader, _Y, store.state)
    store.commit(reader, check=False)


def _write_skew(store: Store) -> None:
    _base(store)
    one, two = store.begin(), store.begin()
    for txn in (one, two):
        store.read(txn, _X)
        store.read(txn, _Y)
    store.write(one, _X)
    store.write(two, _Y)
    store.commit(one)
    store.commit(two, check=False)


def _long_fork(store: Store) -> None:
    _base(store)
    before = dict(store.state)
    _write_one(store, _X)
    middle = dict(store.state)
    _write_one(store, _Y)
    for view in ({_X: middle[_X], _Y: before[_Y]}, {_X: before[_X], _Y: store.state[_Y]}):
        reader = store.begin()
        store.read(reader, _X, view)
        store.read(reader, _Y, view)
        store.commit(reader)


def _stale_replica(store: Store) -> None:
    _base(store)
    before = dict(store.state)
    _write_one(store, _X)
    _read_one(store, _X, before)


def _lost_update(store: Store) -> None:
    _base(store)
    one, two = store.begin(), store.begin()
    store.read(one, _X)
    store.read(two, _X)
    store.write(one, _X)
    store.write(two, _X)
    store.commit(one)
    store.state[_X] = two.snapshot[_X]
    store.commit(two, check=False)


def _dirty_write(store: Store) -> None:
    _base(store)
    one, two = store.begin(), store.begin()
    for txn in (one, two):
        store.write(txn, _X)
        store.write(txn, _Y)
    store.apply(one, {_X})
    store.apply(two, {_X, _Y})
    store.apply(one, {_Y})
    store.commit(one, check=False, apply=False)
    store.commit(two, check=False, apply=False)


def _circular_reads(store: Store) -> None:
    _base(store)
    one, two = store.begin(), store.begin()
    store.write(one, _X)
    store.write(two, _Y)
    store.read(one, _Y, {_Y: store.after(two, _Y, store.state[_Y])})
    store.read(two, _X, {_X: store.after(one, _X, store.state[_X])})
    store.commit(one, check=False)
    store.commit(two, check=False)


def _reordered_commits(store: Store) -> None:
    _base(store)
    _write_one(store, _X)
    _write_one(store, _X)
    _read_one(store, _X)
    *rest, last, newest = store.state[_X]
    store.state[_X] = (*rest, newest, last)


def _scrambled_read(store: Store) -> None:
    _base(store)
    _write_one(store, _X)
    reader = store.begin()
    store.answer(reader, _X, tuple(reversed(store.state[_X])))
    store.commit(reader)


def _partial_commit(store: Store) -> None:
    _base(store)
    txn = store.begin()
    store.write(txn, _X)
    store.write(txn, _Y)
    store.apply(txn, {_X})
    store.commit(txn, check=False, apply=False)


def _aborted_write_stays(store: Store) -> None:
    _base(store)
    txn = store.begin()
    store.write(txn, _X)
    store.apply(txn)
    store.end(txn, Outcome.FAIL)
    _write_one(store, _X)


def _resurrected_value(store: Store) -> None:
    _base(store)
    before = store.state[_X]
    _write_one(store, _X)
    store.state[_X] = before


def _garbage(store: Store) -> None:
    _base(store)
    reader = store.begin()
    value = store.state[_X]
    store.answer(reader, _X, (*value, 999_999) if isinstance(value, tuple) else 999_999)
    store.commit(reader)


def _row_twice(store: Store) -> None:
    _base(store)
    reader = store.begin()
    store.answer(reader, _X, (*store.state[_X], store.state[_X][-1]))
    store.commit(reader)


def _future_read(store: Store) -> None:
    _base(store)
    txn = store.begin()
    coming = store._value + 1
    store.answer(txn, _X, (*store.state[_X], coming) if store.kind == HistoryKind.LIST_APPEND else coming)
    store.write(txn, _X)
    store.commit(txn)


def _own_session_write_missed(store: Store) -> None:
    _base(store)
    before = dict(store.state)
    session = _write_one(store, _X)
    _read_one(store, _X, before, session)


def _monotonic_reads(store: Store) -> None:
    _base(store)
    before = dict(store.state)
    writer = store.begin()
    store.write(writer, _X)
    store.commit(writer)
    first = store.begin(10_000)
    store.read(first, _X)
    store.commit(first)
    _read_one(store, _X, before, 10_000)


def _causality(store: Store) -> None:
    _base(store)
    before = dict(store.state)
    _read_and_write(store, _X, _X)
    _read_and_write(store, _X, _Y)
    reader = store.begin()
    store.read(reader, _Y)
    store.read(reader, _X, before)
    store.commit(reader)


def _fractured_read(store: Store) -> None:
    _base(store)
    before = dict(store.state)
    writer = store.begin()
    store.read(writer, _Y)
    store.write(writer, _X)
    store.write(writer, _Y)
    store.commit(writer)
    reader = store.begin()
    store.read(reader, _X)
    store.read(reader, _Y, before)
    store.commit(reader)


def _version_given_twice(store: Store) -> None:
    _base(store)
    before = store.state[_X]
    _write_one(store, _X)
    store.state[_X] = before
    _write_one(store, _X)


def _write_one(store: Store, key: int) -> int:
    txn = store.begin()
    store.write(txn, key)
    store.commit(txn)
    return txn.session


def _read_and_write(store: Store, read: int, write: int) -> None:
    txn = store.begin()
    store.read(txn, read)
    store.write(txn, write)
    store.commit(txn)


def _read_one(store: Store, key: int, view: dict[int, object] | None = None, session: int | None = None) -> None:
    txn = store.begin(session)
    store.read(txn, key, view)
    store.commit(txn)


_LIST, _REGISTER, _VERSIONED = HistoryKind.LIST_APPEND, HistoryKind.REGISTER, HistoryKind.VERSIONED
_STALE = ("G-single-realtime",)
_TABLE: tuple[tuple[str, HistoryKind, str, tuple[str, ...], Callable[[Store], None]], ...] = (
    ("lost acknowledgement", _LIST, "read-committed", ("G1a",), _lost_acknowledgement),
    ("lost write after acknowledgement", _LIST, "strict-serializable", _STALE, _lost_write),
    ("lost write after it was read", _LIST, "strict-serializable", (*_STALE, "incompatible-order"), _lost_after_read),
    ("double apply on retry", _LIST, "read-committed", ("duplicate-elements",), _double_apply),
    ("dirty read", _LIST, "read-committed", ("G1a",), _dirty_read),
    ("intermediate read", _LIST, "read-committed", ("G1b",), _intermediate_read),
    ("non-repeatable read", _LIST, "serializable", ("internal",), _non_repeatable_read),
    ("own write not seen", _LIST, "read-atomic", ("internal",), _own_write_not_seen),
    ("read skew", _LIST, "snapshot-isolation", ("G-single",), _read_skew),
    ("write skew", _LIST, "serializable", ("G2-item",), _write_skew),
    ("long fork", _LIST, "snapshot-isolation", ("G-nonadjacent",), _long_fork),
    ("stale replica", _LIST, "strict-serializable", _STALE, _stale_replica),
    ("lost update", _LIST, "snapshot-isolation", ("lost-update",), _lost_update),
    ("dirty write", _LIST, "read-uncommitted", ("G0",), _dirty_write),
    ("circular reads", _LIST, "read-committed", ("G1c",), _circular_reads),
    ("re-ordered commits", _LIST, "read-committed", ("incompatible-order",), _reordered_commits),
    ("scrambled read", _LIST, "read-committed", ("incompatible-order",), _scrambled_read),
    ("partial commit", _LIST, "snapshot-isolation", ("G-single",), _partial_commit),
    ("aborted write visible", _LIST, "read-committed", ("G1a",), _aborted_write_stays),
    ("write on top of an aborted one", _LIST, "read-committed", ("dirty-update",), _aborted_write_stays),
    ("garbage read", _LIST, "read-committed", ("garbage-read",), _garbage),
    ("wrong row count", _LIST, "read-committed", ("duplicate-elements",), _row_twice),
    ("future read", _LIST, "read-committed", ("future-read",), _future_read),
    ("own session's write missed", _LIST, "read-atomic", ("G-single-process",), _own_session_write_missed),
    ("monotonic reads broken", _LIST, "causal", ("G-single-process",), _monotonic_reads),
    ("causality broken", _LIST, "causal", ("G-single",), _causality),
    ("fractured read", _LIST, "read-atomic", ("G-single",), _fractured_read),
    ("dirty read of a register", _REGISTER, "read-committed", ("G1a",), _dirty_read),
    ("intermediate read of a register", _REGISTER, "read-committed", ("G1b",), _intermediate_read),
    ("lost update of a register", _REGISTER, "snapshot-isolation", ("lost-update",), _lost_update),
    ("circular reads of registers", _REGISTER, "read-committed", ("G1c",), _circular_reads),
    ("garbage in a register", _REGISTER, "read-committed", ("garbage-read",), _garbage),
    ("future read of a register", _REGISTER, "read-committed", ("future-read",), _future_read),
    ("fractured read of registers", _REGISTER, "read-atomic", ("G-single", "G-single-process"), _fractured_read),
    ("causality broken, registers", _REGISTER, "causal", ("G-single", "G-single-process"), _causality),
    (
        "resurrected cancel",
        _REGISTER,
        "strict-serializable",
        ("G-single-realtime", "G2-item-realtime"),
        _resurrected_value,
    ),
    ("version given twice", _VERSIONED, "snapshot-isolation", ("lost-update",), _version_given_twice),
    ("stale read of a version", _VERSIONED, "strict-serializable", _STALE, _stale_replica),
    ("write skew on versions", _VERSIONED, "serializable", ("G2-item",), _write_skew),
    ("read skew on versions", _VERSIONED, "snapshot-isolation", ("G-single",), _read_skew),
    ("version that nobody wrote", _VERSIONED, "read-committed", ("garbage-read",), _garbage),
)

BUGS = tuple(Bug(name, kind, breaks, frozenset(names), play) for name, kind, breaks, names, play in _TABLE)
