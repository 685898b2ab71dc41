"""Registers: rows that are read and overwritten by unique values. Run it with ``locust -f workloads/register.py``.

The database counts each row's writes in ``version``, so the order of all writes comes from the data, as in the sale.
``--skus`` says how many registers there are. With ``--strategy pessimistic`` reads lock what they read.
"""

from loadgen.load import SessionUser, tag, task
from loadgen.plan import Plan
from loadgen.probes.judging import probe_checks, probe_isolation
from loadgen.workload import Body, Reply, Statement, Table, Workload, probes
from loadgen.workload.probes import READ, ProbeAnswer, Transaction

READ_REGISTER = Statement("SELECT value, version FROM register WHERE id = :key")
READ_LOCKED = Statement("SELECT value, version FROM register WHERE id = :key FOR UPDATE")
WRITE_REGISTER = Statement("UPDATE register SET value = :value, {bump} WHERE id = :key {bumped}")


def tables(plan: Plan) -> tuple[Table, ...]:
    """One table, with every register at value 0 and version 0."""
    create = """CREATE TABLE register (
        id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL, version BIGINT NOT NULL)"""
    rows = [(key, 0, 0) for key in range(plan.skus)]
    return (Table("register", create, dict.fromkeys(("id", "value", "version"), "int64"), rows),)


REGISTERS = Workload(
    name="register",
    kinds=("transaction",),
    answers=probes.ANSWER_NAMES,
    arrivals=("transaction",),
    tables=tables,
    invoked_types=probes.TRANSACTION_COLUMNS,
    invoked=probes.register_columns,
    ops=probes.transactions,
    refused=probes.REFUSED,
    noun="transaction",
    figures="transactions",
    all_kinds_count=True,
    no_objectives=probes.NO_OBJECTIVES,
    options=probes.OPTIONS,
    isolation=probe_isolation(),
    checks=probe_checks("lost-write", "ghost", "phantom-write"),
)


class Registrar(SessionUser):
    """One session."""

    workload = REGISTERS

    @tag("transaction")
    @task(1)
    def transaction(self, transaction: Transaction) -> Body:
        """Read and write, in the order of the micro-operations."""
        read = READ_LOCKED if self.plan.strategy == "pessimistic" else READ_REGISTER
        touched: tuple[int, ...] = ()
        for act, key, value in transaction.micro_ops:
            if act == READ:
                seen, version = (yield read(key)).rows[0]
                touched += (2 * key, seen, version)
            else:
                written = yield WRITE_REGISTER(value, key)
                touched += (2 * key + 1, value, written.version)
        return Reply(ProbeAnswer.COMMITTED, touched)
