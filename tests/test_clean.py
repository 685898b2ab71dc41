"""``loadgen clean`` removes what is marked as ours, and nothing else; what is in use or foreign stays untouched."""

import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.clusters.existing import Existing
from loadgen.commands.main import main
from loadgen.engines import engine_of
from loadgen.engines.address import joined
from loadgen.engines.engine import Address, Control
from loadgen.errors import ClusterError
from tests.plans import sale_plan
from tests.sale_runs import dsn_of
from workloads import flashsale


@pytest.fixture
def control(cluster: Cluster, engine: str) -> Iterator[Control]:
    """A control connection to a server on which nothing of ours is left, before and after."""
    with closing(engine_of(engine).control(cluster.address, "clean-test")) as opened:
        _drop(opened, engine)
        yield opened
        _drop(opened, engine)


def _drop(control: Control, engine: str) -> None:
    with suppress(ClusterError):
        control.query(f"DROP SCHEMA IF EXISTS loadgen {'CASCADE' if engine == 'postgres' else ''}")


def clean(cluster: Cluster, engine: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command's exit code on ``cluster``, which LOADGEN_DSN names."""
    monkeypatch.setenv("LOADGEN_DSN", dsn_of(cluster.address, engine))
    return main(["clean", "--engine", engine])


pytestmark = [pytest.mark.server, pytest.mark.parametrize("engine", ["postgres", "oceanbase"])]


def test_what_a_run_left_is_removed_and_told(
    engine: str, cluster: Cluster, control: Control, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it, by name; the second time there is nothing; what stands beside it stays."""
    control.lock()
    control.prepare(flashsale.tables(sale_plan(skus=2, stock=2)))
    control.unlock()

    assert clean(cluster, engine, monkeypatch) == 0
    told = capsys.readouterr().out
    assert "orders" in told
    assert "loadgen_meta" in told
    assert control.query("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'loadgen'") == [(0,)]
    assert clean(cluster, engine, monkeypatch) == 0
    assert "nothing of loadgen's" in capsys.readouterr().out


def test_run_that_is_alive_is_left_alone(
    engine: str, cluster: Cluster, control: Control, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lock is renewed while we wait for it."""
    control.lock()
    control.prepare(flashsale.tables(sale_plan(skus=2, stock=2)))
    done = threading.Event()

    def beat() -> None:
        with closing(engine_of(engine).control(cluster.address, "clean-test")) as other:
            while not done.wait(0.5):
                other.beat()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert clean(cluster, engine, monkeypatch) == 2
    finally:
        done.set()
        beating.join()
    assert "another run" in capsys.readouterr().err
    assert control.query("SELECT count(*) FROM loadgen.stock") == [(2,)]
    control.unlock()


@pytest.mark.parametrize("kind", ["unmarked", "unmarked beside ours", "empty"])
def test_what_is_not_ours_stays(
    kind: str,
    engine: str,
    cluster: Cluster,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A schema of that name that somebody else made, and a table that somebody put into ours."""
    if kind == "unmarked beside ours":
        control.lock()
        control.unlock()
    else:
        control.query("CREATE SCHEMA loadgen")
    if kind != "empty":
        control.query("CREATE TABLE loadgen.theirs (id int)")

    assert clean(cluster, engine, monkeypatch) == (2 if kind == "unmarked beside ours" else 0)
    captured = capsys.readouterr()
    assert "theirs" in captured.err or "nothing of loadgen's" in captured.out
    assert control.query("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'loadgen'") == [(1,)]
    if kind != "empty":
        assert control.query("SELECT count(*) FROM loadgen.theirs") == [(0,)]


def test_members_of_an_existing_cluster_are_reported(engine: str, cluster: Cluster) -> None:
    """How many there are, who takes writes, how they are replicated, and which one does not answer."""
    address = joined([cluster.address, Address("127.0.0.1", 1, cluster.address.user, cluster.address.password)])
    facts = Existing(address, engine_of(engine)).facts()

    assert facts["nodes"] == 2
    assert [member["role"] for member in facts["replication"]["members"]] == ["takes writes", "not reached"]
    assert facts["replication"]["kind"]
