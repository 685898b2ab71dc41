"""Which of several nodes on the MySQL wire takes writes: the statement that each engine is asked by.

It answers 0 on such a node, and something else or an error on any other. Asked when a connection is opened to an
address with several hosts, and never on a single one.
"""

from collections.abc import Sequence
from typing import Any

READ_ONLY = 1290
"""The code of a statement that a read-only server refuses."""
ASK_MYSQL = "SELECT @@GLOBAL.read_only"
"""A member of a group that is not its primary is super-read-only, which implies this."""
ASK_OCEANBASE = "SELECT 0 FROM dual FOR UPDATE"
"""A standby refuses to lock (4688). What its views say of its role is stale for a while after a change of it."""
ASK_TIDB = "SELECT 0"
"""Every server takes writes."""


def takes_writes(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether ``rows`` are the answer of a node that takes writes."""
    return [int(row[0]) for row in rows] == [0]
