"""A correct server that is hurt in the middle of a run is never accused: what nobody knows counts as ``info``."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.errors import ClusterError
from loadgen.shop.sale import CHECKS
from tests.sale_runs import RunningSale, dsn_of, sale

OPTIONS = ("--headless", "--duration", "6s", "--shape", "closed", "-u", "16", "--stock", "400")
LOAD_SESSIONS = {
    "postgres": "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'loadgen%' AND pid <> pg_backend_pid() "
    "AND application_name NOT LIKE '%control%'",
    "oceanbase": "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()",
}
KILL = {"postgres": "SELECT pg_terminate_backend({})", "oceanbase": "KILL {}"}
BACK_WITHIN_S = 20.0


def every_session_is_killed(engine: str, control: Any, running: RunningSale) -> None:
    """A DBA ends every session of the load, three times."""
    for _ in range(3):
        for (session,) in control.query(LOAD_SESSIONS[engine]):
            try:
                control.query(KILL[engine].format(session))
            except ClusterError as error:
                # It has ended by itself meanwhile.
                assert str(session) in str(error)
        time.sleep(0.4)


def server_crashes_and_recovers(engine: str, control: Any, running: RunningSale) -> None:
    """One backend is killed hard, so that PostgreSQL ends all of them and goes through its recovery."""
    os.kill(int(control.query(LOAD_SESSIONS[engine])[0][0]), signal.SIGKILL)


def load_is_frozen(engine: str, control: Any, running: RunningSale) -> None:
    """The client stands still for longer than the late limit."""
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    running.process.send_signal(signal.SIGCONT)


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "hurt"),
    [
        ("postgres", every_session_is_killed),
        ("oceanbase", every_session_is_killed),
        ("postgres", server_crashes_and_recovers),
        ("oceanbase", load_is_frozen),
    ],
    ids=["sessions-killed-postgres", "sessions-killed-oceanbase", "crash-recovery-postgres", "client-frozen-oceanbase"],
)
def test_run_that_is_hurt_is_valid_all_the_same(
    tmp_path: Path, cluster: Cluster, engine: str, hurt: Callable[[str, Any, RunningSale], None]
) -> None:
    """The final reads say what became of every op that was in flight, and none of it looks like a violation."""
    environment = {"LOADGEN_DSN": dsn_of(cluster.address, engine)}
    control = engine_of(engine).control(cluster.address, "dba")
    with sale(tmp_path, *OPTIONS, "--engine", engine, environment=environment) as running:
        running.wait_for_progress(2)
        hurt(engine, control, running)
        run = running.end()
    control.close()
    wait_for_server(engine, cluster)

    assert run.exit_code == 0, run
    assert run.summary["verdict"] == "valid"
    assert run.summary["violations"] == dict.fromkeys(CHECKS, 0)
    assert run.summary["orders"]["placed"] > 400
    assert run.summary["errors"] or hurt is load_is_frozen


def wait_for_server(engine: str, cluster: Cluster) -> None:
    """Wait until the server takes connections again: the next test uses it."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            engine_of(engine).control(cluster.address, "dba").close()
        except ClusterError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
