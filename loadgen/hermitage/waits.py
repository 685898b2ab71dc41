"""How each server is asked who waits for whom: statements whose rows are the waiting session and the one it waits for.

The second column is NULL where the server knows only that a session waits. Where an engine has several, the first one
that the server takes is used: they differ between its editions.
"""

from collections.abc import Mapping

from loadgen.databases import DATABASES
from loadgen.workload import Statement

SESSION_ID = Statement("SELECT pg_backend_pid()", mysql="SELECT CONNECTION_ID()")
"""What a session is called in the answers."""

WAITS: Mapping[str, tuple[Statement, ...]] = {
    name: tuple(map(Statement, database.waits)) for name, database in DATABASES.items()
}
