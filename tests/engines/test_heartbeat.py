"""The beat of a run's lock: it goes on over lost connections, and ends when the lock is another's."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from loadgen.engines import heartbeat
from loadgen.engines.heartbeat import Heartbeat
from loadgen.errors import ClusterError, LockLost


class Beaten:
    """A control connection of which each beat ends as the next of ``ends`` says."""

    def __init__(self, ends: Iterator[Exception | None]) -> None:
        self.beats = 0
        self.closed = False
        self._ends = ends

    def beat(self) -> None:
        """One beat."""
        self.beats += 1
        end = next(self._ends, None)
        if end is not None:
            raise end

    def close(self) -> None:
        """Closed."""
        self.closed = True


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred beats a second."""
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)


def beat(*ends: Exception | None, until: int) -> tuple[Heartbeat, list[Beaten], list[str]]:
    """Beat until so many beats were made, or the lock is lost."""
    opened: list[Beaten] = []
    said: list[str] = []
    given = iter(ends)

    def open_one() -> Any:
        opened.append(Beaten(given))
        return opened[-1]

    beating = Heartbeat(open_one, said.append)
    deadline = time.monotonic() + 5
    while sum(one.beats for one in opened) < until and not beating.lost and time.monotonic() < deadline:
        time.sleep(0.005)
    beating.stop()
    return beating, opened, said


def test_lost_connection_is_opened_again() -> None:
    """What a server or a proxy cuts costs a beat, and not the lock."""
    beating, opened, said = beat(None, ClusterError("cut"), None, ClusterError("cut again"), None, until=6)

    assert not beating.lost
    assert len(opened) == 3
    assert all(one.closed for one in opened)
    assert len(said) == 2


def test_lock_of_another_run_ends_the_beat_and_is_told() -> None:
    """Nothing renews a row that is not ours."""
    beating, opened, said = beat(None, LockLost("it was taken"), until=99)

    assert beating.lost == "it was taken"
    assert said == ["it was taken"]
    assert opened[0].beats == 2


def test_first_connection_that_can_not_be_had_refuses() -> None:
    """Later it may be the pool's last one, and gone."""

    def no_more() -> Any:
        raise ClusterError("too many connections")

    with pytest.raises(ClusterError, match="too many"):
        Heartbeat(no_more, lambda _: None)
