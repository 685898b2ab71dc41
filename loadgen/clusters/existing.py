"""A cluster that is there already, named by a DSN: nothing is started, and nothing is stopped."""

import os
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from loadgen.clusters.cluster import Place
from loadgen.clusters.replication import replication_kind
from loadgen.engines import engine_of
from loadgen.engines.address import members_of, parse_dsn
from loadgen.engines.engine import Address, Engine
from loadgen.errors import ClusterError
from loadgen.plan import Plan


class Existing:
    """The server that the plan's DSN names."""

    def __init__(self, address: Address, engine: Engine) -> None:
        self.address = address
        self._engine = engine

    @property
    def replicas(self) -> tuple[Address, ...]:
        """Those of a DSN's several hosts that take no writes now. Raises ClusterError if one is not there."""
        members = members_of(self.address)
        if len(members) < 2:
            return ()
        return tuple(filter(self._is_read_only, map(_any, members)))

    def _is_read_only(self, member: Address) -> bool:
        with closing(self._engine.control(member, "replicas")) as control:
            return control.read_only()

    def facts(self) -> dict[str, Any]:
        """Where it is and as whom, without secrets; of several hosts how many, and what they say of each other."""
        place = {"socket": self.address.socket} if self.address.socket else {"host": self.address.host}
        facts = {"provider": "existing", **place, "port": self.address.port, "user": self.address.user}
        members = members_of(self.address)
        if len(members) < 2:
            return facts
        return {**facts, "nodes": len(members), "replication": self._replication(members)}

    def _replication(self, members: tuple[Address, ...]) -> dict[str, Any]:
        told = []
        kind = ""
        for member in members:
            name, role = member.socket or f"{member.host}:{member.port}", "not reached"
            with suppress(ClusterError), closing(self._engine.control(_any(member), "state")) as control:
                role = "read-only" if control.read_only() else "takes writes"
                kind = kind or replication_kind(self._engine.name, control.query) if role == "takes writes" else kind
            told.append({"name": name, "role": role})
        return {"kind": kind or "not told", "members": told}

    def stop(self, *, keep: bool) -> str:  # noqa: ARG002
        """Does nothing: it is not ours."""
        return ""


def _any(member: Address) -> Address:
    """``member``, also where it takes no writes."""
    parameters = {name: value for name, value in member.parameters.items() if name != "target_session_attrs"}
    return replace(member, parameters=parameters)


def start(plan: Plan, place: Place) -> Existing:  # noqa: ARG001
    """The cluster of ``plan``'s DSN. Raises PlanError for one that is malformed."""
    return Existing(parse_dsn(plan.dsn, os.environ), engine_of(plan.engine))
