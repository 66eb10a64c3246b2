"""Past light cones: the part of a circuit on which an observable depends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from qiskit.circuit import CircuitInstruction, QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp

from qkd.circuits.student import StudentCircuit


def past(circuit: QuantumCircuit, qubits: Iterable[int]) -> tuple[tuple[int, ...], list[CircuitInstruction]]:
    """Return the past light cone of ``qubits``: its qubits in ascending order and, first to last, its gates.

    Gates widen a cone whether or not they commute with what they meet, so this is an upper bound. Not Qiskit's
    ``LightCone`` pass, which leaves gates out that commute with the observable: their noise does not.
    """
    cone = set(qubits)
    items = []
    for item in reversed(circuit.data):
        on = {circuit.find_bit(qubit).index for qubit in item.qubits}
        if on & cone and item.operation.name != "barrier":
            cone |= on
            items.append(item)
    return tuple(sorted(cone)), items[::-1]


def cone_qubits(student: StudentCircuit, observable: int) -> tuple[int, ...]:
    """Return the qubits in the past light cone of one observable."""
    return past(student.circuit, support([student.observables[observable]]))[0]


def cut(student: StudentCircuit, observables: Sequence[int]) -> StudentCircuit:
    """Return the smallest student with the same expectation values of the observables numbered.

    It has the qubits and gates of their light cones alone, with the inputs and weights that occur there, in
    the same order.
    """
    qubits, items = past(student.circuit, support(student.observables[k] for k in observables))
    qubits = qubits or (0,)  # the identity depends on nothing, and a circuit of no qubit is none
    circuit = narrowed(student.circuit, qubits, items)
    used = set(circuit.parameters)
    return StudentCircuit(
        circuit,
        tuple(p for p in student.inputs if p in used),
        tuple(p for p in student.weights if p in used),
        tuple(narrow(student.observables[k], qubits) for k in observables),
        name=student.name,
        start=tuple(x for p, x in zip(student.inputs, student.start, strict=False) if p in used),
    )


def narrowed(circuit: QuantumCircuit, qubits: Sequence[int], items: Iterable[CircuitInstruction]) -> QuantumCircuit:
    """Return a circuit of some of a circuit's gates on ``qubits`` alone, which become 0, 1, ..."""
    place = {qubit: i for i, qubit in enumerate(qubits)}
    small = QuantumCircuit(len(qubits), name=circuit.name)
    for item in items:
        small.append(item.operation, [place[circuit.find_bit(qubit).index] for qubit in item.qubits])
    return small


def support(observables: Iterable[SparsePauliOp]) -> tuple[int, ...]:
    """Return the qubits on which any of the observables acts, in ascending order."""
    qubits: set[int] = set()
    for observable in observables:
        paulis = observable.paulis
        qubits.update(np.flatnonzero((paulis.x | paulis.z).any(axis=0)).tolist())
    return tuple(sorted(qubits))


def narrow(observable: SparsePauliOp, qubits: Sequence[int]) -> SparsePauliOp:
    """Return an observable on ``qubits`` alone, outside which it is the identity."""
    paulis = observable.paulis
    restricted = PauliList.from_symplectic(paulis.z[:, qubits], paulis.x[:, qubits], paulis.phase)
    return SparsePauliOp(restricted, observable.coeffs)
