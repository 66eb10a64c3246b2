"""Linear probes: what a logistic regression makes of embeddings, as a yardstick for encoders, teachers and students."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRENGTHS = (0.0003, 0.001, 0.003, 0.01)
"""The values of C, sklearn's inverse regularisation strength, that are tried on standardised embeddings."""


@dataclass(frozen=True)
class Probe:
    """A fitted logistic regression on standardised embeddings.

    c: its inverse regularisation strength, the one with the lowest validation loss.
    valid_loss: mean cross-entropy, nats, on the validation texts.
    valid_accuracy, train_accuracy: fractions.
    """

    c: float
    valid_loss: float
    valid_accuracy: float
    train_accuracy: float


def linear_probe(
    x: np.ndarray, y: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> Probe:
    """Fit on embeddings ``(N,D)`` and class numbers ``(N,)``; choose C on the validation ones."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, x_valid = (x - mean) / scale, (x_valid - mean) / scale
    found = []
    for c in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit has to stand the validation too
            model = LogisticRegression(C=c, tol=1e-3, max_iter=100).fit(x, y)
        loss = log_loss(y_valid, model.predict_proba(x_valid), labels=model.classes_)
        found.append(Probe(c, float(loss), float(model.score(x_valid, y_valid)), float(model.score(x, y))))
    return min(found, key=lambda probe: probe.valid_loss)
