"""The provider ``embedded``: a server found on this machine, as a process of ours. Each engine names its own."""

from loadgen.clusters.cluster import Cluster, Place, Provider
from loadgen.databases import DATABASES
from loadgen.databases.database import resolved
from loadgen.errors import PlanError
from loadgen.plan import Plan


def start(plan: Plan, place: Place) -> Cluster:
    """Start the plan's engine. Raises PlanError where no package brings it, ClusterError where it can't be started."""
    server = DATABASES[plan.engine].embedded if plan.engine in DATABASES else None
    if server is None:
        those = ", ".join(name for name, database in DATABASES.items() if database.embedded)
        raise PlanError(f"--cluster embedded has no {plan.engine} server (only {those}): name one by --dsn")
    if plan.nodes > server.most_nodes:
        nodes = "one node" if server.most_nodes == 1 else f"at most {server.most_nodes} nodes"
        raise PlanError(f"--nodes {plan.nodes}: --cluster embedded starts {nodes} of {plan.engine}")
    provider: Provider = resolved(server.start)
    return provider(plan, place)
