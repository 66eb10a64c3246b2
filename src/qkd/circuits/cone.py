"""Past light cones: the part of a circuit on which an observable depends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qiskit.circuit import CircuitInstruction, QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp

from qkd.circuits.student import StudentCircuit


def cone_qubits(student: StudentCircuit, observable: int) -> tuple[int, ...]:
    """Return the qubits, in ascending order, in the past light cone of one observable.

    Gates widen a cone whether or not they commute with what they meet, so this is an upper bound.
    """
    return _past(student, [observable])[0]


def cut(student: StudentCircuit, observables: Sequence[int]) -> StudentCircuit:
    """Return the smallest student with the same expectation values of the observables numbered.

    It has the qubits and gates of their light cones alone, with the inputs and weights that occur there, in
    the same order.
    """
    qubits, items = _past(student, observables)
    qubits = qubits or (0,)  # the identity depends on nothing, and a circuit of no qubit is none
    place = {qubit: i for i, qubit in enumerate(qubits)}
    circuit = QuantumCircuit(len(qubits), name=student.circuit.name)
    for item in items:
        circuit.append(item.operation, [place[student.circuit.find_bit(q).index] for q in item.qubits])
    used = set(circuit.parameters)
    return StudentCircuit(
        circuit,
        tuple(p for p in student.inputs if p in used),
        tuple(p for p in student.weights if p in used),
        tuple(_narrow(student.observables[k], qubits) for k in observables),
        name=student.name,
    )


def _past(student: StudentCircuit, observables: Sequence[int]) -> tuple[tuple[int, ...], list[CircuitInstruction]]:
    """Return the qubits and, first to last, the gates in the past of some observables."""
    cone: set[int] = set()
    for k in observables:
        paulis = student.observables[k].paulis
        cone.update(np.flatnonzero((paulis.x | paulis.z).any(axis=0)).tolist())
    items = []
    for item in reversed(student.circuit.data):
        qubits = {student.circuit.find_bit(qubit).index for qubit in item.qubits}
        if qubits & cone and item.operation.name != "barrier":
            cone |= qubits
            items.append(item)
    return tuple(sorted(cone)), items[::-1]


def _narrow(observable: SparsePauliOp, qubits: Sequence[int]) -> SparsePauliOp:
    """Return an observable on ``qubits`` alone, outside which it is the identity."""
    paulis = observable.paulis
    kept = PauliList.from_symplectic(paulis.z[:, qubits], paulis.x[:, qubits], paulis.phase)
    return SparsePauliOp(kept, observable.coeffs)
