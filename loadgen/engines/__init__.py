"""Engines: one database's dialect each. A driver is imported with the engine that needs it, and only then."""

from collections.abc import Callable

from loadgen.engines.engine import Engine


def _postgres() -> Engine:
    from loadgen.engines.postgres import ENGINE

    return ENGINE


def _mysql() -> Engine:
    from loadgen.engines.mysql import ENGINE

    return ENGINE


def _tidb() -> Engine:
    from loadgen.engines.tidb import ENGINE

    return ENGINE


def _oceanbase() -> Engine:
    from loadgen.engines.oceanbase import ENGINE

    return ENGINE


ENGINES: dict[str, Callable[[], Engine]] = {
    "postgres": _postgres,
    "mysql": _mysql,
    "tidb": _tidb,
    "oceanbase": _oceanbase,
}


def engine_of(name: str) -> Engine:
    """The engine called ``name``, one of ENGINES."""
    return ENGINES[name]()
