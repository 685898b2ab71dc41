"""No room knows a workload's words but the workload's own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen.shop.sale import ANSWER_NAMES, CHECKS, INVOKED_COLUMNS, KIND_NAMES
from loadgen.workload import probes
from loadgen.workload.loading import installed_workloads

ROOT = Path(__file__).resolve().parents[2] / "loadgen"
GENERIC = {"fractured-read", "lost-update", "lost-write", "phantom-write", "real-time-order"}
"""Checks that any table with a version column gets."""
TABLES = ("stock", "orders", "purchases", "payments", "releases")
COMMON = {"none", "number", "kind", "user", "token", "amount"}
"""Names of the sale that mean something else everywhere: no answer, the columns of any workload, a login."""
NAMES = (
    {
        *(*KIND_NAMES, *ANSWER_NAMES, *TABLES, *CHECKS, *INVOKED_COLUMNS),
        *(f"{KIND_NAMES[0]}_refused", "undersell", "replica_reads", "flashsale"),
    }
    - GENERIC
    - COMMON
)
"""What no literal outside the shop may be."""
UNMISTAKABLE = {
    *("placed", "browse", "browses", "sold_out", "not_reserved", "sku", "sku_a", "sku_b", "qty_a", "qty_b"),
    *("purchases", "payments", "undersell", "oversell", "flashsale", "order_refused"),
}
"""Names of the sale that are no word of anything else: not even a part of a literal or a name may be one."""
EXCEPTIONS = {
    ("plan.py", "flashsale"): "the workload of a plan that names none, in one place",
    ("load/live_view.py", "placed"): "placed_per_second of the live figures, which others read by that name",
    ("commands/check.py", "flashsale"): "examples in the help",
    ("commands/main.py", "flashsale"): "examples in the help",
    ("commands/run.py", "flashsale"): "examples in the help",
    ("commands/standing.py", "flashsale"): "an example of what to run next",
    ("probes/finals.py", "ghost"): "a check of the probes' own, of the same name",
}
PROBES = {*probes.NAMES, "insufficient", "transfer"} - {"append", "register"}
"""Names of the probes that are no word of isolation checkers."""
OF_PROBES = ("probes", "workload/probes.py", "campaign", "formats", "isolation", "commands/check_files.py")
"""Who knows them: the probes, the campaign that runs them, and the readers of other tools' histories of such kinds."""


def files(*but: str) -> Iterator[tuple[str, ast.Module]]:
    """Every source file that is not in a room or file ``but``, by its path, as a tree without docstrings."""
    for path in sorted(ROOT.rglob("*.py")):
        told = path.relative_to(ROOT).as_posix()
        if not any(told == each or told.startswith(f"{each}/") for each in but):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    node.value = ast.Constant(value=None)
            yield told, tree


def literals(tree: ast.Module) -> Iterator[str]:
    """Each string of the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def identifiers(tree: ast.Module) -> Iterator[str]:
    """Each name, attribute, argument and keyword of the code."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def words(text: str) -> set[str]:
    """The words of a text or of a name, whole and in their parts."""
    whole = set(re.findall(r"[a-z_]+", text.lower()))
    return whole | {part for word in whole for part in word.split("_")}


def test_no_room_names_a_kind_answer_table_column_or_check_of_the_sale() -> None:
    """Outside of the shop and of the workload's file. Prose may give examples."""
    told = {
        (path, word)
        for path, tree in files("shop", "workloads")
        for word in (
            *(text for text in literals(tree) if text in NAMES),
            *(word for text in literals(tree) for word in words(text) & UNMISTAKABLE),
            *(word for name in identifiers(tree) for word in words(name) & UNMISTAKABLE),
        )
    }

    assert told - set(EXCEPTIONS) == set()


def test_the_exceptions_are_still_some() -> None:
    """One that is gone leaves the list."""
    known = {path: ast.unparse(tree) for path, tree in files()}

    assert [key for key in EXCEPTIONS if key[1] not in known.get(key[0], "")] == []


def test_no_room_names_a_probe() -> None:
    """Outside of the probes' own files and of what runs them or reads other tools' histories."""
    told = [
        f"{path}: {text}"
        for path, tree in files("workloads", *OF_PROBES)
        for text in literals(tree)
        if text in PROBES and path != "commands/export.py"
    ]

    assert told == []


@pytest.mark.parametrize("room", ["measures", "judge", "report", "load", "conduct"])
def test_no_room_of_judging_or_driving_imports_the_shop(room: str) -> None:
    """What a run of the sale means is the shop's alone."""
    told = [
        path
        for path, tree in files()
        if path.startswith(f"{room}/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("loadgen.shop", "loadgen.probes"))
    ]

    assert told == []


def test_every_installed_workload_is_named_in_its_own_file_alone() -> None:
    """Judge and contract know none by name."""
    names = {*installed_workloads()}
    told = [
        f"{path}: {text}"
        for path, tree in files("shop", "workloads", *OF_PROBES)
        if path.split("/")[0] in ("judge", "workload", "measures", "report", "load", "conduct", "history")
        for text in literals(tree)
        if text in names
    ]

    assert told == []
