"""``dashboards/``: made by Grafana's SDK, checked by promtool, and each query shows something of a real run.

A real Prometheus scrapes the run and the exporters of its server. Grafana itself is not run: no package has it.
"""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from loadgen.clusters.binaries import SERVER_BINARIES, find_binary
from loadgen.clusters.cluster import Cluster
from loadgen.load.metrics import LoadMetrics, RunMetrics
from tests.conftest import skip_or_fail
from tests.sale_runs import ROOT, EndedRun, dsn_of, run_sale, sale
from tests.test_metrics import free_ports, ports, scraped
from workloads.flashsale import SALE

DASHBOARDS = ROOT / "dashboards"
PAGES = sorted((DASHBOARDS / "grafana" / "dashboards").glob("*.json"))
SHOWN = ("sale", "capacity", "comparison", "consistency", "postgres")
"""Those of which a run against PostgreSQL shows everything."""
VARIABLES = {
    **dict.fromkeys(("$job", "$instance", "$server"), ".*"),
    "$__rate_interval": "4s",
    "$__interval": "1s",
    "$__range": "30s",
    "$objective": "5",
}
UP_WITHIN_S = 20.0
AFTER_END_S = 6.0
"""How long the alert may take, of the 15 s that the metrics of an ended run are served."""
STEADY = ("--shape", "constant", "--peak-rate", "250", "--duration", "4s", "-u", "24")
NAIVE = ("--strategy", "naive", "--isolation", "read committed", "--skew", "one-hot")


def program(engine: str, *known: str) -> str:
    """The first of these programs that is installed; else the test is skipped, or fails where engines are required."""
    for name in known:
        if path := shutil.which(name):
            return path
    skip_or_fail(engine, f"there is no {' or '.join(known)} here (Debian: apt-get install {known[0]})")
    raise AssertionError


