"""An engine on the MySQL wire: what MySQL, TiDB and OceanBase have in common, and what each says in its own file."""

from typing import ClassVar

from loadgen.engines.engine import Address, Control, Described, Failure, Level
from loadgen.engines.mysql_dialect import Dialect
from loadgen.engines.mysql_outcomes import ErrorRules
from loadgen.engines.mysql_settings import Profile
from loadgen.engines.mysql_wire import MysqlConnection, classify, connect
from loadgen.op import Stage


class MysqlEngine(Described):
    """A database on the MySQL wire."""

    rules: ClassVar[ErrorRules]
    dialect: ClassVar[Dialect]

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        raise NotImplementedError

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """The outcome of ``error`` at ``stage``."""
        return classify(self.rules, error, stage)

    async def connect(
        self,
        address: Address,
        level: Level,
        run_id: str,
        *,
        reader: bool = False,  # noqa: ARG002 - a replica's session is set and asked in the same way
    ) -> MysqlConnection:
        """Open one load connection in our database, at ``level``, with explicit timeouts, and verify it."""
        return await connect(address, self.profile, self.dialect.name, level, run_id, self.dialect.ask_writable)

    def control(self, address: Address, run_id: str) -> Control:
        """Open the control connection."""
        from loadgen.engines.mysql_control import MysqlControl

        return MysqlControl(address, run_id, self.dialect)
