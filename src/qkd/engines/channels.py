"""A circuit under noise as channels in the Pauli basis.

A channel E on k qubits is the real matrix ``R[i,j] = tr(P_i E(P_j)) / 2^k`` over the 4^k Pauli strings (its Pauli
transfer matrix; Greenbaum, arXiv:1509.02921, sec. 3). Noise is one more such matrix, so it costs nothing once
multiplied in. A gate of one angle is ``R(t) = sum_f w_f(t) T_f`` with the waves of ``gates.py``: products of two of its
matrix entries have no other frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from qiskit.circuit import ParameterExpression, QuantumCircuit
from qiskit.quantum_info import SuperOp
from qiskit_aer.noise import NoiseModel, QuantumError

from qkd.engines.gates import FROM_GRID, GRID, WAVES, Atom, atoms, waves
from qkd.errors import QkdError

LETTERS = "IXYZ"
_PAULIS = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=complex)


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel of at most one angle.

    Args:
        qubits: the k qubits; the first is the most significant digit, base 4, of an index.
        terms: (5, 4^k, 4^k) matrices T_f; a constant channel has only the first.
        angle: what t is, or None for a constant channel.
    """

    qubits: tuple[int, ...]
    terms: np.ndarray
    angle: ParameterExpression | None = None


def channels(circuit: QuantumCircuit, noise: NoiseModel | None) -> list[Channel]:
    """Return the channels of a circuit, in order, each instruction followed by what ``noise`` says of it.

    Raises:
        QkdError: an instruction is no gate, or acts on more than two qubits at once and is not to be taken apart.
    """
    found: list[Channel] = []
    for item in circuit.data:
        qubits = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
        alone = QuantumCircuit(len(qubits))
        alone.append(item.operation, range(len(qubits)))
        for atom in atoms(alone):
            on = tuple(qubits[q] for q in atom.qubits)
            if len(on) > 2:
                raise QkdError(
                    f"'{item.operation.name}' acts on {len(on)} qubits; the light-cone engine takes one- and two-qubit "
                    "gates, so transpile the circuit first"
                )
            found.append(Channel(on, _gate_terms(atom), atom.angle))
        error = _error(noise, item.operation, qubits) if noise is not None else None
        if error is not None:
            found += _noise_channels(error, qubits)
    return found


def _error(noise: NoiseModel, operation: object, qubits: tuple[int, ...]) -> QuantumError | None:
    """Return the error that Aer puts behind an instruction: its qubits' own, else the instruction's."""
    name = getattr(operation, "label", None) or getattr(operation, "name", "")
    for key in dict.fromkeys((name, getattr(operation, "name", ""))):
        local = noise._local_quantum_errors.get(key, {})
        if qubits in local:
            return local[qubits]
        if key in noise._default_quantum_errors:
            return noise._default_quantum_errors[key]
    return None


def _noise_channels(error: QuantumError, qubits: tuple[int, ...]) -> list[Channel]:
    if error.ideal():
        return []
    return [Channel(qubits, constant(ptm(SuperOp(error).data)))]


def readout(noise: NoiseModel | None, qubit: int) -> tuple[float, float]:
    """Return (a, b) such that a measured Pauli on ``qubit`` has the mean ``a <P> + b``.

    With assignment probabilities p(j|i), ``a = p(0|0) + p(1|1) - 1`` and ``b = p(1|1)``'s lead of ``p(0|0)``, negated.

    Raises:
        QkdError: a readout error is correlated between qubits.
    """
    if noise is None:
        return 1.0, 0.0
    for held in noise._local_readout_errors:
        if len(held) > 1 and qubit in held:
            raise QkdError(f"the noise model's readout error on qubits {held} is correlated; give one per qubit")
    error = noise._local_readout_errors.get((qubit,), noise._default_readout_error)
    if error is None:
        return 1.0, 0.0
    (p00, _), (_, p11) = error.probabilities
    return float(p00 + p11 - 1), float(p00 - p11)


def constant(matrix: np.ndarray) -> np.ndarray:
    """Return the terms (5,4^k,4^k) of a constant channel."""
    terms = np.zeros((WAVES, *matrix.shape))
    terms[0] = matrix
    return terms


@lru_cache(maxsize=8)
def _basis(k: int) -> np.ndarray:
    """Return the 4^k Pauli strings as matrices; digit 0 of the index is qubit 0, a matrix's least significant bit."""
    basis = np.ones((1, 1, 1), dtype=complex)
    for _ in range(k):
        basis = np.einsum("jcd,iab->ijcadb", _PAULIS, basis).reshape(
            len(basis) * 4, 2 * basis.shape[1], 2 * basis.shape[2]
        )
    return basis


def ptm(superoperator: np.ndarray) -> np.ndarray:
    """Return the Pauli transfer matrix of a superoperator that acts on column-stacked matrices."""
    d = round(len(superoperator) ** 0.5)
    basis = _basis(d.bit_length() - 1)
    stacked = basis.transpose(0, 2, 1).reshape(len(basis), d * d)
    images = (stacked @ superoperator.T).reshape(len(basis), d, d).transpose(0, 2, 1)
    return np.einsum("iab,jba->ij", basis, images).real / d


def _unitary_ptm(matrix: np.ndarray) -> np.ndarray:
    basis = _basis(len(matrix).bit_length() - 1)
    return np.einsum("iab,jba->ij", basis, matrix @ basis @ matrix.conj().T).real / len(matrix)


def _gate_terms(atom: Atom) -> np.ndarray:
    if atom.angle is None:
        return constant(_unitary_ptm(atom.terms[0]))
    at = waves(torch.from_numpy(GRID)).numpy()
    sampled = np.stack([_unitary_ptm(np.tensordot(row, atom.terms, axes=1)) for row in at])
    terms = np.tensordot(FROM_GRID, sampled, axes=1)
    terms[np.abs(terms) < 1e-14] = 0
    return terms


def embed(terms: np.ndarray, qubits: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """Return terms (5,4^k,4^k) on ``qubits`` as terms (5,4^m,4^m) on the m qubits of ``order``."""
    m, k = len(order), len(qubits)
    place = {qubit: axis for axis, qubit in enumerate(order)}
    rest = [axis for axis in range(m) if order[axis] not in qubits]
    whole = np.einsum("fij,kl->fikjl", terms, np.eye(4 ** len(rest))).reshape([WAVES] + [4] * (2 * m))
    axes = np.argsort([place[qubit] for qubit in qubits] + rest)
    return whole.transpose([0, *(1 + axes), *(1 + m + axes)]).reshape(WAVES, 4**m, 4**m) if k else whole


def multiply(later: Channel, earlier: Channel) -> Channel | None:
    """Return the channel that does ``earlier`` and then ``later`` on the same qubits, or None if both have angles."""
    if later.angle is not None and earlier.angle is not None:
        return None
    if later.angle is None:
        return Channel(earlier.qubits, later.terms[0] @ earlier.terms, earlier.angle)
    return Channel(earlier.qubits, later.terms @ earlier.terms[0], later.angle)


def strings(observables: Mapping[int, str], noise: NoiseModel | None) -> dict[int, np.ndarray]:
    """Return per qubit of a Pauli string the coefficients (4,) of what is really measured, readout error included."""
    found = {}
    for qubit, letter in observables.items():
        a, b = readout(noise, qubit)
        found[qubit] = np.eye(4)[LETTERS.index(letter)] * a + np.eye(4)[0] * b
    return found
