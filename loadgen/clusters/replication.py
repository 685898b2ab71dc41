"""What the servers of a cluster report about their replication, by engine; ``complete``: it is correct.

The code that starts a cluster asks for it, by queries of control connections. It is stored in ``plan.json``.
"""

import time
from collections.abc import Callable
from typing import Any

from loadgen.databases import DATABASES
from loadgen.databases.database import resolved
from loadgen.errors import ClusterError

STATE_WITHIN_S = 60.0
POLL_S = 0.1

Query = Callable[[str], list[tuple[Any, ...]]]


def complete_state(state: Callable[[], dict[str, Any]], title: str) -> dict[str, Any]:
    """What ``state`` answers once it is complete. Raises ClusterError if it never is."""
    deadline = time.monotonic() + STATE_WITHIN_S
    while True:
        problem, found = "", {}
        try:
            found = state()
        except ClusterError as error:
            problem = str(error)
        if found.get("complete"):
            return found
        if time.monotonic() > deadline:
            raise ClusterError(f"{title} is not replicated as it should be: {problem or found}")
        time.sleep(POLL_S)


def postgres_state(query: Query) -> dict[str, Any]:
    """PostgreSQL: each standby, once all that ``synchronous_standby_names`` lists but the primary itself stream."""
    standbys = query(
        "SELECT application_name, state, sync_state FROM pg_stat_replication WHERE backend_start IS NOT NULL ORDER BY 1"
    )
    names = str(query("SHOW synchronous_standby_names")[0][0])
    streaming = [name for name, state, sync in standbys if state == "streaming" and sync in ("quorum", "sync")]
    return {
        "kind": "synchronous standbys",
        "synchronous_standby_names": names,
        "synchronous_commit": str(query("SHOW synchronous_commit")[0][0]),
        "standbys": [{"name": name, "state": state, "sync_state": sync} for name, state, sync in standbys],
        "complete": bool(names) and len(streaming) == names.count(","),
    }


def mysql_state(query: Query) -> dict[str, Any]:
    """MySQL: the members of the group, and what it does about one that does not answer."""
    members = query(
        "SELECT member_host, member_state, member_role, member_version "
        "FROM performance_schema.replication_group_members ORDER BY 1"
    )
    settings = ("consistency", "member_expel_timeout", "single_primary_mode", "exit_state_action")
    row = query(f"SELECT {', '.join(f'@@group_replication_{name}' for name in settings)}")[0]
    return {
        "kind": "group replication, one primary",
        "members": [
            {"name": name, "state": state, "role": role, "version": version} for name, state, role, version in members
        ],
        "settings": {f"group_replication_{name}": str(value) for name, value in zip(settings, row, strict=True)},
        "complete": sum(state == "ONLINE" for _, state, _, _ in members) == 3,
    }


def tidb_state(query: Query) -> dict[str, Any]:
    """TiDB: the stores, and the other servers."""
    stores = query("SELECT address, store_state_name FROM information_schema.tikv_store_status ORDER BY 1")
    servers = query("SELECT type, instance, version FROM information_schema.cluster_info ORDER BY 1, 2")
    return {
        "kind": "Raft, three replicas",
        "stores": [{"name": name, "state": state} for name, state in stores],
        "servers": [{"type": kind, "name": name, "version": version} for kind, name, version in servers],
        "complete": sum(state == "Up" for _, state in stores) == 3,
    }


def seekdb_state(*queries: Query) -> dict[str, Any]:
    """seekdb: the role of each server, asked one by one."""
    rows = [query("SELECT role, sync_scn FROM oceanbase.V$OB_SERVER_STAT")[0] for query in queries]
    members = [{"name": f"node{n}", "role": str(row[0]), "sync_scn": int(row[1])} for n, row in enumerate(rows, 1)]
    return {
        "kind": "primary and standby, asynchronous: what was acknowledged last is lost with the primary",
        "members": members,
        "complete": [member["role"] for member in members] == ["PRIMARY", "STANDBY"],
    }


def oceanbase_state(query: Query) -> dict[str, Any]:
    """OceanBase: its servers."""
    servers = query("SELECT DISTINCT svr_ip, role FROM oceanbase.DBA_OB_TABLET_REPLICAS ORDER BY 1, 2 LIMIT 10")
    return {
        "kind": "one server, one replica",
        "servers": [{"name": name, "role": role} for name, role in servers],
        "complete": True,
    }


def postgres_kind(query: Query) -> str:
    """How the standbys of a PostgreSQL that is not ours follow."""
    synchronous = bool(str(query("SHOW synchronous_standby_names")[0][0]))
    return "synchronous standbys" if synchronous else "asynchronous standbys: the last commits can be lost"


def mysql_kind(query: Query) -> str:
    """How the replicas of a MySQL that is not ours follow."""
    group = query("SELECT count(*) FROM performance_schema.replication_group_members WHERE member_state = 'ONLINE'")
    return "group replication" if int(group[0][0]) > 1 else "replicas, asynchronous or semi-synchronous"


def replication_kind(engine: str, query: Query) -> str:
    """How the members of a cluster that is not ours are replicated, as the node that takes writes says it."""
    known = DATABASES[engine].replicated_as
    return str(resolved(known)(query)) if ":" in known else known or "as the server has it"
