"""Logistic heads on wide features: cross-fitting and calibration.

There are far more features than texts, so a head is fitted in their strongest principal directions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from qkd.core.cache import text_hash

# Parts of the training texts for cross-fitting.
FOLDS = 5
# Number of principal directions, and of training texts that determine them.
DIRECTIONS, DIRECTIONS_TEXTS = 384, 2000
# Candidates for C, scikit-learn's inverse regularization strength, on features of total variance 1.
STRENGTHS = (1.0, 3.0, 10.0, 30.0)
# Number of texts in one product of features and weights.
BATCH_TEXTS = 1024


@dataclass(frozen=True)
class Head:
    """A calibrated logistic head with its out-of-fold logits.

    Attributes:
        weight: Weights (D,C) from raw features to calibrated logits.
        bias: Biases (C,).
        unseen: Calibrated out-of-fold logits (N,C) of the N training texts.
        c: Inverse regularization strength with the smallest cross-entropy of ``unseen``.
        unseen_loss: Cross-entropy of ``unseen`` in nats.
        unseen_accuracy: Accuracy of ``unseen``.
        temperature: Temperature that fits the validation texts.
        valid_loss: Cross-entropy on the validation texts in nats.
        valid_accuracy: Accuracy on the validation texts.
    """

    weight: np.ndarray
    bias: np.ndarray
    unseen: np.ndarray
    c: float
    unseen_loss: float
    unseen_accuracy: float
    temperature: float
    valid_loss: float
    valid_accuracy: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return logits (N,C) float32 of raw features (N,D)."""
        # in double precision, because in single precision the last digit depends on the size of the product
        starts = range(0, len(x), BATCH_TEXTS)
        parts = [x[start : start + BATCH_TEXTS].astype(np.float64) @ self.weight for start in starts]
        return np.asarray(np.concatenate([np.empty((0, len(self.bias))), *parts]) + self.bias, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all fields by name, for the cache."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Head:
        """Return the head with these fields."""
        by_field: Iterator[Any] = (arrays[field.name] for field in fields(cls))
        return cls(*(value if value.ndim else value.item() for value in by_field))


class OutOfFold:
    """Out-of-fold logits of training texts, which replace those of the fitted teacher.

    Args:
        texts: training texts (N).
        logits: their out-of-fold logits (N,C).
    """

    def __init__(self, texts: Sequence[str], logits: np.ndarray) -> None:
        self._rows = {text_hash(text): row for text, row in zip(texts, logits, strict=True)}

    def put_into(self, logits: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Return ``logits`` (M,C) of M texts with the rows of training texts replaced, in place."""
        for row, text in enumerate(texts):
            logits[row] = self._rows.get(text_hash(text), logits[row])
        return logits


class Scaling:
    """Centers and scales features so that the total variance of each block is its weight.

    Args:
        x: training features (N,D).
        widths: sizes of the blocks, with sum D.
    """

    def __init__(self, x: np.ndarray, widths: Sequence[int], weights: Sequence[float]) -> None:
        shares = np.concatenate([np.full(n, np.sqrt(w / n)) for n, w in zip(widths, weights, strict=True)])
        self.mean = x.mean(axis=0)
        self.factor = (shares / (x.std(axis=0) + 1e-6)).astype(x.dtype)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return scaled features (N,D)."""
        return np.asarray((x - self.mean) * self.factor)


def fit_head(
    x: np.ndarray,
    y: np.ndarray,
    x_valid: np.ndarray,
    y_valid: np.ndarray,
    widths: Sequence[int] = (),
    weights: Sequence[float] = (),
) -> Head:
    """Fit a head on N training texts, cross-fitted, and calibrate it.

    Args:
        x: training features (N,D).
        y: class numbers (N,), which contain every one of 0..C-1.
        widths: sizes of the blocks of features; a single block by default.
        weights: weight of each block; equal by default.
    """
    widths = widths or (x.shape[1],)
    scaling = Scaling(x, widths, weights or [1 / len(widths)] * len(widths))
    scaled = scaling(x)
    directions = principal(scaled[:: -(-len(x) // DIRECTIONS_TEXTS)])
    z, z_valid = scaled @ directions, scaling(x_valid) @ directions
    held_out = [out_of_fold(z, y, c) for c in STRENGTHS]
    temperatures = [calibrated_temperature(rows, y) for rows in held_out]
    losses = [mean_cross_entropy(rows / t, y) for rows, t in zip(held_out, temperatures, strict=True)]
    best = int(np.argmin(losses))
    unseen = held_out[best] / temperatures[best]
    weight, bias = logistic(z, y, STRENGTHS[best])
    logits = z_valid @ weight + bias
    temperature = calibrated_temperature(logits, y_valid)
    raw = (directions @ weight) * scaling.factor[:, None] / temperature
    return Head(
        weight=raw,
        bias=bias / temperature - scaling.mean @ raw,
        unseen=unseen.astype(np.float32),
        c=STRENGTHS[best],
        unseen_loss=losses[best],
        unseen_accuracy=float(np.mean(unseen.argmax(axis=1) == y)),
        temperature=temperature,
        valid_loss=mean_cross_entropy(logits / temperature, y_valid),
        valid_accuracy=float(np.mean(logits.argmax(axis=1) == y_valid)),
    )


def out_of_fold(z: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """Return logits (N,C) of features (N,r), each from a head fitted without the text's fold.

    Folds are stratified by class and follow the order of the rows. The only text of a class is in every fit.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(y)
    rare = np.flatnonzero(counts[y] == 1)
    folds = int(np.clip(counts[counts > 1].min(initial=FOLDS), 2, FOLDS))
    logits = np.empty((len(z), len(counts)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a class with a single text
        for rest, fold in StratifiedKFold(folds).split(z, y):
            rows = np.union1d(rest, rare)
            weight, bias = logistic(z[rows], y[rows], c)
            logits[fold] = z[fold] @ weight + bias
    return logits


def logistic(z: np.ndarray, y: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (r,C) and bias (C,), float64, of a logistic regression on (N,r)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # out-of-fold logits judge an unfinished fit too
        model = LogisticRegression(C=c, tol=1e-3, max_iter=200).fit(z.astype(np.float64), y)
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] == 1:  # for two classes, the logits are (-m/2, m/2) of one margin m
        weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def principal(x: np.ndarray, most: int = DIRECTIONS) -> np.ndarray:
    """Return the strongest principal directions of centered features (N,D), orthonormal, ``(D,r)`` with r <= most."""
    from scipy.linalg import eigh

    n, d = x.shape
    if d <= most:
        return np.eye(d, dtype=x.dtype)
    gram = (x @ x.T).astype(np.float64)
    values, vectors = eigh(gram, subset_by_index=[max(0, n - most), n - 1])
    stable = values > 1e-6 * values[-1]
    return np.asarray(x.T @ (vectors[:, stable] / np.sqrt(values[stable])), dtype=x.dtype)


def mean_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean cross-entropy, nats, of logits ``(N,C)`` against class numbers ``(N,)``."""
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def calibrated_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the T in 1/20..20 for which softmax(logits / T) fits ``targets`` best (Guo et al., arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar

    ends = (-np.log(20), np.log(20))
    return float(np.exp(minimize_scalar(lambda t: mean_cross_entropy(logits / np.exp(t), targets), bounds=ends).x))
