"""Every engine, embedded and in a container, under pressure: the sound strategy holds, and the naive one is caught.

The sixteen runs are printed as a table at the end of the session.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from loadgen.clusters.images import image_variables
from loadgen.plan import ENGINES
from tests.sale_runs import PRESSURE, EndedRun, assert_adds_up, best_sellers_sold, run_sale

DURATION_S = 4
EDITIONS = {
    "postgres": {"postgresql"},
    "mysql": {"community"},
    "tidb": {"unistore"},
    "oceanbase": {"seekdb", "oceanbase-ce"},
}
"""What one node of each engine is; OceanBase by its image."""
CLUSTERS = (
    pytest.param("embedded", marks=pytest.mark.server),
    pytest.param("container", marks=pytest.mark.container),
)


def pressed(
    tmp_path: Path, engine: str, cluster: str, strategy: str, stock: int, record: Callable[[str, object], None]
) -> EndedRun:
    """A short run at read committed on a server of its own, recorded for the table."""
    options = ("--engine", engine, "--cluster", cluster, "--strategy", strategy, "--stock", str(stock))
    environment = image_variables() if cluster == "container" else {}
    run = run_sale(tmp_path, *options, *PRESSURE, "--duration", f"{DURATION_S}s", environment=environment)
    record("run", str(run.directory))
    return run


def assert_is(run: EndedRun, engine: str, cluster: str) -> None:
    """The run is what it was to be, in its own words, and its account adds up."""
    assert_adds_up(run)
    server = run.summary["engine"]
    assert (server["name"], server["cluster"], server["isolation"]) == (engine, cluster, "read committed")
    assert server["edition"] in EDITIONS[engine]
    assert server["edition"] == run.plan["engine"]["edition"]
    assert server["version"]
    assert run.summary["complete"] is True


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_atomic_sale_under_pressure_is_valid(
    tmp_path: Path, engine: str, cluster: str, record_property: Callable[[str, object], None]
) -> None:
    """More stock than can be sold: everybody queues for one row, and nothing is lost."""
    run = pressed(tmp_path, engine, cluster, "atomic", 100_000, record_property)

    assert run.exit_code == 0, run
    assert_is(run, engine, cluster)
    assert run.summary["verdict"] == "valid"
    assert not run.found
    assert run.summary["orders"]["placed"] > 100
    assert run.summary["orders"]["sold_out"] == 0


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_naive_sale_under_pressure_loses_updates_and_oversells(
    tmp_path: Path, engine: str, cluster: str, record_property: Callable[[str, object], None]
) -> None:
    """The control: what must break does, every witness names its orders, and the books say by how much."""
    run = pressed(tmp_path, engine, cluster, "naive", 100, record_property)

    assert run.exit_code == 4, run
    assert_is(run, engine, cluster)
    assert run.summary["verdict"] == "invalid"
    assert run.found >= {"lost-update", "oversell"}
    assert "computed from version" in run.check("lost-update")["witness"]
    assert best_sellers_sold(run) == 100 + run.summary["violations"]["oversell"]
    assert "INVALID" in run.stdout
