"""The engines by name, and what importing one costs."""

import subprocess
import sys

import pytest

from loadgen.engines import ENGINES, engine_of
from loadgen.engines.engine import Engine, level_of
from loadgen.errors import PlanError


@pytest.mark.parametrize("name", ENGINES)
def test_engine_goes_by_its_name_and_has_its_default_level(name: str) -> None:
    """Each engine of the dict says the same name, and its default is one of its levels."""
    engine: Engine = engine_of(name)

    assert engine.name == name
    assert level_of(engine, "").name == engine.default_level
    assert all(level.name == key for key, level in engine.levels.items())


def test_level_that_the_engine_does_not_have_is_refused_with_those_it_has() -> None:
    """OceanBase would take read uncommitted silently, and run another level."""
    with pytest.raises(PlanError, match="read committed, repeatable read, serializable"):
        level_of(engine_of("oceanbase"), "read uncommitted")


@pytest.mark.parametrize(
    ("name", "foreign"), [("postgres", {"asyncmy", "pymysql"}), ("oceanbase", {"asyncpg", "pymysql"})]
)
def test_engine_brings_its_own_driver_only(name: str, foreign: set[str]) -> None:
    """A driver is imported with the engine that needs it."""
    code = f"import sys; from loadgen.engines import engine_of; engine_of({name!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert not foreign & set(loaded)
