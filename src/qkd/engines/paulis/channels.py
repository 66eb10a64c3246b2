"""A circuit under noise as channels in the Pauli basis.

A channel E on k qubits is the real matrix ``R[i,j] = tr(P_i E(P_j)) / 2^k`` over the 4^k Pauli strings (its Pauli
transfer matrix; Greenbaum, arXiv:1509.02921, sec. 3). Noise is one more such matrix, so it costs nothing once
multiplied in. A gate of one angle is ``R(t) = sum_f w_f(t) T_f`` with the waves of ``gates.py``: products of two of its
matrix entries have no other frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from qiskit.circuit import Gate, Instruction, ParameterExpression, QuantumCircuit
from qiskit.quantum_info import SuperOp
from qiskit_aer.noise import LocalNoisePass, NoiseModel, QuantumError

from qkd.engines.gates import FROM_GRID, GRID, WAVES, Atom, atoms, waves
from qkd.errors import QkdError

LETTERS = "IXYZ"
_PAULIS = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=complex)
_RESET = np.outer([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0])


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
        QkdError: an instruction measures or is otherwise no channel, or acts on more than two qubits at once.
    """
    return [as_channel(one) for one in events(circuit, noise)]


def events(circuit: QuantumCircuit, noise: NoiseModel | None) -> Iterator[Atom | Channel]:
    """Yield the gates of a circuit as atoms, and what is not unitary (noise, resets) as constant channels.

    Raises:
        QkdError: as ``channels``.
    """
    known: dict[int, tuple[QuantumError, np.ndarray]] = {}
    for operation, qubits, clbits in _unrolled(circuit, range(circuit.num_qubits)):
        if operation.name == "reset":
            yield Channel(qubits, constant(_RESET))
        else:
            alone = QuantumCircuit(len(qubits), clbits)
            alone.append(operation, range(len(qubits)), range(clbits))
            for atom in atoms(alone):
                if len(atom.qubits) > 2:
                    raise QkdError(
                        f"'{operation.name}' acts on {len(atom.qubits)} qubits; the engines that know noise take one- "
                        "and two-qubit gates, so transpile the circuit first"
                    )
                yield Atom(tuple(qubits[q] for q in atom.qubits), atom.terms, atom.angle)
        for error in _errors(noise, operation, qubits) if noise is not None else ():
            if id(error) not in known:
                known[id(error)] = error, constant(_transfer(error))
            yield Channel(qubits, known[id(error)][1])


def as_channel(one: Atom | Channel) -> Channel:
    """Return a gate as a channel."""
    return Channel(one.qubits, _gate_terms(one), one.angle) if isinstance(one, Atom) else one


def _unrolled(circuit: QuantumCircuit, qubits: Sequence[int]) -> Iterator[tuple[Any, tuple[int, ...], int]]:
    """Yield instructions, their qubits and number of clbits, subcircuits made gates replaced by what is in them."""
    for item in circuit.data:
        on = tuple(qubits[circuit.find_bit(qubit).index] for qubit in item.qubits)
        if type(item.operation) in (Gate, Instruction) and item.operation.definition is not None:
            yield from _unrolled(item.operation.definition, on)
        else:
            yield item.operation, on, len(item.clbits)


def _errors(noise: NoiseModel, operation: Any, qubits: tuple[int, ...]) -> Iterator[QuantumError]:
    """Yield the errors that Aer puts behind an instruction.

    They are found by its label, if it has one, else by its name: its qubits' own error, or the one for all qubits;
    then what the model's own passes add, the relaxation during a delay.
    """
    name = getattr(operation, "label", None) or operation.name
    error = noise._local_quantum_errors.get(name, {}).get(qubits, noise._default_quantum_errors.get(name))
    if error is not None:
        yield error
    for added in noise._custom_noise_passes:
        if not isinstance(added, LocalNoisePass) or added._method != "append":
            raise QkdError(f"the noise model changes circuits by a {type(added).__name__}, which only Aer can do")
        if not added._ops or isinstance(operation, added._ops):
            error = added._func(operation, list(qubits))
            if error is not None:
                yield error if isinstance(error, QuantumError) else QuantumError([(error, 1.0)])


def _transfer(error: QuantumError) -> np.ndarray:
    """Return the transfer matrix of an error: of its circuits' instructions multiplied, of its circuits averaged."""
    k = error.num_qubits
    total = np.zeros((4**k, 4**k))
    for circuit, probability in zip(error.circuits, error.probabilities, strict=True):
        product = np.eye(4**k)
        for item in circuit.data:
            on = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
            product = _instruction(_Instruction(item.operation), on, k) @ product
        total += probability * product
    return total


class _Instruction:
    """An error's instruction, equal to any other of the same name and parameters: few occur in many errors."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation
        self._key = (operation.name, *(np.asarray(p).tobytes() for p in operation.params))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Instruction) and self._key == other._key


@lru_cache(maxsize=4096)
def _instruction(instruction: _Instruction, qubits: tuple[int, ...], k: int) -> np.ndarray:
    return embed(constant(ptm(SuperOp(instruction.operation).data)), qubits, range(k))[0]


def readout(noise: NoiseModel | None, qubit: int) -> tuple[float, float]:
    """Return (a, b) such that a measured Pauli on ``qubit`` has the mean ``a <P> + b``.

    With the assignment probabilities p(j|i), ``a = p(0|0) + p(1|1) - 1`` and ``b = p(0|0) - p(1|1)``.

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


def kraus(matrix: np.ndarray) -> np.ndarray:
    """Return Kraus operators (M,2^k,2^k) of a transfer matrix, orthogonal ones, the first digit most significant.

    They are the eigenvectors of the Choi matrix ``2^-k sum_ij R[i,j] P_j^T (x) P_i``.
    """
    basis = np.ones((1, 1, 1), dtype=complex)
    while len(basis) < len(matrix):
        basis = np.einsum("iab,jcd->ijacbd", basis, _PAULIS).reshape(-1, 2 * basis.shape[1], 2 * basis.shape[2])
    d = basis.shape[1]
    choi = np.einsum("ij,jba,icd->acbd", matrix, basis, basis).reshape(d * d, d * d) / d
    values, vectors = np.linalg.eigh(choi)
    held = values > 1e-13
    return (np.sqrt(values[held])[:, None] * vectors[:, held].T).reshape(-1, d, d).transpose(0, 2, 1)


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
