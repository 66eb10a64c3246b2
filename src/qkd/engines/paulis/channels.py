"""A circuit under noise as channels in the Pauli basis.

A channel E on k qubits is the real matrix ``R[i,j] = tr(P_i E(P_j)) / 2^k`` over the 4^k Pauli strings (its Pauli
transfer matrix; Greenbaum, arXiv:1509.02921, sec. 3). Noise is one more such matrix, so it costs nothing once
multiplied in. A gate of one angle is ``R(t) = sum_f w_f(t) T_f`` with the waves of ``gates.py``: products of two of its
matrix entries have no other frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from qiskit.circuit import ParameterExpression, QuantumCircuit, Reset
from qiskit.quantum_info import SuperOp
from qiskit_aer.noise import NoiseModel, QuantumError

from qkd.engines.gates import FROM_GRID, GRID, WAVES, Atom, gate_atoms, waves
from qkd.engines.gates import constant as gate_constant
from qkd.engines.instructions import CHANNELS, Leaf, leaves
from qkd.engines.keys import operation_key
from qkd.engines.noise import Noise, NoiseLike, Placed, added, assignment, error_of
from qkd.errors import EngineError

LETTERS = "IXYZ"
_PAULIS = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=complex)
_READ_Z = np.array([0.0, 0.0, 0.0, 1.0])
TO_Z = {"X": np.array([[1, 1], [1, -1]]) / math.sqrt(2), "Y": np.array([[1, -1j], [1, 1j]]) / math.sqrt(2)}
"""What turns a measurement of X or Y into one of Z."""
_RESET = np.outer([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel of at most one angle.

    Args:
        qubits: the k qubits; the first is the most significant digit, base 4, of an index.
        terms: (5, 4^k, 4^k) matrices T_f; a constant channel has only the first. With six the angle is a rate and the
            last wave ``exp(-2 t)``.
        angle: what t is, or None for a constant channel.
    """

    qubits: tuple[int, ...]
    terms: np.ndarray
    angle: ParameterExpression | None = None


def channels(circuit: QuantumCircuit, noise: NoiseLike, measured: Collection[int] = ()) -> list[Channel]:
    """Return the channels of a circuit, in order, each instruction followed by what ``noise`` says of it.

    Args:
        circuit: the circuit.
        noise: Aer's noise model.
        measured: qubits behind which stands what reading them does; see ``reading``.

    Raises:
        EngineError: an instruction measures or is otherwise no channel, or an error acts on more than two qubits.
    """
    found = [as_channel(one) for one in events(circuit, noise)]
    return found + readings(noise, measured)


def events(circuit: QuantumCircuit, noise: NoiseLike) -> Iterator[Atom | Channel]:
    """Yield the gates of a circuit as atoms, and what is not unitary (noise, resets) as constant channels.

    Raises:
        EngineError: as ``channels``.
    """
    known: dict[int, tuple[QuantumError, np.ndarray]] = {}
    every = Noise.of(noise)
    for leaf, behind in every.placed(leaves(circuit, every.names)):
        if isinstance(leaf.operation, Reset):
            yield Channel(leaf.qubits, constant(_RESET))
        elif leaf.operation is not None and leaf.operation.name in CHANNELS:
            if len(leaf.qubits) > 2:
                raise EngineError(f"a channel acts on qubits {list(leaf.qubits)}; the engines take two at most")
            yield Channel(leaf.qubits, constant(ptm(SuperOp(leaf.operation).data)))
        elif leaf.operation is not None:
            yield from gate_atoms(leaf.operation, leaf.qubits, widest=2)
        for error in _errors(every.model, leaf) if every.model is not None else ():
            if id(error) not in known:
                known[id(error)] = error, constant(_transfer(error))
            yield Channel(leaf.qubits, known[id(error)][1])
        yield from map(_term, behind)


def as_channel(one: Atom | Channel) -> Channel:
    """Return a gate as a channel."""
    return Channel(one.qubits, _gate_terms(one), one.angle) if isinstance(one, Atom) else one


def _term(placed: Placed) -> Atom | Channel:
    """Return a noise term as a gate or a channel; a rate that is a parameter has a wave of its own."""
    k, amount = len(placed.qubits), placed.amount
    if placed.coherent:
        pauli = np.ones((1, 1))
        for letter in placed.letters:
            pauli = np.kron(_PAULIS[LETTERS.index(letter)], pauli)
        terms = np.zeros((WAVES, 2**k, 2**k), dtype=complex)
        terms[1], terms[2] = np.eye(2**k), -1j * pauli
        if isinstance(amount, ParameterExpression):
            return Atom(placed.qubits, terms, amount)
        matrix = math.cos(amount / 2) * terms[1] + math.sin(amount / 2) * terms[2]
        return Atom(placed.qubits, gate_constant(matrix))
    odd = np.zeros(1, dtype=bool)
    for letter in placed.letters:
        anticommutes = np.array([i not in (0, LETTERS.index(letter)) for i in range(4)])
        odd = (odd[:, None] ^ anticommutes).reshape(-1)
    if isinstance(amount, ParameterExpression):
        damped = np.zeros((WAVES + 1, 4**k, 4**k))
        damped[0], damped[WAVES] = np.diag(1.0 * ~odd), np.diag(1.0 * odd)
        return Channel(placed.qubits, damped, amount)
    return Channel(placed.qubits, constant(np.diag(np.where(odd, math.exp(-2 * amount), 1.0))))


