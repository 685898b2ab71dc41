"""What an order costs the client: ours, as it drives, records and shows a run, beside a peer written in C.

``python -m tests.bench.client_cost --engine postgres`` runs both on one server in turns, closed, 32 sessions, four
round trips; ``--merge`` sends BEGIN and the INSERT with their neighbours, in two (PostgreSQL only).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

from loadgen.clock import NS_PER_S
from loadgen.engines.engine import Address, Engine
from loadgen.op import Outcome
from tests.bench import four_statements
from tests.bench.driving import drive, server
from tests.bench.measured import Measured, median
from tests.bench.peers import PEERS


@dataclass(frozen=True)
class Turns:
    """What both did, turn by turn; ``missing`` says why the peer did nothing."""

    ours: list[Measured]
    peers: list[Measured]
    missing: str = ""

    def figures(self, what: Callable[[Measured], float], name: str, peer: str) -> dict[str, object]:
        """The medians of one figure, ours and the peer's, and the median of the ratios turn by turn."""
        ours = {name: median([what(one) for one in self.ours])}
        if self.missing:
            return {**ours, f"{peer}_{name}": None, f"ratio_to_{peer}": None, "missing": self.missing}
        ratios = [what(one) / what(other) for one, other in zip(self.ours, self.peers, strict=True)]
        return {**ours, f"{peer}_{name}": median([what(one) for one in self.peers]), f"ratio_to_{peer}": median(ratios)}


def take_turns(engine: Engine, wanted: str, repeats: int, duration_s: float) -> Turns:
    """Run the peer and ourselves on one server, ``repeats`` times each; who goes first changes with each turn."""
    ours: list[Measured] = []
    peers: list[Measured] = []
    peer_name, peer = PEERS[wanted]
    missing = ""
    with server(wanted) as (_, address):
        for turn in range(repeats):
            if turn % 2:
                ours.append(drive_once(engine, wanted, address, turn, duration_s))
            if not missing:
                try:
                    peers.append(peer(address, duration_s))
                except OSError as error:
                    missing = f"no figures of {peer_name}: {error}"
                    peers.clear()
                    print(missing)
            if not turn % 2:
                ours.append(drive_once(engine, wanted, address, turn, duration_s))
            shown = [("loadgen", ours[-1]), *([(peer_name, peers[-1])] if peers else [])]
            print(
                "   ".join(f"{who} {it.us_per_order:.1f} µs/order, {it.orders_per_second:,.0f}/s" for who, it in shown)
            )
    return Turns(ours, peers, missing)


def drive_once(engine: Engine, wanted: str, address: Address, turn: int, duration_s: float) -> Measured:
    """One turn of ours. Each has numbers of its own: an order's id is its token, and must be new."""
    driven = drive(four_statements.plan(wanted, duration_s), engine, address, turn * 10_000_000)
    assert all(row.outcome == Outcome.OK for row in driven.rows), driven.rows[:3]
    wall_ns = max(row.done for row in driven.rows) - min(row.sent for row in driven.rows)
    return Measured(len(driven.rows), driven.cpu_s, wall_ns / NS_PER_S)


def engine_of(wanted: str, *, merge: bool) -> Engine:
    """The engine of a benchmark; with ``merge`` its sessions need fewer round trips."""
    from loadgen import engines

    if not merge:
        return engines.engine_of(wanted)
    if wanted != "postgres":
        raise SystemExit(f"--merge: {wanted} has no such option")
    from loadgen.engines.postgres import Postgres

    return Postgres(merge_round_trips=True)


def main(name: str, description: str | None, what: Callable[[Measured], float], figure: str) -> None:
    """Measure what the command line asks for, and print it; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--engine", choices=sorted(PEERS), default="postgres")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--merge", action="store_true", help="two round trips an order instead of four")
    options = parser.parse_args()
    engine = engine_of(options.engine, merge=options.merge)
    turns = take_turns(engine, options.engine, options.repeats, options.seconds)
    facts = {"engine": options.engine, "round_trips": 2 if options.merge else 4, "repeats": options.repeats}
    print(json.dumps({"name": name, **turns.figures(what, figure, PEERS[options.engine][0]), **facts}))


if __name__ == "__main__":
    main("client_cost", __doc__, lambda measured: measured.us_per_order, "us_per_order")
