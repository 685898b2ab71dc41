"""Embedded servers for trials, and runs against them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadgen import clusters
from loadgen.clusters.cluster import Cluster, Place
from tests.plans import sale_plan

WIRES = {"postgres": "postgres", "mysql": "mysql", "tidb": "mysql", "oceanbase": "mysql"}


@contextmanager
def server(engine: str) -> Iterator[Cluster]:
    """An embedded server of ``engine``, gone at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="trial-logs-") as logs:
        cluster = clusters.start(
            sale_plan(engine=engine, cluster="embedded"), Place(logs=Path(logs), say=lambda _: None)
        )
        try:
            yield cluster
        finally:
            cluster.stop(keep=False)


def proxied_dsn(engine: str, cluster: Cluster, port: int) -> str:
    """The DSN by which a load reaches ``cluster`` through a proxy on ``port``."""
    from urllib.parse import quote

    address = cluster.address
    user = quote(address.user, safe="") + (f":{quote(address.password, safe='')}" if address.password else "")
    if engine == "postgres":
        return f"postgres://{user}@127.0.0.1:{port}/{address.database}"
    return f"mysql://{user}@127.0.0.1:{port}/{address.database}"
