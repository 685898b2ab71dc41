"""What Locust offers beside the page: each option and hook does what it says, or is refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from tests.sale_runs import ROOT, EndedRun, dsn_of, run_sale, sale

SHORT = ("--shape", "constant", "--peak-rate", "200", "--duration", "1s", "-u", "4")
BROKEN = ("--strategy", "naive", "--isolation", "read committed", "--skew", "one-hot", "--shape", "closed", "-u", "16")
IMPORTS = f"""
import sys
sys.path.insert(0, {str(ROOT / "workloads")!r})
from locust import HttpUser, LoadTestShape, events, tag, task
from flashsale import Shopper
"""

pytestmark = [pytest.mark.server("postgres"), pytest.mark.parametrize("engine", ["postgres"])]


@pytest.fixture
def server(cluster: Cluster) -> dict[str, str]:
    """The environment of a run on the session's server."""
    return {"LOADGEN_DSN": dsn_of(cluster.address, "postgres")}


def run_file(directory: Path, text: str, *options: str, **how: Any) -> EndedRun:
    """A run of a locustfile with this text, below what it needs from ours."""
    locustfile = directory / "locustfile.py"
    locustfile.write_text(IMPORTS + text)
    return run_sale(directory, "-f", str(locustfile), *options, within_s=40, **how)


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("", ("--class-picker",), "--class-picker: a run has one workload"),
        ("", ("--config-users", '{"user_class_name": "Shopper"}'), "--config-users: a run's users are its sessions"),
        ("", ("--tags", "odrer"), "--tags 'odrer': no task has that tag, and no task is left; there are "),
        ("", ("--tags", "order", "--exclude-tags", "brwse"), "--exclude-tags 'brwse': no task has that tag"),
        ("class Api(HttpUser):\n    @task\n    def get(self): pass", (), "Api: other users would take sessions away"),
        ("class Waves(LoadTestShape):\n    def tick(self): return None", (), "Waves shapes the number of users"),
        ("class Vip(Shopper):\n    def on_start(self): pass", (), "Vip.on_start: sessions have no use for it"),
        ("class Vip(Shopper):\n    wait_time = lambda self: 1", (), "Vip.wait_time: sessions have no use for it"),
        ("class Vip(Shopper):\n    fixed_count = 2", (), "Vip.fixed_count: the number of sessions is set by -u"),
        ("class Vip(Shopper):\n    @task\n    def gaze(self): pass", (), "Vip.gaze is no kind of op of flashsale"),
        ("class Vip(Shopper): pass\nclass Bot(Shopper): pass", (), "a run has one workload: name one of "),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else None,
)
def test_what_would_do_nothing_is_refused(
    tmp_path: Path, server: dict[str, str], engine: str, text: str, options: tuple[str, ...], told: str
) -> None:
    """One line and exit code 2, and nothing is touched; workers that were forked already go, too, and say nothing."""
    forked = () if options else ("--processes", "2")
    run = run_file(tmp_path, text, *options, *forked, *SHORT, environment=server)

    assert run.exit_code == 2, run
    lines = [line for line in run.stderr.splitlines() if line.startswith("loadgen: ")]
    assert len(lines) == 1, run
    assert lines[0].startswith(f"loadgen: {told}")
    assert "Traceback" not in run.told
    assert run.directory is None


def test_derived_class_is_run_in_place_of_its_base(tmp_path: Path, server: dict[str, str], engine: str) -> None:
    """A locustfile that imports one workload and changes a body: all sessions are its own, in every load process."""
    text = """
class Vip(Shopper):
    @tag("browse")
    @task(300)
    def browse(self, op):
        return (yield from super().browse(op))
"""
    options = ("--processes", "2", *SHORT)
    run = run_file(tmp_path, text, *options, environment=server)

    assert run.exit_code == 0, run
    assert run.plan["plan"]["kind_weights"]["browse"] == 300
    assert '"Vip": 4' in run.stderr
    assert "Shopper" not in run.stderr


def test_named_class_is_run_beside_others(tmp_path: Path, server: dict[str, str], engine: str) -> None:
    """What a refusal advises works: the class on the command line."""
    text = "class Api(HttpUser):\n    @task\n    def get(self): pass\n"
    run = run_file(tmp_path, text, "Shopper", *SHORT, environment=server)

    assert run.exit_code == 0, run
    assert '"Shopper": 4' in run.stderr


