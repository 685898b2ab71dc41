"""OceanBase keeps the engines' contract."""

from typing import ClassVar

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines.engine import Control
from loadgen.engines.oceanbase import ENGINE
from tests.engines.contract import EngineContract, Server

pytestmark = pytest.mark.server("oceanbase")


@pytest.fixture
def server(oceanbase_cluster: Cluster) -> Server:
    """The one embedded server."""
    return Server(ENGINE, oceanbase_cluster.address)


class TestOceanBase(EngineContract):
    """The contract."""

    p4_allowed: ClassVar = ("read committed",)
    p4_prevented: ClassVar = ("repeatable read", "serializable")

    def end_sessions(self, control: Control) -> None:
        """As an administrator would."""
        listed = "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()"
        for (session,) in control.query(listed):
            control.query(f"KILL {session}")
