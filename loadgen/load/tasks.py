"""Locust's ``@tag`` and ``@task``, typed for transaction bodies: its own types know only tasks that return None."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import locust

F = TypeVar("F", bound=Callable[..., Any])


def tag(*names: str) -> Callable[[F], F]:
    """Tag a task, for Locust's --tags and --exclude-tags."""
    return cast(Callable[[F], F], locust.tag(*names))


def task(weight: int) -> Callable[[F], F]:
    """Make a method a kind of op, with this weight in the mix."""
    return cast(Callable[[F], F], locust.task(weight))
