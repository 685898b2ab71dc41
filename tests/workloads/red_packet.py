"""Red packets: money in random shares, first come first served; nobody gets two shares of one packet."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, NamedTuple

import numpy as np

from loadgen.draws import Draws
from loadgen.load import SessionUser, tag, task
from loadgen.workload import (
    Body,
    Check,
    Evidence,
    Finding,
    Option,
    Plan,
    Refused,
    Reply,
    Statement,
    Table,
    Workload,
    versioned_row,
)

GRABBED, EMPTY, AGAIN = range(1, 4)
PEOPLE, EACH, CENT = 200, Decimal("10.00"), Decimal("0.01")
BATCH = 1000
CAREFUL = True

REST = Statement("SELECT rest, shares, version FROM packets WHERE id = :packet FOR UPDATE")
REST_UNLOCKED = Statement("SELECT rest, shares, version FROM packets WHERE id = :packet")
HAS = Statement("SELECT amount FROM grabs WHERE packet = :packet AND person = :person")
TAKE = Statement("UPDATE packets SET rest = :rest, shares = :shares, {bump} WHERE id = :packet {bumped}")
KEEP = Statement(
    "INSERT INTO grabs (id, packet, person, amount, grabbed_at) VALUES (:id, :packet, :person, :amount, :now)"
)


class Grab(NamedTuple):
    """What one number means."""

    number: int
    kind: int
    packet: int
    person: int
    luck: float


def tables(plan: Plan) -> tuple[Table, ...]:
    """Packets of equal worth, and an empty table of what was grabbed."""
    packets = """CREATE TABLE packets (
        id BIGINT NOT NULL PRIMARY KEY, total DECIMAL(12,2) NOT NULL, rest DECIMAL(12,2) NOT NULL,
        shares BIGINT NOT NULL, version BIGINT NOT NULL)"""
    grabs = """CREATE TABLE grabs (
        id BIGINT NOT NULL PRIMARY KEY, packet BIGINT NOT NULL, person BIGINT NOT NULL, amount DECIMAL(12,2) NOT NULL,
        grabbed_at {} NOT NULL{})"""
    # PostgreSQL's CREATE TABLE makes no plain index: with the id in it a unique one serves.
    by_engine = {
        "postgres": grabs.format("TIMESTAMP", ", UNIQUE (packet, person, id)"),
        "mysql": grabs.format("DATETIME(6)", ", KEY by_packet (packet, person)"),
    }

    def filled(_: Plan) -> Iterator[list[tuple[Any, ...]]]:
        total = EACH * plan.shares
        for first in range(0, plan.packets, BATCH):
            yield [(each, total, total, plan.shares, 0) for each in range(first, min(first + BATCH, plan.packets))]

    money, number = "decimal(12,2)", "int64"
    columns = {"id": number, "total": money, "rest": money, "shares": number, "version": number}
    grabbed = {"id": number, "packet": number, "person": number, "amount": money, "grabbed_at": "timestamp"}
    return (
        Table("packets", packets, columns, batches=filled, about=plan.packets, version="version", row="id"),
        Table("grabs", by_engine, grabbed),
    )


def invoked(plan: Plan, first: int, count: int) -> dict[str, Any]:
    """One packet after the other is thrown in, and twice as many hands reach for it as it has shares."""
    draws = Draws(plan.seed, numbers := np.arange(first, first + count, dtype=np.int64))
    packet = numbers // (2 * plan.shares) % plan.packets
    person = (draws.uniform(0) * PEOPLE).astype(np.int64)
    return {
        "number": numbers,
        "kind": np.zeros(count, np.uint8),
        "packet": packet,
        "person": person,
        "luck": draws.uniform(1),
    }


def ops(plan: Plan, columns: Any) -> list[Grab]:
    """The same numbers as Python values."""
    return [Grab(*row) for row in zip(*(columns[name].tolist() for name in Grab._fields), strict=True)]


def by_packet(evidence: Evidence) -> list[tuple[int, Decimal, Decimal, int, Decimal, int]]:
    """Of each packet: its number, worth, rest and shares left, what was grabbed of it, and how often."""
    packets, grabs = evidence.final["packets"], evidence.final["grabs"]
    sums: dict[int, Decimal] = {}
    for packet, amount in zip(grabs["packet"].tolist(), grabs["amount"], strict=True):
        sums[packet] = sums.get(packet, Decimal(0)) + amount
    count = np.bincount(grabs["packet"], minlength=evidence.plan.packets)
    columns = (packets["id"].tolist(), packets["total"], packets["rest"], packets["shares"].tolist())
    rows = zip(*columns, strict=True)
    return [(at, total, rest, left, sums.get(at, Decimal(0)), int(count[at])) for at, total, rest, left in rows]


def overpaid(evidence: Evidence) -> Finding:
    """More money or more shares than the packet had."""
    shares = evidence.plan.shares
    words = [
        f"packet {at} of {total} in {shares} shares gave {given} in {count}"
        for at, total, _, _, given, count in evidence.derived(by_packet)
        if given > total or count > shares
    ]
    return Finding("overpaid", len(words), tuple(words[:20]))


def packet_balance(evidence: Evidence) -> Finding:
    """What was grabbed and what is left are not the packet."""
    words = [
        f"packet {at} of {total}: {given} grabbed in {count} shares, {rest} left in {left}"
        for at, total, rest, left, given, count in evidence.derived(by_packet)
        if given + rest != total or count + left != evidence.plan.shares
    ]
    return Finding("packet-balance", len(words), tuple(words[:20]))


def double_grab(evidence: Evidence) -> Finding:
    """A person with two shares of one packet."""
    grabs = evidence.final["grabs"]
    pairs, counts = np.unique(grabs["packet"] * PEOPLE + grabs["person"], return_counts=True)
    words = [
        f"person {pair % PEOPLE} has {count} shares of packet {pair // PEOPLE}"
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
        if count > 1
    ]
    return Finding("double-grab", len(words), tuple(words[:20]))


def lost_grab(evidence: Evidence) -> Finding:
    """An acknowledged grab that is not there, or one that is there and was refused or failed."""
    there = evidence.final["grabs"]["id"]
    gone = np.setdiff1d(evidence.acknowledged("grab"), there)
    ghosts = np.intersect1d(evidence.must_not_exist("grab"), there)
    words = [f"grab {number} was acknowledged and is not in the table" for number in gone.tolist()]
    words += [f"grab {number} was refused or failed and is in the table" for number in ghosts.tolist()]
    return Finding("lost-grab", len(words), tuple(words[:20]))


RED_PACKET = Workload(
    name="red_packet",
    kinds=("grab",),
    answers=("none", "grabbed", "empty", "again"),
    arrivals=("grab",),
    refused=("empty", "again"),
    good="grabbed",
    noun="grab",
    tables=tables,
    invoked_types={"number": "int64", "kind": "uint8", "packet": "int64", "person": "int64", "luck": "float64"},
    invoked=invoked,
    ops=ops,
    options=(
        Option("packets", 2000, "how many red packets there are", least=1, most=1_000_000),
        Option("shares", 20, "in how many shares each of them is handed out", least=1, most=PEOPLE),
    ),
    checks=(
        Check("overpaid", overpaid, "A packet gave more money, or more shares, than it had."),
        Check("packet-balance", packet_balance, "What was grabbed of a packet and its rest are not the packet."),
        Check("double-grab", double_grab, "A person has two shares of one packet."),
        Check("lost-grab", lost_grab, "An acknowledged grab is missing, or a refused one is there."),
    ),
)


class Person(SessionUser):
    """One session."""

    workload = RED_PACKET

    @tag("grab")
    @task(1)
    def grab(self, grab: Grab) -> Body:
        """Take a random share, at most twice the mean of what is left; the last one takes the rest."""
        rest, shares, version = (yield (REST if CAREFUL else REST_UNLOCKED)(grab.packet)).rows[0]
        if not shares:
            raise Refused(EMPTY)
        if (yield HAS(grab.packet, grab.person)).rows:
            raise Refused(AGAIN)
        most = 2 * rest / shares
        fair = max(CENT, (most * Decimal(grab.luck)).quantize(CENT, ROUND_DOWN))
        amount = rest if shares == 1 else min(fair, rest - CENT * (shares - 1))
        taken = yield TAKE(rest - amount, shares - 1, grab.packet)
        yield KEEP(grab.number, grab.packet, grab.person, amount, datetime.now(UTC))
        return Reply(GRABBED, (versioned_row(0, grab.packet), version, taken.version))
