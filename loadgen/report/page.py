"""How text is laid out for a terminal: its width, wrapped sections, colour, and stand-ins for signs it can't show."""

import codecs
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO

WIDTH = 110
"""Columns where no terminal says how many it has, and the most that are used: longer lines are hard to read."""
LEAST_WIDTH = 40
MARGIN = 10
"""Columns of the label at the left of each section, where no label is longer."""
WIDEST_MARGIN = 18
STAND_INS = {
    "✓": "+",
    "✗": "X",
    "×": "x",
    "µ": "u",
    "…": "...",
    "·": ".",
    "–": "-",
    "—": "-",
    "→": "->",
    "−": "-",
    "≤": "<=",
    "≥": ">=",
    "’": "'",
}
"""Replacements for signs that a terminal's encoding lacks. Checks that hold and checks that fail must stay distinct."""
HANDLER = "loadgen"
"""The name under which ``encode`` and streams find STAND_INS."""


@dataclass(slots=True)
class Page:
    """Lines, each section with its label at the left of its first line."""

    shown: int
    """How many items of each kind are listed. The rest is in summary.json."""
    width: int = WIDTH
    margin: int = MARGIN
    lines: list[str] = field(default_factory=list)

    def add(self, label: str, *texts: str, most_lines: int = 2) -> None:
        """A section of ``texts``, each wrapped to at most ``most_lines``, or fewer where the page is crowded.

        Most lines are counted on a page of WIDTH columns: a narrower one has more of them.
        """
        room = self.width - self.margin
        most = min(most_lines, self.shown) * -(-(WIDTH - self.margin) // room)
        label = label if len(label) < self.margin else label[: self.margin - 2] + "…"
        for text in texts:
            for line in wrapped(text, room, most):
                self.lines.append(f"{label:<{self.margin}}{line}".rstrip())
                label = ""


def margin_for(labels: Iterable[str], width: int) -> int:
    """How many columns ``labels`` need at the left of a page of ``width``; no more than it can spare."""
    return max(MARGIN, min(max(map(len, labels), default=0) + 1, WIDEST_MARGIN, width // 5))


def wrapped(text: str, width: int, most_lines: int) -> list[str]:
    """``text`` in lines that break between words."""
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        max_lines=most_lines,
        placeholder=" …",
        break_on_hyphens=False,
        subsequent_indent="  ",
    ) or [""]


def folded(line: str, width: int) -> str:
    """``line`` broken between words where it is longer than ``width`` columns (0: of any length)."""
    if not width or len(line) <= width:
        return line
    lines = textwrap.wrap(
        line, max(width, LEAST_WIDTH), subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)


def terminal_columns(stream: IO[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """How many columns ``stream`` (standard output) has, by COLUMNS or by its terminal; 0 where neither says."""
    named = environ.get("COLUMNS", "")
    if named.isascii() and named.isdecimal() and len(named) < 6 and int(named):
        return int(named)
    stream = stream or sys.stdout
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return 0


def columns(stream: IO[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """How many columns a page has on ``stream``: as many as it has, at least LEAST_WIDTH and at most WIDTH."""
    return min(max(terminal_columns(stream, environ) or WIDTH, LEAST_WIDTH), WIDTH)


def fit_streams() -> None:
    """Let standard output and error print STAND_INS for what their encodings lack, and never fail by it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def coloured(report: str) -> str:
    """``report`` with the verdict, the marks and the warnings in colour, for a terminal that shows it."""
    verdict_colours = {"VALID": "1;37;42", "INVALID": "1;37;41", "UNKNOWN": "1;30;43"}
    for verdict, colour in verdict_colours.items():
        report = re.sub(rf"(?m)^{verdict}:?(?= )", f"\033[{colour}m \\g<0> \033[0m", report)
    report = re.sub(r"✗ \S+", "\033[1;31m\\g<0>\033[0m", report)
    report = re.sub(r"✓", "\033[32m\\g<0>\033[0m", report)
    report = re.sub(r"^\? \S+|(?<= )\? \S+", "\033[33m\\g<0>\033[0m", report)
    return re.sub(r"(?m)^Warnings", "\033[33m\\g<0>\033[0m", report)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(STAND_INS.get(sign, "?") for sign in signs), error.end


codecs.register_error(HANDLER, _stand_in)
