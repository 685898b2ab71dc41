"""The conductor as a process, spoken to over its pipes, with real servers."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from loadgen import engines
from loadgen.clusters.cluster import Cluster
from loadgen.engines.engine import Address, Control
from loadgen.history.history import HistoryWriter, ops_batch
from loadgen.op import Completion, Outcome
from loadgen.plan import ENGINES, Plan
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind
from tests.plans import sale_plan

GONE_WITHIN_S = 5.0
PLAN = sale_plan(skus=2, stock=10, duration_s=2.0, sessions=4, kind_weights=(("order", 1), ("browse", 0)))
FINISH: dict[str, Any] = {
    "cut_short": "",
    "client": {"cpu_seconds": 0.1, "saturated_seconds": 0, "peak_rss_mb": 90},
    "errors": {},
    "died": [],
    "warnings": [],
    "error": "",
}


class Conductor:
    """A conductor process and its pipes."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "loadgen.conduct.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.said: list[str] = []

    def send(self, **message: Any) -> None:
        """Send one message."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next line out, said texts included; an empty message at the end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        message: dict[str, Any] = json.loads(line) if line else {}
        if "say" in message:
            self.said.append(message["say"])
        return message

    def answer(self) -> dict[str, Any]:
        """The next message that is more than talk."""
        while "say" in (message := self.hear()):
            pass
        return message

    def start(self, workload: dict[str, Any], plan: Plan = PLAN) -> dict[str, Any]:
        """Send ``start``; its answer."""
        self.send(start={"plan": {**plan.to_json(), "dsn": plan.dsn}, "workload": workload})
        return self.answer()

    def hang_up(self) -> None:
        """Close the pipe, as a dead parent would."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def errors(self) -> str:
        """What was printed on standard error, once the process has ended."""
        self.process.wait(timeout=10)
        assert self.process.stderr is not None
        return self.process.stderr.read()


@pytest.fixture
def conduct(tmp_path: Path) -> Iterator[Callable[..., Conductor]]:
    """Make conductors in the test's directory; what is left of them is ended."""
    made: list[Conductor] = []

    def make(**environment: str) -> Conductor:
        made.append(Conductor(tmp_path, environment))
        return made[-1]

    yield make
    for conductor in made:
        with contextlib.suppress(OSError):
            conductor.hang_up()
        conductor.process.wait(timeout=15)
        for pipe in (conductor.process.stdout, conductor.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="session")
def workload() -> dict[str, Any]:
    """The sale as the load side describes it."""
    return {"name": "flashsale", "file": str(Path(__file__).parent.parent / "workloads" / "flashsale.py")}


def control_of(engine: str, address: dict[str, Any]) -> Control:
    """A control connection of our own to a run's server."""
    return engines.engine_of(engine).control(Address(**address), "test")


def place_one_order(engine: str, ready: dict[str, Any]) -> None:
    """Place order 0 in the tables and in the history, as a load process would."""
    columns = sale.invoked(PLAN, 0, 1)
    order = sale.shoppings(PLAN, columns)[0]
    writer = HistoryWriter(Path(ready["run_dir"]) / "history", "standalone", sale.INVOKED_COLUMNS, {})
    writer.invoked(columns)
    lines = [(order.sku_a, order.qty_a), (order.sku_b, order.qty_b)][: 1 if order.sku_b < 0 else 2]
    control = control_of(engine, ready["address"])
    values = (
        order.number,
        order.token,
        order.user,
        order.sku_a,
        order.qty_a,
        order.sku_b,
        order.qty_b,
        order.amount,
        0,
    )
    control.query(f"INSERT INTO loadgen.orders VALUES {values}")
    touched: tuple[int, ...] = ()
    for sku, qty in lines:
        control.query(f"INSERT INTO loadgen.purchases VALUES {(order.user, sku, qty)}")
        control.query(f"UPDATE loadgen.stock SET available = available - {qty}, version = 1 WHERE sku = {sku}")
        touched += (sku, -1, 1)
    control.close()
    now = time.monotonic_ns()
    placed = Completion(
        0, int(Kind.ORDER), 0, now, now, now + 1_000_000, int(Outcome.OK), int(Answer.PLACED), 1, 0, "", touched
    )
    writer.batch(ops_batch([placed]))
    writer.closed(1)
    writer.close()


