"""Bank histories of other tools: reads of balances, and transfers between accounts, known from the file only.

The accounts and their initial balances are unknown, so only rules for every bank are checked: a transfer takes as much
as it gives, and only transfers change a balance. A read of some accounts has no total, unless no transfer crosses their
border.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.jepsen import Reading
from loadgen.isolation.transactions import ALWAYS, NEVER
from loadgen.op import Outcome

_SUMS = 4_096
"""How many different outcomes of the transfers between two reads are tried one by one."""
_STEPS = 5_000_000
"""How many pairs of a read and a transfer near it are looked at."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer: what it moved, or None if the file does not say, and when."""

    label: int
    source: Any
    target: Any
    amount: int | None
    outcome: Outcome
    invoked: int
    completed: int

    def change(self, account: Any) -> int:
        """What it adds to ``account``."""
        return (self.amount or 0) * (int(account == self.target) - int(account == self.source))


def check_transfers(reads: Sequence[Reading], transfers: Sequence[Transfer]) -> Anomalies:
    """What the reads of a bank prove about it; transfers that failed moved nothing."""
    found = Anomalies()
    alive = [each for each in transfers if each.outcome != Outcome.FAIL]
    whole = frozenset(account for read in reads for account in read.seen)
    whole |= {account for each in transfers for account in (each.source, each.target) if account is not None}
    known = all(None not in (each.amount, each.source, each.target) for each in alive)
    for read in reads:
        empty = [account for account, amount in read.seen.items() if amount is None]
        if empty:
            found.add("nil-balance", f"read {read.label} shows no balance of account {empty[0]!r}")
        debts = [account for account, amount in read.seen.items() if amount is not None and amount < 0]
        if debts:
            found.add("negative-value", f"read {read.label} shows account {debts[0]!r} at {read.seen[debts[0]]}")
    _totals(reads, alive if known else (), whole, found)
    if known and alive:
        _balances(reads, alive, found)
        _in_turn(reads, alive, found)
    return found


def _totals(reads: Sequence[Reading], alive: Sequence[Transfer], whole: frozenset[Any], found: Anomalies) -> None:
    """Reads of the same accounts add up to the same, if these are all of them or no transfer leaves them."""
    groups: dict[frozenset[Any], list[Reading]] = {}
    for read in reads:
        if all(amount is not None for amount in read.seen.values()):
            groups.setdefault(frozenset(read.seen), []).append(read)
    for accounts, same in groups.items():
        closed = bool(alive) and not any((each.source in accounts) != (each.target in accounts) for each in alive)
        if accounts != whole and not closed:
            continue
        wanted = Counter(sum(read.seen.values()) for read in same).most_common(1)[0][0]
        for read in same:
            if sum(read.seen.values()) != wanted:
                found.add("wrong-total", f"read {read.label} adds up to {sum(read.seen.values())}, not {wanted}")


def _balances(reads: Sequence[Reading], alive: Sequence[Transfer], found: Anomalies) -> None:
    """In any order of transfers, no balance can differ from another by more than all of them move."""
    moved: Counter[Any] = Counter()
    for each in alive:
        if each.source != each.target:
            moved[each.source] += abs(each.amount or 0)
            moved[each.target] += abs(each.amount or 0)
    lowest: dict[Any, Reading] = {}
    highest: dict[Any, Reading] = {}
    for read in reads:
        for account, amount in read.seen.items():
            if amount is None:
                continue
            if account not in lowest or amount < lowest[account].seen[account]:
                lowest[account] = read
            if account not in highest or amount > highest[account].seen[account]:
                highest[account] = read
    for account, low in lowest.items():
        high = highest[account]
        gap = high.seen[account] - low.seen[account]
        if gap > moved[account]:
            found.add(
                "wrong-balance",
                f"account {account!r} has {low.seen[account]} in read {low.label} and {high.seen[account]} in read "
                f"{high.label}, but all transfers together move no more than {moved[account]} to or from it",
            )


def _in_turn(reads: Sequence[Reading], alive: Sequence[Transfer], found: Anomalies) -> None:
    """Between two reads, one answered before the other was sent, only the transfers near them change balances."""
    ordered = sorted((read for read in reads if read.invoked != ALWAYS), key=lambda read: read.completed)
    steps = 0
    before: Reading | None = None
    for read in ordered:
        if before is None or before.completed >= read.invoked:
            before = before or read
            continue
        sure: list[Transfer] = []
        maybe: list[Transfer] = []
        steps += len(alive)
        if steps > _STEPS:
            return
        for each in alive:
            ended = each.completed if each.outcome == Outcome.OK else NEVER
            if ended > before.invoked and each.invoked < read.completed:
                inside = each.invoked > before.completed and ended < read.invoked
                (sure if inside else maybe).append(each)
        both = [
            account
            for account, amount in read.seen.items()
            if amount is not None and before.seen.get(account) is not None
        ]
        change = tuple(read.seen[account] - before.seen[account] for account in both)
        if not _possible(both, change, sure, maybe):
            told: Mapping[Any, int] = dict(zip(both, change, strict=True))
            found.add(
                "wrong-balance-realtime",
                f"from read {before.label} to the later read {read.label} balances change by {told}, "
                f"which no choice of the {len(sure) + len(maybe)} transfers in between explains",
            )
        before = read


def _possible(
    accounts: Sequence[Any], change: tuple[int, ...], sure: Sequence[Transfer], maybe: Sequence[Transfer]
) -> bool:
    """Whether all of ``sure`` and some of ``maybe`` make this change; true where that is not known."""
    base = tuple(sum(each.change(account) for each in sure) for account in accounts)
    sums = {base}
    for each in maybe:
        step = tuple(each.change(account) for account in accounts)
        if any(step):
            sums |= {tuple(a + b for a, b in zip(made, step, strict=True)) for made in sums}
        if len(sums) > _SUMS:
            return _within(accounts, change, base, maybe)
    return change in sums


def _within(accounts: Sequence[Any], change: tuple[int, ...], base: tuple[int, ...], maybe: Sequence[Transfer]) -> bool:
    """Whether each account's change is between the most that the uncertain transfers could take and give."""
    for account, wanted, least in zip(accounts, change, base, strict=True):
        steps = [each.change(account) for each in maybe]
        if not least + sum(min(0, step) for step in steps) <= wanted <= least + sum(max(0, step) for step in steps):
            return False
    return True
