"""Self-contained HTML pages: one head for all, pictures inside."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from qkd.core.console import warn
from qkd.reports import plots

IMAGES = 100
"""How many pictures are kept for the next page; one has about 50 kB."""
_images: dict[bytes, str] = {}


def page(template: str, **values: Any) -> str:
    """Return a page of this room's ``template`` with ``values`` in it; a value that is missing is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(**values)


def pictures(figures: Iterable[tuple[Figure, str]]) -> list[dict[str, str]]:
    """Return figures and their captions as a template shows them."""
    return [{"image": plots.png(figure), "caption": caption} for figure, caption in figures]


def picture(caption: str, draw: Callable[..., Figure], *values: Any) -> dict[str, str]:
    """Return ``draw(*values)`` and its caption as a template shows them.

    Every device run writes its run's page anew, and most of the pictures on it are those that were there before: what
    this process has drawn of the same values is not drawn again.
    """
    content = hashlib.sha256(pickle.dumps((draw.__qualname__, values))).digest()
    if content not in _images:
        if len(_images) >= IMAGES:
            del _images[next(iter(_images))]
        _images[content] = plots.png(draw(*values))
    return {"image": _images[content], "caption": caption}


@contextmanager
def report_failures_as_warnings(path: Path) -> Iterator[None]:
    """Turn an error while a report is made or written into a warning: the numbers beside it are complete."""
    try:
        yield
    except Exception as error:  # no picture is worth the numbers of a run
        warn(f"{path}: the report was not written ({type(error).__name__}: {error}); all numbers are saved")
