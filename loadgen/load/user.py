"""The Locust user: a session. Its tasks are transaction bodies, and their weights are the mix."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from locust import User
from locust.user.task import LOCUST_STATE_WAITING

from loadgen.plan import Plan
from loadgen.workload import Workload


class SessionUser(User):
    """A session for as long as Locust keeps the user: connected on start, gone on stop.

    The loop thread calls the tasks, never Locust's own task loop: users are the sessions that serve arrivals, and
    the arrivals come from the plan's shape.
    """

    abstract = True
    host = "by engine and cluster"
    workload: ClassVar[Workload]
    plan: Plan

    def run(self) -> None:  # type: ignore[misc]  # Final there for users that run Locust's task loop; not this one.
        """Hold the session open until Locust stops this user."""
        load_worker = self.environment.load_worker
        session = None
        if load_worker is not None:  # None: the run has ended while Locust was still starting users.
            self.plan = load_worker.plan
            session = load_worker.add_session(bodies_of(self, load_worker.plan))
        self._state = LOCUST_STATE_WAITING  # Stopping a waiting user is immediate.
        try:
            Event().wait()
        except gevent.GreenletExit:
            pass
        finally:
            if session is not None:
                load_worker.remove_session(session)


def loaded_workloads() -> list[Workload]:
    """The workloads of the classes of users that the locustfile has, each once."""
    found: list[Workload] = []
    classes: list[type[SessionUser]] = [SessionUser]
    while classes:
        each = classes.pop(0)
        classes += each.__subclasses__()
        workload = getattr(each, "workload", None)
        if workload is not None and not any(workload is known for known in found):
            found.append(workload)
    return found


def kind_weights(user_class: type[SessionUser]) -> tuple[tuple[str, int], ...]:
    """The mix: the weight of each kind among the class's tasks, after Locust's --tags have filtered them.

    If a derived class has its own task for a kind, Locust also lists the base's task, which is never run.
    """
    names = ((getattr(task, "__name__", ""), task) for task in user_class.tasks)
    counts = Counter(name for name, task in names if getattr(user_class, name, None) is task)
    return tuple((kind, counts[kind]) for kind in user_class.workload.kinds if counts[kind])


def bodies_of(user: SessionUser, plan: Plan) -> Sequence[Any]:
    """The transaction bodies of a user by kind code; None for a kind that is not in the plan's mix."""
    kinds = dict(plan.kind_weights)
    return [getattr(user, kind) if kind in kinds else None for kind in user.workload.kinds]
