"""The order that every cost is measured with: BEGIN, a conditional UPDATE, an INSERT, COMMIT; 1,000 SKUs, uniform."""

from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Shopping
from loadgen.workload import Body, Refused, Reply, Statement, Table, Workload
from tests.plans import sale_plan

SKUS = 1_000
SESSIONS = 32
STOCK = 1_000_000_000

CREATE_STOCK = """CREATE TABLE stock (
    sku INT NOT NULL PRIMARY KEY, available INT NOT NULL, version BIGINT NOT NULL)"""
CREATE_ORDERS = """CREATE TABLE orders (
    id BIGINT NOT NULL PRIMARY KEY, user_id INT NOT NULL, sku INT NOT NULL, qty INT NOT NULL)"""

DEDUCT = Statement(
    "UPDATE stock SET available = available - :qty, {bump} WHERE sku = :sku AND available >= :qty {bumped}"
)
INSERT = Statement("INSERT INTO orders (id, user_id, sku, qty) VALUES (:id, :user, :sku, :qty)", blind=True)


def order(wanted: Shopping) -> Body:
    """One order. Its id is the token, spread over all numbers as the peers' random ids are."""
    written = yield DEDUCT(1, wanted.sku_a)
    if not written.rowcount:
        raise Refused(Answer.SOLD_OUT)
    yield INSERT(wanted.token, wanted.user, wanted.sku_a, 1)
    return Reply(Answer.PLACED, (wanted.sku_a, -1, written.version))


def tables(plan: Plan) -> tuple[Table, ...]:
    """The two tables, with stock for ever."""
    stock = [(sku, STOCK, 0) for sku in range(plan.skus)]
    return (
        Table("stock", CREATE_STOCK, {"sku": "int32", "available": "int64", "version": "int64"}, stock),
        Table("orders", CREATE_ORDERS, {"id": "int64", "user_id": "int64", "sku": "int64", "qty": "int64"}),
    )


def plan(engine: str, duration_s: float) -> Plan:
    """A closed run of the four statements."""
    return sale_plan(
        workload=WORKLOAD.name,
        engine=engine,
        skus=SKUS,
        skew="uniform",
        shape="closed",
        duration_s=duration_s,
        sessions=SESSIONS,
        kind_weights=(("order", 1),),
    )


WORKLOAD = Workload(
    name="four-statements",
    kinds=("order",),
    answers=sale.ANSWER_NAMES,
    arrivals=("order",),
    checks=(),
    tables=tables,
    invoked_types=sale.INVOKED_COLUMNS,
    invoked=sale.invoked,
    ops=sale.shoppings,
)
