"""Pictures of a report: functions from numbers to matplotlib figures, and figures as SVG for a page.

Labels, texts and names are foreign text. They pass through `shown` before they reach matplotlib.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.patches
import numpy as np
from matplotlib.figure import Figure

from qkd.core.console import log, printable
from qkd.results import Deferral, MeasuredResult, ModelResult
from qkd.results.evaluation import ClassScores
from qkd.student.deferral import risk_coverage as student_curve

INK, MUTED, TEACHER, STUDENT, CONTROL, PAPER = "#1f2933", "#7b8794", "#d97706", "#2563eb", "#6b7f90", "#fefefe"
COLORS = {"teacher": TEACHER, "student": STUDENT, "linear": CONTROL, "logreg": CONTROL, "majority": MUTED}
PALETTE = (STUDENT, TEACHER, "#0f9d77", "#c2410c", "#7c3aed", "#be185d", "#4d7c0f", "#0e7490", "#a16207", CONTROL)
_VARIABLES = {INK: "ink", MUTED: "muted", TEACHER: "teacher", STUDENT: "student", PAPER: "paper"}
"""CSS variables that replace colors in a page, so that pictures follow its color scheme."""
MAX_CURVE_POINTS = 400
"""Points of a risk-coverage curve in a picture."""
MAX_LABEL = 28
"""Characters of a label that a picture shows."""


def shown(text: str, width: int = MAX_LABEL) -> str:
    """Return foreign text as matplotlib shows it: one short line, no mathtext, no hidden legend entry."""
    line = " ".join(printable(text).split())
    line = line if len(line) <= width else f"{line[: width - 1]}…"
    _check_font(line)
    return (" " if line.startswith("_") else "") + line.replace("$", r"\$")


@lru_cache(maxsize=1024)
def _check_font(line: str) -> None:
    """Add a font to the fallback list for characters that the list lacks, and warn if none is installed."""
    from matplotlib import font_manager

    families = list(mpl.rcParams["font.family"])
    lacking = {letter for letter in line if not letter.isspace()}
    for font in [font_manager.FontProperties(family=[name]) for name in families]:
        lacking -= _covered(font_manager.findfont(font), frozenset(lacking))
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: (entry.style != "normal", entry.name)):
        if lacking and "Last Resort" not in entry.name and entry.name not in families:
            covered = _covered(entry.fname, frozenset(lacking))
            if covered:
                lacking -= covered
                families.append(entry.name)
                mpl.rcParams["font.family"] = families
    if lacking:
        letters = "".join(sorted(lacking))[:20]
        log.warning(f"no installed font has {letters!r}, so pictures show boxes; install a Noto font for that script")


def _covered(path: str, letters: frozenset[str]) -> set[str]:
    """Return the letters that a font file has a glyph for."""
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(path)
    except (OSError, RuntimeError):
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))}


def palette(number: int) -> str:
    """Return the color of the student of that number."""
    return PALETTE[number % len(PALETTE)]


def canvas(width: float = 5.6, height: float = 3.4, axes: Any = None) -> tuple[Figure, Any]:
    """Return a figure and its axes in the colors of a report.

    Args:
        width: The width of a new figure in inches.
        height: Its height in inches.
        axes: Axes of the caller's own figure, which are used instead.
    """
    if axes is None:
        axes = Figure(figsize=(width, height), layout="constrained").add_subplot()
    style_axes(axes)
    return axes.figure, axes


def style_axes(axes: Any, size: float = 10) -> None:
    """Give axes the colors of a report and labels of ``size`` points."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(MUTED)
    axes.tick_params(which="both", colors=INK, labelcolor=INK, labelsize=size)  # logarithmic axes label minor ticks
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set(color=INK, size=size)


