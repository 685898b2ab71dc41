"""Tables in Markdown."""

from collections.abc import Collection, Sequence


def markdown_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = (), aligned: bool = False
) -> str:
    """``rows`` under ``head``; the columns ``right`` stand at the right. ``aligned``: it reads well on a terminal too.

    A cell's "|" is written so that it is none of the table's.
    """
    lines = [[text.replace("|", "&#124;") for text in line] for line in (head, *rows)]
    widths = [max(map(len, column)) if aligned else 3 for column in zip(*lines, strict=True)]
    rule = ["-" * max(width - 1, 3) + ":" if at in right else "-" * width for at, width in enumerate(widths)]
    lines.insert(1, rule)
    if aligned:
        lines = [
            [
                text.rjust(width) if at in right else text.ljust(width)
                for at, (text, width) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
