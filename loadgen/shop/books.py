"""The books of one run: its history, joined once for all checks, and the words that name its rows and ops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import History, LoadProcess
from loadgen.history.timeline import Timeline, timeline
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.shop.account import Versions, version_account
from loadgen.shop.asked import Asked, read_asked
from loadgen.shop.claims import Claims, claim_account
from loadgen.shop.final import Final, read_final
from loadgen.shop.sale import ANSWER_NAMES, KIND_NAMES, Kind
from loadgen.shop.writes import (
    Denials,
    Looks,
    Refusals,
    Writes,
    read_denials,
    read_looks,
    read_refusals,
    read_writes,
)
from loadgen.verdict import Finding

MOST_WITNESSES = 20
"""How many anomalies of one check are described. All are counted."""


@dataclass(frozen=True, slots=True)
class Books:
    """One run, joined. Nothing in it is changed by a check."""

    plan: Plan
    statement_snapshot: bool
    """Whether the level that the run was at documents that a statement reads from one snapshot."""
    real_time_reads: bool
    """Whether every transaction is documented to see what was acknowledged to any session before it was sent."""
    asked: Asked
    writes: Writes
    astray: Writes
    """Acknowledged writes whose version is none that a count of writes can reach; -1: there was no row to write."""
    looks: Looks
    unasked: Looks
    """Rows that a browse was shown and had not asked for."""
    refusals: Refusals
    denials: Denials
    final: Final
    versions: Versions | None
    """The account of the stock rows' versions; None where ``stock``, ``orders`` or ``releases`` was not read."""
    claims: Claims | None
    """What shoppers hold and claim; None where ``orders`` was not read."""
    processes: Sequence[LoadProcess]
    times: Timeline

    @property
    def rows(self) -> int:
        """How many stock rows there are."""
        return int(self.plan.skus * self.plan.buckets)


def open_books(
    history: History,
    plan: Plan,
    *,
    statement_snapshot: bool = True,
    real_time_reads: bool = True,
    whole: bool = False,
) -> Books:
    """Join a history. Raises Contradiction if it holds what no run of this plan could have written.

    ``whole``: the history is known to have every number that a load process received, so no op of the run asked for
    anything else.
    """
    asked = read_asked(history.processes, plan)
    writes, astray = read_writes(history.processes, asked, plan)
    looks, unasked = read_looks(history.processes, asked, plan)
    final = read_final(history, asked, plan, whole=whole)
    return Books(
        plan=plan,
        statement_snapshot=statement_snapshot,
        real_time_reads=real_time_reads,
        asked=asked,
        writes=writes,
        astray=astray,
        looks=looks,
        unasked=unasked,
        refusals=read_refusals(history.processes, asked, plan),
        denials=read_denials(history.processes, asked),
        final=final,
        versions=version_account(plan, asked, writes, final),
        claims=claim_account(asked, final),
        processes=history.processes,
        times=timeline(history.processes),
    )


Group = tuple[NDArray[np.int64], Callable[[int], str]]
"""Anomalies of one sort, and the words for one of them."""


def found(name: str, *groups: Group) -> Finding:
    """The finding whose anomalies are the members of ``groups``, each group with the words for one of its members."""
    witnesses: list[str] = []
    for members, describe in groups:
        witnesses += [describe(int(member)) for member in members[: MOST_WITNESSES - len(witnesses)]]
    return Finding(name, sum(len(members) for members, _ in groups), tuple(witnesses))


def order_named(books: Books, at: int) -> str:
    """``order 17 (token 123, user 5, 1 × SKU 3)``: the order at this position among the numbers asked."""
    asked = books.asked
    lines = f"{asked.qty_a[at]} × SKU {asked.sku_a[at]}"
    if asked.sku_b[at] >= 0:
        lines += f" + {asked.qty_b[at]} × SKU {asked.sku_b[at]}"
    return f"order {asked.number[at]} (token {asked.token[at]}, user {asked.user[at]}, {lines})"


def write_named(books: Books, index: int, writes: Writes | None = None) -> str:
    """``the order with token 123 (op 17, acknowledged at 1.234 s)``: who made a write, of the books' own by default."""
    writes, asked = writes or books.writes, books.asked
    at = writes.who[index]
    return (
        f"{KIND_NAMES[writes.kind[index]]} {asked.number[at]} (token {asked.token[at]}, "
        f"sent {time_named(books, int(writes.sent[index]), int(writes.process[index]))}, "
        f"acknowledged {time_named(books, int(writes.done[index]), int(writes.process[index]))})"
    )


def row_named(books: Books, row: int) -> str:
    """``SKU 3``, with its bucket if the stock has several."""
    sku, bucket = divmod(int(row), books.plan.buckets)
    return f"SKU {sku}" if books.plan.buckets == 1 else f"SKU {sku} bucket {bucket}"


def time_named(books: Books, time_ns: int, process: int) -> str:
    """``12.345678 s``: a time that a process measured, in seconds since the first op of the run was due."""
    return f"{books.times.seconds(time_ns, process):.6f} s"


def ending_named(books: Books, at: int, kind: Kind) -> str:
    """How an op ended by the history, and when: ``acknowledged as placed at 1.234 s``."""
    number = books.asked.number[at]
    for index, process in enumerate(books.processes):
        ops = process.ops
        found_at = np.flatnonzero((ops["number"] == number) & (ops["kind"] == kind))
        if len(found_at):
            return _ending(books, index, int(found_at[0]))
    return "never answered"


def _ending(books: Books, process: int, row: int) -> str:
    ops = books.processes[process].ops
    outcome, when = Outcome(int(ops["outcome"][row])), time_named(books, int(ops["done"][row]), process)
    if outcome == Outcome.OK:
        return f"answered {ANSWER_NAMES[ops['answer'][row]].replace('_', ' ')} at {when}"
    code = f" by {ops['code'][row]}" if ops["code"][row] else ""
    return {Outcome.FAIL: "failed", Outcome.INFO: "left open", Outcome.SKIPPED: "skipped"}[
        outcome
    ] + f"{code} at {when}"
