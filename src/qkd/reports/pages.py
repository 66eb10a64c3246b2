"""Reports as sections, which become text, Markdown or one self-contained HTML page."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from qkd.core.console import log, one_line, printable
from qkd.core.files import write_text
from qkd.core.markup import markdown_block, markdown_text
from qkd.core.runs import RunFolder
from qkd.reports import plots
from qkd.reports.tables import Table

MAX_CACHED_PICTURES = 100
"""Pictures that the process keeps for the next page. One has about 50 kB."""
_pictures: dict[bytes, Markup] = {}


@dataclass(frozen=True)
class Picture:
    """A picture that is drawn when a page needs it.

    Attributes:
        caption: The caption, which is also the text alternative.
        draw: A function that returns a figure or SVG.
        values: The arguments of the function.
    """

    caption: str
    draw: Callable[..., Figure | Markup]
    values: tuple[Any, ...] = ()

    def to_html(self) -> Markup:
        """Return the picture and its caption. A picture that fails is a warning.

        Every device run writes its run's page again, so pictures of equal values are cached.
        """
        try:
            content = hashlib.sha256(pickle.dumps((self.draw.__qualname__, self.caption, self.values))).digest()
            if content not in _pictures:
                if len(_pictures) >= MAX_CACHED_PICTURES:
                    del _pictures[next(iter(_pictures))]
                drawn = self.draw(*self.values)
                _pictures[content] = drawn if isinstance(drawn, Markup) else Markup(plots.svg(drawn, self.caption))
            image, caption = _pictures[content], self.caption
        except Exception as error:  # the numbers are saved already, and no picture is worth a run
            log.warning(f"the picture '{self.caption}' cannot be drawn ({type(error).__name__}: {error!s:.200})")
            image, caption = Markup(), f"This picture could not be drawn: {self.caption}"
        return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(image, printable(caption))


@dataclass(frozen=True)
class Code:
    """Text that a user copies: a command, or a file.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class SearchableTable:
    """A table of texts with a search field on a page.

    Attributes:
        table: The table.
        choices: The rows of each choice beside the search field, by label.
    """

    table: Table
    choices: Mapping[str, Sequence[bool]]

    def to_html(self) -> Markup:
        """Return search field, choices and table. The page's script hides the rows that do not match."""
        options = "".join(
            f'<option value="{number}">{escape(name)}</option>' for number, name in enumerate(self.choices)
        )
        matches = [
            " ".join(str(number) for number, rows in enumerate(self.choices.values()) if rows[row])
            for row in range(len(self.table.rows))
        ]
        start, *rows = self.table.to_html().split("<tr>")
        body = "<tr>".join([start, rows[0]]) + "".join(
            f'<tr data-choices="{match}">{row}' for match, row in zip(matches, rows[1:], strict=True)
        )
        return Markup(
            '<div class="search"><label>Search <input type="search"></label> <label>Show <select>'
            f'<option value="">all</option>{options}</select></label> <output></output>{body}'
            '<button type="button" hidden>Show all</button></div>'
        )


Part = str | list[str] | Table | SearchableTable | Code | Picture | list[Picture]


@dataclass(frozen=True)
class Section:
    """A part of a report under one heading.

    Attributes:
        title: The heading.
        parts: Paragraphs, lists of sentences, tables, code and pictures. None is ignored.
        is_folded: Whether a page hides the section until the reader opens it.
        on_terminal: Whether a terminal shows the section.
    """

    title: str
    parts: Sequence[Part | None]
    is_folded: bool = False
    on_terminal: bool = False

    @property
    def shown(self) -> list[Part]:
        """The parts with content."""
        return [part for part in self.parts if part]


@dataclass(frozen=True)
class Report:
    """A report, which becomes text, Markdown or one self-contained page.

    Attributes:
        title: The heading.
        answers: Question, answer, control and cost, for a reader without context.
        sections: The sections.
    """

    title: str
    answers: Sequence[tuple[str, str]]
    sections: Sequence[Section]

    def to_text(self) -> str:
        """Return the sections that a terminal shows."""
        lines = []
        for section in self.sections:
            if section.on_terminal and section.shown:
                lines += [f"{section.title}:", *filter(None, map(_text, section.shown)), ""]
        return "\n".join(lines).rstrip("\n")

    def to_markdown(self) -> str:
        """Return the report as Markdown, without pictures."""
        lines = [f"# {markdown_text(self.title)}"]
        lines += [f"**{label}.** {markdown_text(sentence)}" for label, sentence in self.answers]
        for section in self.sections:
            if texts := [*filter(None, map(_markdown, section.shown))]:
                lines += [f"## {markdown_text(section.title)}", *texts]
        return "\n\n".join(lines) + "\n"

    def to_html(self) -> str:
        """Return the report as one self-contained page."""
        filled = [section for section in self.sections if section.shown]
        return _template().render(title=self.title, answers=self.answers, sections=filled, html=_html)

    def write(self, folder: RunFolder) -> None:
        """Write ``report.md`` and ``report.html``."""
        write_text(folder.path / "report.md", self.to_markdown())
        write_text(folder.report, self.to_html())


def parts_text(parts: Sequence[Part | None]) -> str:
    """Return parts for a Python prompt, without pictures."""
    return "\n\n".join(text for part in parts if part and (text := _text(part)))


NOTEBOOK_STYLE = (
    "--ink: currentColor; --muted: #7b8794; --paper: #fefefe; --teacher: #d97706; --student: #2563eb; --line: #7b879480"
)
"""The colors of a page in a notebook, whose own color scheme decides the color of text."""


def parts_html(parts: Sequence[Part | None]) -> Markup:
    """Return parts for a notebook."""
    return Markup('<div style="{}">{}</div>').format(
        NOTEBOOK_STYLE, Markup().join(_html(part) for part in parts if part)
    )


def _text(part: Part) -> str:
    if isinstance(part, str):
        return one_line(part)
    if isinstance(part, Code):
        return f"  {part.text}"
    if isinstance(part, list):
        return "\n".join(one_line(line) for line in part if isinstance(line, str))
    return part.to_text() if isinstance(part, Table) else ""


def _markdown(part: Part) -> str:
    if isinstance(part, str):
        return markdown_text(part)
    if isinstance(part, Code):
        return "\n".join(markdown_block(part.text))
    if isinstance(part, list):
        return "\n".join(f"- {markdown_text(line)}" for line in part if isinstance(line, str))
    return part.to_markdown() if isinstance(part, Table) else ""


def _html(part: Part) -> Markup:
    if isinstance(part, str):
        return Markup("<p>{}</p>").format(printable(part))
    if isinstance(part, Code):
        return Markup('<pre tabindex="0">{}</pre>').format(printable(part.text))
    if isinstance(part, list):
        if all(isinstance(item, Picture) for item in part):
            return Markup('<div class="pictures">{}</div>').format(Markup().join(map(_html, part)))
        return Markup("<ul>{}</ul>").format(
            Markup().join(Markup("<li>{}</li>").format(printable(str(p))) for p in part)
        )
    return part.to_html()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    return environment.get_template("page.html")


@contextmanager
def report_failures_as_warnings(path: Path) -> Iterator[None]:
    """Turn an error while a report is made or written into a warning, because the numbers are saved already."""
    try:
        yield
    except Exception as error:  # no picture is worth the numbers of a run
        log.warning(f"{path}: the report was not written ({type(error).__name__}: {error}); all numbers are saved")
