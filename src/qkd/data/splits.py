"""The train, validation and test rows of a dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkd.data.dataset import Dataset

LEAST = 5
"""Texts that a class must have."""
TRAIN, VALID, TEST = "train", "valid", "test"
"""The parts of a data set."""


@dataclass(frozen=True)
class Splits:
    """Disjoint, sorted row numbers (int64) that together are all rows."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def split_dataset(dataset: Dataset, valid: float = 0.15, test: float = 0.2, seed: int = 0) -> Splits:
    """Split a dataset so that every class has its share in each part.

    A text's part depends on its content, its class's other texts and the seed, not on the order of the rows. Where the
    data set has parts of its own they are kept; its validation texts are drawn from the training ones if it has none.

    Args:
        dataset: the texts; equal ones were dropped when it was loaded, so none is in two parts.
        valid: the fraction of each class kept for validation; of the training texts, where the test texts are given.
        test: the fraction of each class kept for the final test, where they are not given.
        seed: chooses among splits.

    Raises:
        QkdError: there is a single class, a class has too few texts, or the fractions leave nothing to train on.
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
        if len(rows) < LEAST:
            what = "training and validation" if TEST in parts else "training, validation and test"
            raise DataError(
                f"{dataset.source}: label '{name}' has {len(rows)} texts, at least {LEAST} are needed for {what}; add "
                "texts or leave that label out"
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
