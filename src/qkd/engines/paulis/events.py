"""A circuit under noise as gates and channels in order, and what is really measured behind it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from qiskit.circuit import ParameterExpression, QuantumCircuit, Reset
from qiskit.quantum_info import SuperOp
from qiskit_aer.noise import NoiseModel, PauliLindbladError, QuantumError

from qkd.core.errors import EngineError
from qkd.engines.gates import WAVES, Atom, gate_atoms
from qkd.engines.gates import constant as gate_constant
from qkd.engines.instructions import Leaf, is_channel, leaves
from qkd.engines.keys import operation_key
from qkd.engines.noise import (
    EVERY,
    AnyError,
    Noise,
    NoiseLike,
    Placed,
    added,
    assignment,
    error_in,
    error_of,
    generators,
)
from qkd.engines.paulis.channels import LETTERS, PAULIS, Channel, as_channel, constant, embed, ptm, unitary_ptm

_CX = np.eye(4)[:, [0, 3, 2, 1]].astype(complex)  # controlled by the first qubit, the least significant bit
_READ_Z = np.array([0.0, 0.0, 0.0, 1.0])
TO_Z = {"X": np.array([[1, 1], [1, -1]]) / math.sqrt(2), "Y": np.array([[1, -1j], [1, 1j]]) / math.sqrt(2)}
"""What turns a measurement of X or Y into one of Z."""
_RESET = np.outer([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0])


def channels(circuit: QuantumCircuit, noise: NoiseLike, measured: Collection[int] = ()) -> list[Channel]:
    """Return the channels of a circuit, in order, each instruction followed by what ``noise`` says of it.

    Args:
        circuit: the circuit.
        noise: Aer's noise model.
        measured: qubits behind which stands what reading them does; see ``reading``.

    Raises:
        EngineError: an instruction measures or is otherwise no channel, or an error acts on more than two qubits.
    """
    result = [as_channel(event) for event in events(circuit, noise)]
    return result + readings(noise, measured)


def events(circuit: QuantumCircuit, noise: NoiseLike) -> Iterator[Atom | Channel]:
    """Yield the gates of a circuit as atoms, and what is not unitary (noise, resets) as constant channels.

    Raises:
        EngineError: as ``channels``.
    """
    every, known = Noise.from_model(noise), dict[int, tuple[AnyError, np.ndarray]]()
    for leaf, behind in every.placed(leaves(circuit, every.names)):
        if isinstance(leaf.operation, Reset):
            yield Channel(leaf.qubits, constant(_RESET))
        elif leaf.operation is not None and is_channel(leaf.operation):
            inside = error_in(leaf.operation)
            if isinstance(inside, PauliLindbladError):
                yield from _lindblad(inside, leaf.qubits)
            else:
                yield from _spread(ptm(SuperOp(leaf.operation).data), leaf.qubits)
        elif leaf.operation is not None:
            yield from gate_atoms(leaf.operation, leaf.qubits, widest=2)
        for error in _errors(every.model, leaf) if every.model is not None else ():
            if isinstance(error, PauliLindbladError):
                yield from _lindblad(error, leaf.qubits)
                continue
            if id(error) not in known:
                known[id(error)] = error, _transfer(error)
            yield from _spread(known[id(error)][1], leaf.qubits)
        for placed in behind:
            yield from _term(placed)


def _lindblad(error: PauliLindbladError, qubits: tuple[int, ...]) -> Iterator[Atom | Channel]:
    for on, letters, rate in generators(error, qubits):
        yield from _term(Placed(on, letters, rate, False))


def _spread(matrix: np.ndarray, qubits: tuple[int, ...]) -> Iterator[Atom | Channel]:
    """Yield a constant channel as channels on two qubits at most.

    A Pauli channel on more is a product of its Pauli-Lindblad generators: with Pauli fidelities f_b, the rate of P_a is
    ``4^-k sum_b (-1)^<a,b> ln f_b`` (Flammia and Wallman, arXiv:1907.12976).

    Raises:
        EngineError: a channel on more than two qubits is no Pauli channel, or has a fidelity that is not positive.
    """
    if len(qubits) <= 2:
        yield Channel(qubits, constant(matrix))
        return
    fidelities = matrix.diagonal()
    if not np.allclose(matrix, np.diag(fidelities), atol=1e-12) or fidelities.min() <= 0:
        raise EngineError(
            f"a channel acts on {len(qubits)} qubits, {list(qubits)}, and is no Pauli channel; give it as channels of "
            "one and two qubits"
        )
    strings = list(itertools.product(range(4), repeat=len(qubits)))
    logs = np.log(fidelities)
    for a in strings[1:]:
        signs = [(-1) ** sum(bool(p and q and p != q) for p, q in zip(a, b, strict=True)) for b in strings]
        rate = float(np.dot(signs, logs)) / len(strings)
        if abs(rate) > 1e-15:
            letters = [(qubit, LETTERS[p]) for qubit, p in zip(qubits, a, strict=True) if p]
            yield from _term(Placed(tuple(q for q, _ in letters), "".join(x for _, x in letters), rate, False))


def _term(placed: Placed) -> Iterator[Atom | Channel]:
    """Yield a noise term as gates and channels; on more than two qubits, gates carry it to the last one and back."""
    if len(placed.qubits) <= 2:
        yield _narrow_term(placed)
        return
    turned = [
        Atom((qubit,), gate_constant(TO_Z[letter]))
        for qubit, letter in zip(placed.qubits, placed.letters, strict=True)
        if letter != "Z"
    ]
    chain = [Atom(pair, gate_constant(_CX)) for pair in itertools.pairwise(placed.qubits)]
    yield from (*turned, *chain)
    yield _narrow_term(Placed(placed.qubits[-1:], "Z", placed.amount, placed.coherent))
    yield from chain[::-1]
    for atom in turned:
        yield Atom(atom.qubits, gate_constant(atom.terms[0].conj().T))


def _narrow_term(placed: Placed) -> Atom | Channel:
    """Return a noise term on one or two qubits; a rate that is a parameter has a wave of its own."""
    k, amount = len(placed.qubits), placed.amount
    if placed.letters.startswith(EVERY):
        return _damping(placed.qubits, np.arange(4**k) > 0, amount)
    if placed.coherent:
        pauli = np.ones((1, 1))
        for letter in placed.letters:
            pauli = np.kron(PAULIS[LETTERS.index(letter)], pauli)
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
    return _damping(placed.qubits, odd, amount)


def _damping(qubits: tuple[int, ...], which: np.ndarray, amount: float | ParameterExpression) -> Channel:
    """Return the channel that damps the Paulis ``which`` (4^k,) by ``exp(-2 amount)``."""
    if isinstance(amount, ParameterExpression):
        damped = np.zeros((WAVES + 1, len(which), len(which)))
        damped[0], damped[WAVES] = np.diag(1.0 * ~which), np.diag(1.0 * which)
        return Channel(qubits, damped, amount)
    return Channel(qubits, constant(np.diag(np.where(which, math.exp(-2 * amount), 1.0))))


def _errors(noise: NoiseModel, leaf: Leaf) -> Iterator[AnyError]:
    """Yield the errors that Aer puts behind an instruction: its own, then what the model's passes add."""
    error = None if leaf.error is None else error_of(noise, leaf.error, leaf.qubits)
    for channel in [*([] if error is None else [error]), *added(noise, leaf.operation, leaf.qubits)]:
        if channel.num_qubits != len(leaf.qubits):
            raise EngineError(
                f"the noise model's error of '{leaf.error}' on qubits {list(leaf.qubits)} acts on {channel.num_qubits}"
            )
        yield channel


def _one_transfer(error: AnyError) -> np.ndarray:
    """Return the transfer matrix (4,4) of an error on one qubit."""
    return _transfer(error.to_quantum_error() if isinstance(error, PauliLindbladError) else error)


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


def readings(noise: NoiseLike, measured: Collection[int]) -> list[Channel]:
    """Return what stands behind a circuit for reading the qubits ``measured``."""
    every = Noise.from_model(noise)
    result, joint = [], set[int]()
    for pair, assigned in every.readouts.items():
        if set(pair) & set(measured):
            joint |= set(pair)
            result.append(_joint_reading(every.model, pair, assigned))
    single = (reading(every.model, qubit) for qubit in measured if qubit not in joint)
    return result + [channel for channel in single if channel is not None]


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
        read = read @ _one_transfer(error)
    if np.array_equal(read, _READ_Z):
        return None
    turned = {"X": unitary_ptm(TO_Z["X"]), "Y": unitary_ptm(TO_Z["Y"]), "Z": np.eye(4)}
    return Channel((qubit,), constant(np.stack([np.eye(4)[0], *(read @ turned[letter] for letter in "XYZ")])))
