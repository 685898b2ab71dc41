"""The generated parts of docs/options.md and docs/checks.md: ``python -m tests.docs.generate`` writes them anew."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from loadgen.load.options import FLAGS, OPTION_NAMES, arguments
from loadgen.workload.loading import installed_workloads, load_workload
from loadgen.workload.versions import version_checks
from loadgen.workload.workload import Check, Workload

DOCS = Path(__file__).parent.parent.parent / "docs"
BEGIN, END = "<!-- generated: python -m tests.docs.generate -->\n", "<!-- end -->\n"
_DEFAULT = re.compile(r" \(default: (.*)\)$")


def options() -> str:
    """The options of any run, then those of each installed workload, as Markdown tables."""
    lines = ["### Of every run", "", *_head(), *_rows("", set(OPTION_NAMES))]
    lines += [f"| `--{name.replace('_', '-')}` | {_cell(text)} | off |" for name, text in FLAGS.items()]
    for name in installed_workloads():
        lines += ["", f"### Of {name}", "", *_head(), *_rows(name, set())]
    return "\n".join(lines) + "\n"


def checks() -> str:
    """The checks of the flash sale, then those of the other workloads, as Markdown tables."""
    lines = ["## The flash sale", "", "| Violation | What happened |", "|---|---|"]
    lines += [f"| `{check.name}` | {_sentence(check)} |" for check in _workload("flashsale").checks]
    lines += ["", "## Other workloads", "", "| Workload | Violation | What happened |", "|---|---|---|"]
    tickets = load_workload(Path(__file__).parents[1] / "workloads" / "tickets.py")
    versioned = version_checks(replace(tickets, snapshot_reads=("look",)), tickets.parse({}))
    owned = {
        "any whose tables have a version column": versioned[:-1],
        "any that names its `snapshot_reads` too": versioned[-1:],
    }
    owned |= {name: _workload(name).checks for name in installed_workloads() if name != "flashsale"}
    whose: dict[tuple[str, str], list[str]] = {}
    for name, own in owned.items():
        for check in own:
            whose.setdefault((check.name, _sentence(check)), []).append(name)
    lines += [f"| {', '.join(names)} | `{check}` | {text} |" for (check, text), names in whose.items()]
    return "\n".join(lines) + "\n"


def renewed(text: str, made: Callable[[], str] = options) -> str:
    """``text`` of a page with its generated part made anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + made() + END + rest.split(END)[1]


PAGES: Mapping[str, Callable[[], str]] = {"options.md": options, "checks.md": checks}
"""The pages with a generated part, and what makes it."""


def _head() -> list[str]:
    return ["| Option | Meaning | Default |", "|---|---|---|"]


def _rows(name: str, wanted: set[str]) -> Iterator[str]:
    workloads = (_workload(name),) if name else ()
    for option in arguments(workloads):
        if (option.name in wanted) if wanted else (option.name not in OPTION_NAMES):
            default = _DEFAULT.search(option.help)
            shown = _cell(default[1]) if default else f"`{option.default}`" if option.default else ""
            yield f"| `--{option.name.replace('_', '-')}` | {_cell(_DEFAULT.sub('', option.help))} | {shown} |"


def _workload(name: str) -> Workload:
    return load_workload(installed_workloads()[name])


def _sentence(check: Check) -> str:
    return _cell(check.text.replace("``", "`"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    for page, part in PAGES.items():
        (DOCS / page).write_text(renewed((DOCS / page).read_text(), part))
