"""What a workload file gets instead of Locust's classes where there is no Locust."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from loadgen.plan import Plan
from loadgen.workload.workload import Workload

F = TypeVar("F", bound=Callable[..., Any])


class SessionUser:
    """A session's class, whose bodies are never run here."""

    abstract = True
    workload: ClassVar[Workload]
    plan: Plan


def tag(*_names: str) -> Callable[[F], F]:
    """Leave the method as it is."""
    return _unchanged


def task(_weight: int) -> Callable[[F], F]:
    """Leave the method as it is."""
    return _unchanged


def _unchanged(body: F) -> F:
    return body
