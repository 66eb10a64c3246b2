"""Tables of a reproduction: effects of the public code's deviations, and adaptations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qkd.reports import differences
from qkd.reports.tables import in_points
from qkd.results import Reproduction

DEVIATIONS = ("recipe", "accuracy", "as a loop prints it: mean ± std", "best", "minus the recipe, points")
ADAPTATIONS = ("what", "paper and public code", "here", "why")


def deviations(reproduction: Reproduction) -> list[tuple[str, ...]]:
    """Return a row of cells for the honest recipe and for each deviation of a reproduction."""
    return [
        (
            row.name,
            str(row.accuracy),
            f"{100 * row.printed_mean:.2f} ± {100 * row.printed_std:.2f}",
            f"{100 * row.printed_best:.2f}",
            "-" if row.gain is None else in_points(row.gain),
        )
        for row in reproduction.variants
    ]


def section(reproduction: Reproduction, table: Callable[[Sequence[Sequence[str]]], str]) -> list[str]:
    """Return deviations and verdict as lines, with tables as ``table`` makes them of rows, the heads first."""
    meaning = [f"{name}: {what}." for name, what in reproduction.deviations.items()]
    lines = [
        "What each deviation of the public code does:",
        "",
        table([DEVIATIONS, *deviations(reproduction)]),
        "",
        *meaning,
    ]
    beside = reproduction.beside
    if beside is not None:
        heading = f"Accuracy of {beside.reference} minus that of the others, in points:"
        lines += [
            "",
            heading,
            "",
            table([differences.COLUMNS, *differences.difference_rows(beside)]),
            "",
            beside.conclusion,
        ]
    return lines


def adaptations(reproduction: Reproduction) -> list[tuple[str, ...]]:
    """Return a row of cells for each thing that is not as in the paper."""
    return [(row.what, row.paper, row.here, row.why) for row in reproduction.adaptations]
