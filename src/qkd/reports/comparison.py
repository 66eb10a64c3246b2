"""A comparison for people: the same numbers as a page, as Markdown, and as a table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from qkd.core.markup import markdown_block, markdown_code, markdown_text
from qkd.reports import differences, plots
from qkd.reports import reproduction as reproductions
from qkd.reports.pages import page, picture
from qkd.reports.tables import aligned, in_points, markdown_table
from qkd.results import Comparison, Reproduction
from qkd.results.study import CurvePoint

NUMBERS = ("accuracy", "macro-F1", "like teacher", "ECE")
COLUMNS = ("student", *NUMBERS, "classical", "quantum", "encoder", "train s", "ms/text")
CURVES = {
    "curves": "training texts",
    "shot_curves": "shots per expectation value",
    "noise_curves": "strength of the device's gate errors",
}
"""Kinds of curves by their field of a comparison, and what the axis of each says."""
BESIDES = {"exact": "drop without noise", "aer": "drop under shots", "aer-noisy": "drop under noise and shots"}
"""What a measurement besides the judged one is called."""
TUNED = ("student", "settings tried", "learning rate", "weight decay", "dropout")


def student_rows(summary: Comparison) -> list[tuple[str, ...]]:
    """Return a row of cells for each student."""
    measured = any(line.measured_drop for line in summary.students.values())
    cells = []
    for name, line in summary.students.items():
        numbers, parameters = line.numbers, line.parameters
        row = (
            name,
            *(str(getattr(numbers, key)) for key in ("accuracy", "macro_f1", "agreement")),
            f"{numbers.calibration_error.value:.3f}",
            *(f"{getattr(parameters, key):,}" for key in ("classical", "quantum", "encoder")),
            f"{line.seconds:.1f}",
            f"{line.ms_per_text:.2f}",
        )
        drop = (in_points(line.measured_drop) if line.measured_drop else "-",) if measured else ()
        cells.append(row + drop)
    return cells


def columns(summary: Comparison) -> tuple[str, ...]:
    """Return the heads of ``rows``."""
    measured = any(line.measured_drop for line in summary.students.values())
    return (*COLUMNS, BESIDES[summary.sims[-1]]) if measured else COLUMNS


def comparison_text(summary: Comparison) -> str:
    """Return tables and verdict for a terminal."""
    return "\n".join(
        [
            aligned([columns(summary), *student_rows(summary)]),
            "",
            f"accuracy of {summary.reference}, in points:",
            aligned([differences.COLUMNS, *differences.difference_rows(summary)]),
            "",
            *_sentences(summary),
            *([trained_under(summary)] if trained_under(summary) else []),
            summary.conclusion,
            *(["", "chosen by the validation texts:", aligned([TUNED, *tuned(summary)])] if summary.tuned else []),
            *(["", *reproductions.section(summary.reproduction, aligned)] if summary.reproduction else []),
        ]
    )


def comparison_markdown(summary: Comparison) -> str:
    """Return the report as Markdown."""
    return "\n".join(
        [
            f"# {markdown_text(summary.reference)} beside {len(summary.differences)} other students",
            "",
            markdown_text(summary.conclusion),
            "",
            markdown_text(setting(summary)),
            "",
            *markdown_table(columns(summary), student_rows(summary)),
            "",
            f"Accuracy of {markdown_code(summary.reference)} minus that of the others, in points:",
            "",
            *markdown_table(differences.COLUMNS, differences.difference_rows(summary)),
            "",
            *(f"- {markdown_text(sentence)}" for sentence in _sentences(summary)),
            "",
            *([trained_under(summary), ""] if trained_under(summary) else []),
            *(
                ["Chosen by the validation texts:", "", *markdown_table(TUNED, tuned(summary)), ""]
                if summary.tuned
                else []
            ),
            *(
                line
                for _, axis, points in _shown_curves(summary)
                for line in (
                    f"Accuracy against {axis}:",
                    "",
                    *markdown_table(("student", axis, "accuracy"), points),
                    "",
                )
            ),
            *(
                [*reproductions.section(summary.reproduction, _lines), "", *_adaptations(summary.reproduction), ""]
                if summary.reproduction
                else []
            ),
            EXPLAINED,
            "",
            "Again:",
            "",
            *markdown_block(summary.command),
            "",
        ]
    )


def comparison_html(name: str, summary: Comparison) -> str:
    """Return the report as one self-contained page."""
    figures = [
        picture(
            f"Accuracy of {summary.reference} minus that of each other student, 95 % interval.",
            differences.forest,
            summary,
        ),
        picture(
            "On the dotted line, confidence equals accuracy. All seeds are pooled.", reliability_of_students, summary
        ),
    ]
    figures += [
        picture(f"Accuracy against {axis}, 95 % interval.", curves, summary, kind)
        for kind, axis, _ in _shown_curves(summary)
    ]
    return page(
        "comparison.html",
        title=name,
        setting=" ".join([setting(summary), trained_under(summary)]),
        conclusion=summary.conclusion,
        columns=columns(summary),
        rows=student_rows(summary),
        reference=summary.reference,
        difference_columns=differences.COLUMNS,
        differences=differences.difference_rows(summary),
        sentences=_sentences(summary),
        figures=figures,
        explained=EXPLAINED,
        command=summary.command,
        more=[{"title": title, "columns": heads, "rows": cells} for title, heads, cells in _more(summary) if cells],
    )


def _more(summary: Comparison) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Return title, heads and rows of cells of the tables that not every comparison has."""
    tables: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = [
        ("Settings that the validation texts chose", TUNED, tuned(summary))
    ]
    reproduction = summary.reproduction
    if reproduction is None:
        return tables
    beside = differences.difference_rows(reproduction.beside) if reproduction.beside else []
    return [
        ("The default beside the recipe and the others", differences.COLUMNS, beside),
        *tables,
        (
            "Effect of each deviation of the public code",
            reproductions.DEVIATIONS,
            reproductions.deviations(reproduction),
        ),
        ("Adaptations", reproductions.ADAPTATIONS, reproductions.adaptations(reproduction)),
    ]


