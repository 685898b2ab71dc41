"""Do arrivals leave when they are due? Poisson at 2,000 a second, 32 sessions, history and live view on.

    python -m tests.bench.arrivals [--engine idle|postgres|oceanbase] [--repeats 5] [--seconds 5]

``idle`` is a server that answers at once, so that what is late is late through the client. Lag is sent - due. Beside
it, in turns, how late the machine itself wakes a process that does nothing but sleep to the same instants.
"""

import json

import numpy as np
from gevent import monkey

from loadgen.clock import NS_PER_S, now_ns
from loadgen.load.arrivals import plan_arrivals
from loadgen.op import Outcome
from loadgen.plan import Plan
from tests.bench import four_statements
from tests.bench.driving import Driven, drive, engine_option, server
from tests.bench.measured import median

RATE = 2_000.0


def main() -> None:
    """Run the benchmark and print its figures."""
    engine_name, repeats, seconds = engine_option("idle", __doc__)
    figures: list[dict[str, float]] = []
    print(f"Poisson arrivals at {RATE:,.0f}/s for {seconds:g} s, engine {engine_name}")
    with server(engine_name) as (engine, address):
        for repeat in range(repeats):
            plan = four_statements.plan(engine_name, seconds).with_(shape="constant", peak_rate=RATE, seed=repeat + 1)
            driven = drive(plan, engine, address, first_number=repeat * 10_000_000)
            figures.append(measured(plan, driven) | {"sleeper_lag_p999_us": sleeper_lag_us(plan)})
            print("  " + "  ".join(f"{name} {value:,.2f}" for name, value in figures[-1].items()))
    medians = {name: median([figure[name] for figure in figures]) for name in figures[0]}
    print(json.dumps({"name": "arrivals", "engine": engine_name, **medians, "repeats": repeats}))


def measured(plan: Plan, driven: Driven) -> dict[str, float]:
    """The figures of one repeat."""
    due = sum(len(chunk) for chunk in plan_arrivals(plan, four_statements.WORKLOAD, 0, 1))
    started = [row for row in driven.rows if row.outcome != Outcome.SKIPPED]
    lag_us = np.array([row.sent - row.due for row in started]) / 1e3
    sent_s = (max(row.sent for row in started) - min(row.due for row in started)) / NS_PER_S
    return {
        "due": due,
        "sent": len(started),
        "missing_percent": abs(due - len(started)) / due * 100,
        "sent_per_second": len(started) / sent_s,
        "lag_p50_us": float(np.percentile(lag_us, 50)),
        "lag_p99_us": float(np.percentile(lag_us, 99)),
        "lag_p999_us": float(np.percentile(lag_us, 99.9)),
        "lag_max_us": float(lag_us.max()),
        "client_us_per_order": driven.cpu_s / len(started) * 1e6,
    }


def sleeper_lag_us(plan: Plan) -> float:
    """The p99.9 of how late this thread wakes when it sleeps to each arrival of the plan's first second."""
    sleep = monkey.get_original("time", "sleep")
    start = now_ns()
    lags_ns = []
    for chunk in plan_arrivals(plan.with_(duration_s=1.0), four_statements.WORKLOAD, 0, 1):
        for offset in chunk:
            left_ns = start + offset - now_ns()
            if left_ns > 0:
                sleep(left_ns / NS_PER_S)
                lags_ns.append(now_ns() - start - offset)
    return float(np.percentile(lags_ns, 99.9)) / 1e3


if __name__ == "__main__":
    main()
