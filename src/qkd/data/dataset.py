"""The data set type, and its training, validation and test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qkd.core.arguments import public
from qkd.core.errors import DataError

MIN_TEXTS_PER_CLASS = 5
TRAIN, VALID, TEST = "train", "valid", "test"
"""Names of the splits. A text that a source has in several splits stays in the last of them."""
ORDER = (TRAIN, VALID, TEST)
PREFIXES = {"train": TRAIN, "val": VALID, "dev": VALID, "test": TEST}
"""Split by the beginning of the source's name for it."""


@dataclass(frozen=True)
class Dataset:
    """N distinct texts and their labels.

    Attributes:
        texts: The N texts.
        labels: The N labels.
        source: The source as the user named it.
        notes: Facts about the reading, one sentence each: the number of rows, dropped rows and changed labels.
        rows: The row number of each text in the source, from 0. The default is ``0..N-1``.
        num_rows: The number of rows of the source. The default is N.
        parts: The split of each text, ``train``, ``valid`` or ``test``, where the source defines splits.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    source: str = "the given texts"
    notes: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None
    num_rows: int | None = None
    parts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("texts", "labels"):
            values = getattr(self, name)
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                raise DataError(f"{name} is {_a(values)}; give a list of strings")
            object.__setattr__(self, name, tuple(values))
        if len(self.texts) != len(self.labels):
            raise DataError(f"{self.source}: {len(self.texts)} texts but {len(self.labels)} labels; give one for each")
        object.__setattr__(self, "rows", tuple(range(len(self.texts)) if self.rows is None else self.rows))
        object.__setattr__(self, "num_rows", len(self.texts) if self.num_rows is None else self.num_rows)

    @property
    def own(self) -> tuple[str, ...]:
        """The splits among ``valid`` and ``test`` that the source defines."""
        return tuple(name for name in ("valid", "test") if name in (self.parts or ()))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The C distinct labels, sorted. They are the columns of every logits array."""
        return tuple(sorted(set(self.labels)))

    @cached_property
    def targets(self) -> np.ndarray:
        """The class number (N,) of each text, int64."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[label] for label in self.labels], dtype=np.int64)


def validate_texts(texts: Sequence[str]) -> list[str]:
    """Return N texts as a list.

    Raises:
        DataError: ``texts`` is one string, or no sequence of strings.
    """
    if isinstance(texts, str | bytes):
        raise DataError("texts is one string; give a list of strings, such as ['a text']")
    try:
        rows = list(texts)
    except TypeError:
        raise DataError(f"texts is {_a(texts)}; give a list of strings") from None
    for number, text in enumerate(rows):
        if not isinstance(text, str):
            raise DataError(f"text {number} is {_a(text)} ({text!r:.40}), not a string; remove or convert it")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(f"text {number} ({text!r:.40}) contains bytes that are not UTF-8; decode it again")
    return rows


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[:1].lower() in "aeiou" else f"a {kind}"


@dataclass(frozen=True)
class Splits:
    """Disjoint, sorted row numbers (int64) that together are all rows.

    Attributes:
        train: The training rows.
        valid: The validation rows.
        test: The test rows.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def split_of(name: str) -> str:
    """Return the split for a source's name of it. Other names are further training splits."""
    return next((split for prefix, split in PREFIXES.items() if name.lower().startswith(prefix)), TRAIN)


def assigned_splits(names: Sequence[str] | None, usable: Sequence[int]) -> list[str] | None:
    """Return the split of every row, or None where qkd has to draw the splits.

    Benchmarks with secret test labels are usually evaluated on their validation split, so that becomes the test split.
    A source without training split, or without any other, is split like a single table.

    Args:
        names: The source's name for the split of each row, or None.
        usable: The rows with a text and a label.
    """
    if names is None:
        return None
    splits = [split_of(name) for name in names]
    present = {splits[row] for row in usable}
    if TEST not in present:
        splits = [TEST if split == VALID else split for split in splits]
    return splits if TRAIN in present and present & {VALID, TEST} else None


@public
def split_dataset(dataset: Dataset, valid: float = 0.15, test: float = 0.2, seed: int = 0) -> Splits:
    """Split a data set so that every class has its share in each split.

    The split of a text depends on its content, on the other texts of its class and on the seed, not on the order of
    the rows. Splits that the data set defines are kept.

    Args:
        dataset: The texts, which are distinct.
        valid: The fraction of each class for validation, of the training texts where the test split is given.
        test: The fraction of each class for the test, where the test split is not given.
        seed: The seed of the draw.

    Raises:
        DataError: There is one class only, a class has too few texts, or the fractions leave no training texts.
    """
    parts = np.full(len(dataset.texts), TRAIN) if dataset.parts is None else np.array(dataset.parts)
    if valid + test >= 1 or min(valid, test) <= 0:
        raise DataError(f"valid = {valid} and test = {test} must be above 0 and leave some texts for training")
    if len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.source}: all {len(dataset.texts)} texts have the label {', '.join(map(repr, dataset.classes))}; "
            "a classifier needs at least two"
        )
    train_rows, valid_rows, test_rows = [], [], []
    for number, name in enumerate(dataset.classes):
        rows = np.flatnonzero((dataset.targets == number) & (parts == TRAIN))
        if len(rows) < MIN_TEXTS_PER_CLASS:
            needed = "training and validation" if TEST in parts else "training, validation and test"
            raise DataError(
                f"{dataset.source}: label '{name}' has {len(rows)} texts, at least {MIN_TEXTS_PER_CLASS} are needed "
                f"for {needed}; add texts or exclude that label"
            )
        rows = rows[shuffled_by_content([dataset.texts[row] for row in rows], seed)]
        to_test = 0 if TEST in parts else max(1, round(test * len(rows)))
        to_valid = 0 if VALID in parts else max(1, round(valid * len(rows)))
        if to_test + to_valid >= len(rows):
            raise DataError(
                f"{dataset.source}: label '{name}' has {len(rows)} texts, and {to_valid} for validation and {to_test} "
                "for test leave none for training; make valid or test smaller"
            )
        test_rows.append(rows[:to_test])
        valid_rows.append(rows[to_test : to_test + to_valid])
        train_rows.append(rows[to_test + to_valid :])
    test_rows.append(np.flatnonzero(parts == TEST))
    valid_rows.append(np.flatnonzero(parts == VALID))
    return Splits(*(np.sort(np.concatenate(rows)).astype(np.int64) for rows in (train_rows, valid_rows, test_rows)))


def shuffled_by_content(texts: Sequence[str], seed: int) -> list[int]:
    """Return the rows of ``texts`` in an order that depends on the seed and on each text alone."""
    keys = [hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "surrogatepass")).digest() for text in texts]
    return sorted(range(len(texts)), key=lambda row: keys[row])
