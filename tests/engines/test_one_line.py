"""An engine is one file and one line: the example of docs/adding.md, in a copy of the package, is found everywhere.

And nothing else knows an engine by name: a source test holds that.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.embedded_postgres import EmbeddedPostgres
from loadgen.databases import DATABASES
from loadgen.dsn import written_dsn
from tests.docs.test_adding import blocks, change
from tests.sale_runs import FORGOTTEN, KEPT

ROOT = Path(__file__).parents[2]
ROOMS = {"databases", "engines", "clusters"}
EXCUSED = {
    "loadgen/campaign/anomalies.py": "examples in --help",
    "loadgen/commands/check.py": "an example in --help",
    "loadgen/commands/main.py": "examples in --help",
    "loadgen/commands/run.py": "an example in --help",
    "loadgen/hermitage/command.py": "examples in --help",
    "loadgen/workload/statement.py": "a statement's two texts go by the names of the two wires",
}
"""Files outside those rooms that may name an engine in a text, and why."""

EDITION = """
DATABASE = replace(
    DATABASE, lesser_editions={"calf": "calf is Elephant's smallest edition: no figure here is one of Elephant"}
)
"""
EVERYWHERE = """
import json
from argparse import ArgumentParser
from loadgen.campaign.anomalies import add_anomalies_arguments, trials_of
from loadgen.clusters.compose import image_environment, topology_of
from loadgen.clusters.images import server_image
from loadgen.clusters.replication import replication_kind
from loadgen.commands.clean import add_clean_arguments
from loadgen.commands.standing import add_down_arguments, add_up_arguments
from loadgen.conduct.host import PACKAGES
from loadgen.dsn import masked_dsn
from loadgen.engines import engine_of
from loadgen.engines.address import parse_dsn
from loadgen.engines.engine import level_of
from loadgen.hermitage.command import add_hermitage_arguments
from loadgen.hermitage.published import NOTES, PUBLISHED
from loadgen.hermitage.waits import WAITS
from loadgen.load.options import OPTIONS
from loadgen.plan import parse_plan
from loadgen.report.edition import NOT_THE_CLUSTER, engine_title

def help_of(fill):
    parser = ArgumentParser()
    fill(parser)
    return parser.format_help()

dsn = "elephant://u:SECRET@h:7/d"
engine = engine_of("elephant")
print(json.dumps({
    "by name": parse_plan({"engine": "elephant"}).engine,
    "by scheme": parse_plan({"dsn": dsn}).engine,
    "by another scheme of its wire": parse_plan({"dsn": "postgres://h/", "engine": "elephant"}).engine,
    "others": parse_plan({"dsn": "postgres://h/"}).engine,
    "masked": masked_dsn(dsn),
    "host": parse_dsn(dsn, {}).host,
    "options": {option.name: option.help for option in OPTIONS},
    "helps": [help_of(fill) for fill in (add_anomalies_arguments, add_hermitage_arguments, add_clean_arguments,
                                         add_up_arguments, add_down_arguments)],
    "title": engine.title,
    "levels": list(engine.levels),
    "means": level_of(engine, "").means,
    "trials": len(trials_of("elephant", "", (), ())),
    "as many": len(trials_of("postgres", "", (), ())),
    "published": PUBLISHED["elephant", "serializable"] == PUBLISHED["postgres", "serializable"],
    "notes": len(NOTES["elephant"]),
    "waits": len(WAITS["elephant"]),
    "packages": "asyncpg" in PACKAGES,
    "edition": engine_title({"title": engine.title, "edition": "calf", "version": "1"}),
    "sentence": NOT_THE_CLUSTER["calf"],
    "image": server_image("elephant")[1],
    "images": "LOADGEN_IMAGE_POSTGRES" in image_environment("elephant"),
    "compose": topology_of("elephant").folder,
    "replication": replication_kind("elephant", lambda sql: [("node1",)]),
}))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a copy of the package in which docs/adding.md's engine was added."""
    for folder in ("loadgen", "workloads", "deploy"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for language, file, text in blocks("An engine"):
        if language != "sh":
            path = tmp_path / file
            path.write_text(text if language == "python" else change(path.read_text(), text))
    path = tmp_path / "loadgen" / "databases" / "elephant.py"
    path.write_text(path.read_text() + EDITION)
    return tmp_path


def python(place: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program of that copy, with no server named by the caller's environment."""
    environment = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(FORGOTTEN)}
    environment |= {"PYTHONPATH": str(place), **variables}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_every_place_finds_a_new_engine(place: Path) -> None:
    """Plans, DSNs, help, images, compose files, the matrix, the campaign, and the words beside a figure."""
    ran = python(place, "-c", EVERYWHERE)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)

    for how in ("by name", "by scheme", "by another scheme of its wire"):
        assert found[how] == "elephant"
    assert found["others"] == "postgres"
    assert found["masked"] == "elephant://u:***@h:7/d"
    assert found["host"] == "h"
    assert "elephant" in found["options"]["engine"]
    assert "1 to 5 for an embedded elephant" in found["options"]["nodes"]
    assert "elephant://user@host:5432/database" in found["options"]["dsn"]
    assert all("elephant" in text for text in found["helps"])
    assert found["title"] == "Elephant"
    assert found["levels"] == ["read committed", "repeatable read", "serializable"]
    assert found["means"] == "read-committed"
    assert found["trials"] == found["as many"] > 0
    assert all(found[what] for what in ("published", "notes", "waits", "packages", "image", "images"))
    assert found["edition"] == "calf 1 (Elephant's dialect)"
    assert "no figure here is one of Elephant" in found["sentence"]
    assert found["compose"] == "postgres"
    assert found["replication"] == "synchronous standbys"

    doctor = python(place, "-m", "loadgen", "doctor")
    assert re.search(r"^(ok|no ) +elephant, embedded", doctor.stdout, re.MULTILINE), doctor.stdout


