"""The report of a comparison or reproduction, as a page, as Markdown and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qkd.reports import plots
from qkd.reports.pages import Code, Part, Picture, Report, Section
from qkd.reports.tables import SCORES, Table, in_points, score_cells
from qkd.results import Comparison, ModelResult, Reproduction
from qkd.results.study import CurvePoint, Verdict

CURVES = {
    "curves": "training texts",
    "shot_curves": "shots per expectation value",
    "noise_curves": "strength of the device's gate errors",
}
"""Axis label of each kind of curve, by field of `Comparison`."""
DROPS = {"exact": "drop without noise", "aer": "drop under shots", "aer-noisy": "drop under noise and shots"}
"""Column name of the accuracy that a second simulator costs."""
SIMULATORS = {
    "exact": "Circuits were trained ideally and are judged by exact values.",
    "aer": "Circuits were trained ideally and are judged by ideal shots.",
    "aer-noisy": "Circuits were trained under the device's noise and are judged by its shots.",
}
EXPLANATION = (
    "Numbers are means over seeds. Intervals are 95 % over both texts and seeds (two-way layout, Satterthwaite's "
    "degrees of freedom). Differences are paired over both. Their p-values are corrected for their number (Holm 1979). "
    "A student is equivalent to another where the interval is inside the margin (--margin). 'Texts needed' is the "
    "number of test texts that would decide a difference of this size. Training seconds are of one process among "
    "several on this machine. Milliseconds are end to end and include the encoder."
)


def student_table(summary: Comparison) -> Table:
    """Return the scores, sizes and times of all students."""
    drop = [DROPS[summary.sims[-1]]] if any(line.measured_drop for line in summary.students.values()) else []
    rows = [
        [name, *score_cells(line), f"{line.seconds:.1f}", f"{line.ms_per_text:.2f}"]
        + ([in_points(line.measured_drop) if line.measured_drop else "-"] if drop else [])
        for name, line in summary.students.items()
    ]
    return Table(["student", *SCORES, "train s", "ms/text", *drop], rows)


def difference_table(verdict: Verdict) -> Table:
    """Return the accuracy of the first student minus that of each other one."""
    return Table(
        ("minus", "points", "95 % interval", "p (Holm)", "texts needed", "verdict"),
        [
            (
                name,
                f"{100 * judged.value:+z.1f}",
                f"{100 * judged.low:+z.1f} to {100 * judged.high:+z.1f}",
                f"{judged.p_holm:.3f}",
                f"{judged.texts_needed:,}" if judged.texts_needed else "-",
                judged.verdict,
            )
            for name, judged in verdict.differences.items()
        ],
    )


def tuning_table(summary: Comparison) -> Table:
    """Return the settings that the validation texts chose."""
    rows = [
        (name, str(tuning.trials), *(f"{value:.3g}" for value in tuning.settings.values()))
        for name, tuning in summary.tuned.items()
    ]
    return Table(("student", "settings tried", "learning rate", "weight decay", "dropout"), rows)


def recipe_table(reproduction: Reproduction) -> Table:
    """Return the accuracy of the paper's recipe and of its variants with deviations of the public code."""
    return Table(
        ("recipe", "accuracy", "printed by a loop: mean ± std", "best", "minus the paper's recipe, points"),
        [
            (
                row.name,
                str(row.accuracy),
                f"{100 * row.printed_mean:.2f} ± {100 * row.printed_std:.2f}",
                f"{100 * row.printed_best:.2f}",
                "-" if row.gain is None else in_points(row.gain),
            )
            for row in reproduction.variants
        ],
    )


def _sections(summary: Comparison) -> list[Section]:
    reproduction, name = summary.reproduction, summary.reference
    sims = [SIMULATORS[summary.sims[0]]] if summary.sims != ("exact",) else []
    sims += [f"The drop is the accuracy that {sim} costs the same trained students." for sim in summary.sims[1:]]
    curve_sections = [
        Section(
            f"Accuracy against {CURVES[kind]}",
            [
                Table(
                    ("student", CURVES[kind], "accuracy"),
                    [(who, f"{point.at:,g}", str(point)) for who, points in kinds.items() for point in points],
                ),
                [Picture(f"Accuracy against {CURVES[kind]}, 95 % interval.", curves, (summary, kind))],
            ],
        )
        for kind, kinds in ((kind, getattr(summary, kind)) for kind in CURVES)
        if any(len(points) > 1 for points in kinds.values())
    ]
    pictures = [
        Picture(f"Accuracy of {name} minus that of each other student, 95 % interval.", forest, (summary,)),
        Picture(
            "On the dotted line, confidence equals accuracy. All seeds are pooled.", reliability_of_students, (summary,)
        ),
    ]
    return [
        Section("Students", [student_table(summary), " ".join(sims)], on_terminal=True),
        Section(
            f"Accuracy of {name} minus that of the others, in points",
            [
                difference_table(summary),
                [judged.sentence for judged in summary.differences.values()],
                summary.conclusion,
                pictures,
            ],
            on_terminal=True,
        ),
        Section("Settings chosen by the validation texts", [tuning_table(summary)], on_terminal=True),
        *(_reproduction_sections(reproduction) if reproduction else ()),
        *curve_sections,
        Section("Setting", [setting(summary), EXPLANATION]),
        Section("Command", [Code(summary.command)]),
    ]


