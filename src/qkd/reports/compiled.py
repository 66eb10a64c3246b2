"""A compiled circuit on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qkd.devices.chip_plot import figure
from qkd.devices.compiled import Compiled
from qkd.reports.pages import Part, Picture
from qkd.reports.tables import Table

MAX_NAMED_QUBITS = 30
"""Most physical qubits that the text names."""


def parts(compiled: Compiled) -> Sequence[Part]:
    """Return the circuit with its qubits, the figures before and after compilation, and the chip."""
    head, *rows = compiled.report.rows()
    qubits = ", ".join(map(str, compiled.qubits[:MAX_NAMED_QUBITS]))
    place = f"{compiled.device.summary()}; on the physical qubits {qubits}" if qubits else compiled.device.summary()
    more = ", ..." if len(compiled.qubits) > MAX_NAMED_QUBITS else ""
    chip = Picture("The chip with the qubits used.", figure, (compiled.device, compiled.qubits))
    return [[repr(compiled.logical), place + more, f"profile {compiled.profile.name}"], Table(head, rows), [chip]]


def records(compiled: Compiled) -> dict[str, list[dict[str, Any]]]:
    """Return the figures of the logical circuit, of Qiskit's level 3 and of the compiled circuit."""
    report = compiled.report
    stages = {"logical": report.logical, "level 3": report.stock, "compiled": report.compiled}
    columns = ("two_qubit_gates", "two_qubit_depth", "duration", "fidelity")
    rows = [{"circuit": name} | {key: getattr(stage, key) for key in columns} for name, stage in stages.items()]
    return {"figures": rows}