def queries(page: Path) -> list[str]:
    """The expressions of a dashboard's panels."""
    panels = json.loads(page.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def as_asked(expression: str) -> str:
    """The expression as Grafana sends it."""
    for name in sorted(VARIABLES, key=len, reverse=True):
        expression = expression.replace(name, VARIABLES[name])
    return expression


# Files


def test_dashboards_are_those_that_their_source_makes() -> None:
    """Each is written by Grafana's own types, so that it has no field that Grafana does not know."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed")
    spec = importlib.util.spec_from_file_location("build", DASHBOARDS / "build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    from grafana_foundation_sdk.models.dashboard import Dashboard

    made = dict(build.files())
    assert sorted(made) == PAGES
    for path, text in made.items():
        assert path.read_text() == text, f"{path} is old: python dashboards/build.py"
        told = json.loads(text)
        again = json.loads(json.dumps(Dashboard.from_json(told), cls=build.JSONEncoder))
        assert again == told


def test_dashboards_have_names_and_places_of_their_own() -> None:
    """What Grafana takes and then shows wrongly: ids and titles that come twice, panels over each other."""
    told = [json.loads(page.read_text()) for page in PAGES]
    assert len({page["uid"] for page in told}) == len({page["title"] for page in told}) == len(PAGES) == 8
    for page in told:
        ids = [panel["id"] for panel in page["panels"] if "id" in panel]
        assert len(ids) == len(set(ids))
        taken = set[tuple[int, int]]()
        for place in (panel["gridPos"] for panel in page["panels"]):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24 and not cells & taken
            taken |= cells
        names = {variable["name"] for variable in page["templating"]["list"]}
        for panel in (panel for panel in page["panels"] if panel["type"] != "row"):
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["title"] and panel["description"] and panel["targets"]
            letters = [target["refId"] for target in panel["targets"]]
            assert len(letters) == len(set(letters))
        used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(page["panels"])))
        assert used <= names, page["title"]


def test_every_metric_that_is_asked_for_is_one_that_is_served_and_written_down() -> None:
    """In dashboards, rules and their tests, and in docs/metrics.md; and each that is served is written down."""
    from tests.load.test_metrics import ended_run

    served = {family.name for family in LoadMetrics(SALE.words, tells_info=True).families()}
    served |= {family.name for family in RunMetrics(ended_run).families()}
    told = {name + tail for name in served for tail in ("", "_bucket", "_count", "_sum")}
    files = [*PAGES, *DASHBOARDS.glob("prometheus/*/*.yml")]
    asked = {name for file in files for name in re.findall(r"(?<![:\w])loadgen_\w+(?!\w*:)", file.read_text())}
    assert asked - told <= {"loadgen_ops", "loadgen_ops_answered", "loadgen_ops_skipped"}

    page = (ROOT / "docs" / "metrics.md").read_text()
    written = set(re.findall(r"`(loadgen_\w+)`", page)) | {"loadgen_sessions_connected", "loadgen_sessions_busy"}
    assert written == served


def test_what_is_provisioned_lies_where_the_compose_file_puts_it() -> None:
    """Grafana reads the folder that is mounted; everything listens on this machine only."""
    compose = yaml.safe_load((DASHBOARDS / "compose.yaml").read_text())
    mounts = dict(
        volume.removesuffix(":ro").rsplit(":", 1)
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    )
    assert all((DASHBOARDS / source).is_dir() for source in mounts)
    provider = yaml.safe_load((DASHBOARDS / "grafana/provisioning/dashboards/loadgen.yaml").read_text())
    assert provider["providers"][0]["options"]["path"] == mounts["./grafana/dashboards"]
    source = yaml.safe_load((DASHBOARDS / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    told = (DASHBOARDS / "compose.yaml").read_text()
    assert source["datasources"][0]["url"].removeprefix("http://") in told
    for service in compose["services"].values():
        assert service["network_mode"] == "host" and "ports" not in service
    addresses = re.findall(r"listen-address=([\d.]+):|HTTP_ADDR: ([\d.]+)", told)
    assert [first or second for first, second in addresses] == ["127.0.0.1"] * len(compose["services"])
    config = yaml.safe_load((DASHBOARDS / "prometheus/prometheus.yml").read_text())
    targets = [entry["file_sd_configs"][0]["files"][0] for entry in config["scrape_configs"]]
    assert sorted(targets) == sorted(f"targets/{file.name}" for file in DASHBOARDS.glob("prometheus/targets/*"))
    if shutil.which("docker"):
        command = ["docker", "compose", "--profile", "*", "config", "-q"]
        subprocess.run(command, cwd=DASHBOARDS, check=True, timeout=30)


def test_rules_and_configuration_pass_promtool() -> None:
    """Syntax, and what each rule and alert says of made-up series."""
    promtool = program("postgres", "promtool")
    for command in (
        ("check", "config", "prometheus/prometheus.yml"),
        ("check", "rules", "prometheus/rules/loadgen.yml"),
        ("test", "rules", "prometheus/tests/loadgen.yml"),
    ):
        done = subprocess.run([promtool, *command], cwd=DASHBOARDS, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


# Queries


class Prometheus:
    """A real Prometheus, as a browser asks it, of the time from its begin to ``end``."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._begin = time.time()
        self.end = 0.0

    def ask(self, path: str, **parameters: object) -> Any:
        """What the API answers."""
        asked = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def await_targets(self, count: int) -> None:
        """Wait until it scrapes so many: it takes up its configuration's targets every 5 s."""
        deadline = time.monotonic() + UP_WITHIN_S
        while len(self.ask("targets")["activeTargets"]) < count:
            assert time.monotonic() < deadline, f"Prometheus does not scrape {count} targets"
            time.sleep(0.1)
        self._begin = time.time()

    def await_alert(self, name: str) -> None:
        """Wait until a rule has been evaluated on what was scraped last; the time that is asked about ends there."""
        deadline = time.monotonic() + AFTER_END_S
        while True:
            self.end = time.time()
            if self.over_time(f'ALERTS{{alertname="{name}"}}') or time.monotonic() > deadline:
                return
            time.sleep(0.5)

    def over_time(self, expression: str) -> list[Any]:
        """The series of an expression that have a value which is a number, or a histogram."""
        asked = {"query": expression, "start": self._begin, "end": self.end, "step": 1}
        return [
            series
            for series in self.ask("query_range", **asked)["result"]
            if "histograms" in series or any(value != "NaN" for _, value in series.get("values", ()))
        ]

    def at_end(self, expression: str) -> float:
        """The one value of an expression."""
        (found,) = self.ask("query", query=expression, time=self.end)["result"]
        return float(found["value"][1])

    def empty(self, page: Path) -> list[str]:
        """The queries of a dashboard that give nothing."""
        return [query for query in queries(page) if not self.over_time(as_asked(query))]


@contextmanager
def running(command: list[str], port: int, path: str, **how: Any) -> Iterator[None]:
    """A process that answers there, and is gone at the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)
    try:
        deadline = time.monotonic() + UP_WITHIN_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, f"{command[0]} did not answer"
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@contextmanager
def prometheus(directory: Path, targets: Mapping[str, list[int]], *options: str) -> Iterator[Prometheus]:
    """A Prometheus with our configuration and rules, and with these ports in place of the usual ones."""
    shutil.copytree(DASHBOARDS / "prometheus", directory)
    for file in (directory / "targets").iterdir():
        places = [f"127.0.0.1:{port}" for port in targets.get(file.stem, ())]
        file.write_text(json.dumps([{"targets": places}] if places else []))
    config = directory / "prometheus.yml"
    for file in (config, *directory.glob("rules/*")):
        file.write_text(file.read_text().replace("interval: 5s", "interval: 1s"))
    port = free_ports(1)
    command = [program("postgres", "prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory}/data"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}", *options], port, "/-/ready"):
        yield Prometheus(port)


@pytest.mark.server("postgres")
def test_every_query_shows_a_real_run(tmp_path: Path, postgres_cluster: Cluster) -> None:
    """Also those of PostgreSQL's exporter, with classic histograms and with native ones; figures are the report's."""
    exporter = program("postgres", "prometheus-postgres-exporter", "postgres_exporter")
    address = postgres_cluster.address
    asyncio.run(add_watcher(address))
    first, watched = free_ports(4), free_ports(1)
    dsn = f"host={address.socket} port={address.port} user=watcher password=watcher dbname=postgres sslmode=disable"
    # Its collector of checkpoints asks for columns that PostgreSQL 17 has moved.
    command = [exporter, f"--web.listen-address=127.0.0.1:{watched}", "--no-collector.bgwriter"]
    targets = {"loadgen": [first, first + 1, first + 2], "postgres": [watched]}
    with ExitStack() as stack:
        stack.enter_context(running(command, watched, "/metrics", env={**os.environ, "DATA_SOURCE_NAME": dsn}))
        classic = stack.enter_context(prometheus(tmp_path / "classic", targets))
        native = stack.enter_context(prometheus(tmp_path / "native", targets, "--enable-feature=native-histograms"))
        for watch in (classic, native):
            watch.await_targets(4)
        run = finished(tmp_path, {"LOADGEN_DSN": dsn_of(address, "postgres")}, first, (classic, native))

        for watch in (classic, native):
            empty = [query for page in PAGES if page.stem in SHOWN for query in watch.empty(page)]
            # Prometheus 2.42 multiplies no native histogram, which joining it with the run needs; later ones do.
            joined = [query for query in empty if "histogram_quantile" in query and "group_left" in query]
            assert not empty or (watch is native and empty == joined), empty
            for query in queries(DASHBOARDS / "grafana" / "dashboards" / "oceanbase.json"):
                watch.ask("query", query=as_asked(query))  # is parsed; obagent can't be had
            groups = watch.ask("rules", type="record")["groups"]
            recorded = {rule["name"] for group in groups for rule in group["rules"]}
            assert len(recorded) == 5 and not [name for name in recorded if not watch.over_time(name)]
            assert watch.over_time('ALERTS{alertname="LoadgenViolation"}')
            placed = watch.at_end('sum(loadgen_ops_total{kind="order",answer="placed",outcome="ok"})')
            assert placed == run.summary["orders"]["placed"] > 100
            assert watch.at_end("sum(loadgen_violations)") == sum(run.summary["violations"].values()) > 0
        p99_s = native.at_end('histogram_quantile(0.99, sum(loadgen_response_seconds{kind="order"}))')
    assert p99_s * 1e3 == pytest.approx(run.summary["response_time_ms"]["order"]["p99"], rel=0.05)


def finished(directory: Path, server: Mapping[str, str], first: int, watching: Iterable[Prometheus]) -> EndedRun:
    """A run with violations, of two load processes, that was still scraped after its end."""
    page = ("--autostart", "--autoquit", "15", "--web-port", str(free_ports(1)))
    options = (*page, "--processes", "2", "--metrics-port", str(first), *STEADY, *NAIVE)
    with sale(directory, *options, environment=server) as started:
        started.wait_until(lambda: len(ports(started)) == 3, "its metrics")
        started.wait_until(lambda: scraped(first)["loadgen_run_state state=ended"], "its verdict")
        for watch in watching:
            watch.await_alert("LoadgenViolation")
        return started.end(30)


@pytest.mark.server("mysql")
def test_every_query_of_mysql_shows_its_exporter(tmp_path: Path, mysql_cluster: Cluster) -> None:
    """On the same axis as the load."""
    exporter = program("mysql", "prometheus-mysqld-exporter", "mysqld_exporter")
    address = mysql_cluster.address
    account = tmp_path / "my.cnf"
    account.write_text(f"[client]\nuser={address.user}\npassword={address.password}\nsocket={address.socket}\n")
    watched = free_ports(1)
    command = [exporter, f"--web.listen-address=127.0.0.1:{watched}", f"--config.my-cnf={account}"]
    with running([*command, "--no-collect.slave_status"], watched, "/metrics"):
        assert not empty_of(tmp_path, "mysql", dsn_of(address, "mysql"), watched)


@pytest.mark.server("tidb")
def test_every_query_of_tidb_shows_its_own_metrics(tmp_path: Path) -> None:
    """Of a server with a status port: those that loadgen starts have none."""
    server = find_binary(SERVER_BINARIES["tidb"])
    sql = free_ports(2)
    watched = sql + 1
    command = [str(server), "--store=unistore", f"--path={tmp_path / 'data'}", f"--temp-dir={tmp_path / 'temp'}"]
    command += ["--host=127.0.0.1", "-P", str(sql), "--status-host=127.0.0.1", f"--status={watched}", "-L", "error"]
    with running(command, watched, "/metrics", cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}):
        deadline = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", sql)):
                    break
            time.sleep(0.1)
        dsn = f"mysql://root@127.0.0.1:{sql}/"
        assert not empty_of(tmp_path, "tidb", dsn, watched, "--engine", "tidb", "--strategy", "pessimistic")


def empty_of(directory: Path, engine: str, dsn: str, watched: int, *options: str) -> list[str]:
    """The queries of an engine's dashboard that show nothing of a load with a hot row."""
    first = free_ports(1)
    known = ("--metrics-port", str(first), *STEADY, "--skew", "one-hot", *options)
    with prometheus(directory / "prometheus", {"loadgen": [first], engine: [watched]}) as watch:
        watch.await_targets(2)
        run_sale(directory, *known, environment={"LOADGEN_DSN": dsn})
        watch.end = time.time()
        return watch.empty(DASHBOARDS / "grafana" / "dashboards" / f"{engine}.json")


async def add_watcher(address: Any) -> None:
    """A role that may watch. lib/pq refuses the cheap password hashes that the embedded server makes otherwise."""
    known = await asyncpg.connect(host=address.socket, port=address.port, user=address.user, password=address.password)
    try:
        await known.execute("DROP ROLE IF EXISTS watcher")
        await known.execute("SET scram_iterations = 4096")
        await known.execute("CREATE ROLE watcher LOGIN PASSWORD 'watcher' IN ROLE pg_monitor")
    finally:
        await known.close()
