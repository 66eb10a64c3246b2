"""The data set type, and its training, validation and test rows."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qkd.core.arguments import public
from qkd.core.config import SplitKind
from qkd.core.errors import DataError

MIN_TEXTS_PER_CLASS = 5
MAX_NAMED_CLASSES = 8
"""Most classes that the representation of a data set names."""
TRAIN, VALID, TEST = "train", "valid", "test"
"""Names of the splits. A text that a source has in several splits stays in the last of them."""
ORDER = (TRAIN, VALID, TEST)
PREFIXES = {"train": TRAIN, "val": VALID, "dev": VALID, "test": TEST}
"""Split by the beginning of the source's name for it."""


@dataclass(frozen=True, repr=False)
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
        split_kind: The meaning of ``split_keys``.
        split_keys: The group of each text, or its date or number, where a column decides the split.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    source: str = "the given texts"
    notes: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None
    num_rows: int | None = None
    parts: tuple[str, ...] | None = None
    split_kind: SplitKind | None = None
    split_keys: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("texts", "labels", "notes", "parts", "split_keys"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(validate_texts(values, name)))
        count = len(self.texts)
        object.__setattr__(self, "rows", range(count) if self.rows is None else self.rows)
        object.__setattr__(self, "num_rows", count if self.num_rows is None else self.num_rows)
        try:
            object.__setattr__(self, "rows", tuple(map(operator.index, self.rows)))  # type: ignore[arg-type]
            object.__setattr__(self, "num_rows", operator.index(self.num_rows))  # type: ignore[arg-type]
        except TypeError:
            raise DataError("rows and num_rows of a Dataset are whole numbers; omit them to count from 0") from None
        if (self.split_kind is None) != (self.split_keys is None) or self.split_kind not in (None, "group", "time"):
            raise DataError("split_kind is 'group' or 'time' and belongs to split_keys; give both or none")
        for name in ("labels", "rows", "parts", "split_keys"):
            if (values := getattr(self, name)) is not None and len(values) != count:
                raise DataError(f"{self.source}: {count} texts but {len(values)} {name}; give one for each text")

    def __repr__(self) -> str:
        classes = ", ".join(map(repr, self.classes[:MAX_NAMED_CLASSES]))
        more = ", ..." if len(self.classes) > MAX_NAMED_CLASSES else ""
        return f"<Dataset {self.source}: {len(self.texts):,} texts of {len(self.classes)} classes ({classes}{more})>"

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