def servers_of(ready: dict[str, Any]) -> list[int]:
    """The process ids of a run's embedded servers."""
    plan_facts = json.loads((Path(ready["run_dir"]) / "plan.json").read_text())
    processes: list[int] = plan_facts["cluster"]["processes"]
    assert processes
    assert all(alive(process) for process in processes)
    return processes


def data_of(ready: dict[str, Any]) -> Path:
    """Where a run's embedded server has its data."""
    return Path(json.loads((Path(ready["run_dir"]) / "plan.json").read_text())["cluster"]["data"])


def alive(process: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], within_s: float = GONE_WITHIN_S) -> bool:
    """Whether ``condition`` comes true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def dsn_of(address: Address, password: str | None = None) -> str:
    """A DSN for an embedded PostgreSQL's socket."""
    secret = quote(address.password if password is None else password)
    where = f"host={quote(address.socket, safe='')}&port={address.port}"
    return f"postgres://{address.user}:{secret}@/{address.database}?{where}"


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_with_one_order_is_valid_and_leaves_nothing_but_its_directory(
    engine: str, conduct: Callable[..., Conductor], workload: dict[str, Any], tmp_path: Path
) -> None:
    """From start to done: every promised file is there, the server is not, and no secret was written."""
    conductor = conduct()
    ready = conductor.start(workload, PLAN.with_(engine=engine))["ready"]
    servers, data = servers_of(ready), data_of(ready)
    place_one_order(engine, ready)
    conductor.send(finish=FINISH)
    done = conductor.answer()["done"]

    assert (done["verdict"], done["exit_code"]) == ("valid", 0), done["report"]
    assert done["report"].startswith("VALID")
    assert conductor.process.wait(timeout=10) == 0
    assert not any(alive(server) for server in servers)
    assert not data.exists()
    run = Path(done["run_dir"])
    assert (tmp_path / "runs" / "latest").resolve() == run
    assert {path.name for path in run.iterdir()} == {
        "plan.json", "load.json", "summary.json", "seconds.csv", "history", "logs",
    }  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["violations"]) == set(sale.CHECKS)
    assert summary["orders"]["placed"] == 1
    password = ready["address"]["password"]
    if password:
        assert not any(password in path.read_text(errors="replace") for path in run.rglob("*") if path.is_file())


@pytest.mark.server
def test_an_order_that_vanished_exits_4_and_keeps_the_server_s_data(
    conduct: Callable[..., Conductor], workload: dict[str, Any]
) -> None:
    """The witness can be looked at by hand: the data is there, and the report says how to start the server on it."""
    conductor = conduct()
    ready = conductor.start(workload)["ready"]
    servers, data = servers_of(ready), data_of(ready)
    place_one_order("postgres", ready)
    control = control_of("postgres", ready["address"])
    control.query("DELETE FROM loadgen.orders")
    control.close()
    conductor.send(finish=FINISH)
    done = conductor.answer()["done"]
    summary = json.loads((Path(done["run_dir"]) / "summary.json").read_text())
    try:
        assert (done["verdict"], done["exit_code"]) == ("invalid", 4)
        assert summary["violations"]["lost-order"] == 1
        assert summary["kept"] in done["report"]
        assert not any(alive(server) for server in servers)
        assert (data / "PG_VERSION").exists()
    finally:
        shutil.rmtree(data.parent, ignore_errors=True)


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_the_end_of_its_input_stops_the_servers(
    engine: str, conduct: Callable[..., Conductor], workload: dict[str, Any]
) -> None:
    """A load side that is gone, however it went, leaves no server and no data behind."""
    conductor = conduct()
    ready = conductor.start(workload, PLAN.with_(engine=engine))["ready"]
    servers, data = servers_of(ready), data_of(ready)
    conductor.hang_up()

    assert wait_until(lambda: not any(alive(server) for server in servers))
    conductor.process.wait(timeout=GONE_WITHIN_S)
    assert not data.exists()


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_the_end_of_its_input_while_a_server_is_starting_stops_it(
    engine: str, conduct: Callable[..., Conductor], workload: dict[str, Any], tmp_path: Path
) -> None:
    """Busy or not, the conductor notices."""
    conductor = conduct()
    plan = PLAN.with_(engine=engine)
    conductor.send(start={"plan": {**plan.to_json(), "dsn": ""}, "workload": workload})
    assert "say" in conductor.hear()
    children = Path(f"/proc/{conductor.process.pid}/task/{conductor.process.pid}/children")
    assert wait_until(lambda: bool(children.read_text().split()))
    started = [int(child) for child in children.read_text().split()]
    conductor.hang_up()
    conductor.process.wait(timeout=GONE_WITHIN_S)

    assert wait_until(lambda: not any(alive(child) for child in started))
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_sigkill_of_the_conductor_takes_the_servers_with_it(
    engine: str, conduct: Callable[..., Conductor], workload: dict[str, Any]
) -> None:
    """Not even SIGKILL leaves a server behind."""
    conductor = conduct()
    ready = conductor.start(workload, PLAN.with_(engine=engine))["ready"]
    servers, data = servers_of(ready), data_of(ready)
    conductor.process.kill()

    assert wait_until(lambda: not any(alive(server) for server in servers))
    # What SIGKILL left on disk is the next run's to remove; this one is removed here.
    shutil.rmtree(data.parent, ignore_errors=True)


