"""A cluster that is there already, named by a DSN: nothing is started, and nothing is stopped."""

import os
from typing import Any

from loadgen.clusters.cluster import Place
from loadgen.engines.address import parse_dsn
from loadgen.engines.engine import Address
from loadgen.plan import Plan


class Existing:
    """The server that the plan's DSN names."""

    replicas: tuple[Address, ...] = ()

    def __init__(self, address: Address) -> None:
        self.address = address

    def facts(self) -> dict[str, Any]:
        """Where it is and as whom, without secrets."""
        place = {"socket": self.address.socket} if self.address.socket else {"host": self.address.host}
        return {"provider": "existing", **place, "port": self.address.port, "user": self.address.user}

    def stop(self, *, keep: bool) -> str:  # noqa: ARG002
        """Does nothing: it is not ours."""
        return ""


def start(plan: Plan, place: Place) -> Existing:  # noqa: ARG001
    """The cluster of ``plan``'s DSN. Raises PlanError for one that is malformed."""
    return Existing(parse_dsn(plan.dsn, os.environ))
