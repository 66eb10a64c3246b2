"""Calibration of label scores to logits: temperature, biases, and scores of words near those of the labels.

The likelihood of a label's word depends on more than the text (Zhao et al., arXiv 2102.09690). Words of nearly the same
meaning add information about a text (Schick et al., arXiv 2010.13641). One regularized linear map, fitted on labeled
texts, uses both. With few texts it reduces to temperature and biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkd.core.console import log
from qkd.teachers.heads import calibrated_temperature, mean_cross_entropy

# Parts of the texts for cross-fitting.
FOLDS = 4
# Candidate penalties, in units of one text, on the deviation of the labels' map from a temperature.
RIDGES = (1.0, 10.0, 100.0)
# Candidate inverse penalties on other words' scores of total variance 1.
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Calibration:
    """A linear map of scores to logits, with its out-of-fold logits.

    Attributes:
        weight: Weights (A,C), float32.
        bias: Biases (C,), float32.
        unseen: Out-of-fold logits (N,C), float32, of the N texts.
        loss: Cross-entropy of ``unseen`` in nats.
        accuracy: Accuracy of ``unseen``.
    """

    weight: np.ndarray
    bias: np.ndarray
    unseen: np.ndarray
    loss: float
    accuracy: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of scores ``(N,A)``."""
        return np.asarray(scores @ self.weight + self.bias, np.float32)


def validation_scores(name: str, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return loss and accuracy of a teacher's logits ``(N,C)``, and warn if it is not better than chance.

    Args:
        logits: Logits ``(N,C)`` of the validation texts.
        targets: Their class numbers (N,).
    """
    accuracy = float(np.mean(logits.argmax(axis=1) == targets))
    chance = np.bincount(targets).max() / len(targets)
    if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / len(targets)):
        log.warning(
            f"{name} is right on {accuracy:.1%} of the validation texts, and the most frequent label alone on "
            f"{chance:.1%}, so it may be no better than chance; try another --prompt or model"
        )
    return {"valid_loss": mean_cross_entropy(logits, targets), "valid_accuracy": accuracy}


def calibrate(scores: np.ndarray, targets: np.ndarray, classes: int, how: str) -> Calibration:
    """Fit a calibration on N labeled texts.

    Args:
        scores: scores (N,A), first those of the C labels, then those of other words.
        targets: class numbers (N,).
        classes: number of classes C.
        how: ``words`` fits a map of all scores and ``labels`` one of the labels' scores. ``batch`` subtracts each
            label's mean score (Zhou et al., arXiv 2309.17249) and ``none`` nothing; both fit a temperature.
    """
    fold = np.arange(len(targets)) % FOLDS

    def fitted(rows: np.ndarray, ridge: float, strength: float) -> tuple[np.ndarray, np.ndarray]:
        if how in ("words", "labels"):
            return matrix_scaling(scores[rows], targets[rows], classes, ridge, strength)
        return _shifted(scores[rows], targets[rows], classes, how == "batch")

    def evaluated(ridge: float, strength: float) -> tuple[float, np.ndarray]:
        unseen = np.empty((len(targets), classes), np.float32)
        for part in range(FOLDS):
            weight, bias = fitted(fold != part, ridge, strength)
            unseen[fold == part] = scores[fold == part] @ weight + bias
        return mean_cross_entropy(unseen, targets), unseen

    tried = {(ridge, 0.0): evaluated(ridge, 0.0) for ridge in (RIDGES if how in ("words", "labels") else RIDGES[:1])}
    ridge = min(tried, key=lambda way: tried[way][0])[0]
    if how == "words" and scores.shape[1] > classes:
        tried |= {(ridge, strength): evaluated(ridge, strength) for strength in STRENGTHS}
    best = min(tried, key=lambda way: tried[way][0])
    loss, unseen = tried[best]
    weight, bias = fitted(fold >= 0, *best)
    return Calibration(weight, bias, unseen, loss, float((unseen.argmax(axis=1) == targets).mean()))


def _shifted(scores: np.ndarray, targets: np.ndarray, classes: int, batch: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (A,C) and biases (C,), float32, of a temperature and, with ``batch``, of centered scores."""
    mean = scores[:, :classes].mean(axis=0) if batch else np.zeros(classes)
    temperature = calibrated_temperature(scores[:, :classes] - mean, targets)
    return (np.eye(scores.shape[1], classes) / temperature).astype(np.float32), (-mean / temperature).astype(np.float32)


def matrix_scaling(
    scores: np.ndarray, targets: np.ndarray, classes: int, ridge: float = RIDGES[0], strength: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (A,C) and biases (C,), float32, for which softmax(scores @ weights + biases) fits best.

    This is matrix scaling (Guo et al., arXiv 1706.04599) with a ridge. The weights of the labels' scores are a multiple
    of the identity, a temperature in 1/20..20, plus a penalized matrix. Other scores have a penalty of their own.

    Args:
        scores: scores (N,A), first those of the C labels.
        targets: class numbers (N,).
        classes: number of classes C.
        ridge: penalty, in units of one text, on the matrix that is added to the temperature.
        strength: inverse penalty on the other scores, scaled to total variance 1; 0 ignores them.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax, softmax

    rows, count = scores.shape
    mean, factor = scores.mean(axis=0, dtype=np.float64), np.ones(count)
    more = count - classes
    factor[classes:] = bool(strength) / ((scores[:, classes:].std(axis=0) + 1e-6) * np.sqrt(max(more, 1)))
    x = (scores - mean) * factor  # without the mean of each word over all texts
    hits, direct = np.eye(classes)[targets], np.eye(count, classes)
    penalties = np.repeat([ridge, 1 / strength if strength else 1.0], [classes, more])[:, None] / rows

    def parts(free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        beyond = free[1 + classes :].reshape(count, classes)
        return free[1 : 1 + classes], beyond, free[0] * direct + beyond

    def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
        bias, beyond, weight = parts(free)
        logits = x @ weight + bias
        wrong = (softmax(logits, axis=1) - hits) / rows
        # without a weak penalty only differences of biases are determined, and those of rare labels diverge
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
