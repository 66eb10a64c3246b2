"""Readers of sources with several files: ``qdllm:`` folders and ``hf:`` data sets."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from qkd.core.errors import DataError
from qkd.core.files import refuse_above
from qkd.data.tables import MAX_ROWS, Table, cell_text, files_beside, no_column, read_utf8


def read_qdllm(folder: Path, text: str, label: str) -> Table:
    """Return the lines of ``PREFIX_LABEL.txt`` files as texts and labels. The prefix names the split.

    This is the layout of the data of Li et al., arXiv 2505.13205: ``train_sadness.txt``, ``test_sadness.txt``, ...

    Raises:
        QkdError: The folder or its files are missing, or a file is not UTF-8.
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
        lines = read_utf8(path).removesuffix("\n").split("\n")
        columns[text] += [line.removesuffix("\r") for line in lines]
        columns[label] += [path.stem.partition("_")[2]] * len(lines)
        parts += [path.stem.partition("_")[0]] * len(lines)
        places += [f"{path.name} line {number}" for number in range(1, len(lines) + 1)]
    return Table(columns, places, parts)


def read_hf(name: str, text: str, label: str) -> Table:
    """Return all splits of a data set of the ``datasets`` library: ``NAME``, ``NAME:CONFIG``, or a local folder.

    A folder was written by ``save_to_disk``, or ``load_dataset`` reads it. Class numbers become class names. The number
    -1, which marks an unlabeled text, becomes a missing label.

    Raises:
        QkdError: The data set cannot be loaded, or lacks a column.
    """
    import datasets

    where = f"hf:{name}"
    target, _, config = (name, "", "") if Path(name).exists() else name.partition(":")
    saved = any((Path(target) / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        dataset = datasets.load_from_disk(target) if saved else _downloaded(target, config, (text, label))
    except Exception as error:  # the library raises whatever its readers, the hub and the file system raise
        first = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
        raise DataError(
            f"{where}: the data set cannot be loaded ({first}); check the name, add a configuration with "
            f"hf:NAME:CONFIG, or give a local folder as hf:FOLDER"
        ) from None
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
            if isinstance(feature, datasets.ClassLabel):
                columns[column] += [None if n is None or n < 0 else feature.int2str(n) for n in cells]
            else:
                columns[column] += [
                    cell_text(value, where, row, column) for value, row in zip(cells, rows, strict=True)
                ]
        places += rows
        parts += [split] * part.num_rows
    return Table(columns, places, parts)


def _downloaded(target: str, config: str, columns: tuple[str, str]) -> Any:
    """Return a data set that the `datasets` library reads.

    Its CSV reader takes "NA" and "None" for missing values and "01" for a number, unless it is told to read text.
    """
    import datasets

    builder = datasets.load_dataset_builder(target, config or None)
    if not hasattr(builder.config, "converters"):
        return datasets.load_dataset(target, config or None)
    as_text = {"converters": dict.fromkeys(columns, str), "na_filter": False, "skip_blank_lines": False}
    with contextlib.suppress(Exception):  # pandas raises where no column is left; reading all names the columns
        read = datasets.load_dataset(target, config or None, usecols=lambda name: name in columns, **as_text)
        if all(set(columns) <= set(split.column_names) for split in read.values()):
            return read
    return datasets.load_dataset(target, config or None, **as_text)
