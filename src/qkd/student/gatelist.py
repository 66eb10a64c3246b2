"""A circuit with fixed weights as a list of gates that a plain numpy statevector runs.

This is the fallback form of circuits whose light cones hold too many inputs, such as re-uploading circuits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qiskit import transpile
from qiskit.circuit import ParameterExpression, QuantumCircuit
from qiskit.quantum_info import Operator

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import ModelError
from qkd.engines.expressions import linear_form

# Widest statevector: 2^14 complex amplitudes for each text.
MAX_QUBITS = 14
CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class Gate:
    """A constant matrix, or a rotation exp(-i t Z / 2) by a linear function t of the inputs.

    Attributes:
        qubits: One or two qubits; the first is the least significant bit of the matrix.
        matrix: Unitary (2,2) or (4,4), or None for a rotation.
        slopes: Coefficient of each input (A,) in t; None for a constant matrix.
        offset: Constant part of t, radians.
    """

    qubits: tuple[int, ...]
    matrix: np.ndarray | None = None
    slopes: np.ndarray | None = None
    offset: float = 0.0


@dataclass(frozen=True)
class PauliTerm:
    """A Pauli string with its coefficient, as bit masks over the qubits.

    Attributes:
        coefficient: Real factor.
        x: Bits of the qubits with X or Y.
        z: Bits of the qubits with Z or Y.
    """

    coefficient: float
    x: int
    z: int


@dataclass(frozen=True)
class GateList:
    """Expectation values (B,K) of a circuit, computed with statevectors.

    Attributes:
        num_qubits: n.
        gates: The gates, the first acts first on |0...0>.
        observables: The Pauli terms of each of the K observables.
    """

    num_qubits: int
    gates: tuple[Gate, ...]
    observables: tuple[tuple[PauliTerm, ...], ...]

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return expectation values (B,K) at angles (B,A)."""
        rows = max(1, CHUNK_BYTES // (16 << self.num_qubits))
        parts = [self._values(angles[start : start + rows]) for start in range(0, len(angles), rows)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.observables)))

    def _values(self, angles: np.ndarray) -> np.ndarray:
        state = np.zeros((1 << self.num_qubits, len(angles)), dtype=complex)
        state[0] = 1.0
        for gate in self.gates:
            state = self._apply(gate, state, angles)
        index = np.arange(len(state))
        values = np.zeros((len(angles), len(self.observables)))
        for k, terms in enumerate(self.observables):
            for term in terms:
                signs = 1 - 2.0 * (np.bitwise_count(index & term.z) & 1)
                phase = 1j ** (np.bitwise_count(np.array(term.x & term.z)) % 4)
                moved = phase * signs[:, None] * state
                values[:, k] += term.coefficient * np.einsum("sb,sb->b", state[index ^ term.x].conj(), moved).real
        return values

    def _apply(self, gate: Gate, state: np.ndarray, angles: np.ndarray) -> np.ndarray:
        n = self.num_qubits
        axes = [n - 1 - qubit for qubit in reversed(gate.qubits)]  # axis 0 is the most significant bit
        grid = np.moveaxis(state.reshape(*[2] * n, -1), axes, range(len(axes)))
        if gate.matrix is None:
            phase = np.exp(-0.5j * (angles @ gate.slopes + gate.offset))
            moved = np.stack([grid[0] * phase, grid[1] * phase.conj()])
        else:
            moved = (gate.matrix @ grid.reshape(len(gate.matrix), -1)).reshape(grid.shape)
        return np.moveaxis(moved, range(len(axes)), axes).reshape(state.shape)


def gate_list(circuit: StudentCircuit, weights: np.ndarray) -> GateList:
    """Return the gates of a circuit at fixed weights.

    Raises:
        ModelError: A gate's angle is no linear function of the inputs, or the circuit is not unitary.
    """
    bound = circuit.circuit.assign_parameters(dict(zip(circuit.weights, weights.tolist(), strict=True)))
    try:
        plain = transpile(bound, basis_gates=["rz", "sx", "x", "cz"], optimization_level=0)
    except Exception as error:
        raise ModelError(f"circuit '{circuit.name}' cannot be decomposed into gates ({error})") from None
    gates: list[Gate] = []
    for item in plain.data:
        qubits = tuple(plain.find_bit(qubit).index for qubit in item.qubits)
        angle = item.operation.params[0] if item.operation.params else None
        if item.operation.name == "barrier":
            continue
        if isinstance(angle, ParameterExpression) and angle.parameters:
            form = linear_form(angle)
            if form is None:
                raise ModelError(f"circuit '{circuit.name}': the angle '{angle}' is no linear function of the inputs")
            slopes = np.array([form[1].get(parameter, 0.0) for parameter in circuit.inputs])
            gates.append(Gate(qubits, slopes=slopes, offset=form[0]))
            continue
        try:
            matrix = np.asarray(item.operation.to_matrix(), dtype=complex)
        except Exception:
            raise ModelError(f"circuit '{circuit.name}': '{item.operation.name}' is no unitary gate") from None
        _append(gates, Gate(qubits, matrix))
    return GateList(circuit.num_qubits, tuple(gates), pauli_terms(circuit))


def pauli_terms(circuit: StudentCircuit) -> tuple[tuple[PauliTerm, ...], ...]:
    """Return the Pauli terms of each observable of a circuit."""
    observables = []
    for observable in circuit.observables:
        terms = []
        for letters, qubits, coefficient in observable.to_sparse_list():
            x = sum(1 << q for letter, q in zip(letters, qubits, strict=True) if letter in "XY")
            z = sum(1 << q for letter, q in zip(letters, qubits, strict=True) if letter in "ZY")
            terms.append(PauliTerm(float(np.real(coefficient)), x, z))
        observables.append(tuple(terms))
    return tuple(observables)


def _append(gates: list[Gate], gate: Gate) -> None:
    """Add a constant gate, multiplied into the last gate on its qubits where their union is at most two qubits."""
    last = next((i for i in range(len(gates) - 1, -1, -1) if set(gates[i].qubits) & set(gate.qubits)), None)
    if last is not None and gates[last].matrix is not None and set(gate.qubits) <= set(gates[last].qubits):
        before = gates[last]
        circuit = QuantumCircuit(len(before.qubits))
        circuit.unitary(before.matrix, range(len(before.qubits)))
        circuit.unitary(gate.matrix, [before.qubits.index(qubit) for qubit in gate.qubits])
        gates[last] = Gate(before.qubits, np.asarray(Operator(circuit).data))
    else:
        gates.append(gate)
