"""Cost of AerSimulator for a circuit under noise, for each of its simulation methods.

The constants are seconds on one core, fitted to Aer 0.18.2 with IBM's noise models. They are no measurements of the
machine at hand, so that the same circuit is simulated with the same method everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qiskit.circuit import CircuitInstruction

from qkd.circuits.cone import past
from qkd.circuits.student import StudentCircuit
from qkd.engines.aer import MAX_EXACT_QUBITS
from qkd.engines.measured import measurement_groups
from qkd.engines.program import pauli_terms
from qkd.simulation.choice import MAX_STATE_QUBITS

METHODS = {
    "density_matrix": "density matrices",
    "statevector": "trajectories of statevectors",
    "matrix_product_state": "trajectories of matrix product states",
}
"""Aer's methods under noise with their descriptions."""


@dataclass(frozen=True)
class Load:
    """Pauli strings that are measured together, with the size of their light cone.

    Attributes:
        strings: The indices of the Pauli strings.
        qubits: The number of qubits in the light cone.
        gates: The number of gates in the light cone.
        bond: An upper bound on the bond dimension of a matrix product state.
    """

    strings: tuple[int, ...]
    qubits: int
    gates: int
    bond: int

    def seconds(self, method: str, shots: int) -> float:
        """Return the estimated seconds for one parameter vector."""
        if method == "density_matrix":
            return self.gates * (3e-5 + 2e-9 * 4**self.qubits)
        if method == "statevector":
            return shots * self.gates * (5e-6 + 6.4e-9 * 2**self.qubits)
        return shots * self.gates * (1.8e-5 + 1.4e-9 * self.bond**3)


def loads(student: StudentCircuit, noisy: bool) -> list[Load]:
    """Return the groups of Pauli strings that AerSimulator measures together for a circuit."""
    terms, _, _ = pauli_terms(student.observables)
    groups = []
    for strings, qubits in measurement_groups(student.circuit, terms, noisy):
        measured = {qubit for t in strings for qubit, _ in terms[t]}
        items = past(student.circuit, measured)[1]
        groups.append(Load(tuple(strings), len(qubits), len(items), _bond(student, qubits, items)))
    return groups


def cheapest(groups: Sequence[Load], shots: int) -> str:
    """Return the method for the widest light cones: exact if possible, else the fastest."""
    if all(load.qubits <= MAX_EXACT_QUBITS for load in groups):
        return "density_matrix"
    methods = ["matrix_product_state"]
    if all(load.qubits <= MAX_STATE_QUBITS for load in groups):
        methods.append("statevector")
    return min(methods, key=lambda method: max(load.seconds(method, shots) for load in groups))


def _bond(student: StudentCircuit, qubits: Sequence[int], items: Sequence[CircuitInstruction]) -> int:
    """Return a bound on the bond dimension. Every two-qubit gate across a cut of the ordered qubits doubles it."""
    place = {qubit: i for i, qubit in enumerate(qubits)}
    crossings = [0] * max(1, len(qubits) - 1)
    for item in items:
        on = [place[student.circuit.find_bit(qubit).index] for qubit in item.qubits]
        for cut in range(min(on), max(on)):
            crossings[cut] += 1
    return max(2 ** min(count, cut + 1, len(qubits) - 1 - cut) for cut, count in enumerate(crossings))
