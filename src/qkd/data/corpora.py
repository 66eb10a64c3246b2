"""Readers of ``qdllm:`` folders, ``hf:`` data sets, and the built-in data set ``docstrings``.

The texts of ``docstrings`` are first sentences of public docstrings, labeled by their library. The libraries are
dependencies of qkd, so their source files are on every machine with qkd. qkd parses them, but never imports them. It
downloads and ships nothing. Library names are masked, so that a classifier has to use the rest of the sentence. Other
versions of the libraries give slightly different data.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qkd.core.errors import DataError, QkdError, require_extra
from qkd.core.files import refuse_above
from qkd.data.tables import MAX_ROWS, Table, cell_text, files_beside, no_column, read_lines, read_table

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


def read_qdllm(folder: Path, text: str, label: str) -> Table:
    """Return the lines of ``PREFIX_LABEL.txt`` files as texts and labels. The prefix names the split.

    This is the layout of the data of Li et al., arXiv 2505.13205: ``train_sadness.txt``, ``test_sadness.txt``, ...
    """
    if not folder.is_dir():
        raise DataError(f"qdllm:{folder}: no such folder{files_beside(folder)}")
    files = sorted(path for path in folder.glob("*_*.txt") if all(path.stem.partition("_")))
    if not files:
        raise DataError(f"qdllm:{folder}: no file is called PREFIX_LABEL.txt (train_joy.txt, test_joy.txt, ...)")
    columns: dict[str, list[str | None]] = {text: [], label: []}
    places: list[str] = []
    parts: list[str] = []
    for path in files:
        lines = read_lines(path)
        columns[text] += lines
        columns[label] += [path.stem.partition("_")[2]] * len(lines)
        parts += [path.stem.partition("_")[0]] * len(lines)
        places += [f"{path.name} line {number}" for number in range(1, len(lines) + 1)]
    return Table(columns, places, parts)


def read_hf(name: str, text: str, label: str) -> Table:
    """Return all splits of a data set of the ``datasets`` library: ``NAME``, ``NAME:CONFIG``, or a local folder.

    A folder was written by ``save_to_disk``, or ``load_dataset`` reads it. Class numbers become class names. The number
    -1, which marks an unlabeled text, becomes a missing label.
    """
    where = f"hf:{name}"
    require_extra(where, "hf", "datasets")
    import datasets

    target, _, config = (name, "", "") if Path(name).exists() else name.partition(":")
    saved = any((Path(target) / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        dataset = datasets.load_from_disk(target) if saved else _downloaded(target, config, (text, label))
    except QkdError:
        raise
    except Exception as error:  # the library raises whatever its readers, the hub and the file system raise
        first = " ".join((str(error).strip() or type(error).__name__).splitlines()[:2]).rstrip(".")
        raise DataError(
            f"{where}: the data set cannot be loaded ({first}); check the name, add a configuration with "
            f"hf:NAME:CONFIG, or give a local folder as hf:FOLDER"
        ) from None
    if isinstance(dataset, Table):
        return dataset
    splits: dict[str, Any] = dataset if isinstance(dataset, dict) else {"row": dataset}
    refuse_above(Path(where), sum(part.num_rows for part in splits.values()), MAX_ROWS, "rows")
    columns: dict[str, list[str | None]] = {text: [], label: []}
    places: list[str] = []
    parts: list[str] = []
    for split, part in splits.items():
        rows = [f"{split} {number}" for number in range(1, part.num_rows + 1)]
        for column in (text, label):
            if column not in part.column_names:
                raise no_column(where, column, part.column_names)
            feature, cells = part.features[column], part[column]
            names = feature.names if isinstance(feature, datasets.ClassLabel) else None
            for value, row in zip(cells, rows, strict=True):
                if names is None or value is None:
                    columns[column].append(cell_text(value, where, row, column))
                elif value >= len(names):
                    raise DataError(
                        f"{where}: {row}, column '{column}' holds class {value}, but the data set names only "
                        f"{len(names)} classes; correct its features"
                    )
                else:
                    columns[column].append(None if value < 0 else names[value])
        places += rows
        parts += [split] * part.num_rows
    return Table(columns, places, parts)


def _downloaded(target: str, config: str, columns: tuple[str, str]) -> Any:
    """Return a data set that the `datasets` library reads, or a `Table` where all of its files are local tables.

    The library's CSV reader takes "NA" and "None" for missing values and "01" for a number, unless it is told to read
    text. It ignores surplus fields, and rows that an open quotation mark swallows.
    """
    import datasets

    builder = datasets.load_dataset_builder(target, config or None)
    if not hasattr(builder.config, "converters"):
        return datasets.load_dataset(target, config or None)
    files = [(str(split), Path(file)) for split, paths in builder.config.data_files.items() for file in paths]
    options, usual = builder.config.pd_read_csv_kwargs, type(builder.config)().pd_read_csv_kwargs
    if options | {"sep": ","} == usual and all(path.suffix in (".csv", ".tsv") and path.is_file() for _, path in files):
        return _joined([(split, path, read_table(path, columns)) for split, path in files])
    as_text = {"converters": dict.fromkeys(columns, str), "na_filter": False, "skip_blank_lines": False}
    with contextlib.suppress(Exception):  # pandas raises where no column is left; reading all names the columns
        read = datasets.load_dataset(target, config or None, usecols=lambda name: name in columns, **as_text)
        if all(set(columns) <= set(split.column_names) for split in read.values()):
            return read
    return datasets.load_dataset(target, config or None, **as_text)


def _joined(tables: list[tuple[str, Path, Table]]) -> Table:
    """Return the rows of several files, each of which belongs to a split."""
    return Table(
        {name: [cell for *_, table in tables for cell in table.columns[name]] for name in tables[0][2].columns},
        [f"{path.name} {place}" for _, path, table in tables for place in table.places],
        [split for split, _, table in tables for _ in table.places],
        tuple(note for *_, table in tables for note in table.notes),
    )


def read_docstrings(text: str = "text", label: str = "label") -> Table:
    """Return ``SENTENCES_PER_LIBRARY`` sentences of each library, in a column ``text`` and their ``label``."""
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
