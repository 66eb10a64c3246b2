"""Results of a cascade: the student answers the texts of which it is sure, and the teacher answers the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.results.base import Estimate, Result

if TYPE_CHECKING:
    import numpy as np


class Deferral(Result):
    """A threshold and its guarantee.

    Attributes:
        threshold: Smallest largest-probability of an answered text; None where every text is deferred.
        risk: Largest error rate among answered texts that the guarantee allows.
        confidence: Probability of the guarantee.
        coverage: Share of validation texts that are answered.
        error: Error rate among them.
        texts: Number of validation texts.
        as_teacher: Whether the risk is the teacher's error rate on the validation texts.
    """

    threshold: float | None = None
    risk: float
    confidence: float
    coverage: float
    error: float
    texts: int
    as_teacher: bool = False

    def answered(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the mask (N,) of answered texts from the student's probabilities (N,C)."""
        threshold = float("inf") if self.threshold is None else self.threshold
        answered: np.ndarray = probabilities.max(axis=1) >= threshold
        return answered

    def describe(self) -> str:
        """Return the sentences for a person who decides."""
        limit, sure = f"{100 * self.risk:.3g} %", f"{100 * self.confidence:.3g} % confidence"
        limit = f"the teacher's error rate of {limit}" if self.as_teacher else limit
        if self.threshold is None:
            return (
                f"No threshold keeps the error rate at {limit} with {sure} on {self.texts:,} validation texts, so "
                "every text is deferred."
            )
        answered, deferred = f"{100 * self.coverage:.0f} %", f"{100 - round(100 * self.coverage)} %"
        if not self.as_teacher:
            return (
                f"The student answers {answered} of texts with at most {limit} errors ({sure}, {self.texts:,} "
                f"validation texts); the other {deferred} are deferred."
            )
        return (
            f"The student answers {answered} of texts at the teacher's accuracy; the LLM is asked {deferred} of the "
            f"time. At most {100 * self.risk:.3g} % of its answers are wrong, as many as of the teacher's on all texts "
            f"({sure}, {self.texts:,} validation texts)."
        )


class RiskCoverage(Result):
    """The risk-coverage curve: error rates when the surest texts alone are answered.

    Attributes:
        coverage: Shares of answered texts, ascending.
        risk: Error rate among them.
        low: Lower Clopper-Pearson bound of the error rate, pointwise.
        high: Upper bound.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Cascade(Result):
    """A run's student with its teacher behind it. The validation texts determine the threshold.

    Attributes:
        deferral: The threshold at the teacher's accuracy.
        curve: The student's risk-coverage curve on the test texts.
        answered: The share of test texts that the student answers.
        accuracy: The student's accuracy among them; None where it answers none.
        together: The accuracy on all test texts when the teacher answers the others.
        sentence: The result in words.
    """

    deferral: Deferral
    curve: RiskCoverage
    answered: Estimate
    accuracy: Estimate | None = None
    together: Estimate
    sentence: str
