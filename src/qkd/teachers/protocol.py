"""The interface of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from qkd.results import TeacherCard

if TYPE_CHECKING:
    from qkd.data.dataset import Dataset
    from qkd.data.splits import Splits


class Teacher(Protocol):
    """A classifier with logits. ``fit`` comes first, once."""

    name: str
    """What the user called it, ``KIND:MODEL``."""

    @property
    def cross_fitted(self) -> bool:
        """Whether ``logits`` of a training text are those of a teacher that had not seen its label."""
        ...

    @property
    def num_parameters(self) -> int:
        """How many weights it has; 0 where nobody knows."""
        ...

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Learn from the training and validation splits what there is to learn, and the classes' names and order."""
        ...

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return what a student learns from: logits ``(N,C)`` float32 of N texts, cached.

        Columns are as in ``Dataset.classes``. Where the teacher is ``cross_fitted``, the logits of a text that ``fit``
        learned from are out of fold: what a teacher says that had not seen its label, as of any other text.
        """
        ...

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return what the finished teacher says: logits ``(N,C)`` float32, computed now, the cache left alone.

        Of all texts that ``fit`` did not learn from they are those of ``logits``.
        """
        ...

    def describe(self) -> TeacherCard:
        """Return what it is and how it was fitted, for reports; JSON values."""
        ...


@runtime_checkable
class SavableTeacher(Protocol):
    """A teacher that learned something worth keeping with a run."""

    def save(self, folder: Path) -> None:
        """Write what was learned into ``folder``."""
        ...
