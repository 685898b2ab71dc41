"""The generated part of docs/options.md: ``python -m tests.docs.generate`` writes it anew from the code."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")  # only the texts are wanted, not a load

from loadgen.load.options import FLAGS, OPTION_NAMES, arguments
from loadgen.workload.loading import installed_workloads, load_workload

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


def renewed(text: str) -> str:
    """``text`` of docs/options.md with its generated part made anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + options() + END + rest.split(END)[1]


def _head() -> list[str]:
    return ["| Option | Meaning | Default |", "|---|---|---|"]


def _rows(name: str, wanted: set[str]) -> Iterator[str]:
    workloads = (load_workload(installed_workloads()[name]),) if name else ()
    for option in arguments(workloads):
        if (option.name in wanted) if wanted else (option.name not in OPTION_NAMES):
            default = _DEFAULT.search(option.help)
            shown = _cell(default[1]) if default else f"`{option.default}`" if option.default else ""
            yield f"| `--{option.name.replace('_', '-')}` | {_cell(_DEFAULT.sub('', option.help))} | {shown} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    page = DOCS / "options.md"
    page.write_text(renewed(page.read_text()))
