"""The report of an evaluation on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qkd.reports import plots
from qkd.reports.pages import Part, Picture
from qkd.reports.tables import Table, number_cell
from qkd.results import Evaluation, Prediction
from qkd.results.evaluation import EvaluatedText


def class_table(evaluation: Evaluation) -> Table:
    """Return precision, recall, F1 score and number of texts of each class."""
    rows = [
        (name, number_cell(scores.precision), number_cell(scores.recall), f"{scores.f1:.3f}", f"{scores.support:,}")
        for name, scores in evaluation.classes.items()
    ]
    return Table(("class", "precision", "recall", "F1", "texts"), rows)


def confusion_table(evaluation: Evaluation) -> Table:
    """Return the number of texts of each label (rows) with each prediction (columns)."""
    names = tuple(evaluation.classes)
    rows = [(name, *(f"{count:,}" for count in row)) for name, row in zip(names, evaluation.confusion, strict=True)]
    return Table(("label \\ prediction", *names), rows)


MAX_CLASSES = 12
"""Classes of a confusion matrix that a terminal shows as a table."""


def parts(evaluation: Evaluation) -> Sequence[Part]:
    """Return scores, scores of the classes, and the confusion matrix."""
    scores = Table(
        ("score", "value"), [(name.replace("_", " "), str(value)) for name, value in evaluation.numbers.items()]
    )
    confusion = [confusion_table(evaluation)] if len(evaluation.classes) <= MAX_CLASSES else []
    picture = Picture(
        "Texts by label and predicted class.", plots.confusion, (evaluation.confusion, [*evaluation.classes])
    )
    return [f"{evaluation.texts:,} texts of {evaluation.data}", scores, class_table(evaluation), *confusion, [picture]]


def records(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of the classes, and the texts."""
    return {
        "classes": [{"class": name, **scores.to_dict()} for name, scores in evaluation.classes.items()],
        "texts": prediction_rows(evaluation.predictions),
    }


def prediction_rows(predictions: Sequence[Prediction | EvaluatedText]) -> list[dict[str, Any]]:
    """Return predictions as rows of a table with a column for the probability of each label."""
    return [
        {
            **{key: value for key, value in row if key != "probabilities" and value is not None},
            **{f"probability of {name}": value for name, value in row.probabilities.items()},
        }
        for row in predictions
    ]
