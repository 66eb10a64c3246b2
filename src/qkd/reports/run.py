"""The table and the conclusions of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.core.arguments import public
from qkd.reports.tables import SCORES, Table, number_cell, score_cells
from qkd.results import Metrics, TeacherCard, TestPrediction
from qkd.results.teacher import money
from qkd.student.verdicts import conclude

if TYPE_CHECKING:
    import numpy as np

    from qkd.reports.pages import Part


def parts(path: Path, metrics: Metrics | None) -> Sequence[Part]:
    """Return folder, table, conclusions and picture of a run; of one without numbers the folder alone."""
    from qkd.reports import plots
    from qkd.reports.pages import Picture

    if metrics is None:
        return [f"{path}: not finished; qkd.distill(resume=True, name='{path.name}') continues it"]
    picture = Picture("Accuracy with its 95 % interval.", plots.accuracies, (metrics.lines,))
    return [str(path), results_table(metrics), conclusions(metrics), [picture]]


def probabilities_and_targets(
    classes: Sequence[str], predictions: Sequence[TestPrediction]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the probabilities (N,C) of teacher and student on the test texts, and the class numbers (N,)."""
    import numpy as np

    from qkd.student.metrics import softmax

    logits = {who: np.array([getattr(row, who) for row in predictions]) for who in ("teacher", "student")}
    targets = np.array([classes.index(row.label) for row in predictions])
    return {who: softmax(rows) for who, rows in logits.items()}, targets


def predicted_classes(classes: Sequence[str], predictions: Sequence[TestPrediction]) -> list[dict[str, Any]]:
    """Return text, label, the classes that teacher, student and control predict, and the student's confidence."""
    import numpy as np

    confidences = probabilities_and_targets(classes, predictions)[0]["student"].max(axis=1)
    names = ("student", "teacher", "control")
    return [
        {"text": row.text, "label": row.label, "confidence": float(confidence)}
        | {who: classes[int(np.argmax(rows))] for who in names if (rows := getattr(row, who))}
        for row, confidence in zip(predictions, confidences, strict=True)
    ]


@public
def results_table(metrics: Metrics) -> Table:
    """Return the scores, sizes and times of teacher, student and controls."""
    cells = [
        [name, *score_cells(line), number_cell(line.ms_per_text, "{:.2f}")] for name, line in metrics.lines.items()
    ]
    return Table(["classifier", *SCORES, "ms/text"], cells)


def summary(metrics: Metrics) -> str:
    """Return the conclusions of a run, one on a line."""
    return "\n".join(conclusions(metrics))


LINEAR, LOGREG = "linear", "logreg"
"""Names of the controls that every run has: a student without a circuit, and a logistic regression."""
FROZEN_ENCODER = "frozen encoder"
"""Name of the student before its encoder was fine-tuned."""
LABELED_ONLY = "labeled only"
"""Name of the student that was trained without the unlabeled texts."""
IDEAL_TRAINING = "ideal training"
"""Name of the student that was trained without the device's noise."""
REFITTED_HEAD = "ideal training, head refitted"
"""Name of the same student with its head refitted to noisy values: the control of noise-aware training."""
BEFORE = "before"
"""Name of the student whose training was continued."""
NAMES_IN_SENTENCES = {
    BEFORE: "the student before",
    "teacher": "its teacher",
    LINEAR: "a linear student of the same size",
    LOGREG: "a logistic regression on the same embeddings",
    FROZEN_ENCODER: "the same student with the encoder before fine-tuning",
    LABELED_ONLY: "the same student trained on the labeled texts alone",
    IDEAL_TRAINING: "the same student trained without noise, on the same device",
    REFITTED_HEAD: "the same student trained without noise, its head refitted to noisy values",
}
"""Names in sentences of the classifiers that a run compares with its student."""


