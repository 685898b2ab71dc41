"""A smoke test to copy: ten seconds of the flash sale against a container of your own, and its verdict.

It needs pytest, testcontainers and loadgen. Exit code 0 says that the server kept every promise and every objective.
"""

import os
import subprocess

import pytest
from testcontainers.community.postgres import PostgresContainer

SALE = ["locust", "-f", "workloads/flashsale.py", "--headless", "--shape", "constant", "--duration", "10s"]


@pytest.mark.container("postgres")
def test_ten_seconds_of_the_sale_are_valid() -> None:
    """No oversell, no lost order, and nine orders in ten within half a second."""
    image = os.environ.get("LOADGEN_IMAGE_POSTGRES", "postgres:18")
    with PostgresContainer(image, username="sale", password="secret", dbname="sale", driver=None) as server:
        dsn = f"postgres://sale:secret@{server.get_container_host_ip()}:{server.get_exposed_port(5432)}/sale"
        environment = {**os.environ, "LOADGEN_DSN": dsn, "LOADGEN_PEAK_RATE": "100", "LOADGEN_SLO": "order.p90<=500ms"}
        run = subprocess.run(SALE, env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
