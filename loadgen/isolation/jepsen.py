"""Jepsen's bank, set and long-fork checks: invariants of small workloads, each naming the models it rules out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.models import MODELS, Order, weaker
from loadgen.isolation.observed import NOTHING, Observed
from loadgen.isolation.transactions import NEVER, READ, WRITE
from loadgen.isolation.words import txn_words
from loadgen.op import Outcome

EVERY = frozenset(MODELS)
SNAPSHOT = frozenset(name for name in MODELS if {"snapshot-isolation", "repeatable-read"} & weaker(name))
"""The models under which transactions that move money between rows can neither lose any nor be seen halfway."""
FORBIDDEN_BY: Mapping[str, frozenset[str]] = {
    "wrong-total": SNAPSHOT,
    "negative-value": SNAPSHOT,
    "unexpected-key": EVERY,
    "nil-balance": EVERY,
    "wrong-balance": EVERY - {"read-uncommitted"},
    "wrong-balance-realtime": frozenset(name for name, model in MODELS.items() if model.order == Order.REALTIME),
    "lost": EVERY,
    "unexpected": EVERY,
    "duplicated": EVERY,
    "long-fork": frozenset(name for name in MODELS if {"snapshot-isolation", "repeatable-read"} & weaker(name)),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A read of the whole bank or set: its label, and what it saw."""

    label: int
    seen: Any
    invoked: int
    completed: int = NEVER


@dataclass(frozen=True, slots=True)
class Adding:
    """An element added to a set, and when it was acknowledged."""

    label: int
    element: Any
    outcome: Outcome
    completed: int


def check_bank(reads: Sequence[Reading], accounts: set[Any], *, total: int, negative: bool) -> Anomalies:
    """Every read of a bank of these ``accounts`` adds up to ``total``, without debts unless ``negative``."""
    found = Anomalies()
    for read in reads:
        strange = [account for account in read.seen if account not in accounts]
        empty = [account for account, amount in read.seen.items() if amount is None]
        if strange:
            found.add("unexpected-key", f"read {read.label} shows account {strange[0]!r}, which there is not")
        if empty:
            found.add("nil-balance", f"read {read.label} shows no balance of account {empty[0]!r}")
        if strange or empty:
            continue
        amounts = _amounts(read)
        if sum(amounts) != total:
            found.add("wrong-total", f"read {read.label} adds up to {sum(amounts)}, not {total}")
        if not negative and min(amounts, default=0) < 0:
            account = min(read.seen, key=lambda name: read.seen[name])
            found.add("negative-value", f"read {read.label} shows account {account!r} at {read.seen[account]}")
    return found


def _amounts(read: Reading) -> list[int]:
    return [amount for amount in read.seen.values() if amount is not None]


def check_set(adds: Sequence[Adding], reads: Sequence[Reading]) -> Anomalies:
    """Every element acknowledged before the last read began is in it; no read shows one that no op tried to add."""
    found = Anomalies()
    if not reads:
        return found
    tried = {add.element for add in adds}
    refused = {add.element for add in adds if add.outcome == Outcome.FAIL} - {
        add.element for add in adds if add.outcome != Outcome.FAIL
    }
    last = max(reads, key=lambda read: read.invoked)
    for read in reads:
        for element, times in Counter(read.seen).items():
            if element not in tried:
                found.add("unexpected", f"read {read.label} shows {_told(element)}, which no operation added")
            elif element in refused:
                found.add("unexpected", f"read {read.label} shows {_told(element)}, whose add had failed")
            if times > 1:
                found.add("duplicated", f"read {read.label} shows {_told(element)} {times} times")
    final = set(last.seen)
    for add in adds:
        if add.outcome == Outcome.OK and add.completed < last.invoked and add.element not in final:
            told = f"{_told(add.element)} was added by {add.label}, acknowledged, and is not in read {last.label}"
            found.add("lost", told)
    return found


def _told(element: Any) -> str:
    return str(element[1] if isinstance(element, tuple) and len(element) == 2 else element)


def check_long_fork(seen: Observed) -> Anomalies:
    """Two reads of which each saw a write that the other did not, of keys that are written once."""
    found = Anomalies()
    txns = seen.txns
    groups: dict[frozenset[int], dict[frozenset[int], int]] = {}
    writes = Counter(txns.key[seen.live(WRITE)].tolist())
    for txn in range(txns.count):
        if txns.outcome[txn] != Outcome.OK:
            continue
        mops = range(int(txns.start[txn]), int(txns.start[txn + 1]))
        if any(txns.act[mop] != READ for mop in mops):
            continue
        keys = frozenset(int(txns.key[mop]) for mop in mops)
        if len(keys) > 1 and all(writes[key] <= 1 for key in keys):
            shown = frozenset(int(txns.key[mop]) for mop in mops if seen.source[mop] != NOTHING)
            groups.setdefault(keys, {}).setdefault(shown, txn)
    for states in groups.values():
        several = sorted(states, key=len)
        for place, one in enumerate(several):
            for two in several[place + 1 :]:
                if one - two and two - one:
                    a, b = states[one], states[two]
                    found.add(
                        "long-fork",
                        "each of two reads saw a write that the other did not: "
                        f"{txn_words(seen, a)}; {txn_words(seen, b)}",
                    )
    return found
