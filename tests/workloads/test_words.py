"""Judge and contract know no workload by name."""

import re
from pathlib import Path

from loadgen.shop.sale import CHECKS, KIND_NAMES
from loadgen.workload.loading import installed_workloads

ROOT = Path(__file__).resolve().parents[2] / "loadgen"
GENERIC = {"fractured-read", "lost-update", "lost-write", "phantom-write", "real-time-order"}
"""Checks that any table with a version column gets."""
TABLES = ("stock", "orders", "purchases", "payments", "releases")


def test_judge_and_contract_name_no_workload_kind_table_or_check_of_the_sale() -> None:
    """As a text of the code: prose may give examples."""
    names = {*KIND_NAMES, *TABLES, *CHECKS, *installed_workloads()} - GENERIC
    quoted = re.compile("[\"'](" + "|".join(sorted(map(re.escape, names))) + ")[\"']")
    files = [*(ROOT / "judge").glob("*.py"), *(ROOT / "workload").glob("*.py")]
    told = [
        f"{path.name}: {word}"
        for path in files
        # What the probes' numbers mean is theirs, though it lies beside the contract.
        if path.name != "probes.py"
        for word in quoted.findall(path.read_text())
    ]

    assert told == []
