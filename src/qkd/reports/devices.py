"""Tables of device runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qkd.core.arguments import public
from qkd.reports import plots
from qkd.reports.pages import Part, Picture
from qkd.reports.tables import Table, number_cell
from qkd.results import DeviceResult, MeasuredResult

EXPLANATION = (
    "'RMS error' is the root mean square of measured minus exact expectation values. 'RMS error of the noise' is that "
    "of values simulated with the device's noise, without shots and mitigation. 'Like exact' is the share of texts "
    "with the class of an exact simulation. A prediction is unclear where its margin is below 1.96 standard "
    "errors."
)


CELLS: dict[str, Callable[[MeasuredResult], str]] = {
    "run": lambda result: result.plan,
    "device": lambda result: result.device,
    "mitigation": lambda result: result.mitigation.name,
    "shots": lambda result: f"{result.mitigation.shots:,}",
    "texts": lambda result: f"{result.texts:,}" + (f" of {result.asked:,}" if result.texts < result.asked else ""),
    "RMS error": lambda result: f"{result.rms.value:.4f} [{result.rms.low:.4f}, {result.rms.high:.4f}]",
    "RMS error of the noise": lambda result: f"{result.rms_noisy:.4f}",
    "accuracy": lambda result: number_cell(result.lines["measured"].accuracy),
    "exact accuracy": lambda result: number_cell(result.lines["exact"].accuracy),
    "like exact": lambda result: number_cell(result.lines["measured"].like_exact),
    "unclear": lambda result: str(result.unclear),
    "executions": lambda result: f"{result.executions:,}",
    "QPU s, estimated": lambda result: f"{result.qpu_seconds_estimated:,.1f}",
}
"""Column names of the table of device runs, and their cells."""


@public
def device_table(results: Sequence[DeviceResult]) -> Table:
    """Return the device runs that measured texts, one in a row."""
    measured = [result for result in results if isinstance(result, MeasuredResult)]
    return Table(list(CELLS), [[cell(result) for cell in CELLS.values()] for result in measured])


def parts(result: MeasuredResult) -> Sequence[Part]:
    """Return the table, its explanation and the picture of a device run."""
    picture = Picture("Measured against exact expectation values.", plots.scatter, (result,))
    return [device_table([result]).transposed(), EXPLANATION, [picture]]


def records(result: MeasuredResult) -> dict[str, list[dict[str, Any]]]:
    """Return the expectation values with their errors, one in a row, and the predictions."""
    common = {"mitigation": result.mitigation.name, "device": result.device, "plan": result.plan}
    values = [
        {
            "text": row.text,
            "observable": name,
            "value": row.evs[k],
            "standard_error": row.stds[k],
            "exact": row.exact[k],
            "noisy": row.noisy[k],
            **common,
        }
        for row in result.rows
        for k, name in enumerate(result.observables)
    ]
    columns = ("text", "label", "prediction", "margin", "margin_error", "unclear")
    return {"values": values, "texts": [{key: getattr(row, key) for key in columns} | common for row in result.rows]}
