"""Past light cones: the part of a circuit on which an observable depends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from qiskit.circuit import CircuitInstruction, QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp

from qkd.circuits.student import StudentCircuit


def past(circuit: QuantumCircuit, qubits: Iterable[int]) -> tuple[tuple[int, ...], list[CircuitInstruction]]:
    """Return the past light cone of ``qubits``: its qubits in ascending order and its gates in order of time.

    Every gate that touches the cone widens it, also if it commutes with the observable, so this is an upper bound.
    Qiskit's ``LightCone`` pass omits gates that commute with the observable, but their noise need not commute.
    """
    cone = set(qubits)
    items = []
    for item in reversed(circuit.data):
        on = {circuit.find_bit(qubit).index for qubit in item.qubits}
        if on & cone and item.operation.name != "barrier":
            cone |= on
            items.append(item)
    return tuple(sorted(cone)), items[::-1]


def cone_qubits(circuit: StudentCircuit, observable: int) -> tuple[int, ...]:
    """Return the qubits in the past light cone of one observable."""
    return past(circuit.circuit, support([circuit.observables[observable]]))[0]


def input_uses(circuit: StudentCircuit, observable: int) -> list[int]:
    """Return for each input (A,) how many angles in an observable's light cone contain it: its highest frequency."""
    _, items = past(circuit.circuit, support([circuit.observables[observable]]))
    uses = Counter(p for item in items for value in item.operation.params for p in getattr(value, "parameters", ()))
    return [uses[parameter] for parameter in circuit.inputs]


def cut(circuit: StudentCircuit, observables: Sequence[int]) -> StudentCircuit:
    """Return the smallest circuit with the same expectation values of some observables, given by number.

    It has the qubits and gates of their light cones, and the inputs and weights that occur there, in the same order.
    """
    qubits, items = past(circuit.circuit, support(circuit.observables[k] for k in observables))
    qubits = qubits or (0,)  # the identity has an empty cone, but a circuit needs a qubit
    narrow_circuit = narrowed(circuit.circuit, qubits, items)
    used = set(narrow_circuit.parameters)
    return StudentCircuit(
        narrow_circuit,
        tuple(p for p in circuit.inputs if p in used),
        tuple(p for p in circuit.weights if p in used),
        tuple(narrow(circuit.observables[k], qubits) for k in observables),
        name=circuit.name,
        start=tuple(x for p, x in zip(circuit.inputs, circuit.start, strict=False) if p in used),
    )


def narrowed(circuit: QuantumCircuit, qubits: Sequence[int], items: Iterable[CircuitInstruction]) -> QuantumCircuit:
    """Return a circuit of some of a circuit's gates on ``qubits``, which become 0, 1, ..."""
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
    """Return an observable restricted to ``qubits``; it must be the identity on all other qubits."""
    paulis = observable.paulis
    restricted = PauliList.from_symplectic(paulis.z[:, qubits], paulis.x[:, qubits], paulis.phase)
    return SparsePauliOp(restricted, observable.coeffs)
