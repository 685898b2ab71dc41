"""How far the filling of tables is, for the person who waits for it."""

import time
from collections.abc import Callable

from loadgen.workload import Table

Say = Callable[[str], None]
TELL_EVERY_S = 5.0


class Progress:
    """Reports by ``say`` how many rows of a table are loaded, from time to time and not for small tables."""

    def __init__(self, say: Say | None) -> None:
        self._say = say
        self.rows: dict[str, int] = {}
        """How many rows each table has, by its name."""
        self._told_s = time.monotonic()

    def made(self, table: Table) -> None:
        """``table`` is there, and empty."""
        self.rows[table.name] = 0

    def filled(self, table: Table, rows: int) -> None:
        """``rows`` more are in ``table``."""
        self.rows[table.name] += rows
        now_s = time.monotonic()
        if self._say is not None and now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            of_all = f" of about {table.about:,}" if table.about else ""
            self._say(f"prepared {self.rows[table.name]:,}{of_all} rows of {table.name}")
