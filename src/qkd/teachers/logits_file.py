"""The ``logits:`` teacher: logits from another program, in a file.

| file | logits | class names | texts (optional) |
| --- | --- | --- | --- |
| ``.npz`` | array ``logits (M,C)`` | array ``classes (C,)``, optional | array ``texts (M,)`` |
| ``.safetensors`` | tensor ``logits (M,C)`` | metadata ``classes``, JSON, optional | metadata ``texts``, JSON |
| ``.csv``, ``.parquet`` | one column per class | names of the columns | a column ``text`` |

Rows with texts are matched by text, in any order, and rows for other texts are ignored. A file without texts has one
row for each row of the data source in its order, or one for each text that was kept. Without class names, the columns
are the sorted classes of the data. Probabilities are recognized, and their logarithms used.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qkd.core.arrays import read_npz, read_shapes
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import DataError, QkdError, nearest
from qkd.core.objects import Named
from qkd.data.dataset import Splits
from qkd.data.loading import Dataset, clean_label, normalize_text
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.teachers.labels import warn_of_other_assignment

# A probability of 0 is rounded, and its logarithm would be infinite.
MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class SavedLogits:
    """Content of a file.

    Attributes:
        logits: Logits (M,C), float64.
        classes: Names of the columns, if the file has them.
        texts: Texts of the rows, if the file has them.
    """

    logits: np.ndarray
    classes: tuple[str, ...] | None
    texts: tuple[str, ...] | None


class LogitsTeacher(Named):
    """A teacher whose logits are in a file."""

    cross_fitted = False
    num_parameters = 0

    def __init__(self, file: str) -> None:
        self.name, self.file = f"logits:{file}", Path(file)
        self._rows: dict[str, np.ndarray] = {}
        self._classes: tuple[str, ...] = ()

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Read the file and find each text's row."""
        saved = read_logits(self.file)
        columns, rows = self._columns(saved, dataset), self._match_rows(saved, dataset)
        bad = np.argwhere(~(np.abs(saved.logits) <= np.finfo(np.float32).max))
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"{self.file}: row {row + 1}, column {column + 1} is {saved.logits[row, column]}, not a "
                f"finite float32 number ({len({int(r) for r, _ in bad})} rows in all); compute those logits again"
            )
        logits = as_logits(saved.logits[:, columns], str(self.file)).astype(np.float32)
        self._classes = dataset.classes
        # the first of equal texts counts, as it does in the data
        known = zip(reversed(saved.texts or ()), reversed(logits), strict=False)
        self._rows = {normalize_text(text): row for text, row in known}
        self._rows |= {normalize_text(text): logits[row] for text, row in zip(dataset.texts, rows, strict=True)}
        valid = self.logits([dataset.texts[row] for row in splits.valid])
        names, own = dataset.classes, [(number,) for number in range(len(dataset.classes))]
        option = f"{self.name} (order of the columns)"
        warn_of_other_assignment(option, names, names, own, valid, dataset.targets[splits.valid])

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts of the data or of the file."""
        out = np.empty((len(texts), len(self._classes)), np.float32)
        for number, text in enumerate(texts):
            row = self._rows.get(normalize_text(text))
            if row is None:
                raise DataError(f"{self.file}: no logits for the text {_short(text)}; add a row for it to the file")
            out[number] = row
        return out

    predict_logits = logits

    def describe(self) -> TeacherCard:
        """Return the file and its classes."""
        return TeacherCard(name=self.name, kind="logits", file=str(self.file), classes=tuple(self._classes))

    def _columns(self, saved: SavedLogits, dataset: Dataset) -> list[int]:
        """Return the file's column of each class."""
        classes = dataset.classes
        names = tuple(map(clean_label, saved.classes)) if saved.classes else classes
        if saved.logits.shape[1] != len(names):
            raise DataError(
                f"{self.file}: {saved.logits.shape[1]} columns of logits for {len(names)} classes "
                f"({', '.join(names)}); give one column for each"
            )
        for name in classes:
            if name not in names:
                raise DataError(f"{self.file}: no logits for the data's label '{name}'{nearest(name, names)}")
            if names.count(name) > 1:
                raise DataError(f"{self.file}: {names.count(name)} columns are called '{name}'; remove all but one")
        for name in names:
            if name not in classes:
                raise DataError(f"{self.file}: '{name}' is no label of {dataset.source}{nearest(name, classes)}")
        return [names.index(name) for name in classes]

    def _match_rows(self, saved: SavedLogits, dataset: Dataset) -> Sequence[int]:
        """Return the file's row of each text."""
        count = len(saved.logits)
        if saved.texts is None:
            if count == dataset.num_rows and dataset.rows is not None:
                return dataset.rows
            if count == len(dataset.texts):
                return range(count)
            raise DataError(
                f"{self.file}: {count} rows of logits, but {dataset.source} has {dataset.num_rows} rows, of which "
                f"{len(dataset.texts)} were kept; give one row for each, in order, or put the texts into the file"
            )
        if len(saved.texts) != count:
            raise DataError(f"{self.file}: {count} rows of logits but {len(saved.texts)} texts; give one for each")
        places: dict[str, int] = {}
        for row, text in enumerate(saved.texts):
            places.setdefault(normalize_text(text), row)
        lacking = [text for text in dataset.texts if normalize_text(text) not in places]
        if lacking:
            raise DataError(
                f"{self.file}: no logits for {len(lacking)} of the {len(dataset.texts)} texts, the first is "
                f"{_short(lacking[0])}; is this the file of another data set?"
            )
        return [places[normalize_text(text)] for text in dataset.texts]


