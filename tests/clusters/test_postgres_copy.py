"""PostgreSQL's binaries where the server's user cannot reach them, as in an environment under root's home."""

from pathlib import Path

import pytest

from loadgen import engines
from loadgen.clusters import embedded_postgres
from loadgen.clusters.cluster import Place
from tests.plans import sale_plan


@pytest.mark.server("postgres")
def test_server_out_of_a_copy_of_the_package_answers_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy holds all that the binaries need, their shared libraries too, and goes with the server."""
    monkeypatch.setattr(embedded_postgres, "reachable", lambda path, account: False)
    server = embedded_postgres.start(sale_plan(), Place(logs=tmp_path, say=lambda _: None))
    directory = Path(server.address.socket)
    try:
        assert (directory / "package").is_dir()
        control = engines.engine_of("postgres").control(server.address, "test")
        assert control.query("SELECT 1") == [(1,)]
        control.close()
    finally:
        server.stop(keep=False)
    assert not directory.exists()
