"""Controls by name."""

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
"""Classical controls by name: functions of the circuit whose size they have, and of C."""


def make_control(name: str, circuit: StudentCircuit, classes: int, engine: EngineSpec) -> StudentCore:
    """Return the core of a control with a circuit's size.

    Args:
        name: ``linear``, ``mlp``, ``fourier``, or ``product``, the circuit without its entanglers.
        circuit: the circuit whose size the control has.
        classes: C.
        engine: the engine that runs ``product``.

    Raises:
        QkdError: there is no such control.
    """
    if name == "product":
        alone = without_entanglers(circuit)
        return QuantumCore(alone, make_engine(engine, alone))
    if name not in CLASSICAL:
        raise ConfigError(f"there is no control '{name}'{nearest(name, [*CLASSICAL, 'product'])}")
    return CLASSICAL[name](circuit, classes)


def without_entanglers(circuit: StudentCircuit) -> StudentCircuit:
    """Return the single-qubit gates of a circuit with their parameters, in the same order."""
    product = QuantumCircuit(circuit.num_qubits, name="product")
    for item in circuit.circuit.data:
        if len(item.qubits) == 1:
            product.append(item.operation, [circuit.circuit.find_bit(item.qubits[0]).index])
    used = set(product.parameters)
    return StudentCircuit(
        product,
        tuple(parameter for parameter in circuit.inputs if parameter in used),
        tuple(parameter for parameter in circuit.weights if parameter in used),
        circuit.observables,
        name="product",
    )