EXPLAINED = (
    "Numbers are means over seeds. Intervals are 95 % over both texts and seeds (two-way layout, Satterthwaite's "
    "degrees of freedom). Differences are paired over both; p-values are corrected for their number (Holm 1979). A "
    "student is equivalent to another where the interval is inside the margin (--margin). 'Texts needed' is the number "
    "of test texts that would decide a difference of this size. Training seconds are of one process among several on "
    "this machine; milliseconds are end to end and include the encoder."
)
"""What the numbers are."""


def reliability_of_students(summary: Comparison) -> Figure:
    """Draw accuracy against confidence for each student."""
    figure, axes = plots.canvas(height=4.2)
    axes.plot([0, 1], [0, 1], color=plots.MUTED, lw=1, ls=":")
    for number, (name, line) in enumerate(summary.students.items()):
        points = np.array([(c, a) for c, a, n in line.reliability if n >= 5]).reshape(-1, 2)
        axes.plot(*points.T, "o-", label=plots.shown(name), ms=4, lw=1, color=_color(number))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bins of 5 or more)")
    plots.add_legend(axes, outside=True)
    return figure


def _color(number: int) -> str:
    return plots.PALETTE[number % len(plots.PALETTE)]


def curves(summary: Comparison, kind: str = "curves") -> Figure:
    """Draw the accuracy of each student along one kind of curve; students that have none are level lines."""
    figure, axes = plots.canvas()
    points_of: dict[str, tuple[CurvePoint, ...]] = getattr(summary, kind)
    for number, (name, line) in enumerate(summary.students.items()):
        points, color = points_of.get(name), _color(number)
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


def _shown_curves(summary: Comparison) -> list[tuple[str, str, list[tuple[str, ...]]]]:
    """Return kind, axis and rows of cells of each kind of curve that has more than one point."""
    shown = []
    for kind, axis in CURVES.items():
        curves: dict[str, tuple[CurvePoint, ...]] = getattr(summary, kind)
        if any(len(points) > 1 for points in curves.values()):
            cells: list[tuple[str, ...]] = [
                (name, f"{point.at:,g}", str(point)) for name, points in curves.items() for point in points
            ]
            shown.append((kind, axis, cells))
    return shown


def tuned(summary: Comparison) -> list[tuple[str, ...]]:
    """Return a row of cells for each student whose settings the validation texts chose."""
    return [
        (name, str(tuning.trials), *(f"{value:.3g}" for value in tuning.settings.values()))
        for name, tuning in summary.tuned.items()
    ]


def trained_under(summary: Comparison) -> str:
    """Return what circuits were trained for and judged by, one sentence; nothing of exact values alone."""
    sims = summary.sims
    if sims == ("exact",):
        return ""
    sentences = {
        "exact": "Circuits were trained ideally and are judged by exact values",
        "aer": "Circuits were trained ideally and are judged by ideal shots",
        "aer-noisy": "Circuits were trained under the device's noise and are judged by its shots",
    }
    besides = f"; the drop is what {sims[1]} costs the same trained students" if len(sims) > 1 else ""
    return sentences[sims[0]] + besides + "."


def setting(summary: Comparison) -> str:
    """Return texts, seeds, teacher and encoder of a comparison, one sentence."""
    texts, seeds = summary.texts, summary.seeds
    return (
        f"{summary.data}: {texts['train']:,} training, {texts['valid']:,} validation and {texts['test']:,} test "
        f"texts, {seeds} seed{'s' * (seeds > 1)}; teacher {summary.teacher}, accuracy "
        f"{summary.teacher_accuracy}; encoder {summary.encoder}; qkd {summary.qkd}."
    )


def _adaptations(reproduction: Reproduction) -> list[str]:
    rows = reproductions.adaptations(reproduction)
    return ["Adaptations:", "", *markdown_table(reproductions.ADAPTATIONS, rows)]


def _lines(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(markdown_table(cells[0], cells[1:]))


def _sentences(summary: Comparison) -> list[str]:
    return [judged.sentence for judged in summary.differences.values()]
