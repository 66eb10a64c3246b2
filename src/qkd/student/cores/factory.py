"""A core by its name."""

from __future__ import annotations

from collections.abc import Callable

from qiskit import QuantumCircuit

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.core.errors import ConfigError, nearest
from qkd.simulation.factory import make_engine
from qkd.student.cores.base import StudentCore
from qkd.student.cores.classical import Fourier, Linear, Mlp
from qkd.student.cores.quantum import QuantumCore

CLASSICAL: dict[str, Callable[[StudentCircuit, int], StudentCore]] = {"linear": Linear, "mlp": Mlp, "fourier": Fourier}
"""Classical controls by name: each is made of the circuit whose size it takes and of C."""


def make_control(name: str, circuit: StudentCircuit, classes: int, engine: EngineSpec) -> StudentCore:
    """Return the core of a control of a circuit's size.

    Args:
        name: ``linear``, ``mlp``, ``fourier``, or ``product``, the circuit without its entanglers.
        circuit: the circuit that the control stands beside.
        classes: C.
        engine: what runs ``product``.

    Raises:
        QkdError: there is no such control.
    """
    if name == "product":
        alone = without_entanglers(circuit)
        return QuantumCore(alone, make_engine(engine, alone))
    if name not in CLASSICAL:
        raise ConfigError(f"there is no control '{name}'{nearest(name, [*CLASSICAL, 'product'])}")
    return CLASSICAL[name](circuit, classes)


def without_entanglers(student: StudentCircuit) -> StudentCircuit:
    """Return a circuit's gates on single qubits alone, with the parameters that occur there, in the same order."""
    circuit = QuantumCircuit(student.num_qubits, name="product")
    for item in student.circuit.data:
        if len(item.qubits) == 1:
            circuit.append(item.operation, [student.circuit.find_bit(item.qubits[0]).index])
    used = set(circuit.parameters)
    return StudentCircuit(
        circuit,
        tuple(parameter for parameter in student.inputs if parameter in used),
        tuple(parameter for parameter in student.weights if parameter in used),
        student.observables,
        name="product",
    )
