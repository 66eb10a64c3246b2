"""Device runs in one table."""

from __future__ import annotations

from collections.abc import Sequence

from qkd.reports.tables import Table, number_cell
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


def device_table(results: Sequence[DeviceResult]) -> Table:
    """Return the device runs that measured texts, one in a row."""
    rows = [
        (
            result.plan,
            result.device,
            result.mitigation.name,
            f"{result.mitigation.shots:,}",
            f"{result.texts:,}" if result.texts == result.asked else f"{result.texts:,} of {result.asked:,}",
            f"{result.error.value:.4f} [{result.error.low:.4f}, {result.error.high:.4f}]",
            f"{result.error_noisy:.4f}",
            number_cell(result.lines["measured"].accuracy),
            number_cell(result.lines["exact"].accuracy),
            number_cell(result.lines["measured"].like_exact),
            str(result.too_close),
            f"{result.executions:,}",
            f"{result.qpu_seconds_estimated:,.1f}",
        )
        for result in results
        if isinstance(result, MeasuredResult)
    ]
    return Table(COLUMNS, rows)
