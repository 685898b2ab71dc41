"""The peer on the MySQL wire: sysbench in C, the same four statements as text (Debian's package ``sysbench``)."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from loadgen.engines.engine import SCHEMA, Address
from tests.bench.four_statements import SESSIONS, SKUS
from tests.bench.measured import Measured, Stopwatch

SCRIPT = Path(__file__).with_name("order.lua")


def sysbench(address: Address, duration_s: float) -> Measured:
    """What sysbench does in ``duration_s`` seconds, and what it costs. Raises OSError if it is not there."""
    if shutil.which("sysbench") is None:
        raise FileNotFoundError("it is not installed (Debian's package sysbench)")
    where = (
        [f"--mysql-socket={address.socket}"]
        if address.socket
        else [f"--mysql-host={address.host}", f"--mysql-port={address.port}", "--mysql-ssl=off"]
    )
    command = ["sysbench", str(SCRIPT), *where, f"--mysql-user={address.user}", f"--mysql-db={SCHEMA}"]
    command += [
        f"--threads={SESSIONS}",
        f"--time={max(1, round(duration_s))}",
        f"--skus={SKUS}",
        "--db-ps-mode=disable",
    ]
    if address.password:
        command.append(f"--mysql-password={address.password}")
    watch = Stopwatch(children=True)
    done = subprocess.run([*command, "run"], env=dict(os.environ), check=False, capture_output=True, text=True)
    cpu_s = watch.cpu_s()
    orders = re.search(r"transactions:\s+(\d+)", done.stdout)
    wall = re.search(r"total time:\s+([\d.]+)s", done.stdout)
    if done.returncode or not orders or not wall or not int(orders[1]):
        last = (done.stderr or done.stdout).strip().splitlines()
        raise OSError(f"sysbench failed: {last[-1] if last else done.returncode}")
    return Measured(int(orders[1]), cpu_s, float(wall[1]))
