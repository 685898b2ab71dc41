"""Seats of a few venues, reserved and given back: a workload of somebody else's, in one file."""

from typing import Any, NamedTuple

import numpy as np

from loadgen.load import SessionUser, tag, task
from loadgen.workload import (
    Body,
    Check,
    Evidence,
    Finding,
    FollowUp,
    Option,
    Plan,
    Refused,
    Reply,
    Statement,
    Table,
    Workload,
    single_statement,
    versioned_row,
)

SEATS = 50
KINDS, ANSWERS = ("reserve", "refund", "look"), ("none", "reserved", "taken", "refunded", "kept", "seen")
RESERVED, TAKEN, REFUNDED, KEPT, SEEN = range(1, 6)
VENUE, SEAT = 0, 1
"""The tables with a version column, by their place."""
CAREFUL = True

HOLDER = Statement("SELECT holder, version FROM seats WHERE id = :seat FOR UPDATE")
HOLDER_UNLOCKED = Statement("SELECT holder, version FROM seats WHERE id = :seat")
HOLD = Statement("UPDATE seats SET holder = :holder, {bump} WHERE id = :seat {bumped}")
GIVE_BACK = Statement("UPDATE seats SET holder = 0, {bump} WHERE id = :seat AND holder = :holder {bumped}")
COUNT = Statement("UPDATE venues SET held = held + :more, {bump} WHERE id = :venue {bumped}")
LOOK = Statement("SELECT held, version FROM venues WHERE id = :venue")


class Ticket(NamedTuple):
    """What one number means."""

    number: int
    kind: int
    venue: int
    seat: int


def tables(plan: Plan) -> tuple[Table, ...]:
    """Venues, and SEATS seats in each of them."""
    venues = "CREATE TABLE venues (id BIGINT NOT NULL PRIMARY KEY, held BIGINT NOT NULL, version BIGINT NOT NULL)"
    seats = "CREATE TABLE seats (id BIGINT NOT NULL PRIMARY KEY, holder BIGINT NOT NULL, version BIGINT NOT NULL)"
    filled = [(seat, 0, 0) for seat in range(plan.venues * SEATS)]
    kept = ("id", "version")
    return (
        Table(
            "venues",
            venues,
            dict.fromkeys((*kept, "held"), "int64"),
            filled[: plan.venues],
            version="version",
            row="id",
        ),
        Table("seats", seats, dict.fromkeys((*kept, "holder"), "int64"), filled, version="version", row="id"),
    )


def invoked(plan: Plan, first: int, count: int) -> dict[str, Any]:
    """One in five looks; the others reserve a seat."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    random = np.random.default_rng((plan.seed, first))
    kinds = np.where(random.random(count) < 0.2, 2, 0).astype(np.uint8)
    return {"number": numbers, "kind": kinds, "seat": random.integers(0, plan.venues * SEATS, count)}


def ops(plan: Plan, columns: Any) -> list[Ticket]:
    """The same as values."""
    rows = zip(*(columns[name].tolist() for name in ("number", "kind", "seat")), strict=True)
    return [Ticket(number, kind, seat // SEATS, seat) for number, kind, seat in rows]


def double_booking(evidence: Evidence) -> Finding:
    """More reservations of a seat than refunds, and one, can explain."""
    booked = evidence.acknowledged("reserve")
    seats = np.bincount(evidence.meaning(booked)["seat"], minlength=evidence.plan.venues * SEATS)
    given = np.union1d(evidence.acknowledged("refund"), evidence.may_have_happened("refund"))
    freed = np.bincount(evidence.meaning(given)["seat"], minlength=len(seats))
    words = [
        f"seat {seat} was reserved {seats[seat]} times, and given back at most {freed[seat]} times"
        for seat in np.flatnonzero(seats > freed + 1)
    ]
    return Finding("double-booking", len(words), tuple(words[:5]))


TICKETS = Workload(
    name="tickets",
    kinds=KINDS,
    answers=ANSWERS,
    arrivals=("reserve", "look"),
    follow_ups=(FollowUp("reserve", "reserved", "refund", delay=0.02),),
    refused=("taken", "kept"),
    good="reserved",
    noun="reservation",
    tables=tables,
    invoked_types={"number": "int64", "kind": "uint8", "seat": "int64"},
    invoked=invoked,
    ops=ops,
    options=(Option("venues", 4, "how many venues there are", least=1, most=1000),),
    checks=(Check("double-booking", double_booking, "A seat that two people hold."),),
)


class Visitor(SessionUser):
    """One session."""

    workload = TICKETS

    @tag("reserve")
    @task(8)
    def reserve(self, ticket: Ticket) -> Body:
        """Hold the seat, if nobody does."""
        holder, version = (yield (HOLDER if CAREFUL else HOLDER_UNLOCKED)(ticket.seat)).rows[0]
        if holder:
            raise Refused(TAKEN)
        held = yield HOLD(ticket.number + 1, ticket.seat)
        counted = yield COUNT(1, ticket.venue)
        seat, venue = versioned_row(SEAT, ticket.seat), versioned_row(VENUE, ticket.venue)
        return Reply(RESERVED, (seat, version, held.version, venue, -1, counted.version))

    @tag("refund")
    @task(8)
    def refund(self, ticket: Ticket) -> Body:
        """Give the seat back, if this op's number still holds it."""
        given = yield GIVE_BACK(ticket.seat, ticket.number + 1)
        if not given.rowcount:
            raise Refused(KEPT)
        counted = yield COUNT(-1, ticket.venue)
        seat, venue = versioned_row(SEAT, ticket.seat), versioned_row(VENUE, ticket.venue)
        return Reply(REFUNDED, (seat, -1, given.version, venue, -1, counted.version))

    @tag("look")
    @task(2)
    @single_statement
    def look(self, ticket: Ticket) -> Body:
        """Look at one venue."""
        _, version = (yield LOOK(ticket.venue)).rows[0]
        return Reply(SEEN, (versioned_row(VENUE, ticket.venue), version, -1))
