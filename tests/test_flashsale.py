"""The sale from begin to end on real servers: what comes out adds up, and breaks exactly where it must."""

import csv
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.commands.main import main
from loadgen.history.history import read_history
from tests.sale_runs import PRESSURE, EndedRun, assert_adds_up, best_sellers_sold, dsn_of, run_sale, sale

SHORT = ("--duration", "3s", "--peak-rate", "300", "-u", "16", "--shape", "constant")
ENGINES = pytest.mark.parametrize("engine", ["postgres", "oceanbase"])


@pytest.fixture
def dsn(cluster: Cluster, engine: str) -> dict[str, str]:
    """The environment that sends a run to the session's server of the engine."""
    return {"LOADGEN_DSN": dsn_of(cluster.address, engine)}


@pytest.mark.server
@ENGINES
def test_plain_sale_is_valid_and_adds_up(tmp_path: Path, engine: str) -> None:
    """Without any option but a short time: a server is started, the double11 shape is sold, nothing is broken."""
    run = run_sale(tmp_path, "--engine", engine, "--duration", "5s")

    assert run.exit_code == 0, run
    assert_adds_up(run)
    assert run.summary["verdict"] == "valid"
    assert run.summary["complete"] is True
    assert run.summary["orders"]["placed"] > 500
    assert run.summary["engine"]["cluster"] == "embedded"
    assert (tmp_path / "runs" / "latest").resolve() == run.directory
    assert run.stdout.rstrip().splitlines()[-1] in run.stdout.split("VALID", 1)[1], "the summary comes last"
    assert not Path(run.plan["cluster"]["data"]).exists()


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "level", "code"),
    [("postgres", "Repeatable-Read", "40001"), ("tidb", "Repeatable-Read-Optimistic", "9007")],
)
def test_naive_sale_at_snapshot_isolation_is_valid_and_conflicts_are_retried(
    tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str], level: str, code: str
) -> None:
    """Snapshot isolation refuses what read committed loses: each refusal is a failed try of a conflict."""
    options = ("--strategy", "naive", "--skew", "one-hot", "--shape", "closed", "-u", "32", "--stock", "300")
    options += ("--engine", engine, "--isolation", level, "--duration", "3s")
    run = run_sale(tmp_path, *options, environment=dsn)

    assert run.exit_code == 0, run
    assert_adds_up(run)
    assert run.directory is not None
    tries = [process.tries["code"] for process in read_history(run.directory / "history").processes]
    assert sum(int((codes == code).sum()) for codes in tries) > 100
    assert any(error["code"] == code and error["class"] == "conflict" for error in run.summary["errors"])
    assert run.summary["engine"]["isolation"] == level.replace("-", " ").lower()


@pytest.mark.server
@ENGINES
@pytest.mark.parametrize("strategy", ["pessimistic", "optimistic", "atomic", "bucketed"])
def test_sound_strategy_sells_out_and_never_over(
    tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str], strategy: str
) -> None:
    """A stock that runs out under pressure: valid, and every unit that was not sold has a cause."""
    options = ("--engine", engine, "--strategy", strategy, *PRESSURE, "--stock", "150", "--duration", "3s")
    run = run_sale(tmp_path, *options, environment=dsn)

    assert run.exit_code == 0, run
    assert_adds_up(run)
    undersell = run.summary["undersell"]
    assert best_sellers_sold(run) + undersell["units"] == 150
    assert sum(undersell["causes"].values()) == undersell["units"]
    assert undersell["causes"]["unknown"] == 0
    assert run.summary["orders"]["sold_out"] > 0
    assert run.summary["orders"]["placed"] >= 75


@pytest.mark.server
@ENGINES
def test_two_forked_workers_make_one_run(tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str]) -> None:
    """--processes 2: two histories, one account, one verdict."""
    run = run_sale(tmp_path, "--processes", "2", "--engine", engine, *SHORT, environment=dsn)

    assert run.exit_code == 0, run
    assert_adds_up(run)
    assert run.stdout.count("VALID ") == 1
    assert histories(run) == ["0", "1"]
    assert run.summary["orders"]["placed"] > 700


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_master_with_two_workers_makes_one_run(
    tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str]
) -> None:
    """A master and two workers that were started by hand, as on three hosts: the same account and one verdict."""
    port = str(free_port())
    workers = []
    with ExitStack() as stack:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            # Workers know nothing of the server: the master tells them.
            workers.append(stack.enter_context(sale(tmp_path / name, "--worker", "--master-port", port)))
        master = ("--master", "--master-bind-port", port, "--expect-workers", "2", *SHORT)
        run = run_sale(tmp_path, *master, environment=dsn)
        ended = [worker.end(30) for worker in workers]

    assert run.exit_code == 0, run
    assert_adds_up(run)
    assert histories(run) == ["0", "1"]
    assert all("Traceback" not in worker.told for worker in ended), ended
    assert not (tmp_path / "one" / "runs").exists()


