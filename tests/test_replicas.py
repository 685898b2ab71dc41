"""Reads from replicas on real servers: one whose replay is paused is certainly stale, and that is no violation."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from loadgen import clusters
from loadgen.clusters.cluster import Cluster, Place
from loadgen.conduct.conductor import Conductor
from loadgen.engines import engine_of
from loadgen.engines.address import members_of
from loadgen.errors import ClusterError
from tests.plans import sale_plan
from tests.sale_runs import dsn_of, run_sale, sale
from tests.test_refusals import refusal

SHORT = ("--shape", "constant", "--peak-rate", "60", "-u", "6", "--skus", "4", "--read-from", "replica")
PAUSED_MS = 2000


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Cluster]:
    """PostgreSQL, a primary and two standbys."""
    logs = tmp_path / "cluster" / "logs"
    logs.mkdir(parents=True)
    cluster = clusters.start(sale_plan(nodes=3), Place(logs=logs, say=lambda _: None))
    yield cluster
    cluster.stop(keep=False)


def dsn_of_all(cluster: Cluster) -> str:
    """A DSN that names every member."""
    address, members = cluster.replicas[0], members_of(cluster.address)
    sockets, ports = (",".join(str(getattr(member, name)) for member in members) for name in ("socket", "port"))
    return f"postgres://{address.user}:{address.password}@/{address.database}?host={sockets}&port={ports}"


def pause_replay(cluster: Cluster) -> None:
    """Let no standby apply anything any more."""
    for replica in cluster.replicas:
        with closing(engine_of("postgres").control(replica, "pause")) as control:
            control.query("SELECT pg_wal_replay_pause()")


@pytest.mark.server("postgres")
def test_paused_replicas_are_stale_for_as_long_as_they_are_paused(tmp_path: Path, replicated: Cluster) -> None:
    """Commits go on, for a standby has flushed them; reads fall behind, also behind what their own session wrote."""
    environment = {"LOADGEN_DSN": dsn_of_all(replicated)}
    with sale(tmp_path, "--headless", *SHORT, "--duration", "8s", environment=environment) as running:
        running.wait_for_progress(1)
        pause_replay(replicated)
        run = running.end()

    assert (run.exit_code, run.summary["verdict"]) == (0, "valid"), run
    assert run.plan["plan"]["read_from"] == "replica"
    assert [place["port"] for place in run.plan["replicas"]] == [place.port for place in replicated.replicas]
    reads = run.summary["replica_reads"]
    assert reads["stale"] > 10 and reads["read_your_writes"] > 0
    assert reads["staleness_ms"]["max"] > PAUSED_MS
    assert all(one["stale"] > 0 and one["staleness_ms"]["max"] > PAUSED_MS for one in reads["by_replica"])
    # A replica that stands still does not go back in time, and a session stays with its replica.
    assert reads["monotonic_reads"] == 0
    assert "had been acknowledged: " in reads["witnesses"]["stale"]
    assert "though the same session had written version" in reads["witnesses"]["read_your_writes"]
    assert set(run.summary["violations"].values()) == {0}
    assert "reads from 2 replicas: stale" in run.told


@pytest.mark.server("postgres")
def test_replica_that_does_not_follow_is_refused_before_the_load(
    tmp_path: Path, replicated: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads of tables that are not there yet, or of another run's, would be no reads of this run."""
    monkeypatch.setattr("loadgen.conduct.verification.REPLICATED_S", 1.0)
    plan = sale_plan(cluster="existing", dsn=dsn_of_all(replicated), read_from="replica", run_dir=str(tmp_path / "run"))
    table = {"name": "t", "create": "CREATE TABLE t (id INT PRIMARY KEY)", "final": {"id": "int32"}, "rows": [[1]]}
    workload = {"name": "flashsale", "kinds": [], "answers": [], "checks": [], "tables": [table]}
    pause_replay(replicated)

    with closing(Conductor(lambda _: None)) as conductor, pytest.raises(ClusterError) as refused:
        conductor.start({"plan": {**plan.to_json(), "dsn": plan.dsn}, "workload": workload})

    assert f":{replicated.replicas[0].port} has no prepared tables after 1 s" in str(refused.value)


@pytest.mark.server("postgres")
def test_run_reads_from_the_standbys_of_its_own_cluster(tmp_path: Path) -> None:
    """Two load processes share the replicas, and every browse counts."""
    run = run_sale(tmp_path, *SHORT, "--nodes", "3", "--duration", "2s", "--processes", "2")

    assert (run.exit_code, run.summary["verdict"]) == (0, "valid"), run
    assert all(one["reads"] > 0 for one in run.summary["replica_reads"]["by_replica"])
    assert run.summary["response_time_ms"]["browse"]["count"] == run.summary["replica_reads"]["reads"]


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_cluster_without_replicas_is_refused(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """One line, before any load: by what is not there, and by a level that a standby does not run."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    alone = run_sale(tmp_path, *SHORT, environment=environment)
    serializable = run_sale(tmp_path, *SHORT, "--isolation", "serializable", environment=environment)

    assert "--read-from replica: this cluster (existing PostgreSQL) has no read-only member" in refusal(alone)
    assert "a replica of PostgreSQL does not run --isolation 'serializable'" in refusal(serializable)
