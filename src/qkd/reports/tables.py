"""The table type of all reports, as text, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from qkd.core.arguments import public
from qkd.core.console import one_line, printable
from qkd.core.errors import ConfigError
from qkd.core.markup import markdown_text
from qkd.results import Estimate, ModelResult

MAX_WORD = 16
"""Characters of a word that a page does not break."""


@dataclass(frozen=True, repr=False)
class Table:
    """Rows of cells under a row of column names. Cells may be foreign text.

    Attributes:
        columns: The column names.
        rows: The cells, one for each column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_text(self) -> str:
        """Return the table with aligned columns, for a terminal."""
        return aligned([self.columns, *self.rows])

    def transposed(self) -> Table:
        """Return the table with its columns as rows. The first column becomes the column names."""
        names, *rows = zip(self.columns, *self.rows, strict=True)
        return Table(names, rows)

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        cells = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(map(markdown_text, row))} |" for row in cells)

    def to_html(self) -> Markup:
        """Return the table as HTML. Each cell repeats its column name for narrow screens."""
        heads = [escape(printable(name)) for name in self.columns]
        head = "".join(f'<th scope="col"{_words(name)}>{name}</th>' for name in heads)
        rows = ["".join(map(_cell, heads, row, ["th"] + ["td"] * (len(heads) - 1))) for row in self.rows]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return Markup(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _cell(column: Markup, cell: str, tag: str) -> str:
    scope = ' scope="row"' if tag == "th" else ""
    return f'<{tag}{scope}{_words(cell)} data-column="{column}"><bdi>{escape(printable(cell))}</bdi></{tag}>'


def _words(cell: str) -> str:
    """Return the class of cells that break between words only, or are empty. Longer words break anywhere."""
    if cell == "-":
        return ' class="empty"'
    return ' class="words"' if max(map(len, cell.split()), default=0) <= MAX_WORD else ""


@public
def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text with aligned columns and a rule below the first row.

    rich's tables wrap cells to the width of the terminal, and to 80 characters in a pipe.
    """
    if len({len(row) for row in cells}) != 1:
        raise ConfigError("the rows of a table need the same number of cells")
    cells = [[one_line(cell) for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def in_points(difference: Estimate) -> str:
    """Return a difference of fractions with its interval as a cell, in points of 0.01."""
    return f"{100 * difference.value:+z.1f} [{100 * difference.low:+z.1f}, {100 * difference.high:+z.1f}]"


def number_cell(value: object, form: str = "{}") -> str:
    """Return a value as a cell, or a dash for None."""
    return "-" if value is None else form.format(value)


SCORES = ("accuracy", "macro-F1", "like teacher", "ECE", "classical", "quantum", "encoder")
"""Column names of `score_cells`."""


def score_cells(line: ModelResult) -> list[str]:
    """Return the scores and the numbers of parameters of a classifier as cells."""
    numbers, parameters = line.numbers, line.parameters
    return [
        *(number_cell(number) for number in (numbers.accuracy, numbers.macro_f1, numbers.agreement)),
        f"{numbers.calibration_error.value:.3f}",
        *(number_cell(getattr(parameters, key, None), "{:,}") for key in ("classical", "quantum", "encoder")),
    ]
