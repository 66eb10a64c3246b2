"""The numbers of a run side by side, as rows and as a plain table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLUMNS = ("", "accuracy", "macro-F1", "agrees with teacher", "calibration error", "parameters", "ms/text")


def rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for each line (teacher, student, majority) of ``metrics.json``."""
    cells = []
    for name, line in metrics["lines"].items():
        numbers = line["numbers"]
        cells.append(
            (
                name,
                *(_estimate(numbers.get(key)) for key in ("accuracy", "macro_f1", "agreement")),
                _number(numbers["calibration_error"]["value"], "{:.3f}"),
                _parameters(line),
                _number(line.get("ms_per_text"), "{:.2f}"),
            )
        )
    return cells


def table(metrics: dict[str, Any]) -> str:
    """Return the run's numbers as lines of text under a heading row."""
    return aligned([COLUMNS, *rows(metrics)])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, each column as wide as its widest cell, a rule below the first row."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(metrics: dict[str, Any]) -> str:
    """Return what a person should take from the numbers, in two or three sentences.

    Whether student and teacher differ is judged by the paired interval of their difference, not by eye.
    """
    gap = metrics["gap"]
    points = 100 * gap["value"]
    where = "below" if points > 0 else "above"
    sure = "" if gap["low"] <= 0 <= gap["high"] else ", which is more than chance explains"
    student, majority = (metrics["lines"][name]["numbers"]["accuracy"]["value"] for name in ("student", "majority"))
    return (
        f"The student is {abs(points):.1f} points {where} its teacher "
        f"(95 % interval {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}){sure}, "
        f"and {100 * (student - majority):.1f} points above always guessing the commonest class."
    )


def timings(metrics: dict[str, Any]) -> str:
    """Return the wall time of each stage, one line."""
    seconds = metrics["seconds"]
    parts = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    return f"{parts}; {sum(seconds.values()):.1f} s in all"


def _estimate(number: dict[str, float] | None) -> str:
    return "-" if number is None else f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _parameters(line: dict[str, Any]) -> str:
    own, whole = line.get("parameters"), line.get("parameters_with_encoder")
    if own is None:
        return "-"
    return f"{own:,}" if whole in (None, own) else f"{own:,} (+ encoder {whole - own:,})"
