"""The circuits that AerSimulator measures for a program: the light cones of Pauli strings, every angle a parameter."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from qiskit.circuit import ClassicalRegister, Delay, Parameter, ParameterExpression, QuantumCircuit, Reset
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import Operator, Pauli
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error, pauli_error

from qkd.circuits.cone import narrowed, past
from qkd.core.errors import EngineError
from qkd.engines.instructions import (
    Leaf,
    defined,
    error_name,
    free,
    is_channel,
    is_from_library,
    leaves,
    matrix_of,
)
from qkd.engines.noise import EVERY, Noise, NoiseLike, Placed, assignment, error_of, restricted
from qkd.engines.paulis.events import TO_Z
from qkd.engines.paulis.strings import PauliString

SHIFTABLE = frozenset({"rx", "ry", "rz", "p", "u1", "u", "u3", "rxx", "ryy", "rzz", "rzx"})
"""Gates whose every angle has a generator of eigenvalues +-1/2, up to a phase."""
TOGETHER = 8
"""Qubits of a group's light cone up to which strings join it under noise."""
TOGETHER_IDEAL = 20
"""The same without noise."""
MOST_BITS = 62
"""Qubits that are measured together, at most."""
_WIDEST_MATRIX = 3  # a gate unknown to Aer on more qubits is replaced by its definition
_SILENT = "qkd_silent"  # a label for which no noise model has an error


@dataclass(frozen=True)
class Group:
    """Strings that are measured together.

    circuit: their light cone, measured; angle g is the parameter ``free[g]``.
    simulator: Aer, with the noise of the cone.
    measured: the qubit that each bit is read from.
    used: the angles g that occur.
    masks: (T',) which measured bits each string is the parity of.
    coefficients: (K,T') of the strings in the observables.
    """

    circuit: QuantumCircuit
    simulator: AerSimulator
    measured: tuple[int, ...]
    used: tuple[int, ...]
    masks: np.ndarray
    coefficients: np.ndarray

    def said(self, outcomes: np.ndarray) -> np.ndarray:
        """Return what measured outcomes (M,) say of the observables, (M,K)."""
        signs = 1 - 2 * (np.bitwise_count(outcomes[:, None] & self.masks) & 1).astype(float)
        return signs @ self.coefficients.T

    def expected(self, probabilities: np.ndarray) -> np.ndarray:
        """Return expectation values (K,) from the probabilities (2^m,) of perfectly read outcomes; readout errs."""
        table = probabilities.reshape([2] * len(self.measured))  # the highest bit first
        for bit, qubit in enumerate(self.measured):
            axis = len(self.measured) - 1 - bit
            read = np.tensordot(table, assignment(self.simulator.options.noise_model, qubit), axes=(axis, 0))
            table = np.moveaxis(read, -1, axis)
        return table.reshape(-1) @ self.said(np.arange(table.size))

    def unread(self) -> QuantumCircuit:
        """Return the circuit with its outcomes' exact probabilities saved instead of sampled."""
        circuit, noise = self.circuit.copy(), self.simulator.options.noise_model
        circuit.data = [item for item in circuit.data if item.operation.name != "measure"]
        for qubit in self.measured:
            error = None if noise is None else error_of(noise, "measure", (qubit,))
            if error is not None:
                circuit.append(error.to_instruction(), [qubit])
        circuit.save_probabilities(self.measured)
        return circuit


def prepared(
    circuit: QuantumCircuit, noise: NoiseLike
) -> tuple[QuantumCircuit, list[tuple[Parameter, ParameterExpression]]]:
    """Return a circuit as Aer runs it, whose free angles are parameters of their own, and what each stands for.

    Raises:
        EngineError: an instruction is none that an estimator takes, an angle cannot be shifted, or the noise has
            parameters or correlated readout.
    """
    every = Noise.from_model(noise)
    if every.parameters or every.readouts:
        raise EngineError("AerSimulator takes no noise with parameters or correlated readout; take another engine")
    noisy = every.names
    ready = QuantumCircuit(circuit.num_qubits)
    angles: list[tuple[Parameter, ParameterExpression]] = []
    for leaf, behind in every.placed(leaves(circuit, noisy)):
        for operation, on in (*_runnable(leaf, noisy), *map(_inserted, behind)):
            open_angles = free(operation)
            if open_angles:
                operation = operation.to_mutable()
                params = list(operation.params)
                for i in open_angles:
                    angles.append((Parameter(f"t{len(angles)}"), params[i]))
                    params[i] = angles[-1][0]
                operation.params = params
            ready.append(operation, on)
    for qubits, chance in every.flips:  # a flip before the readout is one behind it if both outcomes err alike
        if any(not np.isclose(*np.diag(assignment(every.model, qubit))) for qubit in qubits):
            raise EngineError("AerSimulator takes no joint flips of readouts that err unequally; take another engine")
        flip = pauli_error([("X" * len(qubits), chance), ("I" * len(qubits), 1 - chance)])
        ready.append(flip.to_instruction(), sorted(qubits))
    return ready, angles


