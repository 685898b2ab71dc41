"""A sample of servers with other people's settings, another one each day: valid, or refused in one line."""

from pathlib import Path

import pytest

from loadgen.clusters.cluster import Cluster
from tests.trials import mysql_settings, rotating_seed

RUNS = 6


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "trial", "workload"),
    [
        pytest.param(engine, trial, workload, id=f"{engine}-{workload}-{trial.name}")
        for engine, trial, workload in mysql_settings.sample(RUNS, rotating_seed())
    ],
)
def test_run_on_a_server_with_odd_settings_is_valid_or_refused(
    tmp_path: Path, cluster: Cluster, engine: str, trial: mysql_settings.Trial, workload: str
) -> None:
    """Never invalid, and never an unknown that nobody explains."""
    result = mysql_settings.play(trial, engine, workload, cluster, tmp_path)

    assert not result.wrong, result