@pytest.mark.server("postgres", "oceanbase")
def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Two runs with servers of their own, in one directory: both valid, each with its own ports and files."""
    with (
        sale(tmp_path, "--headless", "--processes", "2", "--run-dir", "left", *SHORT) as left,
        sale(
            tmp_path, "--headless", "--processes", "2", "--run-dir", "right", "--engine", "oceanbase", *SHORT
        ) as right,
    ):
        runs = left.end(), right.end()

    for run in runs:
        assert run.exit_code == 0, run
        assert_adds_up(run)
    assert [run.plan["plan"]["engine"] for run in runs] == ["postgres", "oceanbase"]


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
class TestLocustOptions:
    """Locust's own options keep their meaning."""

    def test_tags_pick_the_kinds(self, tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str]) -> None:
        """--tags order: nothing but orders, at the plan's rate."""
        run = run_sale(tmp_path, "--tags", "order", *SHORT, environment=dsn)

        assert run.exit_code == 0, run
        counts = {kind: times["count"] for kind, times in run.summary["response_time_ms"].items()}
        assert counts["order"] > 700
        assert counts["pay"] == counts["cancel"] == counts["release"] == counts["browse"] == 0

    def test_csv_and_html_are_written(self, tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str]) -> None:
        """--csv and --html hold the ops of the run, each kind with its own row."""
        run = run_sale(tmp_path, "--csv", "sale", "--html", "sale.html", "--processes", "2", *SHORT, environment=dsn)

        assert run.exit_code == 0, run
        with (tmp_path / "sale_stats.csv").open() as file:
            rows: dict[str, Any] = {row["Name"]: row for row in csv.DictReader(file)}
        assert int(rows["order"]["Request Count"]) == run.summary["orders"]["placed"]
        assert int(rows["Aggregated"]["Failure Count"]) == 0
        assert "order" in (tmp_path / "sale.html").read_text()

    def test_missed_objective_exits_with_3(
        self, tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str]
    ) -> None:
        """An objective that no server can meet is told with its value; the run is valid all the same."""
        slo = "order.p99<=0.001ms,skipped<=50%"
        run = run_sale(tmp_path, "--slo", slo, *SHORT, environment=dsn)

        assert run.exit_code == 3, run
        assert run.summary["verdict"] == "valid"
        assert [slo["met"] for slo in run.summary["slo"]] == [False, True]

    def test_users_are_the_sessions(self, tmp_path: Path, cluster: Cluster, engine: str, dsn: dict[str, str]) -> None:
        """-u 3: three sessions, so that no more than three ops are ever in flight."""
        run = run_sale(tmp_path, *SHORT, "-u", "3", environment=dsn)

        assert run.exit_code == 0, run
        assert run.plan["plan"]["sessions"] == 3
        assert run.directory is not None
        ops = read_history(run.directory / "history").processes[0].ops
        assert set(ops["process"][ops["outcome"] != 3].tolist()) == {0, 1, 2}


def histories(run: EndedRun) -> list[str]:
    """The names of the load processes that have a history."""
    assert run.directory is not None
    return sorted(path.name.removesuffix(".ops.arrows") for path in (run.directory / "history").glob("*.ops.arrows"))


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.server("postgres")
def test_a_file_of_rates_drives_several_processes_and_is_not_needed_again(tmp_path: Path) -> None:
    """The plan has its rates: workers get them from there, and whoever judges later does, too."""
    rates = tmp_path / "rates.csv"
    rates.write_text("second,rate\n0,50\n1,150\n2,100\n")
    run = run_sale(tmp_path, "--shape", f"csv:{rates}", "-u", "8", "--processes", "2")

    assert run.exit_code == 0, run
    assert_adds_up(run)
    assert (run.plan["plan"]["duration_s"], run.plan["plan"]["peak_rate"]) == (3.0, 150.0)
    assert 220 < run.summary["orders"]["due"] < 380
    rates.unlink()
    assert main(["check", str(run.directory)]) == 0