def add_legend(axes: Any, outside: bool = False, **options: Any) -> None:
    """Add a legend in the colors of a report."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 2} if outside else {"loc": "best"}
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, **(place | options))


def accuracies(lines: dict[str, ModelResult], axes: Any = None) -> Figure:
    """Draw each line's test accuracy with its 95 % interval."""
    figure, axes = canvas(height=0.9 + 0.5 * len(lines), axes=axes)
    for row, (name, line) in enumerate(reversed(lines.items())):
        number, color = line.numbers.accuracy, COLORS.get(name, STUDENT)
        axes.plot([number.low, number.high], [row, row], color=color, lw=6, alpha=0.3, solid_capstyle="round")
        axes.plot(number.value, row, "o", color=color, ms=9, clip_on=False)
        axes.annotate(
            f"{number.value:.3f}",
            (number.value, row),
            (0, 10),
            textcoords="offset points",
            ha="center",
            size=10,
            color=INK,
        )
    axes.set_yticks(range(len(lines)), [shown(name) for name in reversed(lines)])
    axes.set(xlim=(0, 1), ylim=(-0.6, len(lines) - 0.3), xlabel="test accuracy, 95 % interval")
    return figure


def learning(history: Sequence[dict[str, float]], best_epoch: int, axes: Any = None) -> Figure:
    """Draw training and validation loss and validation accuracy against epochs."""
    figure, axes = canvas(4.4, 3.8, axes)
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["loss"] for row in history], color=MUTED, label="training loss")
    axes.plot(epochs, [row["valid_loss"] for row in history], color=STUDENT, label="validation loss")
    axes.axvline(best_epoch, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    right = axes.twinx()
    style_axes(right)
    right.plot(epochs, [row["valid_accuracy"] for row in history], color=TEACHER, label="validation accuracy")
    right.set(ylim=(0, 1), ylabel="accuracy")
    add_legend(axes, outside=True, handles=[*axes.get_lines()[:2], *right.get_lines()])
    return figure


def confusion(table: np.ndarray, classes: Sequence[str], axes: Any = None) -> Figure:
    """Draw how often each true class (rows) is predicted as each class (columns).

    Args:
        table: The numbers of texts (C,C), true classes in rows.
        classes: The C class names.
        axes: The axes; a new figure if None.
    """
    size, table = len(classes), np.asarray(table)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = canvas(min(2.2 + 0.75 * size, 12.0), min(1.6 + 0.6 * size, 12.0), axes)
    for row, column in np.ndindex(size, size):
        axes.add_patch(
            mpl.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, color=STUDENT, alpha=share[row, column], lw=0)
        )
        if size <= 20:
            color = PAPER if share[row, column] > 0.55 else INK
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=color, size=10)
    names = [shown(name, 16) for name in classes]
    axes.set_xticks(range(size), names, rotation=30, ha="right")
    axes.set_yticks(range(size), names)
    axes.set(xlabel="student's class", ylabel="label", xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    return figure


def class_scores(classes: dict[str, ClassScores], axes: Any = None) -> Figure:
    """Draw precision and recall of each class with their 95 % intervals."""
    figure, axes = canvas(height=1.0 + 0.45 * len(classes), axes=axes)
    for score, color, shift in (("precision", STUDENT, -0.12), ("recall", TEACHER, 0.12)):
        rows = [(row + shift, value) for row, one in enumerate(classes.values()) if (value := getattr(one, score))]
        for row, number in rows:
            axes.plot([number.low, number.high], [row, row], color=color, lw=4, alpha=0.3, solid_capstyle="round")
        axes.plot([number.value for _, number in rows], [row for row, _ in rows], "o", color=color, ms=7, label=score)
    axes.set_yticks(range(len(classes)), [shown(name) for name in classes])
    axes.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5), xlabel="precision and recall, 95 % interval")
    add_legend(axes, outside=True)
    return figure


def reliability(probabilities: dict[str, np.ndarray], targets: np.ndarray, axes: Any = None) -> Figure:
    """Draw accuracy against confidence for each named classifier's probabilities (N,C)."""
    bins = 10
    figure, axes = canvas(4.4, 3.8, axes)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
    for name, rows in probabilities.items():
        confidence, correct = rows.max(axis=1), rows.argmax(axis=1) == targets
        index = np.clip((confidence * bins).astype(int), 0, bins - 1)
        count = np.bincount(index, minlength=bins)
        used = count >= 5
        mean = np.bincount(index, weights=confidence, minlength=bins)[used] / count[used]
        accuracy = np.bincount(index, weights=correct, minlength=bins)[used] / count[used]
        axes.plot(mean, accuracy, "o-", color=COLORS.get(name, STUDENT), label=shown(name), ms=5, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bins of 5 or more texts)")
    add_legend(axes, loc="upper left")
    return figure