@pytest.mark.server
def test_sigint_does_not_disturb_and_sigterm_stops_in_order(
    conduct: Callable[..., Conductor], workload: dict[str, Any]
) -> None:
    """Ctrl-C is the load side's to answer; SIGTERM stops the servers and says that it did."""
    conductor = conduct()
    ready = conductor.start(workload)["ready"]
    servers = servers_of(ready)
    conductor.process.send_signal(signal.SIGINT)
    conductor.process.send_signal(signal.SIGHUP)
    assert all(alive(server) for server in servers)
    conductor.process.send_signal(signal.SIGTERM)

    assert "error" in conductor.answer()
    assert conductor.process.wait(timeout=GONE_WITHIN_S) == 1
    assert not any(alive(server) for server in servers)


@pytest.mark.server
def test_a_server_killed_in_mid_run_is_judged_without_final_reads(
    conduct: Callable[..., Conductor], workload: dict[str, Any]
) -> None:
    """No final reads, no valid: the verdict is unknown, says why, and comes in time."""
    conductor = conduct()
    ready = conductor.start(workload)["ready"]
    place_one_order("postgres", ready)
    for server in servers_of(ready):
        os.kill(server, signal.SIGKILL)
    start = time.monotonic()
    conductor.send(finish={**FINISH, "cut_short": "the server is gone"})
    done = conductor.answer()["done"]

    assert (done["verdict"], done["exit_code"]) == ("unknown", 5)
    assert "final reads were not taken" in done["report"]
    assert time.monotonic() - start < 10


