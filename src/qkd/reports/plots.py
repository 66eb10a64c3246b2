"""The pictures of a report: functions from numbers to matplotlib figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qkd.results import Line, MeasuredResult

INK, MUTED, TEACHER, STUDENT = "#1f2933", "#9aa5b1", "#d97706", "#2563eb"
CONTROL = "#6b7f8f"
COLOURS = {"teacher": TEACHER, "student": STUDENT, "linear": CONTROL, "logreg": CONTROL, "majority": MUTED}


def canvas(width: float = 6.4, height: float = 3.6) -> tuple[Figure, Any]:
    """Return an empty figure, width and height in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def accuracies(lines: dict[str, Line]) -> Figure:
    """Draw each line's test accuracy with its 95 % interval."""
    figure, axes = canvas(height=0.9 + 0.5 * len(lines))
    for row, (name, line) in enumerate(reversed(lines.items())):
        number, colour = line.numbers.accuracy, COLOURS.get(name, STUDENT)
        axes.plot([number.low, number.high], [row, row], color=colour, lw=6, alpha=0.3, solid_capstyle="round")
        axes.plot(number.value, row, "o", color=colour, ms=9, clip_on=False)
        axes.annotate(
            f"{number.value:.3f}", (number.value, row), (0, 10), textcoords="offset points", ha="center", size=9
        )
    axes.set_yticks(range(len(lines)), list(reversed(lines)))
    axes.set(xlim=(0, 1), ylim=(-0.6, len(lines) - 0.3), xlabel="test accuracy, 95 % interval")
    return figure


def learning(history: Sequence[dict[str, float]], best_epoch: int) -> Figure:
    """Draw training and validation loss and validation accuracy against epochs."""
    figure, axes = canvas()
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["loss"] for row in history], color=MUTED, label="training loss")
    axes.plot(epochs, [row["valid_loss"] for row in history], color=STUDENT, label="validation loss")
    axes.axvline(best_epoch, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    right = axes.twinx()
    right.spines["top"].set_visible(False)
    right.plot(epochs, [row["valid_accuracy"] for row in history], color=TEACHER, label="validation accuracy")
    right.set(ylim=(0, 1), ylabel="accuracy")
    axes.legend(handles=[*axes.get_lines()[:2], *right.get_lines()], frameon=False, fontsize=9, loc="lower left")
    return figure


def confusion(predicted: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw how often each true class (rows) is given each class (columns); predicted and targets are (N,)."""
    size = len(classes)
    table = np.bincount(targets * size + predicted, minlength=size**2).reshape(size, size)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = canvas(1.8 + 0.75 * size, 1.4 + 0.65 * size)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(size), classes, rotation=30, ha="right")
    axes.set_yticks(range(size), classes)
    axes.set(xlabel="student says", ylabel="label")
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(size, size):
        colour = "white" if share[row, column] > 0.55 else INK
        axes.text(column, row, str(table[row, column]), ha="center", va="center", color=colour, size=9)
    return figure


def reliability(probabilities: dict[str, np.ndarray], targets: np.ndarray, bins: int = 10) -> Figure:
    """Draw accuracy against confidence for each named classifier's probabilities (N,C)."""
    figure, axes = canvas(4.4, 3.8)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
    for name, rows in probabilities.items():
        confidence, hit = rows.max(axis=1), rows.argmax(axis=1) == targets
        index = np.clip((confidence * bins).astype(int), 0, bins - 1)
        count = np.bincount(index, minlength=bins)
        used = count >= 5
        mean = np.bincount(index, weights=confidence, minlength=bins)[used] / count[used]
        accuracy = np.bincount(index, weights=hit, minlength=bins)[used] / count[used]
        axes.plot(mean, accuracy, "o-", color=COLOURS.get(name, STUDENT), label=name, ms=5, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bins of 5 or more texts)")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def agreement(teacher: np.ndarray, student: np.ndarray) -> Figure:
    """Draw the student's probability of the teacher's class against the teacher's own, probabilities (N,C)."""
    chosen = teacher.argmax(axis=1)
    rows = np.arange(len(chosen))
    figure, axes = canvas(4.4, 3.8)
    agree = student.argmax(axis=1) == chosen
    for mask, colour, label in ((agree, STUDENT, "same class"), (~agree, TEACHER, "another class")):
        axes.plot(
            teacher[rows, chosen][mask], student[rows, chosen][mask], ".", color=colour, alpha=0.5, ms=5, label=label
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="teacher's confidence", ylabel="student's probability of that class")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def scatter(result: MeasuredResult) -> Figure:
    """Draw a device run's measured expectation values against exact ones, with error bars."""
    rows = result.rows
    exact, noisy, evs = (np.array([row[key] for row in rows]).ravel() for key in ("exact", "noisy", "evs"))
    stds = np.array([row["stds"] for row in rows], dtype=float).ravel()
    figure, axes = canvas(4.4, 3.8)
    axes.plot([-1, 1], [-1, 1], color=MUTED, lw=1, ls=":")
    axes.plot(exact, noisy, ".", color=MUTED, ms=3, alpha=0.5, label="simulated with noise")
    axes.errorbar(
        exact,
        evs,
        yerr=np.nan_to_num(stds).clip(0, 2),
        fmt=".",
        color=STUDENT,
        ms=4,
        lw=0.6,
        alpha=0.6,
        label="measured",
    )
    axes.set(
        xlim=(-1.1, 1.1), ylim=(-1.4, 1.4), xlabel="exact expectation value", ylabel="measured, one standard error"
    )
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def png(figure: Figure, dpi: int = 130) -> str:
    """Return a figure as a data URI, so that a page needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