def conclusions(metrics: Metrics) -> list[str]:
    """Return the conclusions of a run, first the student's distance from its teacher."""
    sentences = [
        metrics.gain.sentence,
        majority_conclusion(metrics),
        *(gain.sentence for gain in metrics.controls.values()),
    ]
    if metrics.controls:
        sentences.append(circuit_conclusion(metrics))
    if metrics.teacher_gain:
        sentences.append(teacher_conclusion(metrics))
    if metrics.cascade:
        sentences.append(metrics.cascade.sentence)
    if metrics.continued:
        sentences.append(metrics.continued.sentence)
    noise = metrics.noise
    if metrics.tuned_gain:
        sentences.append(f"Fine-tuning {metrics.tuned_layers} encoder layers: {metrics.tuned_gain.sentence}")
    sentences += metrics.diagnosis.sentences if metrics.diagnosis else ()
    if metrics.unlabeled_gain:
        sentences.append(f"With {metrics.unlabeled_texts:,} unlabeled texts: {metrics.unlabeled_gain.sentence}")
    if noise:
        sentences.append(f"The student was measured with the noise of {noise.device} ({metrics.student.measured}).")
        sentences += [
            f"Training under noise: {gain.sentence}" for gain in (noise.gain, noise.gain_over_refitted) if gain
        ]
    return sentences


def majority_conclusion(metrics: Metrics) -> str:
    """Return how the student compares with a constant answer, which accuracy hides where one class dominates."""
    student, majority = (metrics.lines[name].numbers for name in ("student", "majority"))
    points = 100 * (student.accuracy.value - majority.accuracy.value)
    if points > 0:
        return f"The student is {points:.1f} points more accurate than the most frequent class."
    if points == 0 and student.macro_f1.value == majority.macro_f1.value:
        share = f"{100 * majority.accuracy.value:.1f} %"
        return f"The student gives every test text the most frequent class, which {share} of them have; see macro-F1."
    return f"The student is not more accurate than the most frequent class ({points:+.1f} points); see macro-F1."


def circuit_conclusion(metrics: Metrics) -> str:
    """Return whether the circuit has a benefit over the run's classical controls."""
    return conclude("the student", metrics.controls, NAMES_IN_SENTENCES)


def endpoint_sentences(teacher: TeacherCard) -> list[str]:
    """Return source, server, tokens and cost of an ``api:`` teacher, and why no better source was used."""
    if (use := teacher.endpoint) is None:
        return []
    served = " ".join(filter(None, (use.model, use.fingerprint))) or "a server without a name"
    sentence = (
        f"{teacher.name}: label probabilities from '{use.source}' of {served} ({', '.join(use.urls)}); "
        f"{use.requests:,} requests, {use.prompt_tokens:,} tokens read and {use.completion_tokens:,} written"
        f"{' (estimated)' if use.estimated else ''}"
    )
    sentence += "" if use.dollars is None else f", {money(use.dollars)}"
    sentence += f"; {use.unanswered:,} texts without an answer" if use.unanswered else ""
    sentence += f"; {use.unlisted:.1%} of the probability is not listed" if use.unlisted else ""
    sentence += f"; standard error {use.standard_error:.3f}" if use.standard_error else ""
    return [f"{sentence}.", *(f"Not used: {reason}." for reason in use.rejected)]


def teacher_conclusion(metrics: Metrics) -> str:
    """Return how the teacher compares with a logistic regression, with advice where it is not better.

    A student that is better than the logistic regression has learned something, so it gets no such advice. Nor does a
    teacher without a wrong answer: none is stronger.
    """
    gain = metrics.teacher_gain
    if gain is None:
        return ""
    student = metrics.controls.get(LOGREG)
    if gain.verdict == "better" or (student and student.verdict == "better"):
        return gain.sentence
    if metrics.lines["teacher"].numbers.accuracy.value == 1:
        return f"{gain.sentence} The teacher has no wrong answer; more or harder texts would tell more."
    return f"{gain.sentence} This teacher may have nothing to distill; use a stronger --teacher."


def timings(metrics: Metrics) -> str:
    """Return the wall time of each stage on one line."""
    seconds = metrics.seconds
    parts = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    return f"{parts}; {sum(seconds.values()):.1f} s in all"
