"""The built-in data set: first sentences of public docstrings, labeled by their library.

The libraries are dependencies of qkd, so their source files are on every machine with qkd. qkd reads and parses them,
but never imports them. It downloads and ships nothing. Library names are masked, so that a classifier has to use the
rest of the sentence. Other versions of the libraries give slightly different data.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from qkd.core.errors import DataError
from qkd.data.tables import Table

LIBRARIES = ("matplotlib", "pandas", "qiskit", "torch")

SENTENCES_PER_LIBRARY = 600

MASK = "library"
"""Replacement of a library's name."""

_NAMES = (
    r"\w*(?:torch|pandas|qiskit|matplotlib|numpy)\w*|aten|caffe2?|ibmq?|mpl\w*|nn|np|openqasm|pd|plt|pylab|pyplot|terra"
)
_MASKED = re.compile(rf"(?<![\w.])(?:{_NAMES})(?:\.\w+)*(?!\w)", re.IGNORECASE)
_ROLE = re.compile(r":[\w:+-]+:`[~!]?([^`<]*?)(?:\s*<[^`>]*>)?`")
_CODE = re.compile(r"`+~?\.?([^`]*)`+_*")
_MARKUP = re.compile(r"[\\{}$_^|*]+")
_SENTENCE = re.compile(r"(?<=[a-z0-9)\]][.!?])\s+(?=[A-Z`:])")


def read_docstrings(text: str = "text", label: str = "label") -> Table:
    """Return ``SENTENCES_PER_LIBRARY`` sentences of each library, in a column ``text`` and their ``label``.

    Raises:
        QkdError: The source of a library is missing or has too few sentences.
    """
    columns: dict[str, list[str | None]] = {text: [], label: []}
    places: list[str] = []
    seen: set[str] = set()
    for library in LIBRARIES:
        count = 0
        for place, sentence in _sentences(library):
            if sentence.casefold() in seen:
                continue
            seen.add(sentence.casefold())
            columns[text].append(sentence)
            columns[label].append(library)
            places.append(place)
            count += 1
            if count == SENTENCES_PER_LIBRARY:
                break
        if count < SENTENCES_PER_LIBRARY:
            raise DataError(
                f"docstrings: found only {count} of {SENTENCES_PER_LIBRARY} sentences in {library}; reinstall {library}"
            )
    return Table(columns, places)


def _sentences(library: str) -> Iterator[tuple[str, str]]:
    """Yield place and first sentence of a library's public docstrings, file by file."""
    for path, name in _files(library):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            continue  # a file for another Python version is no loss, since the others suffice
        for node in _public(tree):
            sentence = first_sentence(ast.get_docstring(node) or "")
            if sentence is not None:
                yield f"{name} line {node.body[0].lineno}", sentence


def _files(library: str) -> list[tuple[Path, str]]:
    """Return a library's public source files, in a pseudo-random order that is the same on every machine."""
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        raise DataError(f"docstrings: {library} is not installed; it comes with qkd, so install qkd again")
    top = Path(spec.origin).parent
    names = []
    for path in top.rglob("*.py"):
        parts = path.relative_to(top).with_suffix("").parts
        if not any(part.startswith(("_", "test")) for part in parts):
            names.append("/".join((library, *parts)))
    names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    return [(top.parent / f"{name}.py", name) for name in names]


def _public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield public functions, classes and their public methods, in file order."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def first_sentence(docstring: str) -> str | None:
    """Return a docstring's first sentence without markup and library names, or None if it has under four words."""
    paragraph = " ".join(docstring.strip().partition("\n\n")[0].split())
    sentence = _SENTENCE.split(paragraph)[0]
    sentence = _CODE.sub(r"\1", _ROLE.sub(lambda role: role[1].rpartition(".")[2], sentence))
    sentence = " ".join(_MASKED.sub(MASK, _MARKUP.sub(" ", sentence)).split())
    words = [word for word in sentence.split() if any(letter.isalpha() for letter in word)]
    return sentence if len(words) >= 4 and len(sentence) <= 300 and ">>>" not in sentence else None
