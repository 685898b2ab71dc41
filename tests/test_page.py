"""Locust's web page drives the sale: our options are on it, a bad one is refused there, and runs follow each other."""

import http.client
import json
import signal
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clusters.cluster import Cluster
from loadgen.load.page import refusal_of
from tests.sale_runs import ROOT, RunningSale, dsn_of, sale, wait_gone

REACHED_WITHIN_S = 40.0
OPTIONS_SHOWN = {
    *("engine", "cluster", "nodes", "strategy", "isolation", "skus", "stock", "skew", "user_limit", "buckets"),
    *("shape", "peak_rate", "duration", "late_limit", "slo", "seed", "keep"),
}
FORM = {"user_count": "8", "spawn_rate": "100", "shape": "constant", "peak_rate": "200"}


@dataclass(frozen=True)
class Answer:
    """One answer of the page."""

    status: int
    text: str
    headers: Mapping[str, str]


class Page:
    """Locust's page as a browser talks to it."""

    def __init__(self, running: RunningSale, port: int) -> None:
        self._running = running
        self.port = port
        self._address = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        """What one plain request is answered; ``headers`` are named with _ for -, such as ``Host`` and ``Origin``."""
        known = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        named = {name.replace("_", "-"): value.replace("PORT", str(self.port)) for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, {**known, **named})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), dict(answer.getheaders()))
        finally:
            connection.close()

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
        self.wait_until(lambda: self._running.stdout.count("judge it again:") >= count, f"{count} verdicts")
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
        for count, told in (("9000", "-u 9000 needs 9002 connections"), ("0", "-u '0'"), ("-3", "-u '-3'")):
            refused = browser.start(user_count=count)
            assert refused["success"] is False
            assert told in refused["message"]
        assert browser.start(user_count="12", dsn="x")["success"] is False
        assert browser.stats()["user_count"] == 12
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


PLACES = [("127.0.0.1", 8089), ("localhost", 8089), ("::1", 8089), ("load.example.com", None)]


def asked(method: str = "POST", path: str = "/swarm", **headers: str) -> str:
    """Why a request is refused by a page on port 8089, with a proxy's name allowed beside."""
    named = {f"HTTP_{name.upper()}": value for name, value in {"host": "localhost:8089", **headers}.items()}
    return refusal_of({"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.url_scheme": "http", **named}, PLACES)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:8089"},
        {"host": "LocalHost.:8089"},
        {"host": "[::1]:8089"},
        {"host": "[0:0::1]:8089", "origin": "http://[::1]:8089"},
        {"origin": "http://localhost:8089", "sec_fetch_site": "same-origin", "referer": "http://localhost:8089/?x"},
        {"referer": "http://localhost:8089/"},
        {"sec_fetch_site": "none"},
        {"host": "load.example.com", "origin": "https://load.example.com"},
        {"host": "load.example.com:8443", "origin": "https://load.example.com:8443"},
    ],
    ids=str,
)
def test_request_of_our_own_page_passes(headers: dict[str, str]) -> None:
    """Each spelling of an allowed Host, with an Origin that is the same one or is not sent."""
    assert not asked(**headers)