@pytest.mark.server("postgres")
def test_a_new_engine_runs_embedded_and_by_its_own_dsn(place: Path, postgres_cluster: EmbeddedPostgres) -> None:
    """For real: a sale on its embedded server and on one named by a DSN, the matrix, and the cleaning."""
    sale = ("-m", "loadgen", "run", "flashsale", "--headless", "--duration", "2s", "--peak-rate", "60", "-u", "4")
    embedded = python(place, *sale, "--engine", "elephant", "--run-dir", "embedded")
    assert embedded.returncode == 0, embedded.stdout + embedded.stderr
    assert "Elephant" in embedded.stdout
    stored = json.loads((place / "embedded" / "summary.json").read_text())
    assert (stored["verdict"], stored["engine"]["name"]) == ("valid", "elephant")
    assert python(place, "-m", "loadgen", "check", "embedded").returncode == 0

    there = postgres_cluster.address
    dsn = written_dsn("elephant", there.user, there.password, [("", there.port)], there.database)
    variables = {"LOADGEN_DSN": f"{dsn}?host={there.socket}"}
    by_dsn = python(place, *sale, "--run-dir", "by-dsn", **variables)
    assert by_dsn.returncode == 0, by_dsn.stdout + by_dsn.stderr
    plan = json.loads((place / "by-dsn" / "plan.json").read_text())["plan"]
    assert (plan["engine"], plan["cluster"]) == ("elephant", "existing")
    assert there.password not in (place / "by-dsn" / "plan.json").read_text()

    case = ("hermitage", "--case", "G0", "--isolation", "read committed", "--json", "matrix.json")
    played = python(place, "-m", "loadgen", *case, **variables)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "Elephant" in played.stdout and "9.3.5" in played.stdout

    cleaned = python(place, "-m", "loadgen", "clean", **variables)
    assert cleaned.returncode == 0 and "removed from Elephant" in cleaned.stdout, cleaned.stdout + cleaned.stderr


def test_nothing_else_names_an_engine() -> None:
    """No text of the program does, outside the rooms of databases and their servers; comments and docstrings may."""
    names = {word.lower() for database in DATABASES.values() for word in (database.name, database.title)}
    word = re.compile(rf"(?i)(?<![a-z])({'|'.join(sorted(names, key=len, reverse=True))})(?![a-z])")
    files = [*(ROOT / "loadgen").rglob("*.py"), *(ROOT / "workloads").rglob("*.py")]
    naming: dict[str, list[str]] = {}
    for path in files:
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        ]
        if path.relative_to(ROOT).parts[1] not in ROOMS and (found := list(filter(word.search, texts))):
            naming[str(path.relative_to(ROOT))] = found

    assert naming.keys() - EXCUSED.keys() == set(), naming
    assert EXCUSED.keys() - naming.keys() == set(), "excused without need"
