"""What the conductor asks a prepared server before any load goes to it: a session as the load's, and each replica."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from loadgen.engines.engine import CONNECT_TIMEOUT_S, META_TABLE, SCHEMA, Address, Engine, Level
from loadgen.engines.identity import refuse_unknown
from loadgen.errors import ClusterError, LoadgenError
from loadgen.op import Stage
from loadgen.plan import SPARE_CONNECTIONS, Plan
from loadgen.workload import Statement

TRIAL_WRITE = Statement(f"UPDATE {META_TABLE} SET name = name WHERE name = '{META_TABLE}'")
"""A write that changes nothing, and is rolled back."""
REPLICATED_S = 30.0
"""How long a replica may take to have the tables as they were prepared."""
POLL_S = 0.1


def check_server(facts: Mapping[str, Any], plan: Plan, title: str) -> None:
    """Raise ClusterError for a server that is not the engine called ``title``, or has too few connections free."""
    refuse_unknown(facts, title, allowed=plan.allow_unknown_engine)
    free, needed = facts.get("connections_free"), plan.sessions + SPARE_CONNECTIONS
    if free is not None and free < needed:
        raise ClusterError(
            f"the server has {free} connections free, and this run needs {needed} ({plan.sessions} sessions "
            f"and {SPARE_CONNECTIONS} to spare): use a smaller -u, or raise the server's connection limit"
        )


def verified_session(
    engine: Engine, address: Address, level: Level, run_id: str, *, reader: bool = False
) -> dict[str, str]:
    """What a session as the load's says of itself.

    Raises ClusterError if it can't be had, is refused, or can't write: then every order would fail.
    """
    stage = Stage.CONNECT

    async def tried() -> dict[str, str]:
        nonlocal stage
        opening = engine.connect(address, level, run_id, reader=reader)
        connection = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S + 1)
        try:
            if not reader:
                stage = Stage.STATEMENT
                await connection.begin()
                await connection.execute(TRIAL_WRITE())
                await connection.rollback()
            return dict(connection.verified)
        finally:
            await connection.close()

    try:
        return asyncio.run(tried())
    except LoadgenError:
        raise
    except Exception as error:
        failure = engine.classify(error, stage)
        what = "lets no load session in" if stage is Stage.CONNECT else "lets no load session write"
        raise ClusterError(f"{engine.title} {what}: {failure.code} {failure.sample}".rstrip()) from error


def await_replica(engine: Engine, replica: Address, run_id: str, wanted: Mapping[str, int]) -> None:
    """Return once the replica has as many rows of this run's tables as are ``wanted``.

    Raises ClusterError if that takes too long.
    """
    deadline = time.monotonic() + REPLICATED_S
    while True:
        try:
            with closing(engine.control(replica, run_id)) as control:
                # Marked first and filled last, so an earlier run's tables are not taken for this one's.
                runs = dict(control.query(f"SELECT * FROM {SCHEMA}.{META_TABLE}"))
                counts = {name: control.query(f"SELECT count(*) FROM {SCHEMA}.{name}")[0][0] for name in wanted}
            lag = "" if counts == wanted and {runs.get(name) for name in wanted} == {run_id} else "it lags"
        except ClusterError as error:
            lag = str(error)
        if not lag:
            return
        if time.monotonic() > deadline:
            place = f"{replica.socket or replica.host}:{replica.port}"
            raise ClusterError(f"the replica at {place} has no prepared tables after {REPLICATED_S:g} s: {lag}")
        time.sleep(POLL_S)