@pytest.mark.parametrize("path", ["/swarm", "/stop", "/stats/reset", "/user", "/a/base/stop/", "/own/route"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": ""},
        {"host": "localhost"},
        {"host": "localhost:8090"},
        {"host": "localhost:8089.evil.example"},
        {"host": "localhost.evil.example:8089"},
        {"host": "user@localhost:8089"},
        {"host": "[::2]:8089"},
        {"host": "127.0.0.1:8089, evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:8090"},
        {"origin": "http://127.0.0.1:8089"},
        {"origin": "http://localhost:8089@evil.example"},
        {"origin": "http://localhost:8089.evil.example"},
        {"origin": "file://localhost:8089"},
        {"referer": "http://evil.example/localhost:8089"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:8089"},
        {"host": "load.example.com.evil.example"},
    ],
    ids=str,
)
def test_request_from_elsewhere_that_changes_something_is_refused(path: str, headers: dict[str, str]) -> None:
    """Another Host (DNS rebinding) or another origin (a form on any web page), by whichever header tells it."""
    assert asked("POST", path, **headers)


def test_other_site_may_link_here_but_not_look() -> None:
    """A link leads to the page; a script, an image or a form's GET of another site gets nothing."""
    assert not asked("GET", "/", sec_fetch_site="cross-site", sec_fetch_mode="navigate", referer="http://x.example/")
    assert asked("GET", "/stats/requests", sec_fetch_site="cross-site", sec_fetch_mode="cors")
    assert asked("GET", "/", origin="http://x.example")
    assert asked("OPTIONS", "/swarm", origin="http://x.example")
    assert asked("HEAD", "/logs", host="x.example:8089")
    # Where a version of Locust takes a GET.
    assert asked("GET", "/stop", sec_fetch_site="cross-site", sec_fetch_mode="navigate")


@given(st.text())
def test_no_other_host_is_answered(host: str) -> None:
    """Whatever the Host is, only the allowed names pass."""
    names = ("localhost:8089", "localhost.:8089", "127.0.0.1:8089", "127.0.0.1.:8089", "[::1]:8089")
    ours = host.lower() in names or host.lower().startswith("load.example.com")
    assert ours or asked("GET", "/", host=host)


LOGIN = """
import sys
from flask import redirect
from flask_login import UserMixin, login_user
from locust import events
sys.path.insert(0, {workloads!r})
from flashsale import Shopper

class Somebody(UserMixin):
    id = "somebody"

@events.init.add_listener
def add_login(environment, web_ui, **_):
    web_ui.app.secret_key = "of this test"
    web_ui.login_manager.user_loader(lambda _: Somebody())

    @web_ui.app.route("/enter", methods=["POST"])
    def enter():
        login_user(Somebody())
        return redirect("/")
"""


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_page_with_a_login_does_nothing_before_it(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """No endpoint that changes something acts, by any method, until somebody is logged in; then a run starts."""
    locustfile = tmp_path / "with_login.py"
    locustfile.write_text(LOGIN.format(workloads=str(ROOT / "workloads")))
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    form = urllib.parse.urlencode({**FORM, "duration": "2s"})
    with page(tmp_path, "--web-login", "-f", str(locustfile), environment=environment) as (browser, running):
        for method in ("POST", "PUT", "GET", "HEAD", "PATCH", "DELETE"):
            for path in ("/swarm", "/stop", "/stats/reset", "/user"):
                answer = browser.ask(method, path, form)
                assert answer.status in (302, 400, 405), (method, path, answer)
        assert browser.ask("POST", "/swarm", form, Cookie="session=forged; remember_token=1").status == 302
        assert not (tmp_path / "runs").exists()

        entered = browser.ask("POST", "/enter", Origin="http://127.0.0.1:PORT")
        cookie = entered.headers["Set-Cookie"].partition(";")[0]
        # Who is logged in may still be led here by another site.
        assert browser.ask("POST", "/swarm", form, Cookie=cookie, Origin="http://evil.example").status == 403
        assert not (tmp_path / "runs").exists()
        assert json.loads(browser.ask("POST", "/swarm", form, Cookie=cookie).text)["success"] is True
        browser.wait_until(lambda: "VALID" in running.stdout, "the verdict")


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
            ({"user_count": "9000"}, "9002"),
            ({"spawn_rate": "inf"}, "spawn_rate"),
            ({"shape": "/etc/rates.csv"}, "--shape '/etc/rates.csv' is not one of"),
            ({"run_dir": "/tmp/elsewhere"}, "'run_dir' is not set on the page"),
            ({"dsn": "postgres://root@127.0.0.1/"}, "'dsn' is not set on the page"),
            ({"html_file": "/tmp/report.html"}, "'html_file' is not set on the page"),
            ({"web_allowed_host": "evil.example"}, "'web_allowed_host' is not set on the page"),
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

    @pytest.mark.parametrize(
        ("method", "path", "headers"),
        [
            ("POST", "/swarm", {"Origin": "http://evil.example"}),
            ("POST", "/swarm", {"Host": "evil.example:PORT"}),
            ("POST", "/stop", {"Sec_Fetch_Site": "cross-site"}),
            ("POST", "/stats/reset", {"Referer": "https://evil.example/"}),
            ("OPTIONS", "/swarm", {"Origin": "null"}),
            ("GET", "/stats/requests", {"Host": "rebound.example"}),
            ("GET", "/", {"Origin": "http://evil.example"}),
        ],
    )
    def test_request_from_elsewhere_is_refused(
        self, refusing: Page, engine: str, method: str, path: str, headers: dict[str, str]
    ) -> None:
        """It gets 403 and a line that says why; no run is prepared, and no answer of ours is for another origin."""
        answer = refusing.ask(method, path, urllib.parse.urlencode(FORM), **headers)

        assert answer.status == 403
        assert answer.text.startswith("loadgen: ")
        assert refusing.stats()["state"] == "ready"

    def test_own_answers_are_for_no_other_origin(self, refusing: Page, engine: str) -> None:
        """No header lets another site read them, or show the page in a frame."""
        for answer in (
            refusing.ask("GET", "/", Origin="http://127.0.0.1:PORT"),
            refusing.ask("OPTIONS", "/swarm", Origin="http://localhost:PORT", Host="localhost:PORT"),
            refusing.ask("GET", "/stats/requests"),
        ):
            assert answer.status == 200
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"

    def test_json_or_nothing_as_a_form_starts_nothing(self, refusing: Page, engine: str) -> None:
        """Locust reads forms only; another body is one without the numbers."""
        answer = refusing.ask("POST", "/swarm", json.dumps(FORM), Content_Type="application/json")

        assert json.loads(answer.text)["success"] is False
        assert refusing.stats()["state"] == "ready"

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
            browser.wait_until(lambda: "VALID all 21 checks hold" in browser.get("/logs"), "the verdict on the page")
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


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_violated_run_is_shown_as_one(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """Failures, exceptions and logs hold the verdict and what was found, and an open page is told to look at them."""
    broken = ("--strategy", "naive", "--isolation", "read committed", "--skew", "one-hot", "--shape", "closed")
    files = ("--csv", "sale", "--html", "sale.html")
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    with page(tmp_path, *broken, *files, environment=environment) as (browser, running):
        browser.post("/swarm", user_count="32", spawn_rate="100", duration="3s")
        browser.wait_until(lambda: "INVALID" in running.stdout, "the verdict")
        # Locust's page asks again only while the run goes on: so it is told that for a moment.
        time.sleep(2.1)  # for so long Locust answers from memory
        shown = browser.stats()
        assert shown["state"] == "running"
        browser.wait_for_state("stopped")
        logs, exceptions = browser.get("/logs"), json.loads(browser.get("/exceptions"))["exceptions"]
        tables = browser.get("/stats/failures/csv") + browser.get("/stats/report")
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()

    assert ended.exit_code == 4, ended
    found = {name: count for name, count in ended.summary["violations"].items() if count}
    assert found
    failures = {row["name"]: row for row in shown["errors"] if row["method"] == "verdict"}
    assert failures["invalid"]["error"].startswith("INVALID (exit code 4): ")
    assert {name: failures[name]["occurrences"] for name in found} == found
    assert shown["fail_ratio"] > 0
    assert any(row["msg"].startswith("INVALID") for row in exceptions)
    line = next(line for line in json.loads(logs)["master"] if "INVALID" in line)
    assert "/WARNING/loadgen: " in line
    assert line.endswith(f"loadgen report {ended.directory}")
    written = "".join((tmp_path / f"sale{kind}").read_text() for kind in ("_failures.csv", "_exceptions.csv", ".html"))
    for name in found:
        assert name in tables
        assert written.count(name) >= 3


def _at_once(call: Callable[[], Any], times: int) -> list[Any]:
    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(times)]]
