"""The results of ``qkd.evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qkd.results.base import Estimate, Result, Scores, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ClassScores(Result):
    """Quality of the predictions of one class.

    Attributes:
        precision: The share of correct texts among those with this prediction, or None without any.
        recall: The share of correct predictions among the texts with this label, or None without any.
        f1: The F1 score.
        support: The number of texts with this label.
    """

    precision: Estimate | None = None
    recall: Estimate | None = None
    f1: float
    support: int


class EvaluatedText(Result):
    """A prediction for one labeled text.

    Attributes:
        text: The text.
        label: Its label.
        prediction: The most probable label.
        probability: The probability of that label.
        probabilities: The probabilities of all labels.
    """

    text: str
    label: str
    prediction: str
    probability: float
    probabilities: dict[str, float]


class Evaluation(Shown, Result):
    """A student's scores on some texts. ``to_frame`` has the tables ``classes`` and ``texts``.

    Attributes:
        data: The texts as the user named them.
        texts: The number of texts.
        numbers: The scores.
        classes: The scores of each class.
        confusion: The number of texts (C,C) of each label (rows) with each prediction (columns), as in ``classes``.
        predictions: The texts with their predictions. ``to_dict`` omits them.
    """

    _view: ClassVar[str] = "qkd.reports.evaluation"

    data: str
    texts: int
    numbers: Scores
    classes: dict[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]
    predictions: tuple[EvaluatedText, ...] = Field((), exclude=True)

    def plot_confusion(self, ax: Axes | None = None) -> Axes:
        """Draw how many texts of each label are predicted as each class."""
        return self._plot("qkd.reports.plots:confusion", self.confusion, tuple(self.classes), ax=ax)

    def plot_classes(self, ax: Axes | None = None) -> Axes:
        """Draw precision and recall of each class with their 95 % intervals."""
        return self._plot("qkd.reports.plots:class_scores", self.classes, ax=ax)
