"""What recording an op costs in a live run: taking the row, Arrow batch, history file, Locust's statistics, live view.

    python -m tests.bench.recording [--engine idle|postgres|oceanbase] [--repeats 5] [--seconds 5]

CPU time of the gevent side's thread for each recorded op, at 2,000 open arrivals a second (small batches, the dear
case) and closed at full speed (large ones); beside it ``events.request.fire`` alone, with nothing listening but
Locust's own statistics, and no history.
"""

import json
import time

from locust.env import Environment

from loadgen.plan import Plan
from tests.bench import four_statements
from tests.bench.driving import drive, engine_option, server
from tests.bench.measured import median

RATE = 2_000.0
FIRED = 20_000


def main() -> None:
    """Run the benchmark and print its figures."""
    engine_name, repeats, seconds = engine_option("idle", __doc__)
    open_us, closed_us, fire_us = [], [], []
    print(f"recording one op, engine {engine_name}, {seconds:g} s each: CPU microseconds")
    with server(engine_name) as (engine, address):
        for repeat in range(repeats):
            base = four_statements.plan(engine_name, seconds)
            plans = (base.with_(shape="constant", peak_rate=RATE), base)
            costs = []
            for index, plan in enumerate(plans):
                driven = drive(_fresh(plan, repeat), engine, address, first_number=(2 * repeat + index) * 10_000_000)
                costs.append(driven.record_ns / driven.recorded / 1e3)
            open_us.append(costs[0])
            closed_us.append(costs[1])
            fire_us.append(fire())
            print(f"  open {open_us[-1]:.2f}  closed {closed_us[-1]:.2f}  events.request.fire {fire_us[-1]:.2f}")
    figures = {
        "us_per_op": median(open_us),
        "us_per_op_closed": median(closed_us),
        "request_fire_us_per_op": median(fire_us),
    }
    print(json.dumps({"name": "recording", "engine": engine_name, **figures, "repeats": repeats}))


def _fresh(plan: Plan, repeat: int) -> Plan:
    """The plan of one repeat, with arrivals of its own."""
    return plan.with_(seed=repeat + 1)


def fire() -> float:
    """CPU microseconds of one ``events.request.fire`` in Locust's own way."""
    environment = Environment()
    environment.create_local_runner()
    begun = time.thread_time_ns()
    for _ in range(FIRED):
        environment.events.request.fire(
            request_type="op", name="order", response_time=5.0, response_length=0, exception=None, context={}
        )
    return (time.thread_time_ns() - begun) / FIRED / 1e3


if __name__ == "__main__":
    main()
