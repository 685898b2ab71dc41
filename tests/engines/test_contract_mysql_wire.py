"""MySQL, TiDB and OceanBase keep the engines' contract."""

from typing import ClassVar

import pytest

from loadgen.engines import engine_of
from loadgen.engines.engine import Control
from tests.engines.contract import EngineContract, Server


class MysqlWireContract(EngineContract):
    """The contract, for an engine of the MySQL wire."""

    engine: ClassVar[str]

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest) -> Server:
        """The one embedded server."""
        return Server(engine_of(self.engine), request.getfixturevalue(f"{self.engine}_cluster").address)

    def end_sessions(self, control: Control) -> None:
        """As an administrator would."""
        listed = "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()"
        for (session,) in control.query(listed):
            control.query(f"KILL {session}")


@pytest.mark.server("mysql")
class TestMysql(MysqlWireContract):
    """Below SERIALIZABLE, which reads with locks, a write goes by the latest commit, whatever the snapshot showed."""

    engine = "mysql"
    p4_allowed: ClassVar = ("read uncommitted", "read committed", "repeatable read")
    p4_prevented: ClassVar = ("serializable",)


@pytest.mark.server("tidb")
class TestTidb(MysqlWireContract):
    """With pessimistic transactions no level prevents a lost update."""

    engine = "tidb"
    p4_allowed: ClassVar = ("read committed", "repeatable read")
    p4_prevented: ClassVar = ()


@pytest.mark.server("oceanbase")
class TestOceanBase(MysqlWireContract):
    """Above READ COMMITTED it is snapshot isolation."""

    engine = "oceanbase"
    p4_allowed: ClassVar = ("read committed",)
    p4_prevented: ClassVar = ("repeatable read", "serializable")
