"""Deferral: the student answers the texts of which it is sure and leaves the others to the teacher or a person.

A text is answered where the largest probability reaches a threshold. A fixed-sequence test on validation texts chooses
the threshold. It tests thresholds from the strictest downwards, each with the Clopper-Pearson bound (1934) on the error
rate among the answered texts. The test stops at the first bound above the risk. So the error rate exceeds the risk with
a probability of at most 1 - confidence. Sources: Angelopoulos et al., *Learn then Test*, arXiv:2110.01052; Geifman and
El-Yaniv, *Selective Classification*, arXiv:1705.08500. The guarantee is for texts from the distribution of the
validation texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from qkd.student.bundle import Student

# Thresholds tested, at equidistant shares of answered validation texts.
NUM_THRESHOLDS = 40
# Texts at the strictest threshold, as a multiple of those that suffice without any error.
FIRST_TEXTS_FACTOR = 2


@dataclass(frozen=True)
class Deferral:
    """A threshold and its guarantee.

    Attributes:
        threshold: Smallest largest-probability of an answered text; infinite where every text is deferred.
        risk: Largest error rate among answered texts that the guarantee allows.
        confidence: Probability of the guarantee.
        coverage: Share of validation texts that are answered.
        error: Error rate among them.
        texts: Number of validation texts.
    """

    threshold: float
    risk: float
    confidence: float
    coverage: float
    error: float
    texts: int

    def describe(self) -> str:
        """Return the sentence for a person who decides."""
        if not self.coverage:
            return (
                f"No threshold keeps the error rate at {100 * self.risk:.3g} % with {100 * self.confidence:.3g} % "
                f"confidence on {self.texts:,} validation texts, so every text is deferred."
            )
        return (
            f"The student answers {100 * self.coverage:.0f} % of texts with at most {100 * self.risk:.3g} % errors "
            f"({100 * self.confidence:.3g} % confidence, {self.texts:,} validation texts); the other "
            f"{100 * (1 - self.coverage):.0f} % are deferred."
        )


@dataclass(frozen=True)
class DeferredAnswers:
    """A student's answers to N texts, some of them deferred.

    Attributes:
        labels: The label of each text, or None where it is deferred.
        answered: Mask (N,) of the answered texts.
        probabilities: Probabilities (N,C) of all texts.
        deferral: The threshold and its guarantee.
    """

    labels: tuple[str | None, ...]
    answered: np.ndarray
    probabilities: np.ndarray
    deferral: Deferral


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve: error rates when the surest texts alone are answered.

    Attributes:
        coverage: Shares of answered texts (N,), ascending.
        risk: Error rate (N,) among them.
        low: Lower Clopper-Pearson bound (N,) of the error rate, pointwise.
        high: Upper bound (N,).
    """

    coverage: np.ndarray
    risk: np.ndarray
    low: np.ndarray
    high: np.ndarray


def defer(
    student: Student,
    texts: Sequence[str],
    risk: float = 0.05,
    confidence: float = 0.95,
    validation: tuple[Sequence[str], Sequence[str]] | None = None,
) -> DeferredAnswers:
    """Return a student's answers to the texts of which it is sure; see ``Student.defer``."""
    deferral = find_deferral(student, risk, confidence, validation)
    rows = student.predict_proba(texts)
    answered = rows.max(axis=1) >= deferral.threshold
    labels = [student.classes[index] for index in rows.argmax(axis=1)]
    chosen = tuple(label if own else None for label, own in zip(labels, answered, strict=True))
    return DeferredAnswers(chosen, answered, rows, deferral)


def find_deferral(
    student: Student,
    risk: float = 0.05,
    confidence: float = 0.95,
    validation: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Deferral:
    """Return the threshold of a student; see ``Student.defer``."""
    if validation is None:
        known = student.about.validation
        if known is None:
            raise DataError("this student has no validation texts; give labeled ones as validation=(texts, labels)")
        return choose_threshold(np.array(known.confidences), np.array(known.correct), risk, confidence)
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise DataError("validation is no pair (texts, labels)")
    texts, labels = validation
    if isinstance(labels, str) or not hasattr(labels, "__len__") or len(texts) != len(labels):
        raise DataError("validation needs one label for each text")
    unknown = next((label for label in labels if label not in student.classes), None)
    if unknown is not None:
        raise DataError(f"the student knows no label '{unknown}'{nearest(str(unknown), student.classes)}")
    rows = student.predict_proba(texts)
    correct = np.array([student.classes[index] for index in rows.argmax(axis=1)]) == np.array(labels)
    return choose_threshold(rows.max(axis=1), correct, risk, confidence)


def choose_threshold(
    confidences: np.ndarray, correct: np.ndarray, risk: float = 0.05, confidence: float = 0.95
) -> Deferral:
    """Return the threshold that answers most texts within a risk.

    Args:
        confidences: Largest probability (N,) of each validation text.
        correct: Whether the student is right (N,).
        risk: Largest error rate among answered texts.
        confidence: Probability of the guarantee.

    Raises:
        ConfigError: Risk or confidence is not between 0 and 1.
        DataError: There are no validation texts.
    """
    for name, value in (("risk", risk), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"the {name} of a deferral is between 0 and 1, not {value}")
    confidences, correct = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    total = len(confidences)
    if not total:
        raise DataError("a threshold needs labeled validation texts, and there are none")
    ordered = np.sort(confidences)[::-1]
    fewest = FIRST_TEXTS_FACTOR * math.log(1 - confidence) / math.log(1 - risk)
    counts = [
        count for step in range(1, NUM_THRESHOLDS + 1) if (count := round(step * total / NUM_THRESHOLDS)) >= fewest
    ]
    chosen = Deferral(math.inf, risk, confidence, 0.0, 0.0, total)
    for threshold in dict.fromkeys(float(ordered[count - 1]) for count in counts):
        answered = confidences >= threshold
        errors, number = int(np.sum(answered & ~correct)), int(np.sum(answered))
        if clopper_pearson(errors, number, 1 - confidence)[1] > risk:
            break
        chosen = Deferral(threshold, risk, confidence, number / total, errors / number, total)
    return chosen


def risk_coverage(confidences: np.ndarray, correct: np.ndarray, level: float = 0.95) -> RiskCoverage:
    """Return the risk-coverage curve of N texts with a pointwise band.

    Args:
        confidences: Largest probability (N,) of each text.
        correct: Whether the student is right (N,).
        level: Coverage probability of the band at each point.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    errors = np.cumsum(~np.asarray(correct, dtype=bool)[order])
    counts = np.arange(1, len(order) + 1)
    bounds = np.array([clopper_pearson(int(k), int(n), (1 - level) / 2) for k, n in zip(errors, counts, strict=True)])
    low, high = bounds.reshape(-1, 2).T
    return RiskCoverage(counts / max(1, len(order)), errors / counts, low, high)


def clopper_pearson(errors: int, number: int, tail: float) -> tuple[float, float]:
    """Return the exact bounds of a binomial proportion, each exceeded with probability ``tail`` at most."""
    from scipy.stats import beta

    low = 0.0 if errors == 0 else float(beta.ppf(tail, errors, number - errors + 1))
    high = 1.0 if errors == number else float(beta.ppf(1 - tail, errors + 1, number - errors))
    return low, high
