"""Tables of text: for a terminal, and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from qkd.core.console import one_line
from qkd.core.markup import markdown_text
from qkd.results import Estimate


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, each column as wide as its widest cell, a rule below the first row.

    Not rich's tables, which wrap cells to a terminal's width, and to 80 characters in a pipe.
    """
    cells = [[one_line(cell) for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    return [
        f"| {' | '.join(map(markdown_text, heads))} |",
        f"| {' | '.join('---' for _ in heads)} |",
        *(f"| {' | '.join(map(markdown_text, row))} |" for row in cells),
    ]


def in_points(difference: Estimate) -> str:
    """Return a difference of fractions with its interval as a cell, in points of 0.01."""
    return f"{100 * difference.value:+z.1f} [{100 * difference.low:+z.1f}, {100 * difference.high:+z.1f}]"
