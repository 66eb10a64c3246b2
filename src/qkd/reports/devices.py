"""Device runs side by side, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from qkd.reports.run import cell
from qkd.reports.tables import aligned
from qkd.results import DeviceResult, MeasuredResult

COLUMNS = (
    "run",
    "device",
    "mitigation",
    "shots",
    "texts",
    "error of evs",
    "simulated, no shots",
    "accuracy",
    "exact accuracy",
    "like exact",
    "too close",
    "executions",
    "QPU s, estimated",
)


def device_table(results: Sequence[DeviceResult]) -> str:
    """Return device runs side by side, as text."""
    return aligned([COLUMNS, *device_rows(results)])


def device_rows(results: Sequence[DeviceResult]) -> list[tuple[str, ...]]:
    """Return a row of cells for each result that has texts."""
    return [
        (
            result.plan,
            result.device,
            result.mitigation.name,
            f"{result.mitigation.shots:,}",
            f"{result.texts:,}" if result.texts == result.asked else f"{result.texts:,} of {result.asked:,}",
            f"{result.error.value:.4f} [{result.error.low:.4f}, {result.error.high:.4f}]",
            f"{result.error_noisy:.4f}",
            cell(result.lines["measured"].accuracy),
            cell(result.lines["exact"].accuracy),
            cell(result.lines["measured"].like_exact),
            str(result.too_close),
            f"{result.executions:,}",
            f"{result.qpu_seconds_estimated:,.1f}",
        )
        for result in results
        if isinstance(result, MeasuredResult)
    ]
