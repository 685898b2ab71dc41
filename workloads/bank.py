"""A bank: transfers between accounts, and reads of them all. Run it with ``locust -f workloads/bank.py``.

Transfers do not change the total. A read selects each account in a separate statement, so only a snapshot of the whole
transaction shows the right total. The database counts each account's writes in ``version``, so a lost transfer that was
acknowledged is always found. Transfers move money as ``--strategy`` says: naive reads and writes back, pessimistic
locks as it reads, every other one adds and subtracts in the database.
"""

from collections.abc import Generator

from loadgen.load import SessionUser, tag, task
from loadgen.plan import Plan
from loadgen.probes.judging import probe_checks, probe_isolation
from loadgen.workload import Body, Call, Refused, Reply, Result, Statement, Table, Workload, probes
from loadgen.workload.probes import ACCOUNTS, OPENING_BALANCE, WRITE, Movement, ProbeAnswer

READ_BALANCE = Statement("SELECT balance FROM accounts WHERE id = :id")
READ_LOCKED = Statement("SELECT balance FROM accounts WHERE id = :id FOR UPDATE")
WRITE_BACK = Statement("UPDATE accounts SET balance = :balance, {bump} WHERE id = :id {bumped}")
ADD = Statement("UPDATE accounts SET balance = balance + :amount, {bump} WHERE id = :id {bumped}")
TAKE = Statement(
    "UPDATE accounts SET balance = balance - :amount, {bump} WHERE id = :id AND balance >= :amount {bumped}"
)


def tables(plan: Plan) -> tuple[Table, ...]:
    """One table, with every account at its opening balance."""
    del plan
    create = """CREATE TABLE accounts (
        id BIGINT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL)"""
    rows = [(account, OPENING_BALANCE, 0) for account in range(ACCOUNTS)]
    return (Table("accounts", create, dict.fromkeys(("id", "balance", "version"), "int64"), rows),)


BANK = Workload(
    name="bank",
    kinds=("transfer", "total"),
    answers=probes.ANSWER_NAMES,
    arrivals=("transfer", "total"),
    tables=tables,
    invoked_types=probes.BANK_COLUMNS,
    invoked=probes.bank_columns,
    ops=probes.movements,
    refused=probes.REFUSED,
    noun="transaction",
    figures="transactions",
    all_kinds_count=True,
    no_objectives=probes.NO_OBJECTIVES,
    options=probes.OPTIONS,
    isolation=probe_isolation(),
    checks=probe_checks("lost-write", "phantom-write"),
)


Touched = tuple[int, ...]


def _computed(movement: Movement, read: Statement) -> Generator[Call, Result, Touched]:
    # Accounts in ascending order, so that two transfers never wait for each other.
    changes = sorted(((movement.source, -movement.amount), (movement.target, movement.amount)))
    balances = []
    for account, change in changes:
        balance = (yield read(account)).rows[0][0] + change
        if balance < 0:
            raise Refused(ProbeAnswer.INSUFFICIENT)
        balances.append((balance, account))
    touched: Touched = ()
    for balance, account in balances:
        written = yield WRITE_BACK(balance, account)
        touched += (2 * account + WRITE, balance, written.version)
    return touched


def _in_place(movement: Movement) -> Generator[Call, Result, Touched]:
    touched: Touched = ()
    for account, statement in sorted(((movement.source, TAKE), (movement.target, ADD)), key=lambda pair: pair[0]):
        moved = yield statement(movement.amount, account)
        if not moved.rowcount:
            raise Refused(ProbeAnswer.INSUFFICIENT)
        touched += (2 * account + WRITE, movement.amount, moved.version)
    return touched


class Teller(SessionUser):
    """One session: as many transfers as reads of the total."""

    workload = BANK

    @tag("transfer")
    @task(1)
    def transfer(self, movement: Movement) -> Body:
        """Move an amount, if the source holds it."""
        if self.plan.strategy == "naive":
            touched = yield from _computed(movement, READ_BALANCE)
        elif self.plan.strategy == "pessimistic":
            touched = yield from _computed(movement, READ_LOCKED)
        else:
            touched = yield from _in_place(movement)
        return Reply(ProbeAnswer.COMMITTED, touched)

    @tag("total")
    @task(1)
    def total(self, movement: Movement) -> Body:
        """Read every account, each by itself, in one transaction."""
        touched: tuple[int, ...] = ()
        for step in range(ACCOUNTS):
            account = (movement.source + step) % ACCOUNTS
            touched += (2 * account, (yield READ_BALANCE(account)).rows[0][0], -1)
        return Reply(ProbeAnswer.COMMITTED, touched)
