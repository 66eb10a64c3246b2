"""Self-contained HTML pages: one frame for all, with their pictures inside."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from qkd.core.console import log, printable
from qkd.reports import plots

MAX_CACHED_PICTURES = 100
"""Pictures that the process keeps for the next page. One has about 50 kB."""
_pictures: dict[bytes, str] = {}


def page(template: str, **values: Any) -> str:
    """Return a page of this package's ``template``. A missing value is an error.

    Every value is escaped, and its control characters are shown as escapes.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    return environment.get_template(template).render(**values)


def picture(caption: str, draw: Callable[..., Figure], *values: Any) -> dict[str, Any]:
    """Return ``draw(*values)`` and its caption as a template shows them. A picture that fails is a warning.

    Every device run writes its run's page again, so pictures of equal values are cached.
    """
    content = hashlib.sha256(pickle.dumps((draw.__qualname__, caption, values))).digest()
    try:
        if content not in _pictures:
            if len(_pictures) >= MAX_CACHED_PICTURES:
                del _pictures[next(iter(_pictures))]
            _pictures[content] = plots.svg(draw(*values), caption)
    except Exception as error:  # numbers are saved already, and no picture is worth a run
        log.warning(f"the picture '{caption}' cannot be drawn ({type(error).__name__}: {error!s:.200})")
        return {"image": Markup(""), "caption": f"This picture could not be drawn: {caption}"}
    return {"image": Markup(_pictures[content]), "caption": caption}


@contextmanager
def report_failures_as_warnings(path: Path) -> Iterator[None]:
    """Turn an error while a report is made or written into a warning, because the numbers beside it are saved."""
    try:
        yield
    except Exception as error:  # no picture is worth the numbers of a run
        log.warning(f"{path}: the report was not written ({type(error).__name__}: {error}); all numbers are saved")
