"""What a circuit is made of, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from qiskit.circuit import CircuitInstruction

from qkd.circuits.student import StudentCircuit


@dataclass(frozen=True)
class Counts:
    """The size of a student circuit.

    qubits, inputs, weights, observables: n, A, P and K.
    gates: how many there are of each name.
    depth: gates on the longest path.
    two_qubit_gates, two_qubit_depth: the same of gates on two or more qubits alone.
    """

    qubits: int
    inputs: int
    weights: int
    observables: int
    gates: dict[str, int]
    depth: int
    two_qubit_gates: int
    two_qubit_depth: int

    def size(self) -> str:
        """Return n, A, P and K in words."""
        return f"{self.qubits} qubits, {self.inputs} inputs, {self.weights} weights, {self.observables} observables"

    def render(self) -> str:
        """Return size, gates and depths in one line."""
        gates = ", ".join(f"{count} {name}" for name, count in self.gates.items()) or "no gates"
        return (
            f"{self.size()}; {gates}; depth {self.depth}; "
            f"{self.two_qubit_gates} two-qubit gates, two-qubit depth {self.two_qubit_depth}"
        )


def count(student: StudentCircuit) -> Counts:
    """Return what ``student`` is made of; barriers count for nothing."""
    circuit = student.circuit
    gates = {name: number for name, number in circuit.count_ops().items() if name != "barrier"}
    return Counts(
        qubits=student.num_qubits,
        inputs=len(student.inputs),
        weights=len(student.weights),
        observables=len(student.observables),
        gates=gates,
        depth=circuit.depth(),
        two_qubit_gates=sum(map(_entangles, circuit.data)),
        two_qubit_depth=circuit.depth(_entangles),
    )


def _entangles(item: CircuitInstruction) -> bool:
    return len(item.qubits) > 1 and item.operation.name != "barrier"
