"""Scores of predictions, each with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.arguments import public
from qkd.core.errors import DataError
from qkd.results import Estimate, Evaluation, Scores
from qkd.results.evaluation import ClassScores, EvaluatedText

if TYPE_CHECKING:
    from qkd.student.bundle import Student

Z95 = 1.959963984540054
"""The standard normal's 97.5 % quantile."""


def proportion(hits: np.ndarray) -> Estimate:
    """Return the mean of booleans (N,) with Wilson's score interval (Wilson 1927, JASA 22:209)."""
    from scipy.stats import binomtest

    interval = binomtest(int(np.sum(hits)), len(hits)).proportion_ci(0.95, method="wilson")
    value = float(np.mean(hits))
    return Estimate(value=value, low=min(value, float(interval.low)), high=max(value, float(interval.high)))


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], n: int, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Return ``statistic(all rows)`` with its percentile-bootstrap interval over row resamples (Efron 1979).

    ``scipy.stats.bootstrap`` passes resampled values where these statistics need rows, and its default interval (BCa)
    needs a jackknife, N more calls. Resampling shifts some statistics (calibration error grows), so the interval is
    widened to contain the value.

    Args:
        statistic: maps B resamples, indices (B,n) into the n rows, to B numbers.
        resamples: number of draws with replacement.
    """
    rng = np.random.default_rng(seed)
    step = max(2**16 // n, 1)  # so many fit into the cache of a core
    parts = (rng.integers(0, n, (min(step, resamples - start), n)) for start in range(0, resamples, step))
    low, high = np.quantile(np.concatenate([statistic(part) for part in parts]), (0.025, 0.975))
    value = float(statistic(np.arange(n)[None])[0])
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


def confusion_matrix(predicted: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of texts (...,C,C) of each true class (rows) with each predicted class (columns).

    ``sklearn.metrics.confusion_matrix`` takes one resample (N,) at a time; this one takes (...,N).
    """
    counts = _sums(targets * num_classes + predicted, num_classes**2)
    return counts.reshape(*targets.shape[:-1], num_classes, num_classes)


def _sums(index: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the sums (...,``size``) of the weights (...,N), or the counts, that fall to each of ``index`` (...,N)."""
    rows = index.reshape(-1, index.shape[-1])
    places = (rows + size * np.arange(len(rows))[:, None]).ravel()
    given = None if weights is None else weights.ravel()
    return np.bincount(places, given, size * len(rows)).reshape(*index.shape[:-1], size)


def f1_scores(table: np.ndarray) -> np.ndarray:
    """Return the F1 scores (...,C), one against the rest, of a confusion matrix (...,C,C); 0 for an absent class."""
    hits, total = np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-1) + table.sum(axis=-2)
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), 0.0)


def macro_f1(predicted: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the mean (...) of the C one-against-rest F1 scores of classes (...,N); 0 for an absent class."""
    return np.mean(f1_scores(confusion_matrix(predicted, targets, num_classes)), axis=-1)


def calibration_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> np.ndarray:
    """Return the expected calibration error: mean |confidence - accuracy| over equal-width bins.

    Source: Guo et al., arXiv:1706.04599, eq. 3. Args: probabilities (...,N,C), targets (...,N).
    """
    confidence = probabilities.max(axis=-1)
    hit = probabilities.argmax(axis=-1) == targets
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    return np.abs(_sums(index, bins, confidence - hit)).sum(axis=-1) / targets.shape[-1]


@public
def softmax(logits: np.ndarray) -> np.ndarray:
    """Return class probabilities (N,C) of logits (N,C).

    Raises:
        DataError: the array has another shape or no numbers.
    """
    if logits.ndim != 2 or logits.dtype.kind not in "fiu":
        raise DataError(f"logits are an array of shape {logits.shape} and type {logits.dtype}; give numbers (N,C)")
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@public
def score(logits: np.ndarray, targets: np.ndarray, teacher: np.ndarray | None = None) -> Scores:
    """Return accuracy, macro-F1, calibration error and, given the teacher's logits, agreement with it.

    Args:
        logits: logits (N,C) of the classifier.
        targets: class indices (N,).
        teacher: logits (N,C) of the teacher, or None for no agreement.

    Raises:
        DataError: the arrays do not fit.
    """
    probabilities, predicted = softmax(logits), logits.argmax(axis=1)
    n, num_classes = logits.shape
    if targets.shape != (n,) or targets.dtype.kind not in "iu" or not n:
        raise DataError(f"targets have shape {targets.shape} and type {targets.dtype}; give {n} class numbers")
    if targets.min() < 0 or targets.max() >= num_classes:
        raise DataError(f"targets reach from {targets.min()} to {targets.max()}, but there are {num_classes} classes")
    if teacher is not None and teacher.shape != logits.shape:
        raise DataError(f"the teacher's logits have shape {teacher.shape}, not {logits.shape}")
    return Scores(
        accuracy=proportion(predicted == targets),
        macro_f1=bootstrap(lambda rows: macro_f1(predicted[rows], targets[rows], num_classes), n),
        calibration_error=bootstrap(lambda rows: calibration_error(probabilities[rows], targets[rows]), n),
        agreement=None if teacher is None else proportion(predicted == teacher.argmax(axis=1)),
    )


def evaluate_student(
    student: Student, texts: Sequence[str], labels: Sequence[str], source: str, teacher: np.ndarray | None = None
) -> Evaluation:
    """Return a student's scores on N labeled texts.

    Args:
        student: the student.
        texts: the texts.
        labels: their labels, which are classes of the student.
        source: the name of the texts.
        teacher: logits (N,C) of the teacher, or None for no agreement.
    """
    classes, logits = student.classes, student.logits(texts)
    targets, predicted, rows = (
        np.array([classes.index(label) for label in labels]),
        logits.argmax(axis=1),
        softmax(logits),
    )
    table = confusion_matrix(predicted, targets, len(classes))

    def share(hits: np.ndarray) -> Estimate | None:
        return proportion(hits) if len(hits) else None

    scores = {
        name: ClassScores(
            precision=share(targets[predicted == number] == number),
            recall=share(predicted[targets == number] == number),
            f1=f1,
            support=int(table[number].sum()),
        )
        for number, (name, f1) in enumerate(zip(classes, f1_scores(table).tolist(), strict=True))
    }
    return Evaluation(
        data=source,
        texts=len(texts),
        numbers=score(logits, targets, teacher),
        classes=scores,
        confusion=tuple(map(tuple, table.tolist())),
        predictions=tuple(
            EvaluatedText(
                text=text,
                label=label,
                prediction=classes[row.argmax()],
                probability=float(row.max()),
                probabilities=dict(zip(classes, row.tolist(), strict=True)),
            )
            for text, label, row in zip(texts, labels, rows, strict=True)
        ),
    )


def majority_logits(train_targets: np.ndarray, n: int, num_classes: int) -> np.ndarray:
    """Return the (n,C) logits of a classifier that always predicts the class frequencies of the training texts."""
    counts = np.bincount(train_targets, minlength=num_classes)
    return np.tile(np.log(np.maximum(counts, 0.5) / counts.sum()), (n, 1))


def accuracy_gain(logits: np.ndarray, reference: np.ndarray, targets: np.ndarray) -> Estimate:
    """Return accuracy(logits) - accuracy(reference), (N,C) each, with a bootstrap interval over paired texts."""
    difference = (logits.argmax(axis=1) == targets).astype(float) - (reference.argmax(axis=1) == targets)
    return bootstrap(lambda rows: difference[rows].mean(axis=-1), len(targets))
