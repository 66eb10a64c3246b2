"""A circuit under noise as a sequence of gates and channels, followed by the channels of readout."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from qiskit.circuit import ParameterExpression, QuantumCircuit, Reset
from qiskit.quantum_info import SparsePauliOp, SuperOp
from qiskit_aer.noise import NoiseModel, PauliLindbladError, QuantumError

from qkd.core.errors import EngineError
from qkd.engines.gates import NUM_HARMONICS, ElementaryGate, elementary_gates_of
from qkd.engines.gates import constant as gate_constant
from qkd.engines.grouping import operation_key
from qkd.engines.instructions import FlatGate, flattened_gates, is_channel
from qkd.engines.noise import ALL_PAULIS, Noise, NoiseLike, PlacedTerm
from qkd.engines.noise.aer import AnyError, added, assignment, error_in, error_of, generators
from qkd.engines.paulis.channels import LETTERS, PAULIS, Channel, as_channel, constant, embed, ptm, unitary_ptm
from qkd.engines.program import PauliString, pauli_terms

_CX = np.eye(4)[:, [0, 3, 2, 1]].astype(complex)  # controlled by the first qubit, the least significant bit
_READ_Z = np.array([0.0, 0.0, 0.0, 1.0])
TO_Z = {"X": np.array([[1, 1], [1, -1]]) / math.sqrt(2), "Y": np.array([[1, -1j], [1, 1j]]) / math.sqrt(2)}
"""The gates before a measurement of Z that make it a measurement of X or Y."""
_RESET = np.outer([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0])


def channels(circuit: QuantumCircuit, noise: NoiseLike, measured: Collection[int] = ()) -> list[Channel]:
    """Return the channels of a circuit in order, each instruction followed by its errors.

    Args:
        measured: The measured qubits, whose readout channels are last; see ``reading``.
    """
    result = [as_channel(event) for event in events(circuit, noise)]
    return result + readings(noise, measured)


def attenuated_terms(
    observables: Sequence[SparsePauliOp],
    noise: NoiseLike,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[list[PauliString], torch.Tensor, torch.Tensor]:
    """Return ``pauli_terms`` with coefficients that joint flips of readouts reduce."""
    terms, coefficients, constants = pauli_terms(observables, dtype, device)
    factors = [Noise.from_model(noise).attenuation(string) for string in terms]
    return terms, coefficients * coefficients.new_tensor(factors), constants


def events(circuit: QuantumCircuit, noise: NoiseLike) -> Iterator[ElementaryGate | Channel]:
    """Yield the gates of a circuit as elementary gates, and noise and resets as channels."""
    every, known = Noise.from_model(noise), dict[int, tuple[AnyError, np.ndarray]]()
    for flat, behind in every.placed(flattened_gates(circuit, every.names)):
        if isinstance(flat.operation, Reset):
            yield Channel(flat.qubits, constant(_RESET))
        elif flat.operation is not None and is_channel(flat.operation):
            inside = error_in(flat.operation)
            if isinstance(inside, PauliLindbladError):
                yield from _lindblad(inside, flat.qubits)
            else:
                yield from _spread(ptm(SuperOp(flat.operation).data), flat.qubits)
        elif flat.operation is not None:
            yield from elementary_gates_of(flat.operation, flat.qubits, widest=2)
        for error in _errors(every.model, flat) if every.model is not None else ():
            if isinstance(error, PauliLindbladError):
                yield from _lindblad(error, flat.qubits)
                continue
            if id(error) not in known:
                known[id(error)] = error, _transfer(error)
            yield from _spread(known[id(error)][1], flat.qubits)
        for placed in behind:
            yield from _term(placed)


def _lindblad(error: PauliLindbladError, qubits: tuple[int, ...]) -> Iterator[ElementaryGate | Channel]:
    for on, letters, rate in generators(error, qubits):
        yield from _term(PlacedTerm(on, letters, rate, False))


def _spread(matrix: np.ndarray, qubits: tuple[int, ...]) -> Iterator[ElementaryGate | Channel]:
    """Yield a constant channel as channels on at most two qubits.

    A Pauli channel on more is a product of its Pauli-Lindblad generators: with Pauli fidelities f_b, the rate of P_a is
    ``4^-k sum_b (-1)^<a,b> ln f_b`` (Flammia and Wallman, arXiv:1907.12976).
    """
    if len(qubits) <= 2:
        yield Channel(qubits, constant(matrix))
        return
    fidelities = matrix.diagonal()
    if not np.allclose(matrix, np.diag(fidelities), atol=1e-12) or fidelities.min() <= 0:
        raise EngineError(
            f"a channel acts on {len(qubits)} qubits, {list(qubits)}, and is not a Pauli channel; give it as channels "
            "on one and two qubits"
        )
    strings = list(itertools.product(range(4), repeat=len(qubits)))
    logs = np.log(fidelities)
    for a in strings[1:]:
        signs = [(-1) ** sum(bool(p and q and p != q) for p, q in zip(a, b, strict=True)) for b in strings]
        rate = float(np.dot(signs, logs)) / len(strings)
        if abs(rate) > 1e-15:
            letters = [(qubit, LETTERS[p]) for qubit, p in zip(qubits, a, strict=True) if p]
            yield from _term(PlacedTerm(tuple(q for q, _ in letters), "".join(x for _, x in letters), rate, False))


def _term(placed: PlacedTerm) -> Iterator[ElementaryGate | Channel]:
    """Yield a noise term as gates and channels.

    On more than two qubits, rotations to Z and a chain of CX map the term to Z on the last qubit; the inverse gates
    follow.
    """
    if len(placed.qubits) <= 2:
        yield _narrow_term(placed)
        return
    turned = [
        ElementaryGate((qubit,), gate_constant(TO_Z[letter]))
        for qubit, letter in zip(placed.qubits, placed.letters, strict=True)
        if letter != "Z"
    ]
    chain = [ElementaryGate(pair, gate_constant(_CX)) for pair in itertools.pairwise(placed.qubits)]
    yield from (*turned, *chain)
    yield _narrow_term(PlacedTerm(placed.qubits[-1:], "Z", placed.amount, placed.coherent))
    yield from chain[::-1]
    for gate in turned:
        yield ElementaryGate(gate.qubits, gate_constant(gate.terms[0].conj().T))


def _narrow_term(placed: PlacedTerm) -> ElementaryGate | Channel:
    """Return a noise term on one or two qubits; a rate that is a parameter uses the harmonic exp(-2 t)."""
    k, amount = len(placed.qubits), placed.amount
    if placed.letters.startswith(ALL_PAULIS):
        return _damping(placed.qubits, np.arange(4**k) > 0, amount)
    if placed.coherent:
        pauli = np.ones((1, 1))
        for letter in placed.letters:
            pauli = np.kron(PAULIS[LETTERS.index(letter)], pauli)
        terms = np.zeros((NUM_HARMONICS, 2**k, 2**k), dtype=complex)
        terms[1], terms[2] = np.eye(2**k), -1j * pauli
        if isinstance(amount, ParameterExpression):
            return ElementaryGate(placed.qubits, terms, amount)
        matrix = math.cos(amount / 2) * terms[1] + math.sin(amount / 2) * terms[2]
        return ElementaryGate(placed.qubits, gate_constant(matrix))
    odd = np.zeros(1, dtype=bool)
    for letter in placed.letters:
        anticommutes = np.array([i not in (0, LETTERS.index(letter)) for i in range(4)])
        odd = (odd[:, None] ^ anticommutes).reshape(-1)
    return _damping(placed.qubits, odd, amount)


def _damping(qubits: tuple[int, ...], which: np.ndarray, amount: float | ParameterExpression) -> Channel:
    """Return the channel that damps the Paulis ``which`` (4^k,) by ``exp(-2 amount)``."""
    if isinstance(amount, ParameterExpression):
        damped = np.zeros((NUM_HARMONICS + 1, len(which), len(which)))
        damped[0], damped[NUM_HARMONICS] = np.diag(1.0 * ~which), np.diag(1.0 * which)
        return Channel(qubits, damped, amount)
    return Channel(qubits, constant(np.diag(np.where(which, math.exp(-2 * amount), 1.0))))


def _errors(noise: NoiseModel, flat: FlatGate) -> Iterator[AnyError]:
    """Yield the errors that Aer appends to an instruction: its own, then those of the model's passes."""
    error = None if flat.error is None else error_of(noise, flat.error, flat.qubits)
    for channel in [*([] if error is None else [error]), *added(noise, flat.operation, flat.qubits)]:
        if channel.num_qubits != len(flat.qubits):
            raise EngineError(
                f"the noise model's error of '{flat.error}' on qubits {list(flat.qubits)} acts on {channel.num_qubits}"
            )
        yield channel