LISTENER = """
import json
@events.request.add_listener
def export(request_type, name, response_time, response_length, exception, context, start_time, **_):
    with open("events", "a") as file:
        file.write(json.dumps([request_type, name, response_time, context["one_of"], start_time]) + "\\n")
    raise ValueError("this exporter is broken, and the run is not")
"""


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["alone", "workers"])
def test_listeners_to_requests_are_told_a_sample(
    tmp_path: Path, server: dict[str, str], engine: str, options: tuple[str, ...]
) -> None:
    """Each event has a name, a time and a weight; one that fails does no harm, and Locust counts none twice."""
    run = run_file(tmp_path, LISTENER, *options, *SHORT, "--csv", "sale", environment=server)

    assert run.exit_code == 0, run
    told = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    orders = [one_of for _, name, _, one_of, _ in told if name == "order"]
    assert {kind for kind, *_ in told} == {"op"}
    assert sum(orders) == pytest.approx(run.summary["orders"]["placed"], rel=0.25)
    assert all(0 < response_ms < 10_000 for _, _, response_ms, _, _ in told)
    assert run.stderr.count("this exporter is broken") <= 4
    stats = (tmp_path / "sale_stats.csv").read_text().splitlines()
    assert any(line.startswith(f"op,order,{run.summary['orders']['placed']},") for line in stats)


HOOKS = {
    "sets": "environment.process_exit_code = 0",
    "leaves": "sys.exit(0)",
    "fails": "raise ValueError('a hook of somebody else')",
    "sets-its-own": "environment.process_exit_code = 7",
}


@pytest.mark.parametrize("when", ["quitting", "quit"])
@pytest.mark.parametrize("hook", HOOKS)
def test_exit_code_of_a_violated_run_survives_every_hook(
    tmp_path: Path, server: dict[str, str], engine: str, when: str, hook: str
) -> None:
    """Whoever sets another, leaves or fails while Locust quits: 4 stays 4."""
    text = f"@events.{when}.add_listener\ndef leave(environment=None, **_):\n    {HOOKS[hook]}\n"
    if when == "quit" and "environment" in HOOKS[hook]:
        pytest.skip("that event has no environment")
    run = run_file(tmp_path, text, *BROKEN, "--duration", "1s", environment=server)

    assert run.exit_code == 4, run
    assert "INVALID" in run.stdout or hook in ("leaves", "fails")


def test_hook_may_fail_a_run_that_ended_with_0(tmp_path: Path, server: dict[str, str], engine: str) -> None:
    """As Locust documents it: a team's own objective."""
    text = "@events.quitting.add_listener\ndef fail(environment, **_):\n    environment.process_exit_code = 7\n"
    run = run_file(tmp_path, text, *SHORT, environment=server)

    assert run.exit_code == 7, run


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["alone", "workers"])
def test_json_is_all_there_is_on_standard_output(
    tmp_path: Path, server: dict[str, str], engine: str, options: tuple[str, ...]
) -> None:
    """One document; progress and report are on standard error."""
    run = run_file(tmp_path, "", "--json", *options, *SHORT, environment=server)

    assert run.exit_code == 0, run
    entries = {entry["name"]: entry for entry in json.loads(run.stdout)}
    assert entries["order"]["num_requests"] == run.summary["orders"]["placed"]
    assert "VALID" in run.stderr


def test_files_options_and_levels_of_locust(tmp_path: Path, server: dict[str, str], engine: str) -> None:
    """A configuration file, a log file and its level: a violated run is one line in it, whole."""
    (tmp_path / "sale.conf").write_text(
        "headless = true\nduration = 1s\nstrategy = naive\nskew = one-hot\nusers = 16\n"
    )
    level = ("--isolation", "read committed", "--shape", "closed")
    files = (
        "--logfile",
        "sale.log",
        "--loglevel",
        "WARNING",
        "--html",
        "sale.html",
        "--json-file",
        "sale",
        "--equal-weights",
    )
    run = run_file(tmp_path, "", "--config", "sale.conf", *level, *files, environment=server)

    assert run.exit_code == 4, run
    (line,) = [line for line in (tmp_path / "sale.log").read_text().splitlines() if "/WARNING/loadgen" in line]
    assert "INVALID (exit code 4): " in line
    assert line.endswith(f"loadgen report {run.directory}")
    assert set(run.plan["plan"]["kind_weights"].values()) == {1}
    assert "INVALID (exit code 4)" in (tmp_path / "sale.html").read_text()
    stored = {entry["name"]: entry for entry in json.loads((tmp_path / "sale.json").read_text())}
    assert stored["invalid"]["num_failures"] == 1


def test_page_that_starts_and_quits_by_itself(tmp_path: Path, server: dict[str, str], engine: str) -> None:
    """--autostart and --autoquit: the run's exit code, and an end."""
    options = ("--autostart", "--autoquit", "1", "--web-port", "0", *BROKEN, "--duration", "1s")
    with sale(tmp_path, *options, environment=server) as running:
        run = running.end(40)

    assert run.exit_code == 4, run
    assert "INVALID" in run.stdout
