"""Large histories of a correct store, made at once in numpy: what the benchmarks of the judge read.

Transactions commit in the order of their numbers. Under ``serializable`` each reads what was committed before it;
under ``snapshot-isolation`` what was committed before some earlier moment, unless one of the keys that it writes was
written since (then a real store would have aborted it, and it is made to read the newest).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.formats.streams import TransactionWriter
from loadgen.isolation.transactions import INITIAL, READ, WRITE, HistoryKind, Ints

RETIRES = 100
"""After so many appends a list is left alone and a new key takes its place."""
_STEP_NS = 10_000
_WINDOW = 20
"""How many commits before its own a transaction may have begun, and after it may have been answered."""
_BATCH = 50_000
_STALE = 500
"""How many versions an injected stale read is behind: far enough that its session saw later ones."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """What to make."""

    kind: HistoryKind
    transactions: int
    operations: int = 5
    sessions: int = 50
    keys: int = 10_000
    skew: float = 0.99
    snapshots: bool = False
    """Whether transactions read old snapshots (snapshot isolation) rather than the newest state (serializable)."""
    seed: int = 1


def write_bulk(path: Path, bulk: Bulk, *, stale_at: int = -1) -> None:
    """Write the history to ``path``. From ``stale_at`` on the first fit read is made stale: an injected anomaly."""
    rng = np.random.default_rng(bulk.seed)
    n, per = bulk.transactions, bulk.operations
    slot = _zipf(rng, bulk.keys, bulk.skew, n * per)
    act = (rng.random(n * per) < 0.5).astype(np.uint8)
    txn = np.repeat(np.arange(n), per)
    _, key, rank = _versions(bulk, rng, slot, act, txn)
    value = np.where(act == WRITE, np.arange(n * per), INITIAL)
    if stale_at >= 0:
        _make_stale(stale_at, slot, act, txn, rank)
    order = np.lexsort((np.arange(n * per), key))
    writes = order[act[order] == WRITE]
    # The place of each key's r-th write among all writes sorted by key: its first place, and r - 1 more.
    first = np.searchsorted(key[writes], np.arange(int(key.max()) + 2))
    reads = np.flatnonzero((act == READ) & (rank > 0))
    seen = writes[first[key[reads]] + rank[reads] - 1]
    length = np.zeros(n * per, np.int64)
    tail = np.zeros(n * per, np.int64)
    tails = np.zeros(0, np.int64)
    if bulk.kind == HistoryKind.VERSIONED:
        value = rank
    else:
        value[reads] = value[seen]
    if bulk.kind == HistoryKind.LIST_APPEND:
        length[act == READ] = rank[act == READ]
        tail[reads] = _new_elements(key[reads], rank[reads])
        begin = first[key[reads]] + rank[reads] - tail[reads]
        places = np.repeat(begin - (np.cumsum(tail[reads]) - tail[reads]), tail[reads]) + np.arange(int(tail.sum()))
        tails = value[writes[places]]
    _write(path, bulk, rng, {"act": act, "key": key, "value": value, "length": length, "tail": tail}, tails)


def _zipf(rng: np.random.Generator, keys: int, skew: float, count: int) -> Ints:
    weights = 1 / np.arange(1, keys + 1) ** skew
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(count)).astype(np.int64)


def _versions(
    bulk: Bulk, rng: np.random.Generator, slot: Ints, act: NDArray[np.uint8], txn: Ints
) -> tuple[Ints, Ints, Ints]:
    """How many writes of its slot each operation has before it, its key, and the rank that it wrote or saw."""
    size = len(slot)
    order = np.argsort(slot, kind="stable")
    ranked = slot[order]
    wrote = (act[order] == WRITE).astype(np.int64)
    before = np.cumsum(wrote) - wrote
    base = np.searchsorted(ranked, ranked)
    count = np.empty(size, np.int64)
    count[order] = before - before[base]
    shown = count.copy()
    if bulk.snapshots:
        _see_snapshots(bulk, rng, slot, act, txn, count, shown)
    retired = count // RETIRES if bulk.kind == HistoryKind.LIST_APPEND else np.zeros(size, np.int64)
    key = slot + bulk.keys * retired
    start = retired * RETIRES
    return count, key, np.where(act == WRITE, count - start + 1, np.maximum(0, shown - start))


def _see_snapshots(
    bulk: Bulk, rng: np.random.Generator, slot: Ints, act: NDArray[np.uint8], txn: Ints, count: Ints, shown: Ints
) -> None:
    n = bulk.transactions
    since = np.maximum(0, np.arange(n) - rng.integers(0, _WINDOW, n))
    writes = np.flatnonzero(act == WRITE)
    packed = np.sort(slot[writes] * (n + 1) + txn[writes])
    upto = np.searchsorted(packed, slot * (n + 1) + since[txn])
    own = np.searchsorted(packed, slot * (n + 1) + txn)
    missed = own - upto
    conflict = np.bincount(txn, weights=(missed > 0) & (act == WRITE), minlength=n) > 0
    reads = (act == READ) & ~conflict[txn]
    shown[reads] = count[reads] - missed[reads]


def _make_stale(stale_at: int, slot: Ints, act: NDArray[np.uint8], txn: Ints, rank: Ints) -> None:
    """One read misses the write before it, by a transaction from whose other writes the same reader reads on."""
    last = np.full(int(slot.max()) + 1, -1, np.int64)
    for place in range(len(slot)):
        if act[place] == WRITE:
            last[slot[place]] = txn[place]
        elif txn[place] >= stale_at and rank[place] > 1 and last[slot[place]] not in (-1, txn[place]):
            mine = slice(int(np.searchsorted(txn, txn[place])), int(np.searchsorted(txn, txn[place], side="right")))
            if WRITE not in act[mine][slot[mine] == slot[place]] and (act[mine] == WRITE).any():
                rank[place] -= min(int(rank[place]) - 1, _STALE)
                return
    raise ValueError("no read was fit to be made stale")


def _new_elements(key: Ints, rank: Ints) -> Ints:
    """How many of the elements that each read saw no read before it in the stream had seen."""
    order = np.argsort(key, kind="stable")
    width = int(rank.max(initial=0)) + 1
    high = np.maximum.accumulate(key[order] * width + rank[order])
    before = np.concatenate(([-1], high[:-1]))
    known = np.where(before >= key[order] * width, before - key[order] * width, 0)
    new = np.empty(len(key), np.int64)
    new[order] = np.maximum(0, rank[order] - known)
    return new


def _write(path: Path, bulk: Bulk, rng: np.random.Generator, mops: dict[str, NDArray[Any]], tails: Ints) -> None:
    n, per = bulk.transactions, bulk.operations
    at = np.arange(n) * _STEP_NS
    spread = _WINDOW * _STEP_NS
    rows = {
        "session": np.arange(n) % bulk.sessions,
        "invoked": at - rng.integers(1, spread // 4, n) - (spread if bulk.snapshots else 0),
        "completed": at + rng.integers(1, spread, n),
        "outcome": np.zeros(n, np.uint8),
        "label": np.arange(n),
    }
    tail_counts = mops["tail"].reshape(n, per).sum(axis=1)
    ends = np.concatenate(([0], np.cumsum(tail_counts)))
    with TransactionWriter(path, bulk.kind) as writer:
        for start in range(0, n, _BATCH):
            stop = min(n, start + _BATCH)
            writer.columns(
                {name: column[start:stop] for name, column in rows.items()},
                np.full(stop - start, per),
                {name: column[start * per : stop * per] for name, column in mops.items()},
                tail_counts[start:stop],
                tails[ends[start] : ends[stop]],
            )
