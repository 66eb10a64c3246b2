"""Device runs side by side, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qkd.reports.compare import aligned

COLUMNS = (
    "run",
    "device",
    "mitigation",
    "shots",
    "texts",
    "error of evs",
    "error unmitigated",
    "accuracy",
    "exact accuracy",
    "like exact",
    "too close",
    "executions",
    "QPU s, estimated",
)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return device runs side by side, as text."""
    return aligned([COLUMNS, *rows(results)])


def rows(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row of cells for each ``result.json`` that has texts."""
    return [
        (
            one["plan"],
            one["device"],
            one["mitigation"]["name"],
            _shots(one),
            f"{one['texts']:,}" if one["texts"] == one["asked"] else f"{one['texts']:,} of {one['asked']:,}",
            f"{one['error']['value']:.4f} [{one['error']['low']:.4f}, {one['error']['high']:.4f}]",
            f"{one['error_noisy']:.4f}",
            _number(one["lines"]["measured"].get("accuracy")),
            _number(one["lines"]["exact"].get("accuracy")),
            _number(one["lines"]["measured"]["like_exact"]),
            str(one["too_close"]),
            f"{one['executions']:,}",
            f"{one['qpu_seconds_estimated']:,.1f}",
        )
        for one in results
        if one["texts"]
    ]


def _shots(one: dict[str, Any]) -> str:
    """Return the shots that a text took: one number, or the median and the range."""
    taken = [int(number) for number in one.get("shots", {}).get("texts", {})]
    median = f"{one['mitigation']['shots']:,}"
    return median if len(taken) < 2 else f"{median} ({min(taken):,} to {max(taken):,})"


def _number(number: dict[str, float] | None) -> str:
    return "-" if number is None else f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"