def _errors(noise: NoiseModel, leaf: Leaf) -> Iterator[QuantumError]:
    """Yield the errors that Aer puts behind an instruction: its own, then what the model's passes add."""
    error = None if leaf.error is None else error_of(noise, leaf.error, leaf.qubits)
    for one in [*([] if error is None else [error]), *added(noise, leaf.operation, leaf.qubits)]:
        if one.num_qubits != len(leaf.qubits) or one.num_qubits > 2:
            raise EngineError(
                f"the noise model's error of '{leaf.error}' on qubits {list(leaf.qubits)} acts on {one.num_qubits} "
                "qubits; the engines that know noise take errors of one- and two-qubit gates"
            )
        yield one


def _transfer(error: QuantumError) -> np.ndarray:
    """Return the transfer matrix of an error: of its circuits' instructions multiplied, of its circuits averaged."""
    k = error.num_qubits
    total = np.zeros((4**k, 4**k))
    for circuit, probability in zip(error.circuits, error.probabilities, strict=True):
        product = np.eye(4**k)
        for item in circuit.data:
            on = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
            product = _instruction(_Keyed(item.operation), on, k) @ product
        total += probability * product
    return total


class _Keyed:
    """An error's instruction as a key: few different ones occur in many errors."""

    def __init__(self, operation: Any) -> None:
        self.operation, self._key = operation, operation_key(operation)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self._key == other._key


@lru_cache(maxsize=4096)
def _instruction(keyed: _Keyed, qubits: tuple[int, ...], k: int) -> np.ndarray:
    return embed(constant(ptm(SuperOp(keyed.operation).data)), qubits, range(k))[0]


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
    whole = np.einsum("fij,kl->fikjl", terms, np.eye(4 ** len(rest))).reshape([len(terms)] + [4] * (2 * m))
    axes = np.argsort([place[qubit] for qubit in qubits] + rest)
    return whole.transpose([0, *(1 + axes), *(1 + m + axes)]).reshape(len(terms), 4**m, 4**m) if k else whole


def multiply(later: Channel, earlier: Channel) -> Channel | None:
    """Return the channel that does ``earlier`` and then ``later`` on the same qubits, or None if both have angles."""
    if later.angle is not None and earlier.angle is not None:
        return None
    if later.angle is None:
        return Channel(earlier.qubits, later.terms[0] @ earlier.terms, earlier.angle)
    return Channel(earlier.qubits, later.terms @ earlier.terms[0], later.angle)


def readings(noise: NoiseLike, measured: Collection[int]) -> list[Channel]:
    """Return what stands behind a circuit for reading the qubits ``measured``."""
    every = Noise.of(noise)
    found, joint = [], set[int]()
    for pair, assigned in every.readouts.items():
        if set(pair) & set(measured):
            joint |= set(pair)
            found.append(_joint_reading(every.model, pair, assigned))
    single = (reading(every.model, qubit) for qubit in measured if qubit not in joint)
    return found + [channel for channel in single if channel is not None]


def _joint_reading(noise: NoiseModel | None, pair: tuple[int, int], assigned: np.ndarray) -> Channel:
    """Return what is measured instead of each pair of Paulis when two qubits are read together; see ``reading``.

    A qubit on which the identity is measured is read in the Z basis.
    """
    if noise is not None and any(error_of(noise, "measure", (qubit,)) is not None for qubit in pair):
        raise EngineError(f"qubits {list(pair)} have an error of measuring and a correlated readout; give one of them")
    rows = np.zeros((4, 4, 4, 4))
    bits = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]])  # the signs of outcome j on the first and second qubit
    for a in range(4):
        for b in range(4):
            sign = (bits[:, 0] if a else 1) * (bits[:, 1] if b else np.ones(4))
            mean = (assigned @ sign).reshape(2, 2)  # [second, first]
            both = np.array([[1, 1], [1, -1]]) / 2
            rows[a, b][np.ix_((0, a or 3), (0, b or 3))] = (both @ mean @ both).T
    return Channel(pair, constant(rows.reshape(16, 16)))


def reading(noise: NoiseModel | None, qubit: int) -> Channel | None:
    """Return what is measured on ``qubit`` instead of each Pauli, as a channel at the end; None where that is itself.

    Row P of the matrix are the coefficients of the operator that is really measured in place of P. X and Y are turned
    into Z (by H, and by S^dagger and H); then comes the noise model's error of ``measure``, and what is read is
    assigned with p(j|i), which makes ``a Z + b`` of Z: ``a = p(0|0) + p(1|1) - 1``, ``b = p(0|0) - p(1|1)``.

    Raises:
        EngineError: a readout error is correlated between qubits, or the error of ``measure`` is of several.
    """
    if noise is None:
        return None
    (p00, _), (_, p11) = assignment(noise, qubit)
    read = np.array([p00 - p11, 0.0, 0.0, p00 + p11 - 1.0])
    error = error_of(noise, "measure", (qubit,))
    if error is not None:
        read = read @ _transfer(error)
    if np.array_equal(read, _READ_Z):
        return None
    turned = {"X": _unitary_ptm(TO_Z["X"]), "Y": _unitary_ptm(TO_Z["Y"]), "Z": np.eye(4)}
    return Channel((qubit,), constant(np.stack([np.eye(4)[0], *(read @ turned[letter] for letter in "XYZ")])))
