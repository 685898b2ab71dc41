"""The workload: op numbers with a meaning, the transactions that they run, and the checks that hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from loadgen.plan import Plan
from loadgen.workload.table import Table

if TYPE_CHECKING:
    # Not needed to run: whoever only starts or guards a server does without numpy's tenth of a second.
    from numpy.typing import NDArray


class Invoked(Protocol):
    """The meaning of one op number, as a body gets it."""

    @property
    def number(self) -> int:
        """The op's number."""

    @property
    def kind(self) -> int:
        """The kind of the arrival itself."""

    @property
    def follow_ups(self) -> tuple[tuple[int, int], ...]:
        """``(kind, delay_ns)`` of the ops that follow its success, under the same number."""


@dataclass(frozen=True)
class Workload:
    """One workload, complete. ``kinds`` and ``answers`` name the codes in the history.

    ``arrivals`` are the kinds that arrive by themselves; the first is the one whose rate a plan gives, the others
    come on top by their weights. The other kinds only follow. ``followed_on`` is the answer after which an arrival's
    ``follow_ups`` are due. ``checks`` are names that the judge knows.
    """

    name: str
    kinds: tuple[str, ...]
    answers: tuple[str, ...]
    arrivals: tuple[str, ...]
    followed_on: int
    checks: tuple[str, ...]
    tables: Callable[[Plan], tuple[Table, ...]]
    invoked_types: Mapping[str, str]
    invoked: Callable[[Plan, int, int], dict[str, "NDArray[Any]"]]
    """``(plan, first, count)`` -> the history's columns of these numbers."""
    ops: Callable[[Plan, Mapping[str, "NDArray[Any]"]], Sequence[Invoked]]
