"""Telling a pool of transactions from a server: simulated pools of every size and order."""

import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines import postgres_session
from loadgen.engines.postgres_session import refuse_pgpool, refuse_transaction_pool
from loadgen.errors import ClusterError


class Pool:
    """Servers that are lent for a transaction: the one that came back last is next, or the one that came first.

    ``between`` are the turns at which somebody else takes a server and gives it back.
    """

    def __init__(self, servers: int, most: int, *, in_turn: bool, between: frozenset[int] = frozenset()) -> None:
        self.idle = deque(range(servers))
        self._made = servers
        self._most = most
        self._in_turn = in_turn
        self._between = between
        self._turn = 0

    async def take(self) -> int:
        """A server, as soon as there is one."""
        self._turn += 1
        if self._turn in self._between and len(self.idle) > 1:
            self.idle.append(self.idle.popleft())
        while not self.idle and self._made == self._most:
            await asyncio.sleep(0.001)
        if self.idle:
            return self.idle.popleft() if self._in_turn else self.idle.pop()
        self._made += 1
        return self._made - 1


class Client:
    """A connection to the pool, as much of it as is asked of it; with ``kept`` it keeps its server."""

    def __init__(self, pool: Pool, *, kept: bool) -> None:
        self._pool = pool
        self._kept = kept
        self._server: int | None = None

    async def execute(self, sql: str) -> None:
        """BEGIN or ROLLBACK."""
        if sql.startswith("BEGIN"):
            if self._server is None:
                self._server = await self._pool.take()
        elif not self._kept:
            assert self._server is not None
            self._pool.idle.append(self._server)
            self._server = None

    async def fetchval(self, sql: str) -> Any:
        """The server's process."""
        del sql
        assert self._server is not None, "it was asked outside of a transaction"
        return self._server


def look(pool: Pool, *, kept: bool) -> None:
    """Look for a pool of transactions."""

    async def looked() -> None:
        await refuse_transaction_pool(Client(pool, kept=kept), Client(pool, kept=kept), "here")

    asyncio.run(asyncio.wait_for(looked(), 10))


@given(st.integers(0, 5), st.integers(1, 8), st.booleans(), st.frozensets(st.integers(1, 6), max_size=1))
def test_pool_of_transactions_is_always_found(servers: int, most: int, in_turn: bool, between: frozenset[int]) -> None:
    """Of any size, in any order, also with somebody else at work in it at one turn."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ClusterError, match="lends one connection"):
        patch.setattr(postgres_session, "POOL_WAIT_S", 0.05)
        look(Pool(min(servers, most), most, in_turn=in_turn, between=between), kept=False)


@given(st.integers(0, 5), st.integers(2, 8), st.booleans(), st.frozensets(st.integers(1, 6)))
def test_pool_of_sessions_is_never_refused(servers: int, most: int, in_turn: bool, between: frozenset[int]) -> None:
    """Each session keeps its server, whatever others do."""
    look(Pool(min(servers, most), most, in_turn=in_turn, between=between), kept=True)


@pytest.mark.parametrize(
    ("settings", "nodes", "said"),
    [
        ({"load_balance_mode": "on"}, 1, ""),
        ({"load_balance_mode": "off"}, 3, ""),
        ({"load_balance_mode": "on"}, 2, "any of 2 servers"),
        ({"load_balance_mode": "off", "backend_clustering_mode": "native_replication"}, 2, "runs each write"),
        ({"load_balance_mode": "off", "backend_clustering_mode": "snapshot_isolation"}, 3, "runs each write"),
        ({"memory_cache_enabled": "on"}, 1, "cache"),
    ],
)
def test_pgpool_may_hand_connections_on_and_nothing_else(settings: dict[str, str], nodes: int, said: str) -> None:
    """What it does beside that changes what an answer means."""
    if not said:
        refuse_pgpool(settings, nodes, "here")
        return
    with pytest.raises(ClusterError, match=said):
        refuse_pgpool(settings, nodes, "here")
