"""The data set type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qkd.core.errors import DataError


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
