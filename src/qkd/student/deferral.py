"""Deferral: the student answers the texts of which it is sure and leaves the others to the teacher or a person.

A text is answered where the largest probability reaches a threshold. A fixed-sequence test on validation texts chooses
the threshold. It tests thresholds from the strictest downwards, each with the Clopper-Pearson bound (1934) on the error
rate among the answered texts. The test stops at the first bound above the risk. So the error rate exceeds the risk with
a probability of at most 1 - confidence. Sources: Angelopoulos et al., *Learn then Test*, arXiv:2110.01052; Geifman and
El-Yaniv, *Selective Classification*, arXiv:1705.08500. The guarantee is for texts from the distribution of the
validation texts. A risk that is the teacher's error rate is that of the validation texts, taken as exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qkd.core.arguments import public
from qkd.core.errors import ConfigError, DataError, QkdError, nearest
from qkd.results.cascade import Cascade, Deferral, RiskCoverage
from qkd.student.about import Validation
from qkd.student.metrics import proportion, softmax

if TYPE_CHECKING:
    from qkd.student.bundle import Student

# Thresholds tested, at equidistant shares of answered validation texts.
NUM_THRESHOLDS = 40
# Texts at the strictest threshold, as a multiple of those that suffice without any error.
FIRST_TEXTS_FACTOR = 2
# Points of a stored risk-coverage curve.
CURVE_POINTS = 40


@dataclass(frozen=True)
class DeferredAnswers:
    """A student's answers to N texts, some of them deferred.

    Attributes:
        labels: The label of each text, or None where it is deferred and no teacher answered.
        answered: Mask (N,) of the texts that the student answered.
        probabilities: Probabilities (N,C) of all texts: the teacher's where it answered.
        deferral: The threshold and its guarantee.
    """

    labels: tuple[str | None, ...] = field(repr=False)
    answered: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    deferral: Deferral

    @property
    def answered_by(self) -> list[Literal["student", "teacher"] | None]:
        """Who gave the label of each text."""
        known = zip(self.labels, self.answered, strict=True)
        return [None if label is None else "student" if own else "teacher" for label, own in known]


def defer(
    student: Student,
    texts: Sequence[str],
    risk: float | None = None,
    confidence: float = 0.95,
    validation: tuple[Sequence[str], Sequence[str]] | None = None,
    ask: Callable[[Sequence[str]], np.ndarray] | None = None,
) -> DeferredAnswers:
    """Return a student's answers to the texts of which it is sure; see ``Student.defer``."""
    deferral = find_deferral(student, risk, confidence, validation)
    rows = student.predict_proba(texts)
    answered = deferral.answered(rows)
    known = answered.copy()
    asked = np.flatnonzero(~answered).tolist()
    if ask is not None and asked:
        try:
            logits = np.asarray(ask([texts[row] for row in asked]))
        except QkdError:
            raise
        except Exception as error:  # the caller's code
            raise DataError(f"ask fails on {len(asked)} texts: {type(error).__name__}: {error}") from error
        if logits.shape != (len(asked), len(student.classes)) or logits.dtype.kind not in "fiu":
            raise DataError(
                f"ask returns an array of shape {logits.shape} and type {logits.dtype} for {len(asked)} texts; it must "
                f"return logits {(len(asked), len(student.classes))}"
            )
        given = np.ptp(logits, axis=1) > 0  # a teacher that does not answer a text gives equal logits
        known[asked] = given
        rows[np.array(asked)[given]] = softmax(logits[given])
    labels = [student.classes[index] for index in rows.argmax(axis=1)]
    chosen = tuple(label if one else None for label, one in zip(labels, known, strict=True))
    return DeferredAnswers(chosen, answered, rows, deferral)


