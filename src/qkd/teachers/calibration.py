"""What makes scores of labels logits: temperature, biases, and what other words near the labels' own add.

How likely an LM finds a label's word depends on more than the text (Zhao et al., arXiv 2102.09690), and words that
mean nearly the same tell about texts what the word itself does not (Schick et al., arXiv 2010.13641). So one map,
fitted on labelled texts, takes both: with few texts little is left of it but temperature and biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkd.teachers.heads import calibrated_temperature, mean_cross_entropy

FOLDS = 4
"""Parts of the texts, each of which gets the logits of a map that has not seen it."""

RIDGES = (1.0, 10.0, 100.0)
"""Penalties, in units of one text, that are tried on what a map of the labels' scores has beyond a temperature."""

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse penalties that are tried on other words' scores, at a variance of 1 together, where they help at all."""


@dataclass(frozen=True)
class Calibration:
    """A map from scores (A) to logits (C), and what it was while it had not seen a text.

    weight: (A,C), bias: (C,), float32.
    unseen: logits (N,C) float32 of the N texts, each by a map that was fitted without it.
    loss, accuracy: of ``unseen`` against the labels; the loss in nats.
    """

    weight: np.ndarray
    bias: np.ndarray
    unseen: np.ndarray
    loss: float
    accuracy: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of scores ``(N,A)``."""
        return np.asarray(scores @ self.weight + self.bias, np.float32)


def calibrate(scores: np.ndarray, targets: np.ndarray, classes: int, how: str) -> Calibration:
    """Fit a calibration on N labelled texts.

    Args:
        scores: (N,A), those of the C labels first, other words' behind them.
        targets: class numbers (N,).
        classes: C.
        how: ``words`` fits a map of all, ``labels`` of the labels' scores; ``batch`` takes each label's mean score off,
            whatever the labels of the texts are (Zhou et al., arXiv 2309.17249), and ``none`` nothing; both have a
            fitted temperature for a weight.
    """
    fold = np.arange(len(targets)) % FOLDS

    def fitted(rows: np.ndarray, ridge: float, strength: float) -> tuple[np.ndarray, np.ndarray]:
        if how in ("words", "labels"):
            return matrix_scaling(scores[rows], targets[rows], classes, ridge, strength)
        return _shifted(scores[rows], targets[rows], classes, how == "batch")

    def judged(ridge: float, strength: float) -> tuple[float, np.ndarray]:
        unseen = np.empty((len(targets), classes), np.float32)
        for part in range(FOLDS):
            weight, bias = fitted(fold != part, ridge, strength)
            unseen[fold == part] = scores[fold == part] @ weight + bias
        return mean_cross_entropy(unseen, targets), unseen

    tried = {(ridge, 0.0): judged(ridge, 0.0) for ridge in (RIDGES if how in ("words", "labels") else RIDGES[:1])}
    ridge = min(tried, key=lambda way: tried[way][0])[0]
    if how == "words" and scores.shape[1] > classes:
        tried |= {(ridge, strength): judged(ridge, strength) for strength in STRENGTHS}
    best = min(tried, key=lambda way: tried[way][0])
    loss, unseen = tried[best]
    weight, bias = fitted(fold >= 0, *best)
    return Calibration(weight, bias, unseen, loss, float((unseen.argmax(axis=1) == targets).mean()))


def _shifted(scores: np.ndarray, targets: np.ndarray, classes: int, batch: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (A,C) and biases (C,), float32: a temperature, and with ``batch`` each label's mean taken off."""
    mean = scores[:, :classes].mean(axis=0) if batch else np.zeros(classes)
    temperature = calibrated_temperature(scores[:, :classes] - mean, targets)
    return (np.eye(scores.shape[1], classes) / temperature).astype(np.float32), (-mean / temperature).astype(np.float32)


def matrix_scaling(
    scores: np.ndarray, targets: np.ndarray, classes: int, ridge: float = RIDGES[0], strength: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight (A,C) and biases (C,), float32, for which softmax(scores @ weight + bias) fits ``targets`` best.

    The weight of the labels' scores is a multiple of the identity, a temperature in 1/20..20, and what the targets ask
    for beyond that, held down by a ridge: with few texts little is left but temperature and biases (matrix scaling, Guo
    et al., arXiv 1706.04599). Other scores have a ridge of their own.

    Args:
        scores: (N,A), those of the C labels first.
        targets: class numbers (N,).
        classes: C.
        ridge: the penalty, in units of one text, on what the weight of the labels' scores has beyond a temperature.
        strength: the inverse penalty on what scores behind the labels' do, at a variance of 1 together; 0 leaves them
            out.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax, softmax

    rows, count = scores.shape
    mean, factor = scores.mean(axis=0, dtype=np.float64), np.ones(count)
    more = count - classes
    factor[classes:] = bool(strength) / ((scores[:, classes:].std(axis=0) + 1e-6) * np.sqrt(max(more, 1)))
    x = (scores - mean) * factor  # without what a word gets whatever the text says
    hits, direct = np.eye(classes)[targets], np.eye(count, classes)
    penalties = np.repeat([ridge, 1 / strength if strength else 1.0], [classes, more])[:, None] / rows

    def parts(free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        beyond = free[1 + classes :].reshape(count, classes)
        return free[1 : 1 + classes], beyond, free[0] * direct + beyond

    def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
        bias, beyond, weight = parts(free)
        logits = x @ weight + bias
        wrong = (softmax(logits, axis=1) - hits) / rows
        # a weak penalty on biases: else only their differences are determined, and rare labels' may run away
        penalty = 1e-4 * float(bias @ bias) + float((penalties * np.square(beyond)).sum()) / 2
        slope = x.T @ wrong
        gradient = np.r_[
            np.trace(slope[:classes]), wrong.sum(axis=0) + 2e-4 * bias, (slope + penalties * beyond).ravel()
        ]
        return penalty - float((log_softmax(logits, axis=1) * hits).sum()) / rows, gradient

    start = np.r_[1.0, np.zeros(classes + count * classes)]
    limits = [(1 / 20, 20.0)] + [(None, None)] * (len(start) - 1)
    bias, _, weight = parts(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits).x)
    weight = weight * factor[:, None]
    return weight.astype(np.float32), (bias - mean @ weight).astype(np.float32)
