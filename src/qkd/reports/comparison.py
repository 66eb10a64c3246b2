"""A comparison for people: the same numbers as a page, as Markdown, and as a table on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from qkd.reports import plots
from qkd.reports.compare import aligned

NUMBERS = ("accuracy", "macro-F1", "like teacher", "ECE")
COLUMNS = ("student", *NUMBERS, "classical", "quantum", "encoder", "train s", "ms/text")
CURVES = ("student", "training texts", "accuracy")
DIFFERENCES = ("minus", "points", "95 % interval", "p (Holm)", "could have shown", "verdict")


def rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for each student."""
    measured = any(line["measured"] for line in summary["students"].values())
    cells = []
    for name, line in summary["students"].items():
        numbers, parameters = line["numbers"], line["parameters"]
        row = (
            name,
            *(_estimate(numbers[key]) for key in ("accuracy", "macro_f1", "agreement")),
            f"{numbers['calibration_error']['value']:.3f}",
            *(f"{parameters[key]:,}" for key in ("classical", "quantum", "encoder")),
            f"{line['seconds']:.1f}",
            f"{line['ms_per_text']:.2f}",
        )
        drop = (_points(line["measured"]["drop"]) if line["measured"] else "-",) if measured else ()
        cells.append(row + drop)
    return cells


def columns(summary: dict[str, Any]) -> tuple[str, ...]:
    """Return the heads of ``rows``."""
    measured = any(line["measured"] for line in summary["students"].values())
    return (*COLUMNS, "drop under noise and shots") if measured else COLUMNS


