"""The probes' tables at the end: every acknowledged write is there, and nothing that no op can have written.

This does not depend on the isolation level. At every level, an acknowledged commit lasts, and refused writes are never
visible. So these checks apply at all levels, in addition to the models that the transactions are judged by.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadgen.errors import StoreError
from loadgen.history.history import Columns, History
from loadgen.isolation.transactions import WRITE
from loadgen.op import Outcome
from loadgen.probes.transactions import answered, asked, elements, op_rows
from loadgen.shop.books import MOST_WITNESSES
from loadgen.verdict import Finding
from loadgen.workload import probes
from loadgen.workload.probes import ACCOUNTS, MICRO_OPS, OPENING_BALANCE, TRANSFER, ProbeAnswer

FINAL_TABLES: Mapping[str, Sequence[str]] = {
    "append": ("append_0", "append_1", "append_2"),
    "register": ("register",),
    "bank": ("accounts",),
    "longfork": ("longfork",),
}
PROBES = tuple(FINAL_TABLES)
"""The workloads whose verdict is that of their isolation."""
LOST, GHOST, PHANTOM = "lost-write", "ghost", "phantom-write"
MOST_SUMS = 100_000
"""How many sums of open transfers are tried before the balances count as explained."""
_LENIENT = ("read-uncommitted", "read-committed", "read-atomic", "causal", "strong-session-read-committed")
"""Models that do not forbid lost updates: a balance written back may undo transfers."""


@dataclass(slots=True)
class _Told:
    """Anomalies by transaction. Each transaction counts once."""

    of: dict[int, str] = field(default_factory=dict)

    def add(self, number: int, words: str) -> None:
        self.of.setdefault(number, words)

    def finding(self, name: str, more: int = 0) -> Finding:
        return Finding(name, len(self.of) + more, tuple(list(self.of.values())[:MOST_WITNESSES]))


@dataclass(slots=True)
class _Row:
    """What is known of one row: its acknowledged writes ``(version, value, transaction, done)``, and open ones."""

    writes: list[tuple[int, int, int, int]] = field(default_factory=list)
    open_writes: int = 0
    seen: dict[int, set[int]] = field(default_factory=dict)
    """By version: the values that committed transactions read."""


def final_findings(workload: str, history: History, strategy: str, model: str, doubt: str = "") -> list[Finding]:
    """lost-write, ghost and phantom-write of a probe's run, judged at ``model``; unknown without its final reads.

    With a ``doubt`` about the history, proved losses remain, because an acknowledgement is enough to prove them.
    """
    names = {"register": (LOST, GHOST, PHANTOM), "bank": (LOST, PHANTOM)}.get(workload, (LOST, GHOST))
    for table in FINAL_TABLES[workload]:
        if table not in history.final or f"final.{table}" in history.damaged:
            return [Finding(name, unknown=f"the final read of {table} is not there") for name in names]
    missing = doubt or next(iter(history.problems), "")
    try:
        if workload == "register":
            found = _registers(history, committed_reads=model != "read-uncommitted")
        elif workload == "bank":
            found = _accounts(history, exact=not missing and (strategy != "naive" or model not in _LENIENT))
        else:
            found = _values(workload, history)
    except (StoreError, KeyError) as error:
        return [Finding(name, unknown=str(error)) for name in names]
    return [
        finding
        if not missing or (finding.anomalies and finding.name == LOST)
        else Finding(finding.name, 0, finding.witnesses, unknown=missing)
        for finding in found
    ]


def _values(workload: str, history: History) -> list[Finding]:
    """Lists that only grow, and keys that are written once: each value is judged by itself."""
    final = _lists(history) if workload == "append" else _single_values(history.final["longfork"])
    lost, ghosts = _Told(), _Told()
    may: dict[int, int] = {}
    for row in op_rows(history):
        if row.outcome == Outcome.FAIL:
            continue
        mops = answered(workload, row) if row.outcome == Outcome.OK else asked(workload, row)
        writes = {mop.value: mop.key for mop in mops if mop.act == WRITE}
        may |= writes
        gone = [value for value, key in writes.items() if value not in final.get(key, ())]
        if gone and (row.outcome == Outcome.OK or len(gone) < len(writes)):
            how = "was acknowledged" if row.outcome == Outcome.OK else "is there by half"
            lost.add(
                row.number,
                f"T{row.number} {how}, and its value {gone[0]} of key {writes[gone[0]]} is not there at the end",
            )
    for key, values in final.items():
        for value in values:
            if may.get(value) != key:
                writer = (value - 1) // MICRO_OPS
                ghosts.add(writer, f"key {key} holds {value} at the end, and T{writer}, whose value it is, failed")
    return [lost.finding(LOST), ghosts.finding(GHOST)]


def _lists(history: History) -> dict[int, Sequence[int]]:
    return {
        key: set(elements(text))  # type: ignore[misc]
        for table in FINAL_TABLES["append"]
        for key, text in zip(*_columns(history.final[table], "id", "list"), strict=True)
    }


def _single_values(columns: Columns) -> dict[int, Sequence[int]]:
    return {key: (value,) for key, value in zip(*_columns(columns, "id", "value"), strict=True)}


def _registers(history: History, *, committed_reads: bool) -> list[Finding]:
    """Rows that count their writes: the answers of each transaction, compared with the count and value at the end.

    ``committed_reads``: what a transaction reads was committed, so that a version has one value.
    """
    rows: dict[int, _Row] = {}
    may, open_ended = set(), set()
    for op in op_rows(history):
        if op.outcome == Outcome.OK:
            may.add(op.number)
            own: dict[int, int] = {}
            for packed, value, version in op.touched:
                key, act = divmod(packed, 2)
                row = rows.setdefault(key, _Row())
                if act == probes.WRITE:
                    own[key] = version
                    row.writes.append((version, value, op.number, op.done))
                elif key not in own:
                    row.seen.setdefault(version, set()).add(value)
        elif op.outcome == Outcome.INFO:
            may.add(op.number)
            open_ended.add(op.number)
            for mop in asked("register", op):
                if mop.act == WRITE:
                    rows.setdefault(mop.key, _Row()).open_writes += 1
    final = {
        key: (version, value)
        for key, value, version in zip(*_columns(history.final["register"], "id", "value", "version"), strict=True)
    }
    lost, phantom = _by_versions(rows, final, lambda key: f"register {key}")
    ghosts = _Told()
    for key, (version, value) in final.items():
        writer = (value - 1) // MICRO_OPS
        if value and writer not in may:
            words = f"register {key} holds {value} at version {version}, and T{writer}, whose value it is, failed"
            ghosts.add(writer, words)
    changed = _changed_in_place(rows, may, open_ended, lost) if committed_reads else []
    anomalies, witnesses = phantom.anomalies + len(changed), (*phantom.witnesses, *changed)[:MOST_WITNESSES]
    return [lost.finding(LOST), ghosts.finding(GHOST), Finding(PHANTOM, anomalies, witnesses)]


def _changed_in_place(rows: Mapping[int, _Row], may: set[int], open_ended: set[int], lost: _Told) -> list[str]:
    """Values read at a version to which an acknowledged write, or the start, gave another value: they were changed in
    place.

    If an open transaction's value was read there, that transaction has the version, and the acknowledged write was
    lost.
    """
    changed = []
    for key, row in sorted(rows.items()):
        told: dict[int, dict[int, int]] = {0: {0: -1}}
        for version, value, number, _ in row.writes:
            told.setdefault(version, {})[value] = number
        for version, values in sorted(row.seen.items()):
            for value in sorted(values - told.get(version, dict.fromkeys(values, 0)).keys()):
                writer = (value - 1) // MICRO_OPS
                given, number = next(iter(told[version].items()))
                words = f"register {key} was read as {value} at version {version}, which T{number} wrote as {given}"
                if value and writer in open_ended and version:
                    lost.add(number, f"T{number} was acknowledged, and {words}")
                elif not value or writer in may or writer < 0:
                    changed.append(words if version else f"{words.split(',')[0]}, before any op had written it")
    return changed


def _accounts(history: History, *, exact: bool) -> list[Finding]:
    """Accounts count their writes too; and their balances are those of the transfers, where these can't be undone."""
    rows: dict[int, _Row] = {account: _Row() for account in range(ACCOUNTS)}
    expected = [OPENING_BALANCE] * ACCOUNTS
    open_transfers = []
    for op in op_rows(history):
        invoked = op.process.invoked
        source, target, amount = (int(invoked[name][op.slot]) for name in ("source", "target", "amount"))
        if invoked["kind"][op.slot] != TRANSFER or not {source, target} <= set(rows):
            continue
        if op.outcome == Outcome.OK and op.answer == ProbeAnswer.COMMITTED:
            expected[source] -= amount
            expected[target] += amount
            for packed, value, version in op.touched:
                rows[packed // 2 % ACCOUNTS].writes.append((version, value, op.number, op.done))
        elif op.outcome == Outcome.INFO:
            open_transfers.append((source, target, amount))
            for account in (source, target):
                rows[account].open_writes += 1
    table = history.final["accounts"]
    balances = dict(zip(*_columns(table, "id", "balance"), strict=True))
    counted = "version" in table
    lost, phantom = _Told(), Finding(PHANTOM)
    if counted:
        final = {key: (version, None) for key, version in zip(*_columns(table, "id", "version"), strict=True)}
        lost, phantom = _by_versions(rows, final, lambda key: f"account {key}")
    residual = [balances.get(account, 0) - expected[account] for account in range(ACCOUNTS)]
    off = any(account not in balances for account in range(ACCOUNTS)) or not _explained(residual, open_transfers)
    if lost.of or not off or not (exact or set(balances) < set(range(ACCOUNTS))):
        return [lost.finding(LOST), phantom]
    words = ", ".join(
        f"account {account} holds {balances.get(account, 'nothing, for it is gone')} instead of {expected[account]}"
        for account in range(ACCOUNTS)
        if residual[account]
    )
    total = f"{sum(balances.values())} in all"
    still = f", and {len(open_transfers)} open transfers don't explain it" if open_transfers else ""
    return [Finding(LOST, 1, (f"by the transfers acknowledged {words} ({total}){still}",)), phantom]


def _explained(residual: list[int], transfers: Iterable[tuple[int, int, int]]) -> bool:
    """Whether some of ``transfers``, each done or not, sum up to ``residual``; true if that takes too many tries."""
    sums = {tuple(residual)}
    for source, target, amount in transfers:
        undone = set()
        for each in sums:
            left = list(each)
            left[source] += amount
            left[target] -= amount
            undone.add(tuple(left))
        sums |= undone
        if len(sums) > MOST_SUMS:
            return True
    return (0,) * len(residual) in sums


def _by_versions(
    rows: Mapping[int, _Row], final: Mapping[int, tuple[int, int | None]], name: Callable[[int], str]
) -> tuple[_Told, Finding]:
    """Lost writes, and versions that no transaction can have written, in rows that count their writes.

    ``final`` is each row's version, and its value where values are unique. Of two acknowledged writes with one version
    one was lost: the other is the one that is there at the end, or that was read, or that was acknowledged last.
    """
    lost, phantoms, beyond = _Told(), [], 0
    for key, row in sorted(rows.items()):
        if not row.writes and key not in final:
            continue
        last, value = final.get(key, (0, None))
        ends = f"{name(key)} ends at version {last}" if key in final else f"{name(key)} is gone"
        groups: dict[int, list[tuple[int, int, int, int]]] = {}
        for write in row.writes:
            groups.setdefault(write[0], []).append(write)
        for version, group in groups.items():
            kept = _kept(group, row.seen.get(version, set()), value if version == last else None)
            for write in group:
                told = f"T{write[2]} was acknowledged with version {version} of {name(key)}"
                if not 1 <= version <= last:
                    lost.add(write[2], f"{told}, and {ends}")
                elif kept is None:
                    lost.add(write[2], f"{told} and value {write[1]}, and it ends with value {value} at that version")
                elif write is not kept:
                    lost.add(write[2], f"{told}, and so was T{kept[2]}")
        spare = last - sum(1 <= version <= last for version in groups) - row.open_writes
        if spare > 0:
            beyond += spare
            known = len([version for version in groups if 1 <= version <= last])
            phantoms.append(
                f"{name(key)} ends at version {last}, and only {known} acknowledged and {row.open_writes} open writes "
                "are known"
            )
    return lost, Finding(PHANTOM, beyond, tuple(phantoms[:MOST_WITNESSES]))


def _kept(
    group: Sequence[tuple[int, int, int, int]], seen: set[int], value: int | None
) -> tuple[int, int, int, int] | None:
    """The one of ``group`` that is there; None if the row ends with a value that is none of theirs."""
    if value is not None:
        return next((write for write in group if write[1] == value), None)
    read = [write for write in group if write[1] in seen]
    return max(read or group, key=lambda write: write[3])


def _columns(columns: Columns, *names: str) -> list[list[Any]]:
    return [columns[name].tolist() for name in names]
