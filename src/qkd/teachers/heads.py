"""Logistic heads on wide features: cross-fitting, calibration.

There are far more features than texts, so a head is fitted in their strongest principal directions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

FOLDS = 5
"""Parts of the training texts, each of which gets the logits of a head that has not seen it."""

DIRECTIONS = 384
"""Principal directions that a head is fitted in."""

DIRECTIONS_FROM = 2000
"""Training texts that determine them."""

STRENGTHS = (1.0, 3.0, 10.0, 30.0)
"""The values of C, sklearn's inverse regularisation strength, that are tried on features of total variance 1."""

ROWS = 1024
"""Texts that a head is applied to at once."""


@dataclass(frozen=True)
class Head:
    """A calibrated logistic head, and what it was while it had not seen a text.

    weight: (D,C), bias: (C,), from raw features to calibrated logits.
    unseen: calibrated logits (N,C) of the N training texts, each by a head that was fitted without it.
    c: the strength with the lowest cross-entropy of ``unseen``.
    unseen_loss, unseen_accuracy: of ``unseen`` against the labels.
    temperature, valid_loss, valid_accuracy: what the validation texts say.
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
        # in double precision, for in single the last digit depends on how many texts are asked for at once
        parts = [x[start : start + ROWS].astype(np.float64) @ self.weight for start in range(0, len(x), ROWS)]
        return np.asarray(np.concatenate([np.empty((0, len(self.bias))), *parts]) + self.bias, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything by name, for the cache."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Head:
        """Return the head that ``arrays`` came from."""
        by_field: Iterator[Any] = (arrays[field.name] for field in fields(cls))
        return cls(*(value if value.ndim else value.item() for value in by_field))


class Scaling:
    """The features' centre and scale: every feature of variance 1 / (size of its block), so that blocks weigh the same.

    Args:
        x: training features (N,D).
        widths: the sizes of the blocks, D in sum.
        weights: what each block weighs.
    """

    def __init__(self, x: np.ndarray, widths: Sequence[int], weights: Sequence[float]) -> None:
        shares = np.concatenate([np.full(n, np.sqrt(w / n)) for n, w in zip(widths, weights, strict=True)])
        self.mean = x.mean(axis=0)
        self.factor = (shares / (x.std(axis=0) + 1e-6)).astype(x.dtype)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return features (N,D), scaled."""
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
        y: class numbers (N,), every one of 0..C-1 among them.
        x_valid: validation features; they set the temperature.
        y_valid: their class numbers.
        widths: the sizes of the blocks that the features consist of; a single one when left out.
        weights: what each block weighs; all the same, 1 in sum, when left out.
    """
    widths = widths or (x.shape[1],)
    scaling = Scaling(x, widths, weights or [1 / len(widths)] * len(widths))
    scaled = scaling(x)
    directions = principal(scaled[:: -(-len(x) // DIRECTIONS_FROM)])
    z, z_valid = scaled @ directions, scaling(x_valid) @ directions
    held_out = [out_of_fold(z, y, c) for c in STRENGTHS]
    warmth = [calibrated_temperature(rows, y) for rows in held_out]
    losses = [mean_cross_entropy(rows / t, y) for rows, t in zip(held_out, warmth, strict=True)]
    best = int(np.argmin(losses))
    unseen = held_out[best] / warmth[best]
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
    """Return logits (N,C) of features (N,r), each from a head that was fitted without the text's fold.

    Folds follow the order of the rows, each class in its share. A class with a single text cannot be left out: that
    text is in every fit.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(y)
    rare = np.flatnonzero(counts[y] == 1)
    folds = int(np.clip(counts[counts > 1].min(initial=FOLDS), 2, FOLDS))
    logits = np.empty((len(z), len(counts)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the class with a single text
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
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit has to stand the other texts too
        model = LogisticRegression(C=c, tol=1e-3, max_iter=200).fit(z.astype(np.float64), y)
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] == 1:  # two classes: one margin m becomes the logits (-m/2, m/2)
        weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def principal(x: np.ndarray, most: int = DIRECTIONS) -> np.ndarray:
    """Return the strongest principal directions of centred features (N,D), orthonormal, ``(D,r)`` with r <= most."""
    from scipy.linalg import eigh

    n, d = x.shape
    if d <= most:
        return np.eye(d, dtype=x.dtype)
    gram = (x @ x.T).astype(np.float64)
    values, vectors = eigh(gram, subset_by_index=[max(0, n - most), n - 1])
    sure = values > 1e-6 * values[-1]
    return np.asarray(x.T @ (vectors[:, sure] / np.sqrt(values[sure])), dtype=x.dtype)


def mean_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean cross-entropy, nats, of logits ``(N,C)`` against class numbers ``(N,)``."""
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def calibrated_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the T in 1/20..20 for which softmax(logits / T) fits ``targets`` best (Guo et al., arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar

    ends = (-np.log(20), np.log(20))
    return float(np.exp(minimize_scalar(lambda t: mean_cross_entropy(logits / np.exp(t), targets), bounds=ends).x))
