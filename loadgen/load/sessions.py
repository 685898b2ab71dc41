"""The number of sessions of a run over time, as Locust moves, adds or removes them, and as they die."""

from loadgen.clock import NS_PER_S


class SessionCounts:
    """The sessions of all load processes. Times are nanoseconds of the controller's clock."""

    def __init__(self) -> None:
        self._told: list[tuple[int, str, int]] = []
        self._heard: dict[str, int] = {}

    def tell(self, now_ns: int, process: str, count: int) -> None:
        """A load process has ``count`` sessions from now on."""
        self._told.append((now_ns, process, count))
        self._heard[process] = now_ns

    def hear(self, now_ns: int, process: str) -> None:
        """A load process lives."""
        self._heard[process] = now_ns

    def changes(self, start_ns: int, died: frozenset[str]) -> list[tuple[int, int]]:
        """``(second, sessions)`` from the second on in which their number changed. Those of the dead end with them."""
        ends = [(heard_ns, process, 0) for process, heard_ns in self._heard.items() if process in died]
        now: dict[str, int] = {}
        by_second: dict[int, int] = {}
        for at_ns, process, count in sorted([*self._told, *ends]):
            now[process] = count
            by_second[max(0, at_ns - start_ns) // NS_PER_S] = sum(now.values())
        changes: list[tuple[int, int]] = []
        for second, count in sorted(by_second.items()):
            if not changes or changes[-1][1] != count:
                changes.append((second, count))
        return changes
