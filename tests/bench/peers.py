"""The peers: clients in C that run the same four statements, one for each wire."""

from collections.abc import Callable

from loadgen.engines.engine import Address
from tests.bench.measured import Measured
from tests.bench.peer_pgbench import pgbench
from tests.bench.peer_sysbench import sysbench

PEERS: dict[str, tuple[str, Callable[[Address, float], Measured]]] = {
    "postgres": ("pgbench", pgbench),
    "mysql": ("sysbench", sysbench),
    "tidb": ("sysbench", sysbench),
    "oceanbase": ("sysbench", sysbench),
}
"""``{engine: (name, run)}``; ``run`` raises OSError where the peer is not installed."""
