"""Witnesses in words: a transaction, a read, and why one transaction comes before another."""

from loadgen.isolation.observed import UNSEEN, Observed
from loadgen.isolation.transactions import INITIAL, READ, UNKNOWN, WRITE, Edge, HistoryKind

_SHOWN = 3
"""How many elements of a list are written out: the last ones."""
_MOPS = 12
"""How many micro-operations of a transaction are written out."""


def name(seen: Observed, txn: int) -> str:
    """What a witness calls a transaction."""
    return f"T{seen.txns.label[txn]}"


def key_name(seen: Observed, mop: int) -> str:
    """The key of a micro-operation, as the history writes it."""
    return seen.txns.key_name(int(seen.txns.key[mop]))


def value_name(seen: Observed, value: int) -> str:
    """A value as the history writes it."""
    return {INITIAL: "nothing", UNKNOWN: "unknown"}.get(value) or seen.txns.value_name(value)


def read_value(seen: Observed, mop: int) -> str:
    """What a read saw: of a long list only the end."""
    txns = seen.txns
    if txns.kind != HistoryKind.LIST_APPEND or txns.value[mop] == UNKNOWN:
        return value_name(seen, int(txns.value[mop]))
    return list_name(seen, txns.list_read(mop))


def list_name(seen: Observed, elements: list[int]) -> str:
    """A list; of a long one only the end, and how long it is."""
    shown = ", ".join(value_name(seen, element) for element in elements[-_SHOWN:])
    return f"[{shown}]" if len(elements) <= _SHOWN else f"[… {shown}] ({len(elements)} elements)"


def mop_words(seen: Observed, mop: int) -> str:
    """One micro-operation, for example ``append x 3`` or ``r x [1, 2]``."""
    if seen.txns.act[mop] == WRITE:
        verb = "append" if seen.txns.kind == HistoryKind.LIST_APPEND else "w"
        return f"{verb} {key_name(seen, mop)} {value_name(seen, int(seen.txns.value[mop]))}"
    return f"r {key_name(seen, mop)} {read_value(seen, mop)}"


def txn_words(seen: Observed, txn: int) -> str:
    """A transaction with what it did."""
    mops = range(int(seen.txns.start[txn]), int(seen.txns.start[txn + 1]))
    told = "; ".join(mop_words(seen, mop) for mop in mops[:_MOPS])
    return f"{name(seen, txn)} = {{{told}{'; …' if len(mops) > _MOPS else ''}}}"


def edge_words(seen: Observed, first: int, second: int, kind: int) -> str:
    """Why ``first`` comes before ``second``."""
    a, b, txns = name(seen, first), name(seen, second), seen.txns
    if kind == Edge.PROCESS:
        return f"{a} came before {b} in session {txns.session_name(int(txns.session[first]))}"
    if kind == Edge.REALTIME:
        gap = int(txns.invoked[second]) - int(txns.completed[first])
        return f"{a} was acknowledged before {b} was sent (by {gap} on the history's clock)"
    if kind == Edge.WR:
        reason = _wr_words(seen, first, second)
    elif kind == Edge.WW:
        reason = _ww_words(seen, first, second)
    else:
        reason = _rw_words(seen, first, second)
    return reason or f"{a} must come before {b} ({Edge(kind).name.lower()}, by the order of versions that is left)"


def _mops(seen: Observed, txn: int, act: int) -> list[int]:
    first, last = int(seen.txns.start[txn]), int(seen.txns.start[txn + 1])
    return [mop for mop in range(first, last) if seen.txns.act[mop] == act]


def _wr_words(seen: Observed, first: int, second: int) -> str:
    for mop in _mops(seen, second, READ):
        source = int(seen.source[mop])
        if source >= 0 and seen.txn[source] == first:
            wrote = value_name(seen, int(seen.txns.value[source]))
            read = f"{name(seen, second)} read {key_name(seen, mop)} = {read_value(seen, mop)}"
            return f"{read}, of which {wrote} is {name(seen, first)}'s"
    return ""


def _pairs(seen: Observed, first: int, act: int, second: int) -> list[tuple[int, int]]:
    """Micro-operations of ``first`` and writes of ``second`` on one key, the nearest versions first."""
    pairs = [
        (a, b)
        for a in _mops(seen, first, act)
        for b in _mops(seen, second, WRITE)
        if seen.txns.key[a] == seen.txns.key[b]
    ]
    if seen.txns.kind == HistoryKind.REGISTER:
        return pairs
    ordered = [(a, b) for a, b in pairs if seen.rank[a] < seen.rank[b]]
    return sorted(ordered, key=lambda pair: int(seen.rank[pair[1]]) - int(seen.rank[pair[0]]))


def _ww_words(seen: Observed, first: int, second: int) -> str:
    for a, b in _pairs(seen, first, WRITE, second):
        one, two = (value_name(seen, int(seen.txns.value[mop])) for mop in (a, b))
        return f"{name(seen, second)} wrote {key_name(seen, a)} {two}, a later version than {name(seen, first)}'s {one}"
    return ""


def _rw_words(seen: Observed, first: int, second: int) -> str:
    for a, b in _pairs(seen, first, READ, second):
        wrote = value_name(seen, int(seen.txns.value[b]))
        told = "a later version" if seen.rank[b] != UNSEEN else "which no list shows"
        return (
            f"{name(seen, first)} read {key_name(seen, a)} = {read_value(seen, a)} and did not see "
            f"{wrote}, {told}, written by {name(seen, second)}"
        )
    return ""
