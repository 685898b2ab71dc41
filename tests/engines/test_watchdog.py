"""The watchdog: it cuts who waits too long for one answer, and nobody else."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from loadgen.engines import watchdog as watchdog_module
from loadgen.engines.watchdog import LOOK_EVERY_S, STUCK_AFTER_S, Watchdog, watchdog


class FakeLoop:
    """A clock and one timer: time passes when ``pass_s`` says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """What time it is."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> "FakeLoop":
        """Set the one timer."""
        self.due = [(self.now + delay, callback)]
        return self

    def cancel(self) -> None:
        """Cancel the timer."""
        self.due = []

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and the timer fire."""
        end = self.now + seconds
        while self.due and self.due[0][0] <= end:
            ((self.now, callback),) = self.due
            self.due = []
            callback()
        self.now = end


class FakeConnection:
    """Counts its steps and how often it was cut."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.aborts = 0

    def abort(self) -> None:
        """Count it."""
        self.aborts += 1


def watching(*connections: FakeConnection) -> tuple[FakeLoop, Watchdog]:
    """A watchdog on a fake loop, with connections under watch."""
    loop = FakeLoop()
    dog = Watchdog(loop)  # type: ignore[arg-type]
    for connection in connections:
        dog.add(connection)
    return loop, dog


def test_connection_that_waits_beyond_the_bound_is_cut_once() -> None:
    """One answer that does not come within the bound ends the connection."""
    stuck = FakeConnection(steps=1)
    loop, _ = watching(stuck)

    loop.pass_s(STUCK_AFTER_S)
    before = stuck.aborts
    loop.pass_s(10 * STUCK_AFTER_S)

    assert (before, stuck.aborts) == (0, 1)


def test_idle_connection_is_left_alone() -> None:
    """Even steps: it waits for nothing."""
    idle = FakeConnection(steps=2)
    loop, _ = watching(idle)

    loop.pass_s(10 * STUCK_AFTER_S)

    assert idle.aborts == 0


def test_connection_that_goes_on_is_left_alone() -> None:
    """Each look finds it waiting, but for another answer each time."""
    busy = FakeConnection(steps=1)
    loop, _ = watching(busy)

    for _ in range(10):
        loop.pass_s(STUCK_AFTER_S - LOOK_EVERY_S)
        busy.steps += 2

    assert busy.aborts == 0


def test_timer_runs_only_while_there_is_something_to_watch() -> None:
    """The last connection that goes takes the timer along."""
    connection = FakeConnection(steps=0)
    loop, dog = watching(connection)
    assert loop.due

    dog.remove(connection)
    dog.remove(connection)

    assert not loop.due


def test_each_loop_has_a_watchdog_of_its_own() -> None:
    """Connections belong to the loop that opened them."""

    async def mine() -> Any:
        assert watchdog() is watchdog()
        return watchdog()

    assert asyncio.run(mine()) is not asyncio.run(mine())


@pytest.mark.parametrize("name", ["LOOK_EVERY_S", "STUCK_AFTER_S"])
def test_bound_is_above_the_servers_own(name: str) -> None:
    """The server's statement timeout must always come first."""
    assert getattr(watchdog_module, name) > 0
    assert STUCK_AFTER_S > 2 * watchdog_module.STATEMENT_TIMEOUT_S
