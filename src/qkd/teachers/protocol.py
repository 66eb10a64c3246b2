"""The interface of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from qkd.core.errors import ModelError
from qkd.results import TeacherCard

if TYPE_CHECKING:
    from qkd.data.dataset import Dataset, Splits


class Teacher(Protocol):
    """A classifier with logits. ``fit`` comes first, once.

    Attributes:
        name: What the user called it, ``KIND:MODEL``.
    """

    name: str

    @property
    def cross_fitted(self) -> bool:
        """True if ``logits`` of a training text are out of fold: from a teacher that did not learn its label."""
        ...

    @property
    def num_parameters(self) -> int:
        """Number of weights; 0 if it is unknown."""
        ...

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Learn from the training and validation splits, and note names and order of the classes."""
        ...

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return the logits ``(N,C)`` float32 of N texts from which a student learns; cached.

        Columns are as in ``Dataset.classes``. If the teacher is ``cross_fitted``, those of training texts are out of
        fold.
        """
        ...

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return the logits ``(N,C)`` float32 of the fitted teacher, computed now, without the cache.

        For all texts that ``fit`` did not learn from they equal ``logits``.
        """
        ...

    def describe(self) -> TeacherCard:
        """Return what it is and how it was fitted, for reports."""
        ...


@runtime_checkable
class SavableTeacher(Protocol):
    """A teacher that learned weights which a run keeps."""

    def save(self, folder: Path) -> None:
        """Write the weights into ``folder``."""
        ...


def not_fitted(name: str) -> ModelError:
    """Return the error of a teacher that is used before ``fit``."""
    return ModelError(f"{name} has not been fitted: call fit(dataset, splits) first")
