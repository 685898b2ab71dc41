"""Long fork: two readers that see two writes in opposite orders. Run it with ``locust -f workloads/longfork.py``.

Keys come in small groups. Each is written once, by a transaction of its own, while others read the whole group; under
snapshot isolation all readers agree on the order in which its keys appeared.
"""

from loadgen.load import SessionUser, tag, task
from loadgen.plan import Plan
from loadgen.probes.judging import probe_checks, probe_isolation
from loadgen.workload import Body, Reply, Statement, Table, Workload, probes
from loadgen.workload.probes import READ, ProbeAnswer, Transaction

READ_KEY = Statement("SELECT value FROM longfork WHERE id = :key")
INSERT_KEY = Statement("INSERT INTO longfork (id, value) VALUES (:key, :value)")


def tables(plan: Plan) -> tuple[Table, ...]:
    """One table, empty."""
    del plan
    create = "CREATE TABLE longfork (id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)"
    return (Table("longfork", create, dict.fromkeys(("id", "value"), "int64")),)


LONG_FORK = Workload(
    name="longfork",
    kinds=("transaction",),
    answers=probes.ANSWER_NAMES,
    arrivals=("transaction",),
    tables=tables,
    invoked_types=probes.TRANSACTION_COLUMNS,
    invoked=probes.long_fork_columns,
    ops=probes.transactions,
    refused=probes.REFUSED,
    noun="transaction",
    figures="transactions",
    all_kinds_count=True,
    no_objectives=probes.NO_OBJECTIVES,
    options=probes.OPTIONS,
    isolation=probe_isolation(),
    checks=probe_checks("lost-write", "ghost"),
)


class Forker(SessionUser):
    """One session."""

    workload = LONG_FORK

    @tag("transaction")
    @task(1)
    def transaction(self, transaction: Transaction) -> Body:
        """Write one key, or read a whole group."""
        touched: tuple[int, ...] = ()
        for act, key, value in transaction.micro_ops:
            if act == READ:
                rows = (yield READ_KEY(key)).rows
                touched += (2 * key, rows[0][0] if rows else 0, -1)
            else:
                yield INSERT_KEY(key, value)
                touched += (2 * key + 1, value, -1)
        return Reply(ProbeAnswer.COMMITTED, touched)