def _runnable(leaf: Leaf, noisy: Collection[str]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yield what Aer runs in place of a leaf: its noise is found as the leaf says, whatever it has to be made of."""
    operation, on = leaf.operation, leaf.qubits
    if operation is None:
        yield UnitaryGate(np.eye(2 ** len(on)), label=leaf.error), on
        return
    if isinstance(operation, Reset | Delay) or is_channel(operation):
        yield operation, on
        return
    known = is_from_library(operation)
    shiftable = (known and operation.name in SHIFTABLE) or not free(operation)
    if known and operation.name in _dense_names() and shiftable:
        if leaf.error is None and error_name(operation) in noisy:
            operation = operation.to_mutable() if hasattr(operation, "to_mutable") else operation.copy()
            operation.label = _SILENT
        yield operation, on
        return
    definition = defined(operation)
    if shiftable and (len(on) <= _WIDEST_MATRIX or definition is None):
        matrix = matrix_of(operation)
        if matrix is not None:
            yield UnitaryGate(matrix, label=leaf.error or _SILENT), on
            return
    if definition is None:
        raise EngineError(f"'{operation.name}' has no definition that AerSimulator takes; transpile first")
    for part in leaves(definition):
        yield from _runnable(replace(part, qubits=tuple(on[q] for q in part.qubits)), noisy)
    if leaf.error is not None:
        yield UnitaryGate(np.eye(2 ** len(on)), label=leaf.error), on


def _inserted(placed: Placed) -> tuple[Any, tuple[int, ...]]:
    """Return a noise term as an instruction for Aer, and its qubits."""
    assert isinstance(placed.amount, float | int)
    if placed.coherent:
        pauli = Operator(Pauli(placed.letters[::-1])).data
        half = placed.amount / 2
        matrix = math.cos(half) * np.eye(len(pauli)) - 1j * math.sin(half) * pauli
        return UnitaryGate(matrix, label=_SILENT), placed.qubits
    if placed.letters.startswith(EVERY):
        return depolarizing_error(1 - math.exp(-2 * placed.amount), len(placed.qubits)).to_instruction(), placed.qubits
    chance = (1 - math.exp(-2 * placed.amount)) / 2
    error = pauli_error([(placed.letters[::-1], chance), ("I" * len(placed.letters), 1 - chance)])
    return error.to_instruction(), placed.qubits


@lru_cache(maxsize=1)
def _dense_names() -> frozenset[str]:
    return frozenset(AerSimulator(method="density_matrix").operation_names) - {"multiplexer"}


def together(
    circuit: QuantumCircuit, terms: Sequence[PauliString], noisy: bool
) -> list[tuple[list[int], tuple[int, ...]]]:
    """Return which strings are measured together and the qubits of their light cones."""
    limit = TOGETHER if noisy else TOGETHER_IDEAL
    groups: list[tuple[list[int], dict[int, str], set[int]]] = []
    for t, term in enumerate(terms):
        cone = set(past(circuit, (qubit for qubit, _ in term))[0])
        for members, letters, qubits in groups:
            fits = all(letters.get(qubit, letter) == letter for qubit, letter in term)
            if fits and (cone <= qubits or len(qubits | cone) <= limit):
                members.append(t)
                letters.update(term)
                qubits |= cone
                break
        else:
            groups.append(([t], dict(term), cone))
    return [(members, tuple(sorted(qubits))) for members, _, qubits in groups]


def measured_group(
    circuit: QuantumCircuit,
    order: dict[Parameter, int],
    terms: Sequence[PauliString],
    coefficients: np.ndarray,
    qubits: tuple[int, ...],
    noise: NoiseModel | None,
    shots: int,
    method: str | None = None,
) -> Group:
    """Return the strings ``terms``, which have these coefficients (K,T'), measured on their light cone."""
    letters = {qubit: letter for term in terms for qubit, letter in term}
    measured = sorted(letters)
    place = {qubit: i for i, qubit in enumerate(qubits)}
    small = narrowed(circuit, qubits, past(circuit, measured)[1])
    if len(measured) > MOST_BITS:
        raise EngineError(
            f"{len(measured)} qubits would be measured together; {MOST_BITS} is the most in one observable"
        )
    small.add_register(ClassicalRegister(len(measured)))
    for bit, qubit in enumerate(measured):
        if letters[qubit] != "Z":  # labelled, so that no noise model has an error for it
            small.append(UnitaryGate(TO_Z[letters[qubit]], label=_SILENT), [place[qubit]])
        small.measure(place[qubit], bit)
    local = None if noise is None else restricted(noise, qubits)
    # a density matrix is 4^n once, a statevector under noise 2^n for every shot
    dense = local is not None and 2 ** len(qubits) <= 2 * shots and len(qubits) <= 13
    simulator = AerSimulator(noise_model=local, method=method or ("density_matrix" if dense else "automatic"))
    masks = np.array([sum(1 << measured.index(qubit) for qubit, _ in term) for term in terms], dtype=np.int64)
    used = tuple(sorted(order[parameter] for parameter in small.parameters))
    bits = tuple(place[qubit] for qubit in measured)
    for qubit in bits:
        assignment(local, qubit)  # Aer would leave a correlated error out
    return Group(small, simulator, bits, used, masks, coefficients)
