"""Lists that only grow: the strongest probe of isolation. Run it with ``locust -f workloads/append.py``.

A transaction reads whole lists and appends unique values to them. A read shows every append before it, in order, so
the order of all writes of a key comes from the data itself. Lists are text, in three tables, as in Jepsen's tests of
SQL databases; ``--skus`` says how many keys are in use at a time. With ``--strategy pessimistic`` reads lock what they
read.
"""

from loadgen.load import SessionUser, tag, task
from loadgen.plan import Plan
from loadgen.probes.judging import probe_checks, probe_isolation
from loadgen.workload import Body, Reply, Statement, Table, Workload, probes
from loadgen.workload.probes import READ, ProbeAnswer, Transaction

TABLES = 3


def _append(table: str) -> Statement:
    return Statement(
        f"INSERT INTO {table} (id, list) VALUES (:key, :value) "
        f"ON CONFLICT (id) DO UPDATE SET list = {table}.list || ',' || excluded.list",
        mysql=f"INSERT INTO {table} (id, list) VALUES (:key, :value) "
        "ON DUPLICATE KEY UPDATE list = CONCAT(list, ',', :value)",
    )


NAMES = tuple(f"append_{index}" for index in range(TABLES))
APPEND = tuple(_append(name) for name in NAMES)
READ_LIST = tuple(Statement(f"SELECT list FROM {name} WHERE id = :key") for name in NAMES)
READ_LOCKED = tuple(Statement(f"SELECT list FROM {name} WHERE id = :key FOR UPDATE") for name in NAMES)


def tables(plan: Plan) -> tuple[Table, ...]:
    """Three tables of lists, empty: a key's first append makes its row."""
    del plan
    create = "CREATE TABLE {} (id BIGINT NOT NULL PRIMARY KEY, list TEXT NOT NULL)"
    return tuple(Table(name, create.format(name), {"id": "int64", "list": "string"}) for name in NAMES)


APPENDS = Workload(
    name="append",
    kinds=("transaction",),
    answers=probes.ANSWER_NAMES,
    arrivals=("transaction",),
    tables=tables,
    invoked_types=probes.TRANSACTION_COLUMNS,
    invoked=probes.append_columns,
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


class Appender(SessionUser):
    """One session."""

    workload = APPENDS

    @tag("transaction")
    @task(1)
    def transaction(self, transaction: Transaction) -> Body:
        """Read and append, in the order of the micro-operations."""
        read = READ_LOCKED if self.plan.strategy == "pessimistic" else READ_LIST
        touched: tuple[int, ...] = ()
        for act, key, value in transaction.micro_ops:
            if act == READ:
                rows = (yield read[key % TABLES](key)).rows
                elements = tuple(map(int, rows[0][0].split(","))) if rows else ()
                filled = elements + (-1,) * (len(elements) % 2)
                touched += (2 * key, len(elements), -1)
                for index in range(0, len(filled), 2):
                    touched += (-1, *filled[index : index + 2])
            else:
                yield APPEND[key % TABLES](key, str(value))
                touched += (2 * key + 1, value, -1)
        return Reply(ProbeAnswer.COMMITTED, touched)
