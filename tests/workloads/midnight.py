"""Deposit now, balance at midnight, and a receipt for some: a workload whose follow-ups and phase are rules."""

from typing import Any, NamedTuple

import numpy as np

from loadgen.load import SessionUser, task
from loadgen.workload import (
    Body,
    Check,
    Evidence,
    Finding,
    FollowUp,
    Phase,
    Plan,
    Reply,
    Statement,
    Table,
    Workload,
    single_statement,
    versioned_row,
)

ACCOUNTS = 100
DEPOSITED, BALANCED, SENT = 1, 2, 3
DEPOSIT = Statement("UPDATE accounts SET balance = balance + 1, {bump} WHERE id = :account {bumped}")
BALANCE = Statement("SELECT balance, version FROM accounts WHERE id = :account")


class Customer(NamedTuple):
    """What one number means."""

    number: int
    kind: int
    account: int


def tables(plan: Plan) -> tuple[Table, ...]:
    """Accounts, all empty."""
    del plan
    create = "CREATE TABLE accounts (id BIGINT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL)"
    rows = [(account, 0, 0) for account in range(ACCOUNTS)]
    kinds = dict.fromkeys(("id", "balance", "version"), "int64")
    return (Table("accounts", create, kinds, rows, version="version", row="id"),)


def invoked(plan: Plan, first: int, count: int) -> dict[str, Any]:
    """Each number deposits into one account."""
    del plan
    numbers = np.arange(first, first + count, dtype=np.int64)
    return {"number": numbers, "kind": np.zeros(count, np.uint8), "account": numbers * 7 % ACCOUNTS}


def ops(plan: Plan, columns: Any) -> list[Customer]:
    """The same as values."""
    del plan
    return [Customer(*each) for each in zip(*(columns[name].tolist() for name in MIDNIGHT.invoked_types), strict=True)]


def lost_deposit(evidence: Evidence) -> Finding:
    """Less money than was deposited for certain, or more than may have been."""
    least = len(evidence.acknowledged("deposit"))
    most = least + len(evidence.may_have_happened("deposit"))
    money = int(evidence.final["accounts"]["balance"].sum())
    words = () if least <= money <= most else (f"{least} to {most} were deposited, and {money} are there",)
    return Finding("lost-deposit", len(words), words)


MIDNIGHT = Workload(
    name="midnight",
    kinds=("deposit", "balance", "receipt"),
    answers=("none", "deposited", "balanced", "sent"),
    arrivals=("deposit",),
    follow_ups=(
        FollowUp("deposit", "deposited", "balance", at="midnight", delay=(0.0, 0.2)),
        FollowUp("balance", "balanced", "receipt", share=0.5, delay=0.01),
    ),
    phases=(Phase("midnight", at=0.5),),
    shapes={"day": lambda time: 1.0 if time < 0.4 else 0.0},
    tables=tables,
    invoked_types={"number": "int64", "kind": "uint8", "account": "int64"},
    invoked=invoked,
    ops=ops,
    checks=(Check("lost-deposit", lost_deposit, "Money that is not what was deposited."),),
)


class Visitor(SessionUser):
    """One session."""

    workload = MIDNIGHT

    @task
    def deposit(self, customer: Customer) -> Body:
        """Pay one in."""
        paid = yield DEPOSIT(customer.account)
        return Reply(DEPOSITED, (versioned_row(0, customer.account), -1, paid.version))

    @task
    @single_statement
    def balance(self, customer: Customer) -> Body:
        """Read the account at the end of the day."""
        _, version = (yield BALANCE(customer.account)).rows[0]
        return Reply(BALANCED, (versioned_row(0, customer.account), version, -1))

    @task
    @single_statement
    def receipt(self, customer: Customer) -> Body:
        """Read it once more."""
        _, version = (yield BALANCE(customer.account)).rows[0]
        return Reply(SENT, (versioned_row(0, customer.account), version, -1))
