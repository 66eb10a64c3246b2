"""Scores of predictions, each with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qkd.results import Estimate, Scores

Z95 = 1.959963984540054
"""The standard normal's 97.5 % quantile."""


def proportion(hits: np.ndarray) -> Estimate:
    """Return the mean of booleans (N,) with Wilson's score interval (Wilson 1927, JASA 22:209)."""
    from scipy.stats import binomtest

    interval = binomtest(int(np.sum(hits)), len(hits)).proportion_ci(0.95, method="wilson")
    value = float(np.mean(hits))
    return Estimate(value=value, low=min(value, float(interval.low)), high=max(value, float(interval.high)))


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Return ``statistic(all rows)`` with its percentile-bootstrap interval over row resamples (Efron 1979).

    ``scipy.stats.bootstrap`` passes resampled values where these statistics need rows, and its default interval (BCa)
    needs a jackknife, N more calls. Resampling shifts some statistics (calibration error grows), so the interval is
    widened to contain the value.

    Args:
        statistic: maps an index array into n rows to a number.
        n: number of rows.
        resamples: number of draws with replacement.
        seed: the seed of the draws.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.quantile(values, (0.025, 0.975))
    value = statistic(np.arange(n))
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


def macro_f1(predicted: np.ndarray, targets: np.ndarray, num_classes: int) -> float:
    """Return the mean of the C one-against-rest F1 scores; a class without texts and predictions counts as 0.

    ``sklearn.metrics.f1_score`` checks its input, which takes far longer than the sum in a thousand calls.
    """
    table = np.bincount(targets * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    hits, support = np.diag(table), table.sum(axis=1) + table.sum(axis=0)
    return float(np.mean(np.where(support > 0, 2 * hits / np.maximum(support, 1), 0.0)))


def calibration_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: mean |confidence - accuracy| over equal-width bins.

    Source: Guo et al., arXiv:1706.04599, eq. 3. Args: probabilities (N,C), targets (N,).
    """
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == targets
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gap = np.bincount(index, weights=confidence - hit, minlength=bins)
    return float(np.abs(gap).sum() / len(targets))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return class probabilities (N,C) of logits (N,C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def score(logits: np.ndarray, targets: np.ndarray, teacher: np.ndarray | None = None) -> Scores:
    """Return accuracy, macro-F1, calibration error and, given the teacher's logits, agreement with it.

    Args:
        logits: logits (N,C) of the classifier.
        targets: class indices (N,).
        teacher: logits (N,C) of the teacher, or None for no agreement.
    """
    n, num_classes = logits.shape
    predicted, probabilities = logits.argmax(axis=1), softmax(logits)
    return Scores(
        accuracy=proportion(predicted == targets),
        macro_f1=bootstrap(lambda rows: macro_f1(predicted[rows], targets[rows], num_classes), n),
        calibration_error=bootstrap(lambda rows: calibration_error(probabilities[rows], targets[rows]), n),
        agreement=None if teacher is None else proportion(predicted == teacher.argmax(axis=1)),
    )


def majority_logits(train_targets: np.ndarray, n: int, num_classes: int) -> np.ndarray:
    """Return the (n,C) logits of a classifier that always predicts the class frequencies of the training texts."""
    counts = np.bincount(train_targets, minlength=num_classes)
    return np.tile(np.log(np.maximum(counts, 0.5) / counts.sum()), (n, 1))


def accuracy_gain(logits: np.ndarray, reference: np.ndarray, targets: np.ndarray) -> Estimate:
    """Return accuracy(logits) - accuracy(reference), (N,C) each, with a bootstrap interval over paired texts."""
    difference = (logits.argmax(axis=1) == targets).astype(float) - (reference.argmax(axis=1) == targets)
    return bootstrap(lambda rows: float(difference[rows].mean()), len(targets))