def differences(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for each student that the first is compared with."""
    return [
        (
            name,
            f"{100 * judged['value']:+.1f}",
            f"{100 * judged['low']:+.1f} to {100 * judged['high']:+.1f}",
            f"{judged['p_holm']:.3f}",
            f"{100 * judged['detectable']:.1f}",
            judged["verdict"],
        )
        for name, judged in summary["differences"].items()
    ]


def text(summary: dict[str, Any]) -> str:
    """Return tables and verdict for a terminal."""
    return "\n".join(
        [
            aligned([columns(summary), *rows(summary)]),
            "",
            f"accuracy of {summary['reference']}, in points:",
            aligned([DIFFERENCES, *differences(summary)]),
            "",
            *_sentences(summary),
            summary["conclusion"],
            *(["", *_slips(summary, aligned)] if "reproduction" in summary else []),
        ]
    )


def markdown(summary: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    curves = [
        (name, f"{point['texts']:,}", _estimate(point))
        for name, points in summary["curves"].items()
        for point in points
        if len(points) > 1
    ]
    return "\n".join(
        [
            f"# {summary['reference']} beside {len(summary['differences'])} other students",
            "",
            summary["conclusion"],
            "",
            _setting(summary),
            "",
            *grid(columns(summary), rows(summary)),
            "",
            f"Accuracy of `{summary['reference']}` minus that of the others, in points:",
            "",
            *grid(DIFFERENCES, differences(summary)),
            "",
            *(f"- {sentence}" for sentence in _sentences(summary)),
            "",
            *(["Learning curves:", "", *grid(CURVES, curves), ""] if curves else []),
            *([*_slips(summary, _lines), "", *_deviations(summary), ""] if "reproduction" in summary else []),
            EXPLAINED,
            "",
            "Again:",
            "",
            f"    {summary['command']}",
            "",
        ]
    )


def html(name: str, summary: dict[str, Any]) -> str:
    """Return the report as one self-contained page."""
    figures = [
        (forest(summary), f"Accuracy of {summary['reference']} minus that of each other student, 95 % interval."),
        (reliability(summary), "On the dotted line a confidence can be taken at its word; all seeds together."),
    ]
    if any(len(points) > 1 for points in summary["curves"].values()):
        figures.append((curves(summary), "Accuracy against the number of training texts, 95 % interval."))
    page = (Path(__file__).parent / "comparison.html").read_text(encoding="utf-8")
    return jinja2.Template(page, autoescape=True, undefined=jinja2.StrictUndefined).render(
        title=name,
        setting=_setting(summary),
        conclusion=summary["conclusion"],
        columns=columns(summary),
        rows=rows(summary),
        reference=summary["reference"],
        difference_columns=DIFFERENCES,
        differences=differences(summary),
        sentences=_sentences(summary),
        figures=[{"image": plots.png(figure), "caption": caption} for figure, caption in figures],
        explained=EXPLAINED,
        command=summary["command"],
        more=[
            {"title": title, "columns": heads, "rows": cells(summary)}
            for title, heads, cells in (
                ("What each slip of the public code does", SLIPS, slips),
                ("What could not be the same", DEVIATIONS, deviations),
            )
            if "reproduction" in summary
        ],
    )


EXPLAINED = (
    "Means over seeds; intervals are 95 % over both texts and seeds (pigeonhole bootstrap, Owen 2007, widened for few "
    "seeds), differences are paired over both, p-values are corrected for their number (Holm 1979), and 'could have "
    "shown' is the true difference that so many texts and seeds find in 80 % of all cases. Training seconds are of one "
    "process among several on this machine; milliseconds are end to end, encoder included."
)
"""What the numbers are."""


def forest(summary: dict[str, Any]) -> Figure:
    """Draw each paired difference with its interval."""
    judged = summary["differences"]
    figure, axes = plots.canvas(height=1.0 + 0.45 * len(judged))
    axes.axvline(0, color=plots.MUTED, lw=1, ls=":")
    colours = {"above": plots.STUDENT, "below": plots.TEACHER, "level": plots.MUTED}
    for row, one in enumerate(reversed(judged.values())):
        colour = colours[one["verdict"]]
        axes.plot([100 * one["low"], 100 * one["high"]], [row, row], color=colour, lw=5, alpha=0.4)
        axes.plot(100 * one["value"], row, "o", color=colour, ms=8)
    axes.set_yticks(range(len(judged)), [f"minus {name}" for name in reversed(judged)])
    axes.set(xlabel="difference in accuracy, points", ylim=(-0.6, len(judged) - 0.4))
    return figure


def reliability(summary: dict[str, Any]) -> Figure:
    """Draw accuracy against confidence for each student."""
    figure, axes = plots.canvas(5.2, 4.0)
    axes.plot([0, 1], [0, 1], color=plots.MUTED, lw=1, ls=":")
    for name, line in summary["students"].items():
        points = [(c, a) for c, a, n in line["reliability"] if n >= 5]
        axes.plot(*zip(*points, strict=True), "o-", label=name, ms=4, lw=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bins of 5 or more)")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def curves(summary: dict[str, Any]) -> Figure:
    """Draw each student's learning curve."""
    figure, axes = plots.canvas()
    for name, points in summary["curves"].items():
        texts = [point["texts"] for point in points]
        lines = axes.plot(texts, [point["value"] for point in points], "o-", label=name, ms=4)
        low, high = ([point[key] for point in points] for key in ("low", "high"))
        axes.fill_between(texts, low, high, color=lines[0].get_color(), alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel="training texts", ylabel="test accuracy")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _setting(summary: dict[str, Any]) -> str:
    texts, seeds = summary["texts"], summary["seeds"]
    return (
        f"{summary['data']}: {texts['train']:,} training, {texts['valid']:,} validation and {texts['test']:,} test "
        f"texts, {seeds} seed{'s' * (seeds > 1)}; teacher {summary['teacher']['name']}, accuracy "
        f"{_estimate(summary['teacher']['accuracy'])}; encoder {summary['encoder']}; qkd {summary['qkd']}."
    )


SLIPS = ("recipe", "accuracy", "as a loop prints it: mean ± std", "best", "minus the honest recipe, points")
DEVIATIONS = ("what", "paper and public code", "here", "why")


def slips(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for the honest recipe and for each slip of a reproduction."""
    return [
        (
            row["name"],
            _estimate(row["accuracy"]),
            f"{100 * row['printed']['mean']:.2f} ± {100 * row['printed']['std']:.2f}",
            f"{100 * row['printed']['best']:.2f}",
            "-" if row["gain"] is None else _points(row["gain"]),
        )
        for row in summary["reproduction"]["variants"]
    ]


def _slips(summary: dict[str, Any], table: Callable[[Sequence[Sequence[str]]], str]) -> list[str]:
    meaning = [f"{name}: {what}." for name, what in summary["reproduction"]["slips"].items()]
    return ["What each slip of the public code does:", "", table([SLIPS, *slips(summary)]), "", *meaning]


def deviations(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for each thing that is not as in the paper."""
    return [
        tuple(row[key] for key in ("what", "paper", "here", "why")) for row in summary["reproduction"]["deviations"]
    ]


def _deviations(summary: dict[str, Any]) -> list[str]:
    return ["What could not be the same:", "", *grid(DEVIATIONS, deviations(summary))]


def _lines(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(grid(cells[0], cells[1:]))


def _sentences(summary: dict[str, Any]) -> list[str]:
    geometry = [summary["geometry"]["sentence"]] if summary["geometry"] else []
    return [*(judged["sentence"] for judged in summary["differences"].values()), *geometry]


def grid(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    return [
        f"| {' | '.join(heads)} |",
        f"| {' | '.join('---' for _ in heads)} |",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]


def _estimate(number: dict[str, float]) -> str:
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _points(number: dict[str, float]) -> str:
    return f"{100 * number['value']:+.1f} [{100 * number['low']:+.1f}, {100 * number['high']:+.1f}]"
