"""A device in the few numbers that a person compares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from qkd.devices.snapshot import Snapshot


def numbers(snapshot: Snapshot) -> dict[str, Any]:
    """Return median and best of errors and times; times in seconds, None where nothing was measured."""
    calibration = snapshot.calibration
    return {
        "device": snapshot.name,
        "family": calibration.family,
        "calibrated": calibration.date,
        "qubits": snapshot.num_qubits,
        "usable_qubits": snapshot.num_qubits - len(snapshot.cleaning.avoided),
        "two_qubit_gate": calibration.two_qubit_gates[0] if calibration.two_qubit_gates else None,
        "two_qubit_error": _spread((done.error for done in calibration.couplers().values()), least=True),
        "readout_error": _spread((qubit.readout_error for qubit in calibration.qubits), least=True),
        "t1": _spread((qubit.t1 for qubit in calibration.qubits), least=False),
        "t2": _spread((qubit.t2 for qubit in calibration.qubits), least=False),
    }


def rows(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Return the same as a table, header first."""
    values = numbers(snapshot)
    shown = [
        ("two-qubit error", "two_qubit_error", "{:.2e}", 1),
        ("readout error", "readout_error", "{:.2e}", 1),
        ("T1, us", "t1", "{:.0f}", 1e6),
        ("T2, us", "t2", "{:.0f}", 1e6),
    ]
    table = [("", "median", "best")]
    for name, key, form, scale in shown:
        spread = values[key]
        if spread is None:
            table.append((name, "-", "-"))
        else:
            table.append((name, form.format(scale * spread["median"]), form.format(scale * spread["best"])))
    return table


def _spread(values: Iterable[float | None], least: bool) -> dict[str, float] | None:
    measured = [value for value in values if value is not None and np.isfinite(value)]
    if not measured:
        return None
    return {"median": float(np.median(measured)), "best": float(min(measured) if least else max(measured))}
