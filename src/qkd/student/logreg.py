"""Logistic regression on the embeddings with the labels: the baseline that needs no teacher."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from qkd.models.linear_probes import standardization
from qkd.student.data import TrainingData

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

INVERSE_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Inverse regularization strengths C from which the validation texts choose."""


def fit_logreg(data: TrainingData) -> tuple[np.ndarray, int]:
    """Return the logits (N_test,C), float32, of a logistic regression on the test texts, and its parameter count.

    It is fitted to standardized embeddings and labels. The regularization strength has the smallest cross-entropy on
    the validation texts.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    labeled, classes = data.labeled_train, len(data.classes)
    center, scale = standardization(data.embeddings[labeled])
    x, valid, test = (
        ((data.embeddings[rows] - center) * scale).astype(np.float64) for rows in (labeled, data.valid, data.test)
    )
    targets = data.targets[data.valid]
    model, best, chosen = LogisticRegression(warm_start=True, max_iter=200, tol=1e-3), np.inf, np.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the validation loss judges an unconverged fit, too
        for strength in INVERSE_STRENGTHS:
            model.set_params(C=strength).fit(x, data.targets[labeled])
            loss = float(-_logits(model, valid, classes)[np.arange(len(targets)), targets].mean())
            if loss < best:
                best, chosen = loss, _logits(model, test, classes)
    return chosen, int(model.coef_.size + model.intercept_.size)


def _logits(model: LogisticRegression, x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return log-probabilities (N,C), float32; a class without a training text gets the smallest possible value."""
    logits = np.full((len(x), num_classes), np.log(1e-30), np.float32)
    logits[:, model.classes_] = model.predict_log_proba(x)
    return logits