def _reproduction_sections(reproduction: Reproduction) -> list[Section]:
    adaptations = [(row.what, row.paper, row.here, row.why) for row in reproduction.adaptations]
    deviations = [f"{name}: {meaning}." for name, meaning in reproduction.deviations.items()]
    sections = [
        Section(
            "Effect of each deviation of the public code", [recipe_table(reproduction), deviations], on_terminal=True
        ),
        Section(
            "Adaptations of this reproduction", [Table(("part", "paper and public code", "qkd", "reason"), adaptations)]
        ),
    ]
    if beside := reproduction.beside:
        title = f"Accuracy of {beside.reference} minus that of the recipe and the others, in points"
        sections.insert(1, Section(title, [difference_table(beside), beside.conclusion], on_terminal=True))
    return sections


def parts(summary: Comparison) -> Sequence[Part]:
    """Return students, differences, conclusion and picture of a comparison."""
    picture = Picture(f"Accuracy of {summary.reference} minus that of each other student.", forest, (summary,))
    return [student_table(summary), difference_table(summary), summary.conclusion, [picture]]


def records(summary: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Return the students, the differences from the first one, and the points of all curves."""
    points = [
        {"student": who, "kind": kind, "at": point.at, "accuracy": point.value, "low": point.low, "high": point.high}
        for kind in CURVES
        for who, line in getattr(summary, kind).items()
        for point in line
    ]
    students = [{"student": who, **line.to_dict()} for who, line in summary.students.items()]
    return {
        "students": [{key: value for key, value in row.items() if key != "reliability"} for row in students],
        "differences": [{"minus": who, **judged.to_dict()} for who, judged in summary.differences.items()],
        "curves": points,
    }


def report(summary: Comparison, name: str = "") -> Report:
    """Return the report of a comparison called ``name``."""
    others = dict(summary.students)
    first = others.pop(summary.reference)
    seeds, teacher = summary.seeds, f"the same teacher, {summary.teacher}"
    answers = [
        (
            "Question",
            f"Is the student {summary.reference} more accurate on {summary.data} than others that have {teacher}?",
        ),
        ("Answer", f"{summary.reference} classifies {share(first)} of the test texts correctly. {summary.conclusion}"),
        ("Control", f"On the same texts: {', '.join(f'{who} {share(line)}' for who, line in others.items())}."),
        (
            "Cost",
            f"{sum(summary.seconds.values()):,.0f} s on this machine for {len(summary.students)} students with "
            f"{seeds} seed{'s' * (seeds > 1)} each.",
        ),
    ]
    title = f"{summary.reference} and {len(others)} other student{'s' * (len(others) > 1)}"
    return Report(f"{name}: {title}" if name else title, answers, _sections(summary))


def share(line: ModelResult) -> str:
    """Return an accuracy in percent."""
    return f"{100 * line.numbers.accuracy.value:.1f} %"


def setting(summary: Comparison) -> str:
    """Return texts, seeds, teacher and encoder of a comparison in a sentence."""
    texts, seeds = summary.texts, summary.seeds
    return (
        f"{summary.data}: {texts['train']:,} training, {texts['valid']:,} validation and {texts['test']:,} test "
        f"texts, {seeds} seed{'s' * (seeds > 1)}; teacher {summary.teacher}, accuracy {summary.teacher_accuracy}; "
        f"encoder {summary.encoder}; qkd {summary.qkd}."
    )


def forest(verdict: Verdict, axes: Any = None) -> Figure:
    """Draw each paired difference with its interval."""
    judged = verdict.differences
    figure, axes = plots.canvas(height=1.0 + 0.45 * len(judged), axes=axes)
    axes.axvline(0, color=plots.MUTED, lw=1, ls=":")
    colors = {"better": plots.STUDENT, "worse": plots.TEACHER, "equivalent": plots.STUDENT, "undecided": plots.MUTED}
    for row, difference in enumerate(reversed(judged.values())):
        color = colors[difference.verdict]
        axes.plot([100 * difference.low, 100 * difference.high], [row, row], color=color, lw=5, alpha=0.4)
        axes.plot(100 * difference.value, row, "o", color=color, ms=8)
    axes.set_yticks(range(len(judged)), [f"minus {plots.shown(name)}" for name in reversed(judged)])
    axes.set(xlabel="difference in accuracy, points", ylim=(-0.6, len(judged) - 0.4))
    return figure


def reliability_of_students(summary: Comparison, axes: Any = None) -> Figure:
    """Draw accuracy against confidence for each student."""
    figure, axes = plots.canvas(height=4.2, axes=axes)
    axes.plot([0, 1], [0, 1], color=plots.MUTED, lw=1, ls=":")
    for number, (name, line) in enumerate(summary.students.items()):
        points = np.array([(c, a) for c, a, n in line.reliability if n >= 5]).reshape(-1, 2)
        axes.plot(*points.T, "o-", label=plots.shown(name), ms=4, lw=1, color=plots.palette(number))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bins of 5 or more)")
    plots.add_legend(axes, outside=True)
    return figure


def curves(summary: Comparison, kind: str = "curves", axes: Any = None) -> Figure:
    """Draw the accuracy of each student along one kind of curve. Students without a curve are horizontal lines."""
    figure, axes = plots.canvas(axes=axes)
    points_of: dict[str, tuple[CurvePoint, ...]] = getattr(summary, kind)
    for number, (name, line) in enumerate(summary.students.items()):
        points, color = points_of.get(name), plots.palette(number)
        if not points:
            axes.axhline(line.numbers.accuracy.value, label=plots.shown(name), color=color, ls=":", lw=1)
            continue
        x = [point.at for point in points]
        axes.plot(x, [point.value for point in points], "o-", label=plots.shown(name), ms=4, color=color)
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(x, low, high, color=color, alpha=0.12, lw=0)
    axes.set(xlabel=CURVES[kind], ylabel="test accuracy")
    if kind != "noise_curves":
        axes.set_xscale("log")
    plots.add_legend(axes, outside=True)
    return figure
