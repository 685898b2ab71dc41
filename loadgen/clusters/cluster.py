"""What a cluster is: running nodes that one can reach. A provider makes one, and stops every server that it started."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loadgen.engines.engine import Address
from loadgen.plan import Plan


@dataclass(frozen=True, slots=True)
class Place:
    """What a provider gets: ``logs``, a kept folder in the run directory, and a function for progress messages."""

    logs: Path
    say: Callable[[str], None] = field(repr=False)


class Cluster(Protocol):
    """Running nodes. Optional abilities (kill, pause, partition, restart) are protocols of their own."""

    @property
    def address(self) -> Address:
        """Where the load goes: every member that may take writes, now or after a failover."""

    @property
    def replicas(self) -> tuple[Address, ...]:
        """The members that serve reads only while the cluster is as it was started, each by itself; often none."""

    def facts(self) -> dict[str, Any]:
        """What ``plan.json`` says of it: provider, nodes, where the data is, how a person connects to it."""

    def stop(self, *, keep: bool) -> str:
        """Stop everything that was started, at once. Idempotent.

        With ``keep`` the data stays, and the answer is the shell command that starts the server on it again; else
        it is removed and the answer is empty.
        """


Provider = Callable[[Plan, Place], Cluster]
"""Starts the cluster that a plan names, and returns when it can be used. Raises ClusterError; leaves nothing then."""


def connections_of(plan: Plan) -> int:
    """How many connections a server takes that is started for ``plan``, on every engine and by every provider.

    Beside the sessions 50: the run's own few, the members of a cluster with their health checks, and people who look
    on. An idle one costs a server next to nothing, and a run must never fail for want of one.
    """
    return plan.sessions + 50
