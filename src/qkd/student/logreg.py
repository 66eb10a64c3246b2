"""Logistic regression on the embeddings with the labels: the line that everybody would draw first."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from qkd.student.lesson import Lesson
from qkd.student.losses import UNLABELED

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""The inverse regularisation strengths C among which the validation texts choose."""


def fit_logreg(lesson: Lesson) -> tuple[np.ndarray, int]:
    """Return the logits (N_test,C), float32, of a logistic regression on the test texts, and its parameter count.

    It sees standardised embeddings and labels, no teacher; its regularisation is the one with the smallest validation
    cross-entropy.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    labeled = lesson.train[lesson.targets[lesson.train] != UNLABELED]
    centre, scale = lesson.embeddings[labeled].mean(axis=0), lesson.embeddings[labeled].std(axis=0)
    x, valid, test = (
        ((lesson.embeddings[rows] - centre) / np.maximum(scale, 1e-6)).astype(np.float64)
        for rows in (labeled, lesson.valid, lesson.test)
    )
    model, best, chosen = LogisticRegression(warm_start=True, max_iter=200, tol=1e-3), np.inf, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the validation texts judge whatever it reached
        for strength in STRENGTHS:
            model.set_params(C=strength).fit(x, lesson.targets[labeled])
            logits = _logits(model, valid, len(lesson.classes))
            loss = _cross_entropy(logits, lesson.targets[lesson.valid])
            if loss < best:
                best, chosen = loss, _logits(model, test, len(lesson.classes))
    assert chosen is not None
    return chosen, int(model.coef_.size + model.intercept_.size)


def _logits(model: LogisticRegression, x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return log-probabilities (N,C), float32; a class that no training text has gets the smallest there is."""
    logits = np.full((len(x), num_classes), np.log(1e-30), np.float32)
    logits[:, model.classes_] = model.predict_log_proba(x)
    return logits


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(-logits[np.arange(len(targets)), targets].mean())
