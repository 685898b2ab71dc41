"""Locust's web page drives the sale: our options are on it, a bad one is refused there, and runs follow each other."""

import json
import signal
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from tests.sale_runs import RunningSale, dsn_of, sale, wait_gone

REACHED_WITHIN_S = 40.0
OPTIONS_SHOWN = {
    *("engine", "cluster", "nodes", "strategy", "isolation", "skus", "stock", "skew", "user_limit", "buckets"),
    *("shape", "peak_rate", "duration", "late_limit", "slo", "seed", "run_dir", "keep"),
}
FORM = {"user_count": "8", "spawn_rate": "100", "shape": "constant", "peak_rate": "200"}


class Page:
    """Locust's page as a browser talks to it."""

    def __init__(self, running: RunningSale, port: int) -> None:
        self._running = running
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        """What GET answers."""
        with urllib.request.urlopen(self._address + path, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def post(self, path: str, **form: str) -> dict[str, Any]:
        """What POST answers."""
        data = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(self._address + path, data, timeout=30) as answer:
            value: dict[str, Any] = json.loads(answer.read())
            return value

    def start(self, **form: str) -> dict[str, Any]:
        """Press "Start" (or, while a run goes on, "Update") with this form."""
        return self.post("/swarm", **{**FORM, **form})

    def stats(self) -> dict[str, Any]:
        """What the page's table and charts show."""
        value: dict[str, Any] = json.loads(self.get("/stats/requests"))
        return value

    def orders(self) -> int:
        """How many placed orders the table shows."""
        return sum(int(row["num_requests"]) for row in self.stats()["stats"] if row["name"] == "order")

    def wait_until(self, reached: Callable[[], object], what: str) -> None:
        """Return once the page shows ``what``. Fails the test if that does not come."""
        self._running.wait_until(reached, what, REACHED_WITHIN_S)

    def wait_for_state(self, *states: str) -> None:
        """Return once the page shows one of ``states``."""
        self.wait_until(lambda: self.stats()["state"] in states, " or ".join(states))

    def wait_for_verdicts(self, count: int) -> None:
        """Return once as many runs are judged on the terminal, and the page can start another."""
        self.wait_until(lambda: self._running.stdout.count("VALID ") >= count, f"{count} verdicts")
        self.wait_for_state("stopped")


@contextmanager
def page(directory: Path, *options: str, **how: Any) -> Iterator[tuple[Page, RunningSale]]:
    """Locust with its page, on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with sale(directory, "--web-port", str(port), *options, **how) as running:
        shown = Page(running, port)
        running.wait_until(lambda: "Starting web interface" in running.stderr, "its page")
        running.wait_until(lambda: _answers(port), "an answer of its page")
        yield shown, running


def shown_options(text: str) -> dict[str, Any]:
    """The options of ours in the page's own data."""
    arguments = json.JSONDecoder().raw_decode(text.split("templateArgs = ", 1)[1])[0]
    options: dict[str, Any] = arguments["extra_options"]
    return options


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.server("postgres", "oceanbase")
def test_page_runs_one_sale_after_another_on_servers_of_its_own(tmp_path: Path) -> None:
    """Start, edit and stop a run, then start one on another engine by another strategy: each is judged."""
    with page(tmp_path, "--run-dir", "sale") as (browser, running):
        assert set(shown_options(browser.get("/"))) >= OPTIONS_SHOWN

        assert browser.start(duration="60s")["success"] is True
        browser.wait_until(lambda: browser.orders() > 100, "100 orders")
        some = browser.orders()
        browser.wait_until(lambda: browser.orders() > some + 100, "more orders")
        first = running.processes()

        assert browser.start(user_count="12")["success"] is True
        browser.wait_until(lambda: browser.stats()["user_count"] == 12, "12 sessions")
        assert browser.stats()["errors"] == []

        browser.post("/stop")
        browser.wait_for_verdicts(1)
        assert "cut short" in running.stdout.lower()
        assert not wait_gone(first, 5)

        second = browser.start(engine="oceanbase", strategy="pessimistic", duration="3s")
        assert second["success"] is True
        assert second["host"].startswith("seekdb ")
        browser.wait_for_verdicts(2)
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()

    plans = [json.loads((tmp_path / name / "plan.json").read_text())["plan"] for name in ("sale", "sale-2")]
    assert [(plan["engine"], plan["strategy"]) for plan in plans] == [
        ("postgres", "atomic"),
        ("oceanbase", "pessimistic"),
    ]
    assert ended.exit_code == 0, ended
    assert "Traceback" not in ended.told, ended
    summary = json.loads((tmp_path / "sale-2" / "summary.json").read_text())
    assert summary["verdict"] == "valid"
    assert summary["complete"] is True


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, postgres_cluster: Cluster) -> Iterator[Page]:
    """A page whose runs would go to the session's server."""
    environment = {"LOADGEN_DSN": dsn_of(postgres_cluster.address, "postgres")}
    with page(tmp_path_factory.mktemp("page"), environment=environment) as (browser, _):
        yield browser


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
class TestPage:
    """What the page takes and shows."""

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({"strategy": "hopeful"}, "--strategy 'hopeful' is not one of naive,"),
            ({"seed": "abc"}, "--seed 'abc' is not a whole number"),
            ({"user_count": "0"}, "-u '0' is not a whole number from 1"),
            ({"spawn_rate": "-1"}, "spawn_rate"),
            ({"run_time": "soon"}, "--run-time 'soon' is not a time"),
            ({"engine": "oceanbase"}, "--engine oceanbase is reached by a mysql:// DSN"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
    )
    def test_bad_value_is_refused_with_its_message(
        self, refusing: Page, engine: str, form: dict[str, str], message: str
    ) -> None:
        """Nothing starts, and the page tells why."""
        answer = refusing.start(**form)

        assert answer["success"] is False
        assert message in answer["message"]
        assert refusing.stats()["state"] == "ready"
        assert refusing.stats()["user_count"] == 0

    def test_page_knows_neither_password_nor_dsn(self, tmp_path: Path, cluster: Cluster, engine: str) -> None:
        """What the page sends to a browser, before and in a run, holds no part of the DSN."""
        environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
        with page(tmp_path, environment=environment) as (browser, running):
            before = browser.get("/")
            browser.start(duration="3s")
            browser.wait_until(lambda: browser.orders() > 10, "orders")
            sent = [before, *(browser.get(path) for path in ("/", "/stats/requests", "/tasks", "/logs"))]
            browser.wait_for_verdicts(1)
            sent.append(browser.get("/stats/report"))
            running.process.send_signal(signal.SIGINT)
            ended = running.end()

        assert ended.exit_code == 0, ended
        for text in (*sent, ended.told):
            assert cluster.address.password not in text
            assert "postgres://" not in text.replace("postgres://user@host", "")
        assert "dsn" not in shown_options(before)

    def test_second_click_on_start_does_not_start_a_second_run(
        self, tmp_path: Path, cluster: Cluster, engine: str
    ) -> None:
        """A double click: one run, and it is judged."""
        environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
        with page(tmp_path, environment=environment) as (browser, running):
            answers = _at_once(lambda: browser.start(duration="3s"), 2)
            assert [answer["success"] for answer in answers].count(True) >= 1
            browser.wait_for_verdicts(1)
            browser.wait_until(lambda: "VALID all 19 checks hold" in browser.get("/logs"), "the verdict on the page")
            running.process.send_signal(signal.SIGTERM)
            ended = running.end()

        assert ended.exit_code == 0, ended
        assert len(list((tmp_path / "runs").glob("2*"))) == 1

    def test_workers_serve_one_run_after_another(self, tmp_path: Path, cluster: Cluster, engine: str) -> None:
        """With --processes 2 the page's second run is as whole as its first."""
        environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
        with page(tmp_path, "--processes", "2", "--run-dir", "sale", environment=environment) as (browser, running):
            browser.wait_until(lambda: browser.stats().get("workers", [])[1:], "two workers")
            browser.start(duration="2s")
            browser.wait_for_verdicts(1)
            browser.start(duration="2s")
            browser.wait_for_verdicts(2)
            running.process.send_signal(signal.SIGTERM)
            ended = running.end()

        assert ended.exit_code == 0, ended
        for name in ("sale", "sale-2"):
            summary = json.loads((tmp_path / name / "summary.json").read_text())
            assert summary["complete"] is True
            assert summary["orders"]["placed"] > 200
            assert len(list((tmp_path / name / "history").glob("*.ops.arrows"))) == 2


def _at_once(call: Callable[[], Any], times: int) -> list[Any]:
    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(times)]]
