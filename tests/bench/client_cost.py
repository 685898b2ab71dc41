"""What an order costs the client: ours, as it drives, records and shows a run, beside a peer written in C.

``python -m tests.bench.client_cost --engine postgres`` runs both on one server in turns, closed, 32 sessions, four
round trips; ``--merge`` sends BEGIN and the INSERT with their neighbours, in two (PostgreSQL only).
"""

import argparse
import json

from loadgen.engines.engine import Engine
from tests.bench import four_statements
from tests.bench.driving import drive, server
from tests.bench.measured import Measured, median
from tests.bench.peers import PEERS


def measure(engine: Engine, wanted: str, repeats: int, duration_s: float, name: str) -> dict[str, object]:
    """The figures of ``repeats`` turns."""
    ours: list[Measured] = []
    peers: list[Measured] = []
    peer_name, peer = PEERS[wanted]
    missing = ""
    numbers = 0
    with server(wanted) as (_, address):
        for _ in range(repeats):
            try:
                peers.append(peer(address, duration_s))
            except OSError as error:
                missing = f"{peer_name} is missing: {error}"
            driven = drive(four_statements.plan(wanted, duration_s), engine, address, numbers)
            numbers += 10_000_000
            assert all(row.outcome == 0 for row in driven.rows), driven.rows[:3]
            ours.append(Measured(len(driven.rows), driven.cpu_s, duration_s))
            print(turn(ours[-1], peers[-1] if peers else None, peer_name))
    figures: dict[str, object] = {
        "name": name,
        "engine": wanted,
        "us_per_order": median([one.us_per_order for one in ours]),
        "orders_per_second": median([one.orders_per_second for one in ours]),
        "repeats": repeats,
    }
    if missing:
        print(missing)
        return {**figures, "peer": None}
    return {
        **figures,
        f"{peer_name}_us_per_order": median([one.us_per_order for one in peers]),
        f"{peer_name}_orders_per_second": median([one.orders_per_second for one in peers]),
        f"ratio_to_{peer_name}": median([a.us_per_order / b.us_per_order for a, b in zip(ours, peers, strict=True)]),
        "throughput_ratio": median(
            [a.orders_per_second / b.orders_per_second for a, b in zip(ours, peers, strict=True)]
        ),
    }


def turn(ours: Measured, peer: Measured | None, peer_name: str) -> str:
    """One repeat, for a person."""
    text = f"loadgen {ours.us_per_order:6.1f} µs/order {ours.orders_per_second:7,.0f} orders/s"
    if peer is not None:
        text += f"   {peer_name} {peer.us_per_order:6.1f} µs/order {peer.orders_per_second:7,.0f} orders/s"
    return text


def engine_of(wanted: str, *, merge: bool) -> Engine:
    """The engine of a benchmark; with ``merge`` its sessions need fewer round trips."""
    from loadgen import engines

    if not merge:
        return engines.engine_of(wanted)
    if wanted != "postgres":
        raise SystemExit(f"--merge: {wanted} has no such option")
    from loadgen.engines.postgres import Postgres

    return Postgres(merge_round_trips=True)


def main(name: str, description: str | None) -> None:
    """Measure what the command line asks for, and print it; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--engine", choices=sorted(PEERS), default="postgres")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--merge", action="store_true", help="two round trips an order instead of four")
    options = parser.parse_args()
    engine = engine_of(options.engine, merge=options.merge)
    figures = measure(engine, options.engine, options.repeats, options.seconds, name)
    print(json.dumps({**figures, "round_trips": 2 if options.merge else 4}))


if __name__ == "__main__":
    main("client_cost", __doc__)
