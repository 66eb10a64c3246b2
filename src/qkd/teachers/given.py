"""The ``object:NAME`` teacher: a function, a scikit-learn classifier or a transformers pipeline of the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from qkd.core import objects
from qkd.core.cache import checked_rows
from qkd.core.config import Config
from qkd.core.console import log, progress
from qkd.core.errors import ConfigError, ModelError
from qkd.core.objects import Named
from qkd.data.dataset import Splits
from qkd.data.features import to_array
from qkd.data.loading import Dataset
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.teachers.classifier import match_labels, split_pairs
from qkd.teachers.heads import FOLDS, OutOfFold
from qkd.teachers.labels import assigned, warn_of_other_assignment
from qkd.teachers.logits_file import MIN_PROBABILITY
from qkd.teachers.protocol import Teacher, not_fitted

PROTOCOL = ("name", "cross_fitted", "num_parameters", "fit", "logits", "predict_logits", "describe")
"""Attributes of an object that is a teacher already."""
CHUNK = 256
"""Number of texts that the object receives together."""


@dataclass(frozen=True)
class FunctionTeacher:
    """A function as a teacher, and the meaning of its columns.

    Attributes:
        function: The function from N texts to numbers (N,C).
        classes: The label of each column. The default are the sorted labels of the data.
        probabilities: Whether the numbers are probabilities; otherwise they are logits.
    """

    function: Callable[[list[str]], Any]
    classes: tuple[str, ...] | None = None
    probabilities: bool = False

    @property
    def __name__(self) -> str:
        """The function's name."""
        return objects.label(self.function)


def check_teacher(value: Any) -> None:
    """Refuse an object that cannot be a teacher."""
    if isinstance(value, type):
        raise ConfigError(f"teacher is the class {value.__name__}; pass an object of it")
    lacking = [name for name in PROTOCOL if not hasattr(value, name)]
    if hasattr(value, "logits") and lacking:
        raise ConfigError(
            f"teacher is a {type(value).__name__}, which has 'logits' but not {', '.join(lacking)} of "
            "qkd.teachers.Teacher; add them, or pass its function from texts to logits"
        )
    is_function = callable(value) or isinstance(value, FunctionTeacher)
    if lacking and not (is_function or hasattr(value, "predict_proba") or hasattr(value, "decision_function")):
        raise ConfigError(
            f"teacher is a {type(value).__name__}; give KIND:MODEL, a function from N texts to logits (N,C), a "
            "scikit-learn classifier with predict_proba, a transformers pipeline, or an object of qkd.teachers.Teacher"
        )
    if isinstance(value, FunctionTeacher) and not callable(value.function):
        raise ConfigError(f"the function of FunctionTeacher is a {type(value.function).__name__}; pass a function")


