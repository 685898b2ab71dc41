"""What ``--metrics-port`` costs the client: its CPU for an order with metrics and without, in turns on one server.

    python -m tests.bench.metrics_cost [--engine postgres|oceanbase|idle] [--repeats 7] [--seconds 5]

With metrics, another process scrapes once a second, native histograms included, which is five times as often as a
usual Prometheus. Open arrivals at 1,000 a second, then closed at full speed.
"""

import json
import socket
import subprocess
import sys
from contextlib import closing

from loadgen.engines.engine import Address, Engine
from loadgen.load.exposition import PROTOBUF_TYPE
from loadgen.load.metrics import LoadMetrics
from loadgen.load.metrics_server import serve
from loadgen.plan import Plan
from tests.bench import four_statements
from tests.bench.driving import drive, engine_option, server
from tests.bench.measured import median

RATE = 1_000.0
SCRAPE = """
import sys, time, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Accept": sys.argv[2]})
while True:
    urllib.request.urlopen(asked, timeout=5).read()
    time.sleep(1.0)
"""


def main() -> None:
    """Run the benchmark and print its figures."""
    name, repeats, seconds = engine_option("postgres", __doc__)
    figures: dict[str, object] = {}
    with server(name) as (engine, address):
        base = four_statements.plan(name, seconds)
        for load, plan in (("open", base.with_(shape="constant", peak_rate=RATE)), ("closed", base)):
            pairs = [pair(plan, engine, address, repeat) for repeat in range(repeats)]
            for without, told in pairs:
                print(f"{load}: {without:.1f} µs an order without metrics, {told:.1f} with ({told / without - 1:+.1%})")
            figures[f"us_per_order_{load}"] = median([without for without, _ in pairs])
            figures[f"share_{load}"] = median([100 * (told / without - 1) for without, told in pairs]) / 100
    print(json.dumps({"name": "metrics_cost", "engine": name, **figures, "repeats": repeats}))


def pair(plan: Plan, engine: Engine, address: Address, repeat: int) -> tuple[float, float]:
    """CPU microseconds an order without metrics, and with them; which comes first changes with each pair."""
    costs = {}
    for turn in (False, True) if repeat % 2 else (True, False):
        first = (hash((plan.shape, repeat, turn)) % 100_000) * 10_000
        costs[turn] = scraped(plan, engine, address, first) if turn else cost(plan, engine, address, first, None)
    return costs[False], costs[True]


def cost(plan: Plan, engine: Engine, address: Address, first: int, metrics: LoadMetrics | None) -> float:
    """CPU microseconds an order."""
    driven = drive(plan, engine, address, first, metrics)
    return driven.cpu_s / len(driven.rows) * 1e6


def scraped(plan: Plan, engine: Engine, address: Address, first: int) -> float:
    """The same with metrics that are scraped."""
    metrics = LoadMetrics(four_statements.WORKLOAD.words, tells_info=True)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = serve("127.0.0.1", [port], [metrics], "the benchmark")
    scraper = subprocess.Popen([sys.executable, "-c", SCRAPE, f"http://127.0.0.1:{port}/metrics", PROTOBUF_TYPE])
    try:
        return cost(plan, engine, address, first, metrics)
    finally:
        scraper.kill()
        scraper.wait()
        place.stop()


if __name__ == "__main__":
    main()