def find_deferral(
    student: Student,
    risk: float | None = None,
    confidence: float = 0.95,
    validation: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Deferral:
    """Return the threshold of a student; see ``Student.defer``."""
    if validation is not None:
        _check_validation(validation, student.classes)
    known = student.about.validation
    if known is None and validation is None:
        raise DataError("this student has no validation texts; give labeled ones as validation=(texts, labels)")
    if risk is None:
        if known is None or known.teacher_accuracy is None:
            raise DataError("the accuracy of this student's teacher is unknown; give the error rate that is allowed")
        if validation is None:
            return _as_teacher(known, confidence)
        return _as_teacher(answers_on(student, *validation, known.teacher_accuracy), confidence)
    if validation is not None:
        known = answers_on(student, *validation)
    assert known is not None
    return choose_threshold(np.array(known.confidences), np.array(known.correct), risk, confidence)


def _check_validation(validation: Any, classes: Sequence[str]) -> None:
    """Refuse what is no pair of texts and known labels.

    Raises:
        DataError: the labels do not fit the texts, or one is unknown.
    """
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise DataError("validation is no pair (texts, labels)")
    texts, labels = validation
    if isinstance(labels, str) or not hasattr(labels, "__len__") or len(texts) != len(labels):
        raise DataError("validation needs one label for each text")
    unknown = next((label for label in labels if label not in classes), None)
    if unknown is not None:
        raise DataError(f"the student knows no label '{unknown}'{nearest(str(unknown), classes)}")


def answers_on(
    student: Student, texts: Sequence[str], labels: Sequence[str], teacher_accuracy: float | None = None
) -> Validation:
    """Return a student's answers to labeled texts, from which a threshold follows."""
    rows = student.predict_proba(texts)
    correct = tuple(student.classes[i] == label for i, label in zip(rows.argmax(axis=1), labels, strict=True))
    return Validation(confidences=tuple(rows.max(axis=1).tolist()), correct=correct, teacher_accuracy=teacher_accuracy)


def _as_teacher(known: Validation, confidence: float = 0.95) -> Deferral:
    """Return the threshold at which a student is as accurate as its teacher."""
    _check_share("confidence", confidence)
    assert known.teacher_accuracy is not None
    risk = 1 - known.teacher_accuracy
    confidences, correct = np.array(known.confidences), np.array(known.correct, dtype=bool)
    if 0 < risk < 1:
        found = choose_threshold(confidences, correct, risk, confidence)
        return found.model_copy(update={"as_teacher": True})
    nothing = Deferral(risk=risk, confidence=confidence, coverage=0.0, error=0.0, texts=len(correct), as_teacher=True)
    if not risk or not len(correct):  # no number of texts shows that an error rate is 0
        return nothing
    everything = {"threshold": 0.0, "coverage": 1.0, "error": float((~correct).mean())}
    return nothing.model_copy(update=everything)


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"the {name} of a deferral is between 0 and 1, not {value}")


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
    _check_share("risk", risk)
    _check_share("confidence", confidence)
    confidences, correct = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    total = len(confidences)
    if not total:
        raise DataError("a threshold needs labeled validation texts, and there are none")
    ordered = np.sort(confidences)[::-1]
    fewest = FIRST_TEXTS_FACTOR * math.log1p(-confidence) / math.log1p(-risk)
    counts = [
        count for step in range(1, NUM_THRESHOLDS + 1) if (count := round(step * total / NUM_THRESHOLDS)) >= fewest
    ]
    nothing = Deferral(risk=risk, confidence=confidence, coverage=0.0, error=0.0, texts=total)
    thresholds = np.unique(ordered[np.array(counts, dtype=int) - 1])[::-1]
    answered = confidences >= thresholds[:, None]
    numbers, errors = answered.sum(axis=1), (answered & ~correct).sum(axis=1)
    failed = clopper_pearson(errors, numbers, 1 - confidence)[1] > risk
    passed = int(failed.argmax()) if failed.any() else len(failed)
    if not passed:
        return nothing
    number, wrong = int(numbers[passed - 1]), int(errors[passed - 1])
    facts = {"threshold": float(thresholds[passed - 1]), "coverage": number / total, "error": wrong / number}
    return nothing.model_copy(update=facts)


@public
def risk_coverage(
    confidences: np.ndarray, correct: np.ndarray, level: float = 0.95, points: int | None = None
) -> RiskCoverage:
    """Return the risk-coverage curve of N texts with a pointwise band.

    Args:
        confidences: Largest probability (N,) of each text.
        correct: Whether the student is right (N,).
        level: Coverage probability of the band at each point.
        points: Number of points at equidistant shares of answered texts; one for each text without it.

    Raises:
        DataError: The arrays do not fit, or a number is out of range.
    """
    shape = np.shape(confidences)
    if len(shape) != 1 or np.shape(correct) != shape or np.asarray(confidences).dtype.kind not in "fiu":
        raise DataError(f"confidences have shape {shape} and correct {np.shape(correct)}; give N numbers each")
    if not 0 < level < 1 or (points is not None and points < 1):
        raise DataError(f"level {level} must be between 0 and 1, and points {points} at least 1")
    order = np.argsort(-np.asarray(confidences), kind="stable")
    total = len(order)
    counts = np.arange(1, total + 1)
    if points is not None and points < total:
        counts = np.round(np.arange(1, points + 1) * total / points).astype(int)
    errors = np.cumsum(~np.asarray(correct, dtype=bool)[order])[counts - 1]
    low, high = clopper_pearson(errors, counts, (1 - level) / 2)
    shares, risks = counts / max(1, total), errors / counts
    values = {"coverage": shares, "risk": risks, "low": low, "high": high}
    return RiskCoverage(**{name: tuple(one.tolist()) for name, one in values.items()})


def make_cascade(known: Validation, student: np.ndarray, teacher: np.ndarray, targets: np.ndarray) -> Cascade:
    """Return the cascade of a run.

    Args:
        known: The student's answers to the validation texts, with the teacher's accuracy on them.
        student: The student's logits (N,C) of the test texts.
        teacher: The teacher's logits (N,C).
        targets: Class indices (N,).
    """
    deferral, rows = _as_teacher(known), softmax(student)
    answered, correct = deferral.answered(rows), rows.argmax(axis=1) == targets
    together = np.where(answered, correct, teacher.argmax(axis=1) == targets)
    accuracy = proportion(correct[answered]) if answered.any() else None
    sentence = deferral.describe()
    if accuracy is not None:
        share, right, both = (100 * value for value in (answered.mean(), accuracy.value, together.mean()))
        sentence += (
            f" On the test texts the student answers {share:.0f} % and is right on {right:.1f} % of these; with the "
            f"teacher for the others, {both:.1f} % of all are right."
        )
    return Cascade(
        deferral=deferral,
        curve=risk_coverage(rows.max(axis=1), correct, points=CURVE_POINTS),
        answered=proportion(answered),
        accuracy=accuracy,
        together=proportion(together),
        sentence=sentence,
    )


def clopper_pearson(errors: np.ndarray, numbers: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact bounds of binomial proportions, each exceeded with probability ``tail`` at most."""
    from scipy.special import betaincinv

    errors, numbers = np.asarray(errors), np.asarray(numbers)
    low = np.where(errors == 0, 0.0, betaincinv(np.maximum(errors, 1), numbers - errors + 1, tail))
    high = np.where(errors == numbers, 1.0, betaincinv(errors + 1, np.maximum(numbers - errors, 1), 1 - tail))
    return low, high