def risk_coverage(
    probabilities: dict[str, np.ndarray], targets: np.ndarray, deferral: Deferral | None = None, axes: Any = None
) -> Figure:
    """Draw the error rate among the most confident texts against their share.

    Args:
        probabilities: Probabilities (N,C) by name; the student's have a band.
        targets: Class numbers (N,).
        deferral: The student's threshold, whose share of answered texts is marked.
        axes: Axes to draw in; new ones without them.
    """
    figure, axes = canvas(4.4, 3.8, axes)
    for name, rows in probabilities.items():
        curve = student_curve(rows.max(axis=1), rows.argmax(axis=1) == targets, points=MAX_CURVE_POINTS)
        color = COLORS.get(name, STUDENT)
        axes.plot(curve.coverage, curve.risk, color=color, label=shown(name))
        if name == "student":
            axes.fill_between(curve.coverage, curve.low, curve.high, color=color, alpha=0.15, lw=0)
            if deferral is not None and deferral.threshold is not None:
                share = float(deferral.answered(rows).mean())
                axes.axvline(share, color=MUTED, lw=1, ls=":")
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="share of texts answered, surest first", ylabel="error rate of these")
    add_legend(axes, loc="upper left")
    return figure


def agreement(teacher: np.ndarray, student: np.ndarray, axes: Any = None) -> Figure:
    """Draw the student's probability of the teacher's class against the teacher's own, for probabilities (N,C)."""
    chosen = teacher.argmax(axis=1)
    rows = np.arange(len(chosen))
    figure, axes = canvas(4.4, 3.8, axes)
    agree = student.argmax(axis=1) == chosen
    for mask, color, label in ((agree, STUDENT, "same class"), (~agree, TEACHER, "another class")):
        axes.plot(
            teacher[rows, chosen][mask], student[rows, chosen][mask], ".", color=color, alpha=0.5, ms=5, label=label
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="teacher's confidence", ylabel="student's probability of that class")
    add_legend(axes, loc="upper left")
    return figure


def scatter(result: MeasuredResult, against: Literal["exact", "noisy"] = "exact", axes: Any = None) -> Figure:
    """Draw a device run's measured expectation values with error bars.

    Args:
        result: The device run.
        against: The values on the other axis: exact ones, or those predicted from the device's noise.
        axes: The axes; a new figure if None.
    """
    expected = np.array([getattr(row, against) for row in result.rows]).ravel()
    evs = np.array([row.evs for row in result.rows]).ravel()
    stds = np.array([row.stds for row in result.rows], dtype=float).ravel()
    figure, axes = canvas(4.4, 3.8, axes)
    axes.plot([-1, 1], [-1, 1], color=MUTED, lw=1, ls=":")
    bars = np.nan_to_num(stds).clip(0, 2)
    axes.errorbar(expected, evs, yerr=bars, fmt=".", color=STUDENT, ms=5, lw=0.8, alpha=0.6)
    name = "exact" if against == "exact" else "predicted"
    axes.set(
        xlim=(-1.1, 1.1), ylim=(-1.4, 1.4), xlabel=f"{name} expectation value", ylabel="measured, one standard error"
    )
    return figure


def svg(figure: Figure, description: str) -> str:
    """Return a figure as inline SVG whose colors are CSS variables of the page.

    Args:
        figure: The figure.
        description: The text alternative, plain text.
    """
    from markupsafe import escape

    buffer = io.StringIO()
    salt = hashlib.sha256(description.encode("utf-8", "replace")).hexdigest()[:8]
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # `shown` warned, and the browser has fonts of its own
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<\?xml.*?\?>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    for name in used:  # two pictures of one page must not share an id
        text = re.sub(rf'(id="|href="#|url\(#){re.escape(name)}(?=["\)])', rf"\g<1>s{salt}{name}", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    width = re.search(r'<svg[^>]* width="([\d.]+)pt"', text)
    size = f'style="max-width: {float(width[1]) * 4 / 3:.0f}px"' if width else ""
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}" {size}', 1)
