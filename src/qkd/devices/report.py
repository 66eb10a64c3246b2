"""Report of a transpilation: gates, depth, duration and predicted fidelity before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qiskit.circuit import QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.transpiler import Target, generate_preset_pass_manager

from qkd.circuits.cone import support
from qkd.circuits.student import StudentCircuit
from qkd.devices.calibration import FRACTIONAL
from qkd.devices.layout import predicted_error
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import two_qubit_figures, verify


@dataclass(frozen=True)
class Figures:
    """Figures of a circuit. None marks a value that is unknown before compilation.

    Attributes:
        two_qubit_gates: The number of two-qubit gates.
        two_qubit_depth: The depth in two-qubit gates.
        duration: The seconds of one shot without readout, or None if the device reports no durations.
        error: The sum of -log(1 - error) over gates and readouts.
    """

    two_qubit_gates: int
    two_qubit_depth: int
    duration: float | None = None
    error: float | None = None

    @property
    def fidelity(self) -> float | None:
        """The predicted fidelity of a shot that reads every measured qubit."""
        return None if self.error is None else math.exp(-self.error)


@dataclass(frozen=True)
class TranspileReport:
    """Figures of a circuit before and after compilation.

    Attributes:
        device: The snapshot's name.
        logical: The circuit before compilation.
        stock: The result of Qiskit's level 3 for the circuit without measurements, as an Estimator compiles it.
        compiled: The compiled circuit.
        qubits: The physical qubit of each logical one.
        difference: The largest difference of an expectation value, or None if light cones are too wide to simulate.
    """

    device: str
    logical: Figures
    stock: Figures
    compiled: Figures
    qubits: tuple[int, ...]
    difference: float | None

    def rows(self) -> list[tuple[str, ...]]:
        """Return table rows, header first."""
        stages = (self.logical, self.stock, self.compiled)
        return [
            ("", "logical", "level 3", "compiled"),
            ("two-qubit gates", *(str(stage.two_qubit_gates) for stage in stages)),
            ("two-qubit depth", *(str(stage.two_qubit_depth) for stage in stages)),
            ("duration", *("-" if stage.duration is None else f"{stage.duration * 1e6:.2f} us" for stage in stages)),
            ("predicted fidelity", *("-" if stage.fidelity is None else f"{stage.fidelity:.3f}" for stage in stages)),
        ]


def report(logical: StudentCircuit, compiled: StudentCircuit, snapshot: Snapshot) -> TranspileReport:
    """Return the report of a circuit that ``transpile`` compiled for a device."""
    used = {item.operation.name for item in compiled.circuit.data}
    target = snapshot.target_with(*(name for name in FRACTIONAL if name in used))
    stock = generate_preset_pass_manager(3, target=target, seed_transpiler=0).run(logical.circuit)
    stock_read = [observable.apply_layout(stock.layout) for observable in logical.observables]
    layout = compiled.layout
    return TranspileReport(
        device=snapshot.name,
        logical=Figures(*two_qubit_figures(logical.circuit)),
        stock=_figures(stock, target, support(stock_read)),
        compiled=_figures(compiled.circuit, target, support(compiled.observables)),
        qubits=tuple(layout.initial_index_layout(filter_ancillas=True)) if layout is not None else (),
        difference=verify(logical, compiled, snapshot),
    )


def _figures(circuit: QuantumCircuit, target: Target, measured: tuple[int, ...]) -> Figures:
    try:
        duration = circuit.estimate_duration(target, unit="s")
    except QiskitError:  # a gate without a duration
        duration = None
    return Figures(*two_qubit_figures(circuit), duration, predicted_error(circuit, target, measured))
