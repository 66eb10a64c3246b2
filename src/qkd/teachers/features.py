"""The ``features:logreg`` teacher: a cross-fitted logistic regression on data that are features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.config import Config
from qkd.core.errors import ModelError
from qkd.core.objects import Named
from qkd.data.dataset import shuffled_by_content
from qkd.data.features import to_array
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.teachers.heads import Head, OutOfFold, fit_head
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    from qkd.data.dataset import Splits
    from qkd.data.loading import Dataset

MODEL = "logreg"


class FeaturesTeacher(Named):
    """A logistic regression with out-of-fold logits for the training rows.

    Args:
        dim: number of features D.
    """

    name, cross_fitted = f"features:{MODEL}", True

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._classes: tuple[str, ...] = ()
        self._head: Head | None = None
        self._out_of_fold = OutOfFold((), np.empty((0, 0)))

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return self._fitted.weight.size + self._fitted.bias.size

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Fit the regression on the training rows, and its temperature on the validation rows."""
        order = splits.train[shuffled_by_content([dataset.texts[row] for row in splits.train], 0)]  # for the folds
        train, valid = ([dataset.texts[row] for row in rows] for rows in (order, splits.valid))
        x, x_valid = to_array(train, self.dim), to_array(valid, self.dim)
        self._head = fit_head(x, dataset.targets[order], x_valid, dataset.targets[splits.valid])
        self._classes, self._out_of_fold = dataset.classes, OutOfFold(train, self._head.unseen)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N rows, those of training rows out of fold."""
        return self._out_of_fold.put_into(self.predict_logits(texts), texts)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N rows."""
        return self._fitted(to_array(texts, self.dim))

    def describe(self) -> TeacherCard:
        """Return regularization, temperature, validation and out-of-fold scores."""
        scores = ("c", "temperature", "valid_loss", "valid_accuracy", "unseen_loss", "unseen_accuracy")
        card = TeacherCard(name=self.name, kind="features", classes=self._classes)
        return card.model_copy(update={name: float(getattr(self._fitted, name)) for name in scores})

    @property
    def _fitted(self) -> Head:
        if self._head is None:
            raise not_fitted(self.name)
        return self._head


def make(model: str, loading: Loading, config: Config) -> FeaturesTeacher:
    """Return the teacher ``features:logreg``."""
    kind, _, dim = config.encoder.encoder.partition(":")
    if kind != "features" or not dim.isdecimal() or model != MODEL:
        raise ModelError(
            f"teacher 'features:{model}': it is features:{MODEL}, for data=(features, labels) in Python; texts need "
            "another teacher"
        )
    return FeaturesTeacher(int(dim))