def as_logits(values: np.ndarray, file: str) -> np.ndarray:
    """Return logits (M,C) of a file's ``values`` (M,C), which may be probabilities.

    Values are probabilities if all lie in 0..1 and every row sums to 1, or are percentages that sum to 100. Sums may
    differ by 1 %, because files hold rounded numbers.
    """
    for total, unit in ((1.0, "probabilities"), (100.0, "percentages")):
        in_range = values.size and values.min() >= 0 and values.max() <= total * 1.01
        if in_range and np.allclose(values.sum(axis=1), total, rtol=0.01, atol=0):
            log.info(f"{file}: the rows are {unit} (they sum to {total:g}); qkd uses their logarithms as logits")
            return np.log(np.maximum(values / total, MIN_PROBABILITY))
    if values.size and values.min() >= 0 and values.max() <= 1:
        log.warning(
            f"{file}: all numbers are in 0..1 and the rows do not sum to 1, so qkd uses them as logits; if they are "
            "probabilities, divide each row by its sum"
        )
    return values


def read_logits(file: Path) -> SavedLogits:
    """Return a file's content; the module's documentation lists the formats."""
    readers = {".npz": _npz, ".safetensors": _safetensors, ".csv": _frame, ".parquet": _frame}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file}: '{file.suffix}' is no known kind of logits file; use {', '.join(sorted(readers))}")
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        saved = reader(file)
    except QkdError:
        raise
    except Exception as error:  # four libraries with different errors for a damaged file
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{file}: cannot be read as logits ({first})") from None
    if saved.logits.ndim != 2:
        raise DataError(f"{file}: logits have the shape {saved.logits.shape}; they must be texts x classes")
    return saved


def _npz(file: Path) -> SavedLogits:
    arrays = read_npz(file)
    if "logits" not in arrays:
        raise DataError(f"{file}: there is no array 'logits', only {', '.join(arrays)}")
    classes, texts = (
        tuple(str(name) for name in arrays[part]) if part in arrays else None for part in ("classes", "texts")
    )
    return SavedLogits(arrays["logits"].astype(np.float64), classes, texts)


def _safetensors(file: Path) -> SavedLogits:
    from safetensors import safe_open

    read_shapes(file)
    with safe_open(file, framework="numpy") as tensors:
        names = list(tensors.keys())
        if "logits" not in names:
            raise DataError(f"{file}: there is no tensor 'logits', only {', '.join(names)}")
        about = tensors.metadata() or {}
        classes, texts = (_names(file, part, about[part]) if part in about else None for part in ("classes", "texts"))
        return SavedLogits(tensors.get_tensor("logits").astype(np.float64), classes, texts)


def _names(file: Path, part: str, content: str) -> tuple[str, ...]:
    """Return an entry of the metadata, a JSON list of strings."""
    try:
        names = json.loads(content)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{file}: the metadata's '{part}' are {content[:40]!r}, not a JSON list of strings")
    return tuple(names)


def _frame(file: Path) -> SavedLogits:
    import pandas as pd

    if file.suffix.lower() == ".csv":
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows that are longer than the header
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    else:
        frame = pd.read_parquet(file)
        frame = frame.reset_index() if frame.index.name == "text" else frame
    texts = tuple(str(text) for text in frame.pop("text")) if "text" in frame else None
    numbers = frame.apply(pd.to_numeric, errors="coerce")  # other cells become NaN, which ``fit`` refuses
    return SavedLogits(numbers.to_numpy(np.float64), tuple(str(name) for name in frame.columns), texts)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def make(file: str, loading: Loading, config: Config) -> LogitsTeacher:
    """Return the teacher ``logits:FILE``."""
    return LogitsTeacher(file)
