"""What a run ran on: the host's hardware and the versions of what drove it. Facts for ``plan.json``, nothing more."""

import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from loadgen.databases import DATABASES

PACKAGES = (
    "loadgen",
    "locust",
    "gevent",
    "uvloop",
    "numpy",
    "pyarrow",
    "pandas",
    "testcontainers",
    *dict.fromkeys(package for database in DATABASES.values() for package in database.packages),
)
FSYNCS = 9
"""Enough for a median; on a slow disk still below a second."""


def hardware(data: Path) -> dict[str, Any]:
    """CPU, memory, kernel, and the filesystem under ``data``, with its median time for an 8 KiB write and fsync."""
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": platform.platform(),
        "kernel": platform.release(),
        "filesystem": _filesystem(data),
        "fsync_ms_median": _fsync_ms(data),
    }


def versions() -> dict[str, str]:
    """The version of each package that has a part in a run; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Processor"):
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    """What this process may use: the host's memory, or its control group's limit where that is less."""
    total = None
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for line in _lines(Path("/sys/fs/cgroup/memory.max")):
        if line.strip().isdigit():
            total = min(total or int(line), int(line))
    return total


def _filesystem(path: Path) -> str:
    """The type of the mount that holds ``path``: the last one with the longest matching mount point."""
    best, kind = -1, "unknown"
    wanted = path.resolve()
    for line in _lines(Path("/proc/mounts")):
        fields = line.split()
        if len(fields) < 3:
            continue
        # Spaces in mount points are written in octal.
        point = Path(fields[1].replace("\\040", " "))
        if (point == wanted or point in wanted.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def _fsync_ms(path: Path) -> float | None:
    try:
        with tempfile.TemporaryFile(dir=path, buffering=0) as file:
            times = []
            for _ in range(FSYNCS):
                start = time.perf_counter()
                file.write(bytes(8192))
                os.fsync(file.fileno())
                times.append((time.perf_counter() - start) * 1000)
    except OSError:
        return None
    return round(statistics.median(times), 3)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
