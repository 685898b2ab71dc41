"""The provider ``embedded``: a server found on this machine, as a process of ours. One file for each engine."""

from loadgen.clusters import embedded_mysql, embedded_postgres, embedded_seekdb, embedded_tidb
from loadgen.clusters.cluster import Cluster, Place, Provider
from loadgen.clusters.embedded_postgres import MOST_NODES
from loadgen.errors import PlanError
from loadgen.plan import Plan

SERVERS: dict[str, Provider] = {
    "postgres": embedded_postgres.start,
    "mysql": embedded_mysql.start,
    "tidb": embedded_tidb.start,
    "oceanbase": embedded_seekdb.start,
}


def start(plan: Plan, place: Place) -> Cluster:
    """Start the plan's engine. Raises PlanError where no package brings it, ClusterError where it can't be started."""
    server = SERVERS.get(plan.engine)
    if server is None:
        raise PlanError(
            f"--cluster embedded has no {plan.engine} server (only {', '.join(SERVERS)}): name one by --dsn"
        )
    most = MOST_NODES if plan.engine == "postgres" else 1
    if plan.nodes > most:
        nodes = "one node" if most == 1 else f"at most {most} nodes"
        raise PlanError(f"--nodes {plan.nodes}: --cluster embedded starts {nodes} of {plan.engine}")
    return server(plan, place)
