"""Where engines run: one file for each provider. A new one is a file and a line in PROVIDERS."""

from loadgen.clusters.cluster import Cluster, Place, Provider
from loadgen.errors import PlanError
from loadgen.plan import Plan


def _embedded(plan: Plan, place: Place) -> Cluster:
    from loadgen.clusters.embedded import start

    return start(plan, place)


def _container(plan: Plan, place: Place) -> Cluster:
    from loadgen.clusters.container import start

    return start(plan, place)


def _compose(plan: Plan, place: Place) -> Cluster:
    from loadgen.clusters.compose import start

    return start(plan, place)


def _existing(plan: Plan, place: Place) -> Cluster:
    from loadgen.clusters.existing import start

    return start(plan, place)


PROVIDERS: dict[str, Provider] = {
    "embedded": _embedded,
    "container": _container,
    "compose": _compose,
    "existing": _existing,
}


def start(plan: Plan, place: Place) -> Cluster:
    """The cluster of ``plan``, ready to use. Raises PlanError where there is no such provider, else ClusterError."""
    if plan.cluster not in PROVIDERS:
        raise PlanError(f"--cluster {plan.cluster!r} is not one of {', '.join(PROVIDERS)}")
    return PROVIDERS[plan.cluster](plan, place)