class GivenTeacher(Named):
    """A caller's object as a teacher. Its logits are kept in memory and not cached.

    A scikit-learn classifier that is not fitted is fitted on the training texts, with out-of-fold logits for them.

    Args:
        name: ``object:NAME``.
        config: the label map, and whether the data are features.
    """

    def __init__(self, name: str, value: Any, config: Config) -> None:
        self.name, self._value, self._pairs = name, value, split_pairs(config.teacher.label_map)
        kind, _, dim = config.encoder.encoder.partition(":")
        self._dim = int(dim) if kind == "features" and dim.isdecimal() else 0
        self._classes: tuple[str, ...] = ()
        self._columns: tuple[tuple[int, ...], ...] = ()
        self._rows: dict[str, np.ndarray] = {}
        self._out_of_fold: OutOfFold | None = None

    @property
    def cross_fitted(self) -> bool:
        """True if qkd fitted the object."""
        return self._out_of_fold is not None

    @property
    def num_parameters(self) -> int:
        """Number of weights of a transformers pipeline; otherwise 0, which means unknown."""
        count = getattr(getattr(self._value, "model", None), "num_parameters", None)
        return int(count()) if callable(count) else 0

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Find the column of each class, and fit a scikit-learn classifier that is not fitted."""
        self._classes = dataset.classes
        train = [dataset.texts[row] for row in splits.train]
        if hasattr(self._value, "fit") and hasattr(self._value, "get_params") and not hasattr(self._value, "classes_"):
            self._fit_classifier(train, dataset.targets[splits.train])
            return
        labels = self._labels() or dataset.classes
        self._columns = match_labels(self.name, labels, dataset.classes, self._pairs)
        scores, targets = self._scores([dataset.texts[row] for row in splits.valid]), dataset.targets[splits.valid]
        self._warn_of_probabilities(scores)
        warn_of_other_assignment(f"{self.name} (label_map)", labels, dataset.classes, self._columns, scores, targets)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; those of known texts are not computed again."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if fresh:
            self._rows.update(zip(fresh, self.predict_logits(fresh), strict=True))
        rows = np.stack([self._rows[text] for text in texts]) if len(texts) else np.empty((0, len(self._classes)))
        return rows if self._out_of_fold is None else self._out_of_fold.put_into(rows, texts)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        if not self._columns:
            raise not_fitted(self.name)
        return assigned(self._scores(texts), self._columns)

    def describe(self) -> TeacherCard:
        """Return the object's class and the classes of the data."""
        return TeacherCard(name=self.name, kind="object", model=type(self._value).__name__, classes=self._classes)

    def _labels(self) -> tuple[str, ...] | None:
        """Return the labels of the object's columns, if it has them."""
        if isinstance(self._value, FunctionTeacher):
            return self._value.classes
        if _is_pipeline(self._value):
            names = self._value.model.config.id2label
            return tuple(str(names[row]) for row in sorted(names))
        return tuple(map(str, self._value.classes_)) if hasattr(self._value, "classes_") else None

    def _fit_classifier(self, texts: list[str], targets: np.ndarray) -> None:
        from sklearn.base import clone
        from sklearn.model_selection import cross_val_predict

        folds = int(np.clip(np.bincount(targets).min(), 2, FOLDS))
        method = "predict_proba" if hasattr(self._value, "predict_proba") else "decision_function"
        self._value = clone(self._value)
        self._columns = tuple((number,) for number in range(len(self._classes)))
        try:
            rows = cross_val_predict(clone(self._value), self._inputs(texts), targets, cv=folds, method=method)
            self._value.fit(self._inputs(texts), targets)
        except Exception as error:  # code of another package
            raise self._failed(error) from error
        self._out_of_fold = OutOfFold(texts, _as_logits(rows, method == "predict_proba").astype(np.float32))

    def _scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return the object's logits ``(N,labels)`` of N texts."""
        width = len(self._labels() or self._classes)
        parts = []
        with progress(f"labeling with {self.name}", len(texts), "texts") as bar:
            for start in range(0, len(texts), CHUNK):
                chunk = list(texts[start : start + CHUNK])
                try:
                    rows = np.asarray(_answers(self._value, self._inputs(chunk)))
                except Exception as error:  # the caller's code
                    raise self._failed(error) from error
                parts.append(checked_rows(f"teacher '{self.name}'", chunk, rows, (width,)))
                bar.advance(len(chunk))
        return np.concatenate(parts).astype(np.float32) if parts else np.empty((0, width), np.float32)

    def _inputs(self, texts: Sequence[str]) -> Any:
        return to_array(texts, self._dim) if self._dim else list(texts)

    def _failed(self, error: Exception) -> ModelError:
        what = f"features (N,{self._dim})" if self._dim else "a list of texts"
        return ModelError(f"teacher '{self.name}' fails on {what}: {type(error).__name__}: {error}")

    def _warn_of_probabilities(self, scores: np.ndarray) -> None:
        """Warn of a function's numbers that look like probabilities but are used as logits."""
        function = not hasattr(self._value, "classes_") and not _is_pipeline(self._value)
        looks = len(scores) > 0 and scores.min() >= 0 and bool(np.allclose(scores.sum(axis=1), 1, atol=1e-3))
        if function and looks:
            log.warning(
                f"{self.name}: its rows sum to 1 and are used as logits; if they are probabilities, pass "
                "qkd.teachers.FunctionTeacher(function, probabilities=True)"
            )


def _is_pipeline(value: Any) -> bool:
    return getattr(value, "task", None) == "text-classification" and hasattr(value, "model")


def _answers(value: Any, inputs: Any) -> Any:
    """Return what an object answers to N texts, as logits (N,labels)."""
    if isinstance(value, FunctionTeacher):
        rows = np.asarray(value.function(inputs))
        return _as_logits(rows, probabilities=value.probabilities)
    if _is_pipeline(value):
        names = value.model.config.id2label
        answers = value(inputs, top_k=None, function_to_apply="none", truncation=True)
        by_label = [{answer["label"]: answer["score"] for answer in row} for row in answers]
        return [[row[names[column]] for column in sorted(names)] for row in by_label]
    if hasattr(value, "predict_proba"):
        return _as_logits(np.asarray(value.predict_proba(inputs)), probabilities=True)
    if hasattr(value, "decision_function"):
        return _as_logits(np.asarray(value.decision_function(inputs)), probabilities=False)
    return value(inputs)


def _as_logits(rows: np.ndarray, probabilities: bool) -> np.ndarray:
    """Return probabilities or decision values as logits (N,labels); two classes may have one decision value."""
    if probabilities:
        return cast("np.ndarray", np.log(np.maximum(rows, MIN_PROBABILITY)))
    return np.stack([-rows / 2, rows / 2], axis=1) if rows.ndim == 1 else rows


def make(model: str, loading: Loading, config: Config) -> Teacher:
    """Return the teacher ``object:NAME``."""
    name = objects.PREFIX + model
    value = objects.find("teacher", name)
    check_teacher(value)
    if all(hasattr(value, attribute) for attribute in PROTOCOL):
        return cast("Teacher", value)
    return GivenTeacher(name, value, config)