@pytest.mark.server
def test_a_disk_that_fills_up_costs_files_but_neither_verdict_nor_exit_code(
    conduct: Callable[..., Conductor], workload: dict[str, Any], postgres_cluster: Cluster
) -> None:
    """With no byte left for the conductor, the report and the exit code still come."""
    conductor = conduct()
    ready = conductor.start(workload, PLAN.with_(cluster="existing", dsn=dsn_of(postgres_cluster.address)))["ready"]
    place_one_order("postgres", ready)
    resource.prlimit(conductor.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    conductor.send(finish={**FINISH, "error": "the disk is full"})
    done = conductor.answer()["done"]

    assert (done["verdict"], done["exit_code"]) == ("unknown", 5)
    assert "summary.json was not written" in done["report"]
    assert not list((Path(ready["run_dir"]) / "history").glob("final.*"))


@pytest.mark.server
def test_a_second_run_on_the_same_server_is_refused(
    conduct: Callable[..., Conductor], workload: dict[str, Any], postgres_cluster: Cluster, tmp_path: Path
) -> None:
    """Two runs would count each other's sales as violations."""
    plan = PLAN.with_(cluster="existing", dsn=dsn_of(postgres_cluster.address))
    first, second = conduct(), conduct()
    ready = first.start(workload, plan)["ready"]
    first.send(begun={})
    answer = second.start(workload, plan)

    assert answer["exit_code"] == 2
    assert "\n" not in answer["error"]
    assert second.process.wait(timeout=GONE_WITHIN_S) == 1
    first.send(abandon={})
    first.process.wait(timeout=GONE_WITHIN_S)
    # What never started left no run behind, and ``latest`` is the one that did.
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {Path(ready["run_dir"]).name, "latest"}


@pytest.mark.server
def test_a_wrong_password_is_refused_and_shown_nowhere(
    conduct: Callable[..., Conductor], workload: dict[str, Any], postgres_cluster: Cluster, tmp_path: Path
) -> None:
    """The message says what to do, and the secret stays one."""
    conductor = conduct(PGPASSWORD="")
    secret = "hunter2-äö/:@%"
    plan = PLAN.with_(cluster="existing", dsn=dsn_of(postgres_cluster.address, quote(secret, safe="")), run_dir="named")
    answer = conductor.start(workload, plan)
    printed = answer["error"] + conductor.errors() + "".join(conductor.said)

    assert answer["exit_code"] == 2
    assert "\n" not in answer["error"]
    assert secret not in printed
    assert "hunter2" not in printed
    # The directory is empty again, so that the same command can be given with the right password.
    assert list((tmp_path / "named").iterdir()) == []


@pytest.mark.server
def test_a_server_with_too_few_connections_is_refused_with_the_numbers(
    conduct: Callable[..., Conductor], workload: dict[str, Any], postgres_cluster: Cluster
) -> None:
    """The message holds what is free and what is needed."""
    plan = PLAN.with_(cluster="existing", dsn=dsn_of(postgres_cluster.address), sessions=5000)
    answer = conduct().start(workload, plan)

    assert answer["exit_code"] == 2
    assert "5000" in answer["error"].replace(",", "")


def test_a_server_that_nobody_answers_for_is_refused_in_one_line(
    conduct: Callable[..., Conductor], workload: dict[str, Any]
) -> None:
    """A closed port, and a password in the DSN that must not be repeated."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        plan = PLAN.with_(cluster="existing", dsn=f"postgres://someone:hunter2@127.0.0.1:{port}/db")
        conductor = conduct()
        answer = conductor.start(workload, plan)

    assert answer["exit_code"] == 2
    assert "\n" not in answer["error"]
    assert "hunter2" not in answer["error"] + conductor.errors()


@pytest.mark.parametrize("kind", ["file", "not empty", "below a file", "not writable"])
def test_a_run_directory_that_will_not_do_is_refused(
    kind: str, conduct: Callable[..., Conductor], workload: dict[str, Any], tmp_path: Path
) -> None:
    """What stands there stays as it is."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    where = {
        "file": tmp_path / "full" / "file",
        "not empty": tmp_path / "full",
        "below a file": tmp_path / "full" / "file" / "run",
        "not writable": Path("/proc/run"),
    }[kind]
    conductor = conduct()
    answer = conductor.start(workload, PLAN.with_(run_dir=str(where)))

    assert answer["exit_code"] == 2
    assert str(where) in answer["error"]
    assert "\n" not in answer["error"]
    assert conductor.errors() == ""
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_level_that_an_engine_does_not_have_is_refused_before_anything_is_made(
    conduct: Callable[..., Conductor], workload: dict[str, Any], tmp_path: Path
) -> None:
    """No directory, no server."""
    answer = conduct().start(workload, PLAN.with_(isolation="chaotic"))

    assert answer["exit_code"] == 2
    assert not (tmp_path / "runs").exists()


def test_what_is_not_a_message_ends_the_conductor(conduct: Callable[..., Conductor]) -> None:
    """A load side that speaks nonsense is as good as gone."""
    conductor = conduct()
    assert conductor.process.stdin is not None
    conductor.process.stdin.write("nonsense\n")
    conductor.process.stdin.flush()

    assert conductor.process.wait(timeout=GONE_WITHIN_S) == 1


def test_a_message_that_lacks_its_parts_is_loadgens_own_error(conduct: Callable[..., Conductor]) -> None:
    """Our own mistakes come in one line too, and exit with 1."""
    conductor = conduct()
    conductor.send(start={})
    answer = conductor.answer()

    assert answer["exit_code"] == 1
    assert "loadgen's own error" in answer["error"]
    assert "\n" not in answer["error"]
