"""HAProxy in front of the MySQL wire, with time-outs shorter than a run's pauses: valid, or refused in one line."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.engines.heartbeat import Heartbeat
from tests.conftest import skip_or_fail
from tests.plans import sale_plan
from tests.poolers import haproxy, program
from tests.sale_runs import run_sale
from workloads import flashsale

ENGINES = ("mysql", "tidb", "oceanbase")
pytestmark = [pytest.mark.server, pytest.mark.parametrize("engine", ENGINES)]


@pytest.fixture(autouse=True)
def installed(engine: str) -> None:
    """Skip where HAProxy is missing, or fail where the engine must not be skipped."""
    if program("haproxy") is None:
        skip_or_fail(engine, "haproxy is not installed")


def test_run_through_a_proxy_that_cuts_what_is_silent_is_valid(tmp_path: Path, engine: str, cluster: Cluster) -> None:
    """The sessions of a low rate, the control connection during the load, and the lock with it."""
    with haproxy([cluster.address], client_s=1, server_s=1) as address:
        password = f":{address.password}" if address.password else ""
        run = run_sale(
            tmp_path,
            *("--engine", engine, "--shape", "constant", "--peak-rate", "4", "--duration", "3s", "-u", "6"),
            environment={"LOADGEN_DSN": f"mysql://{address.user}{password}@127.0.0.1:{address.port}/"},
        )

    assert run.exit_code in (0, 2), run
    assert "Traceback" not in run.told
    if run.exit_code == 0:
        assert run.summary["verdict"] == "valid" and run.summary["orders"]["placed"], run
    else:
        assert run.stderr.count("loadgen:") == 1, run


def test_lock_outlives_every_connection(engine: str, cluster: Cluster) -> None:
    """It is a row that is renewed: whatever becomes of the connection that took it, nobody else gets it."""
    server = engine_of(engine)
    with (
        haproxy([cluster.address], client_s=0.5, server_s=0.5) as address,
        closing(server.control(address, "first")) as first,
    ):
        first.lock()
        heartbeat = Heartbeat(lambda: server.control(address, "first"), lambda _: None)
        try:
            first.prepare(flashsale.tables(sale_plan(skus=2, stock=10)))
            time.sleep(5)  # the connection is cut ten times over meanwhile
            with closing(server.control(address, "second")) as second:
                rows = second.query("SELECT run FROM loadgen.loadgen_lock")
            assert rows == [("first",)] and not heartbeat.lost
            first.beat()
        finally:
            heartbeat.stop()
            first.unlock()
