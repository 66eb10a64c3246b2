"""Judged differences for people: the first student beside each other one, as rows and as a picture."""

from __future__ import annotations

from matplotlib.figure import Figure

from qkd.reports import plots
from qkd.results.study import Verdict

COLUMNS = ("minus", "points", "95 % interval", "p (Holm)", "texts needed", "verdict")


def difference_rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """Return a row of cells for each student that the first is compared with."""
    return [
        (
            name,
            f"{100 * judged.value:+z.1f}",
            f"{100 * judged.low:+z.1f} to {100 * judged.high:+z.1f}",
            f"{judged.p_holm:.3f}",
            f"{judged.texts_needed:,}" if judged.texts_needed else "-",
            judged.verdict,
        )
        for name, judged in verdict.differences.items()
    ]


def forest(verdict: Verdict) -> Figure:
    """Draw each paired difference with its interval."""
    judged = verdict.differences
    figure, axes = plots.canvas(height=1.0 + 0.45 * len(judged))
    axes.axvline(0, color=plots.MUTED, lw=1, ls=":")
    colors = {"better": plots.STUDENT, "worse": plots.TEACHER, "equivalent": plots.STUDENT, "undecided": plots.MUTED}
    for row, difference in enumerate(reversed(judged.values())):
        color = colors[difference.verdict]
        axes.plot([100 * difference.low, 100 * difference.high], [row, row], color=color, lw=5, alpha=0.4)
        axes.plot(100 * difference.value, row, "o", color=color, ms=8)
    axes.set_yticks(range(len(judged)), [f"minus {plots.shown(name)}" for name in reversed(judged)])
    axes.set(xlabel="difference in accuracy, points", ylim=(-0.6, len(judged) - 0.4))
    return figure