def _transfer(error: QuantumError) -> np.ndarray:
    """Return the transfer matrix of an error: the mean over its circuits of the product of their instructions."""
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
    """An error's instruction as a cache key, because many errors contain few different instructions."""

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
    """Return the readout channels of the qubits ``measured``, which are the last channels of a circuit."""
    model = Noise.from_model(noise).model
    return [channel for qubit in measured if (channel := reading(model, qubit)) is not None]


def reading(noise: NoiseModel | None, qubit: int) -> Channel | None:
    """Return the readout channel of ``qubit``, or None if readout is perfect.

    Row P of the matrix contains the coefficients of the operator that is measured instead of P. Rotations map X and Y
    to Z (H; S^dagger and H). The noise model's error of ``measure`` follows. The assignment with probabilities p(j|i)
    then maps Z to ``a Z + b`` with ``a = p(0|0) + p(1|1) - 1`` and ``b = p(0|0) - p(1|1)``.
    """
    if noise is None:
        return None
    (p00, _), (_, p11) = assignment(noise, qubit)
    read = np.array([p00 - p11, 0.0, 0.0, p00 + p11 - 1.0])
    error = error_of(noise, "measure", (qubit,))
    if error is not None:
        read = read @ _transfer(error.to_quantum_error() if isinstance(error, PauliLindbladError) else error)
    if np.array_equal(read, _READ_Z):
        return None
    turned = {"X": unitary_ptm(TO_Z["X"]), "Y": unitary_ptm(TO_Z["Y"]), "Z": np.eye(4)}
    return Channel((qubit,), constant(np.stack([np.eye(4)[0], *(read @ turned[letter] for letter in "XYZ")])))