def validate_texts(texts: Sequence[str], name: str = "texts") -> list[str]:
    """Return N texts, whose ``name`` is for errors, as a list."""
    if isinstance(texts, str | bytes):
        raise DataError(f"{name} is one string; give a list of strings, such as ['a text']")
    if hasattr(texts, "columns"):
        raise DataError(f"{name} is {_a(texts)}; give one of its columns")
    try:
        rows = list(texts)
    except TypeError:
        raise DataError(f"{name} is {_a(texts)}; give a list of strings") from None
    for number, text in enumerate(rows):
        if not isinstance(text, str):
            shown = " ".join(repr(text).split())[:40]
            raise DataError(f"{name}[{number}] is {_a(text)} ({shown}), not a string; remove or convert it")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(f"{name}[{number}] ({text!r:.40}) contains bytes that are not UTF-8; decode it again")
    return rows


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[:1].lower() in "aeiou" else f"a {kind}"


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"<Splits: {len(self.train):,} train, {len(self.valid):,} validation, {len(self.test):,} test rows>"


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
    the rows. Splits that the data set defines are kept. With groups, no group is in two splits, and the shares of the
    classes are approximate. With times, the newest texts are the test texts and the next ones the validation texts.

    Args:
        dataset: The texts, which are distinct.
        valid: The fraction of each class for validation, of the training texts where the test split is given.
        test: The fraction of each class for the test, where the test split is not given.
        seed: The seed of the draw.

    Raises:
        DataError: There is one class only, a class has too few texts, or the fractions leave no training texts.
    """
    parts = np.full(len(dataset.texts), TRAIN) if dataset.parts is None else np.array(dataset.parts)
    if not (valid + test < 1 and valid > 0 and test > 0):
        raise DataError(f"valid = {valid} and test = {test} must be above 0 and leave some texts for training")
    if len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.source}: all {len(dataset.texts)} texts have the label {', '.join(map(repr, dataset.classes))}; "
            "a classifier needs at least two"
        )
    if dataset.split_kind == "group":
        return _split_groups(dataset, parts, valid, test, seed)
    if dataset.split_kind == "time":
        return _split_times(dataset, valid, test)
    train_rows, valid_rows, test_rows = [], [], []
    for number, name in enumerate(dataset.classes):
        rows = np.flatnonzero((dataset.targets == number) & (parts == TRAIN))
        if len(rows) < MIN_TEXTS_PER_CLASS:
            needed = "training and validation" if TEST in parts else "training, validation and test"
            raise DataError(
                f"{dataset.source}: label '{name}' has {len(rows)} texts, at least {MIN_TEXTS_PER_CLASS} are needed "
                f"for {needed}; add texts or remove the rows with that label"
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


def _split_groups(dataset: Dataset, parts: np.ndarray, valid: float, test: float, seed: int) -> Splits:
    """Split whole groups, the largest first, each into the split that keeps the shares of the classes best.

    The rule is that of ``sklearn.model_selection.StratifiedGroupKFold``, which has splits of equal sizes only.
    """
    groups = np.array(dataset.split_keys)
    names = sorted(set(groups[parts == TRAIN].tolist()))
    if shared := sorted(set(names) & set(groups[parts != TRAIN].tolist())):
        raise DataError(
            f"{dataset.source}: {len(shared)} groups are in the training texts and in the given test or validation "
            f"texts, the first is {shared[0]!r}; remove them from one of the two"
        )
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(dataset.classes)))
    rows = np.flatnonzero(parts == TRAIN)
    np.add.at(counts, (np.array([place[name] for name in groups[rows].tolist()]), dataset.targets[rows]), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    drawn = {VALID: 0.0 if VALID in parts else valid, TEST: 0.0 if TEST in parts else test}
    wanted = {TRAIN: 1 - sum(drawn.values()), **{name: share for name, share in drawn.items() if share}}
    filled = {name: np.zeros(len(dataset.classes)) for name in wanted}
    order = shuffled_by_content(names, seed)
    assigned = parts.astype(object)
    for number in sorted(order, key=lambda number: -counts[number].sum()):
        group = shares[number]

        def gain(name: str, group: np.ndarray = group) -> float:
            return float((group * (2 * (wanted[name] - filled[name]) - group)).sum() / wanted[name])

        best = max(wanted, key=gain)
        filled[best] = filled[best] + group
        assigned[groups == names[number]] = best
    splits = _as_splits(assigned)
    for split in wanted:
        missing = sorted(set(range(len(dataset.classes))) - set(dataset.targets[assigned == split].tolist()))
        if missing:
            raise DataError(
                f"{dataset.source}: no group of the {split} split has the label '{dataset.classes[missing[0]]}', which "
                f"occurs in {int((counts[:, missing[0]] > 0).sum())} groups; use smaller groups or more texts"
            )
    return splits


def _split_times(dataset: Dataset, valid: float, test: float) -> Splits:
    """Split at two times. Texts of one time stay together."""
    times = _as_times(dataset)
    ordered, count = np.sort(times), len(times)
    begin_test, begin_valid = (ordered[count - max(1, round(share * count))] for share in (test, test + valid))
    assigned = np.where(times >= begin_test, TEST, np.where(times >= begin_valid, VALID, TRAIN)).astype(object)
    for number, name in enumerate(dataset.classes):
        here = int(((dataset.targets == number) & (assigned == TRAIN)).sum())
        if here < MIN_TEXTS_PER_CLASS:
            raise DataError(
                f"{dataset.source}: label '{name}' has {here} texts before the validation and test texts, at least "
                f"{MIN_TEXTS_PER_CLASS} are needed; make valid or test smaller, or exclude that label"
            )
    if VALID not in assigned:
        raise DataError(f"{dataset.source}: too many texts have the same time to split them; use --group-column")
    return _as_splits(assigned)


def _as_times(dataset: Dataset) -> np.ndarray:
    """Return the time of each text (N,) as a number."""
    import pandas as pd

    keys = pd.Series(dataset.split_keys)
    numbers = pd.to_numeric(keys, errors="coerce")
    if numbers.notna().all():
        return numbers.to_numpy(float)
    dates = pd.to_datetime(keys, format="ISO8601", utc=True, errors="coerce")
    if dates.isna().any():
        raise DataError(
            f"{dataset.source}: the time {keys[dates.isna()].iloc[0]!r} is neither a number nor a date such as "
            "2026-11-30 or 2026-11-30T18:00; correct the time column"
        )
    return dates.astype("int64").to_numpy(float)


def _as_splits(assigned: np.ndarray) -> Splits:
    return Splits(*(np.flatnonzero(assigned == name).astype(np.int64) for name in ORDER))


def shuffled_by_content(texts: Sequence[str], seed: int) -> list[int]:
    """Return the rows of ``texts`` in an order that depends on the seed and on each text alone."""
    keys = [hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "surrogatepass")).digest() for text in texts]
    return sorted(range(len(texts)), key=lambda row: keys[row])
