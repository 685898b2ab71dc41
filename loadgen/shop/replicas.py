"""Browses on replicas: how stale they were, and whether a session missed what it had written or seen itself.

A replica that applies commits asynchronously is documented to lag, so nothing here is a violation. It is measured from
the versions in the history. On the writable node these reads are judged by the engine's model instead.

Three things that replicas do not change, so that the sale's other checks hold beside these reads:

- A replica shows each transaction whole or not at all. PostgreSQL's standby makes a transaction visible by its commit
  record, a MySQL applier runs it as one transaction again, seekdb's standby reads at one commit version. And whoever
  wrote a row's version x comes after whoever wrote the versions before, in every order of applying, parallel appliers
  included, for they wrote the same row. That is all that fractured-read assumes.
- The order of writes, and their real time, is that of the writable node; no browse takes part in it.
- What is *not* promised is one order of visibility on all nodes. PostgreSQL's primary shows commits in the order in
  which their backends say that they are done, its standbys in the order of the commit records; a reader on each may see
  two of them swapped, which to snapshot isolation is a long fork. A level is documented for one node, so these reads
  are left out where a run is judged by it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS
from loadgen.op import replica_of
from loadgen.percentiles import percentiles
from loadgen.shop.books import Books, row_named, time_named, write_named
from loadgen.shop.writes import MOST_VERSION, acknowledged_first, write_key

Numbers = NDArray[np.int64]
NOBODY = -1


@dataclass(frozen=True, slots=True)
class _Found:
    """By look at a row (in the order of Books.looks): what should have been seen and was not."""

    newer: Numbers
    """Of the larger versions, the write that was acknowledged first, before the read was sent; or NOBODY."""
    own: Numbers
    """The largest version that the session itself wrote, by its acknowledgements; 0 for none."""
    seen: Numbers
    """The largest version that an earlier read of the session saw; 0 for none."""


def replica_reads(books: Books, replicas: int) -> dict[str, Any]:
    """What ``summary.json`` says under ``replica_reads``: counts of browses, of ``replicas`` replicas.

    A read is *stale* by the time from the first acknowledgement of a larger version, to any session, to its own
    sending. A read of the writable node would have shown that version. Only times of one clock are compared. Of a
    browse of two rows the staler one counts. If an acknowledged write was lost in a failover (another check reports
    that), reads are stale until its version is written again.
    """
    looks = books.looks
    found = _Found(_newer(books), *_session_knows(books))
    staleness = np.where(found.newer == NOBODY, 0, looks.sent - _done(books, found.newer))
    browse, first = np.unique(looks.who, return_index=True)
    worst = np.zeros(len(books.asked.number), dtype=np.int64)
    np.maximum.at(worst, looks.who, staleness)
    worst = worst[browse]
    by_replica = replica_of(looks.session[first], replicas)
    missed = {"read_your_writes": found.own > looks.version, "monotonic_reads": found.seen > looks.version}
    return {
        **_figures(worst),
        **{name: len(np.unique(looks.who[wrong])) for name, wrong in missed.items()},
        "by_replica": [_figures(worst[by_replica == replica]) for replica in range(replicas)],
        "witnesses": _witnesses(books, found, staleness, missed),
    }


def _figures(staleness_ns: Numbers) -> dict[str, Any]:
    stale = staleness_ns[staleness_ns > 0]
    times = percentiles(stale)
    return {
        "reads": len(staleness_ns),
        "stale": len(stale),
        "stale_percent": round(100 * len(stale) / len(staleness_ns), 3) if len(staleness_ns) else None,
        "staleness_ms": {name: times[name] for name in ("p50", "p99", "max")},
    }


def _newer(books: Books) -> Numbers:
    """_Found.newer: by row and clock a minimum over all larger versions, so n log n."""
    looks, writes = books.looks, books.writes
    newer = np.full(len(looks.who), NOBODY, dtype=np.int64)
    boots = np.asarray(books.times.boots, dtype=np.int64)
    for boot in np.unique(boots).tolist():
        # They stay ordered by row and version.
        own = np.flatnonzero(boots[writes.process] == boot)
        mine = np.flatnonzero(boots[looks.process] == boot)
        row = writes.row[own]
        starts = np.concatenate(([True], row[1:] != row[:-1]))[: len(row)]
        soonest = own[acknowledged_first(starts, writes.done[own])]
        at = np.searchsorted(writes.key[own], write_key(looks.row[mine], looks.version[mine]), side="right")
        inside = at < len(own)
        inside[inside] = row[at[inside]] == looks.row[mine[inside]]
        mine, write = mine[inside], soonest[at[inside]]
        late = writes.done[write] < looks.sent[mine]
        newer[mine[late]] = write[late]
    return newer


def _done(books: Books, write: Numbers) -> Numbers:
    """When these writes were acknowledged; 0 for NOBODY."""
    return np.append(books.writes.done, 0)[write]


def _session_knows(books: Books) -> tuple[Numbers, Numbers]:
    """_Found.own and _Found.seen: prefix maxima over what each session did with each row, in its own order."""
    looks, writes = books.looks, books.writes
    is_look = np.repeat((False, True), (len(writes.who), len(looks.who)))
    # A session's ops follow each other: what it was told before a read was sent came before that read.
    time = np.concatenate((writes.done, looks.sent))
    version = np.concatenate((writes.wrote, looks.version))
    keys = [np.concatenate((getattr(writes, name), getattr(looks, name))) for name in ("row", "session", "process")]
    order = np.lexsort((time, *keys))  # stable: at one instant writes come first
    new = np.concatenate(([True], np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)))[: len(order)]
    height = np.cumsum(new) * np.int64(2 * MOST_VERSION)
    own, seen = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    for known, counts in ((own, ~is_look[order]), (seen, is_look[order])):
        known[order] = np.maximum.accumulate(height + np.where(counts, version[order], 0)) - height
    return own[is_look], seen[is_look]


def _witnesses(books: Books, found: _Found, staleness: Numbers, missed: dict[str, NDArray[np.bool_]]) -> dict[str, str]:
    """One of each kind in words: the stalest read, and the first that missed what its own session knew."""
    told = {}
    if staleness.any():
        told["stale"] = _stale(books, found, staleness, int(np.argmax(staleness)))
    for name, words in (("read_your_writes", _own_write), ("monotonic_reads", _earlier_read)):
        wrong = np.flatnonzero(missed[name])
        if len(wrong):
            told[name] = words(books, found, int(wrong[np.argmin(books.looks.sent[wrong])]))
    return told


def _stale(books: Books, found: _Found, staleness: Numbers, look: int) -> str:
    write = int(found.newer[look])
    return (
        f"{_read_named(books, look)}, {staleness[look] / NS_PER_MS:.3f} ms after version "
        f"{books.writes.wrote[write]} had been acknowledged: {write_named(books, write)}"
    )


def _own_write(books: Books, found: _Found, look: int) -> str:
    writes, looks = books.writes, books.looks
    own = (writes.row == looks.row[look]) & (writes.wrote == found.own[look]) & (writes.session == looks.session[look])
    write = int(np.flatnonzero(own & (writes.process == looks.process[look]))[0])
    return (
        f"{_read_named(books, look)}, though the same session had written version {found.own[look]}: "
        f"{write_named(books, write)}"
    )


def _earlier_read(books: Books, found: _Found, look: int) -> str:
    looks = books.looks
    same = (looks.row == looks.row[look]) & (looks.session == looks.session[look])
    same &= (looks.process == looks.process[look]) & (looks.version == found.seen[look])
    earlier = int(np.flatnonzero(same)[np.argmin(looks.sent[same])])
    return f"{_read_named(books, look)}, though earlier in the same session {_read_named(books, earlier)}"


def _read_named(books: Books, look: int) -> str:
    looks = books.looks
    sent = time_named(books, int(looks.sent[look]), int(looks.process[look]))
    return (
        f"browse {books.asked.number[looks.who[look]]} (session {looks.session[look]}, sent {sent}) saw "
        f"{row_named(books, int(looks.row[look]))} at version {looks.version[look]}"
    )
