"""How many more sessions a server on the MySQL wire takes from this account, and what would cut them in mid-run."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from loadgen.errors import ClusterError

Query = Callable[[str], list[tuple[Any, ...]]]
"""Runs one statement by itself. Raises ClusterError, whose cause is the driver's error."""

UNLIMITED = 1_000_000
"""The number of connections that stands for no limit."""
_PER_HOUR = re.compile(r"MAX_(?:QUERIES|UPDATES|CONNECTIONS)_PER_HOUR [1-9]\d*")
_OWN = re.compile(r"MAX_USER_CONNECTIONS ([1-9]\d*)")


def connections_free(query: Query, where: str) -> int:
    """How many more sessions the server takes, of all and of this account, as far as its user may see.

    Raises ClusterError for an account that may only do so much in an hour: its load would end in mid-run.
    """
    # 0 is TiDB's way to say that there is no limit.
    limit = int(query("SELECT @@GLOBAL.max_connections")[0][0]) or UNLIMITED
    used = query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    free = [limit - (int(used[0][1]) if used else 1)]
    account = _account(query)
    if found := _PER_HOUR.search(account):
        raise ClusterError(
            f"the account on {where} has the limit {found[0]}, which would stop the load during the run: set "
            "it to 0 by ALTER USER, or use another account"
        )
    # The account's own limit beats everybody's.
    own = _OWN.search(account)
    if of_account := int(own[1]) if own else int(query("SELECT @@max_user_connections")[0][0]):
        # Everybody may see the sessions of their own account.
        mine = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = SUBSTRING_INDEX(USER(), '@', 1)"
        free.append(of_account - int(query(mine)[0][0]))
    return max(0, min(free))


def _account(query: Query) -> str:
    """How the account was made, as far as the server tells."""
    with suppress(ClusterError):
        return " ".join(str(row[0]) for row in query("SHOW CREATE USER CURRENT_USER()"))
    return ""
