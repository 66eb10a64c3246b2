"""Circuits as text: a drawing, the numbers of gates, the depths."""

from __future__ import annotations

from dataclasses import dataclass

from qiskit.circuit import CircuitInstruction

from qkd.circuits.student import StudentCircuit

MAX_DRAWN_QUBITS = 30
"""Maximum number of qubits of a readable drawing."""


@dataclass(frozen=True)
class Counts:
    """The size of a student circuit.

    Attributes:
        qubits: The number n of qubits.
        inputs: The number A of inputs.
        weights: The number P of weights.
        observables: The number K of observables.
        gates: The number of gates of each name, without barriers.
        depth: The number of gates on the longest path.
        two_qubit_gates: The number of gates on two or more qubits.
        two_qubit_depth: The number of these gates on the longest path.
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


def count(circuit: StudentCircuit) -> Counts:
    """Return the size of a circuit."""
    operations = circuit.circuit
    return Counts(
        qubits=circuit.num_qubits,
        inputs=len(circuit.inputs),
        weights=len(circuit.weights),
        observables=len(circuit.observables),
        gates={name: number for name, number in operations.count_ops().items() if name != "barrier"},
        depth=operations.depth(),
        two_qubit_gates=sum(map(_entangles, operations.data)),
        two_qubit_depth=operations.depth(_entangles),
    )


def circuit_text(circuit: StudentCircuit, columns: int = 150) -> str:
    """Return the circuit drawn in characters, folded at ``columns``, or a remark if it is too wide."""
    if circuit.num_qubits > MAX_DRAWN_QUBITS:
        return f"({circuit.num_qubits} qubits: too wide to draw)"
    return str(circuit.circuit.draw("text", fold=columns, idle_wires=True))


def _entangles(item: CircuitInstruction) -> bool:
    return len(item.qubits) > 1 and item.operation.name != "barrier"
