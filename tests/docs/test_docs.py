"""The documentation says what the code does: its tables are current, its links lead somewhere, README is short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.shop import sale
from tests.docs import generate

ROOT = Path(__file__).parent.parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "loadgen" / "README.md"]


def anchor(title: str) -> str:
    """The anchor that a Markdown heading gets."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings."""
    return {anchor(title) for title in re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)}


def test_the_options_page_is_current() -> None:
    """An option that changes is written down: ``python -m tests.docs.generate``."""
    code = (
        "from tests.docs import generate as g; text = (g.DOCS / 'options.md').read_text(); "
        "raise SystemExit(text != g.renewed(text))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert run.returncode == 0, run.stderr or "docs/options.md is old: python -m tests.docs.generate"


def test_the_checks_page_names_every_check_of_the_sale_in_its_order() -> None:
    """No check is missing, and none is listed that is gone."""
    page = (ROOT / "docs" / "checks.md").read_text()

    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == tuple(map(str, sale.CHECKS))


def test_the_checks_page_is_current() -> None:
    """A check that changes is written down: ``python -m tests.docs.generate``."""
    text = (ROOT / "docs" / "checks.md").read_text()

    assert text == generate.renewed(text, generate.checks), "docs/checks.md is old: python -m tests.docs.generate"


def test_the_options_page_says_which_options_the_web_page_lacks_and_why() -> None:
    """One line each, in the section on the page."""
    code = (
        "from loadgen.load.options import FLAGS, OPTIONS; "
        "print(*(o.name for o in OPTIONS if not o.on_page), *(name for name in FLAGS if name != 'keep'))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    section = (ROOT / "docs" / "options.md").read_text().partition("## The web page")[2]

    assert re.findall(r"^- `--([a-z-]+)`: .", section, re.MULTILINE) == told.replace("_", "-").split()


def test_readme_has_at_most_150_lines() -> None:
    """It is for a person in a hurry."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    """A moved page or a renamed heading breaks no link."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (heading and heading not in anchors(file)):
            wrong.append(target)

    assert wrong == []
