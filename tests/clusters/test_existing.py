"""The cluster that is there already: an address out of a DSN, and nothing that is ours to stop."""

from pathlib import Path

import pytest

from loadgen import clusters
from loadgen.clusters.cluster import Place
from loadgen.errors import PlanError
from tests.plans import sale_plan


def test_facts_name_the_place_and_hide_the_password(tmp_path: Path) -> None:
    """What goes into files has host, port and user, and no secret."""
    plan = sale_plan(engine="mysql", cluster="existing", dsn="mysql://shop:s%40cret@db.example:3307/")
    cluster = clusters.start(plan, Place(tmp_path, lambda _: None))

    assert cluster.address.password == "s@cret"
    assert "s@cret" not in str(cluster.facts())
    assert {"host": "db.example", "port": 3307, "user": "shop"}.items() <= cluster.facts().items()
    assert cluster.stop(keep=False) == ""
    assert cluster.stop(keep=True) == ""


def test_malformed_dsn_is_refused(tmp_path: Path) -> None:
    """A DSN that cannot be read is the plan's error."""
    plan = sale_plan(engine="mysql", cluster="existing", dsn="mysql://host:99999999/")

    with pytest.raises(PlanError):
        clusters.start(plan, Place(tmp_path, lambda _: None))


def test_provider_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The message lists those that do."""
    with pytest.raises(PlanError, match="embedded, container, compose, existing"):
        clusters.start(sale_plan(cluster="nowhere"), Place(tmp_path, lambda _: None))
