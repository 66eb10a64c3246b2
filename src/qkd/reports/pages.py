"""Self-contained HTML pages: one head for all, pictures inside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from qkd.reports import plots


def page(template: str, **values: Any) -> str:
    """Return a page of this room's ``template`` with ``values`` in it; a value that is missing is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(**values)


def pictures(figures: Iterable[tuple[Figure, str]]) -> list[dict[str, str]]:
    """Return figures and their captions as a template shows them."""
    return [{"image": plots.png(figure), "caption": caption} for figure, caption in figures]
