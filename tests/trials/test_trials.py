"""A sample of the long trials, another one each day: what the commands in this folder do hundreds of times."""

import random
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.plan import ENGINES
from tests.trials import faults, lies, postgres_settings, rotating_seed

SEED = rotating_seed()
LIES = 3
FAULTS = 5
ODDITIES = 2


def _sample(count: int, names: list[str], salt: str) -> list[Any]:
    """``count`` pairs of engine and trial: different trials, and engines in turn."""
    draw = random.Random(f"{salt} {SEED}")
    engines = draw.sample(ENGINES, len(ENGINES))
    chosen = draw.sample(names, count)
    return [pytest.param(engines[index % len(engines)], name) for index, name in enumerate(chosen)]


@pytest.mark.server
@pytest.mark.parametrize(("engine", "name"), _sample(LIES, [trial.name for trial in lies.TRIALS], "lies"))
def test_each_lie_that_can_be_found_is_found(tmp_path: Path, cluster: Cluster, engine: str, name: str) -> None:
    """A proxy lies about COMMITs of a correct server, and the judge finds as many lies as it told."""
    trial = next(trial for trial in lies.TRIALS if trial.name == name)
    result = lies.play(trial, engine, cluster, SEED % 1000, tmp_path)

    assert not result.wrong, result


@pytest.mark.server
@pytest.mark.parametrize(("engine", "name"), _sample(FAULTS, list(faults.FAULTS), "faults"))
def test_fault_on_a_correct_server_raises_no_false_alarm(
    tmp_path: Path, cluster: Cluster, engine: str, name: str
) -> None:
    """Whatever breaks in mid-run: nothing is accused, nothing is left, every arrival is accounted for."""
    result = faults.play(name, engine, SEED % 1000, tmp_path, cluster)

    assert not result.wrong, result
    faults.settled(cluster, engine)


@pytest.mark.server("postgres")
@pytest.mark.parametrize(
    "odd", random.Random(SEED).sample(postgres_settings.ODDITIES, ODDITIES), ids=lambda odd: odd.name
)
def test_postgres_with_odd_settings_is_valid_or_refused(
    tmp_path: Path, postgres_cluster: Cluster, odd: postgres_settings.Odd
) -> None:
    """In one line, and never ``unknown`` or ``invalid``."""
    code, problem = postgres_settings.play(odd, "append", postgres_cluster, tmp_path)

    assert not problem, (code, problem)
