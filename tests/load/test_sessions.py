"""Sessions over time: told by each load process, summed up, and gone with whoever dies."""

from loadgen.clock import NS_PER_S
from loadgen.load.sessions import SessionCounts

START = 100 * NS_PER_S


def changes(*told: tuple[float, str, int], died: frozenset[str] = frozenset()) -> list[tuple[int, int]]:
    """The changes of a run in which these were told, in seconds since the begin."""
    counts = SessionCounts()
    for second, process, count in told:
        counts.tell(START + int(second * NS_PER_S), process, count)
    return counts.changes(START, died)


def test_what_was_told_before_the_begin_is_what_there_was_at_the_begin() -> None:
    """Sessions connect one after the other before the first arrival."""
    assert changes((-2, "0", 1), (-1, "0", 6), (-1, "1", 6)) == [(0, 12)]


def test_sessions_that_move_between_processes_are_no_change() -> None:
    """Locust takes them from one and gives them to another: only their sum counts, second by second."""
    assert changes((0, "0", 6), (0, "1", 6), (3.1, "0", 4), (3.4, "1", 8)) == [(0, 12)]
    assert changes((0, "0", 12), (3.1, "0", 20), (7.9, "0", 8)) == [(0, 12), (3, 20), (7, 8)]


def test_the_sessions_of_the_dead_end_with_their_last_word() -> None:
    """A killed process tells nothing; one that ended in order has said so."""
    counts = SessionCounts()
    for process in ("0", "1"):
        counts.tell(START, process, 6)
    counts.hear(START + 4 * NS_PER_S, "0")
    counts.hear(START + 9 * NS_PER_S, "1")

    assert counts.changes(START, frozenset({"0"})) == [(0, 12), (4, 6)]
    assert counts.changes(START, frozenset()) == [(0, 12)]
