"""Engines: one database's dialect each. A driver is imported with the engine that needs it, and only then."""

from functools import cache

from loadgen.databases import DATABASES
from loadgen.databases.database import resolved
from loadgen.engines.engine import Engine

ENGINES = tuple(DATABASES)


@cache
def engine_of(name: str) -> Engine:
    """The engine called ``name``, one of ENGINES."""
    database = DATABASES[name]
    engine: Engine = resolved(database.dialect)(database)
    return engine
