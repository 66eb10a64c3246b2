"""Summary of a device: medians and best values of errors and coherence times."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qkd.core.arguments import public
from qkd.devices.snapshot import Snapshot
from qkd.results import DeviceNumbers
from qkd.results.device import Spread


def numbers(snapshot: Snapshot) -> DeviceNumbers:
    """Return the median and the best value of errors and coherence times."""
    calibration = snapshot.calibration
    return DeviceNumbers(
        device=snapshot.name,
        family=calibration.family,
        calibrated=calibration.date,
        qubits=snapshot.num_qubits,
        usable_qubits=snapshot.num_qubits - len(snapshot.cleaning.avoided),
        two_qubit_gate=calibration.two_qubit_gates[0] if calibration.two_qubit_gates else None,
        two_qubit_error=_spread((done.error for done in calibration.couplers().values()), least=True),
        readout_error=_spread((qubit.readout_error for qubit in calibration.qubits), least=True),
        t1=_spread((qubit.t1 for qubit in calibration.qubits), least=False),
        t2=_spread((qubit.t2 for qubit in calibration.qubits), least=False),
    )


@public
def rows(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Return the summary of a device as table rows, header first."""
    return rows_of(numbers(snapshot))


def rows_of(device: DeviceNumbers) -> list[tuple[str, str, str]]:
    """Return table rows of a summary, header first."""
    shown: list[tuple[str, Spread | None, str, float]] = [
        ("two-qubit error", device.two_qubit_error, "{:.2e}", 1),
        ("readout error", device.readout_error, "{:.2e}", 1),
        ("T1, us", device.t1, "{:.0f}", 1e6),
        ("T2, us", device.t2, "{:.0f}", 1e6),
    ]
    table = [("", "median", "best")]
    for name, spread, form, scale in shown:
        cells = ("-", "-") if spread is None else (form.format(scale * n) for n in (spread.median, spread.best))
        table.append((name, *cells))
    return table


def _spread(values: Iterable[float | None], least: bool) -> Spread | None:
    measured = [value for value in values if value is not None and np.isfinite(value)]
    if not measured:
        return None
    return Spread(median=float(np.median(measured)), best=float(min(measured) if least else max(measured)))
