"""The circuits that AerSimulator measures: light cones of groups of Pauli strings, with every angle a parameter."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import ClassicalRegister, Delay, Parameter, ParameterExpression, QuantumCircuit, Reset
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import Operator, Pauli
from qiskit_aer import AerSimulator
from qiskit_aer.noise import depolarizing_error, pauli_error

from qkd.circuits.cone import narrowed, past
from qkd.core.errors import EngineError
from qkd.engines.instructions import (
    FlatGate,
    defined,
    error_name,
    flattened_gates,
    free,
    is_channel,
    is_from_library,
    matrix_of,
)
from qkd.engines.noise import ALL_PAULIS, Noise, NoiseLike, PlacedTerm
from qkd.engines.noise.aer import assignment, error_of, restricted
from qkd.engines.paulis.events import TO_Z
from qkd.engines.program import PauliString

if TYPE_CHECKING:
    from qkd.engines.aer import AerEstimator

SHIFTABLE = frozenset({"rx", "ry", "rz", "p", "u1", "u", "u3", "rxx", "ryy", "rzz", "rzx"})
"""Gates in which each angle has a generator with eigenvalues +-1/2, up to a phase."""
MAX_GROUP_QUBITS_NOISY = 8
"""Maximum number of qubits of a group's light cone under noise, when a string widens it."""
MAX_GROUP_QUBITS_IDEAL = 20
"""Maximum number of qubits of a group's light cone without noise, when a string widens it."""
MAX_MEASURED_QUBITS = 62
"""Maximum number of qubits that are measured together; an outcome is one 64-bit integer."""
_MAX_MATRIX_QUBITS = 3  # a gate that Aer does not know is replaced by its definition if it has more qubits
_SILENT = "qkd_silent"  # a label for which no noise model has an error


@dataclass(frozen=True)
class Group:
    """Pauli strings that are measured together.

    Attributes:
        circuit: The light cone of the strings, with measurements.
        simulator: AerSimulator with the noise of the cone's qubits.
        measured: The qubit of each measured bit.
        used: The numbers g of the angles that occur in the circuit.
        masks: For each string (T') the measured bits of which it is the parity.
        coefficients: The strings' coefficients (K,T') in the observables.
    """

    circuit: QuantumCircuit
    simulator: AerSimulator
    measured: tuple[int, ...]
    used: tuple[int, ...]
    masks: np.ndarray
    coefficients: np.ndarray

    def observable_values(self, outcomes: np.ndarray) -> np.ndarray:
        """Return the observables' values (M,K) for measured outcomes (M,)."""
        signs = 1 - 2 * (np.bitwise_count(outcomes[:, None] & self.masks) & 1).astype(float)
        return signs @ self.coefficients.T

    def expected(self, probabilities: np.ndarray) -> np.ndarray:
        """Return expectation values (K,) with readout error from outcome probabilities (2^m,) without it."""
        table = probabilities.reshape([2] * len(self.measured))  # the highest bit first
        for bit, qubit in enumerate(self.measured):
            axis = len(self.measured) - 1 - bit
            read = np.tensordot(table, assignment(self.simulator.options.noise_model, qubit), axes=(axis, 0))
            table = np.moveaxis(read, -1, axis)
        return table.reshape(-1) @ self.observable_values(np.arange(table.size))

    def with_saved_probabilities(self) -> QuantumCircuit:
        """Return the circuit with instructions that save the exact outcome probabilities, instead of measurements."""
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
    """Return a circuit for Aer in which each free angle is a parameter, and the expression of each parameter."""
    every = Noise.from_model(noise)
    if every.parameters:
        raise EngineError("AerSimulator has no noise with parameters; use another engine")
    noisy = every.names
    ready = QuantumCircuit(circuit.num_qubits)
    angles: list[tuple[Parameter, ParameterExpression]] = []
    for flat, behind in every.placed(flattened_gates(circuit, noisy)):
        for operation, on in (*_runnable(flat, noisy), *map(_inserted, behind)):
            open_angles = free(operation)
            if open_angles:
                operation = operation.to_mutable()
                params = list(operation.params)
                for i in open_angles:
                    angles.append((Parameter(f"t{len(angles)}"), params[i]))
                    params[i] = angles[-1][0]
                operation.params = params
            ready.append(operation, on)
    for qubits, chance in every.flips:  # a flip commutes with readout error if both outcomes are misread equally often
        if any(not np.isclose(*np.diag(assignment(every.model, qubit))) for qubit in qubits):
            raise EngineError("AerSimulator has no joint flips of readouts with unequal errors; use another engine")
        flip = pauli_error([("X" * len(qubits), chance), ("I" * len(qubits), 1 - chance)])
        ready.append(flip.to_instruction(), sorted(qubits))
    return ready, angles


def _runnable(flat: FlatGate, noisy: Collection[str]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yield operations that Aer runs for a flattened gate; their labels select the gate's noise."""
    operation, on = flat.operation, flat.qubits
    if operation is None:
        yield UnitaryGate(np.eye(2 ** len(on)), label=flat.error), on
        return
    if isinstance(operation, Reset | Delay) or is_channel(operation):
        yield operation, on
        return
    known = is_from_library(operation)
    shiftable = (known and operation.name in SHIFTABLE) or not free(operation)
    if known and operation.name in _dense_names() and shiftable:
        if flat.error is None and error_name(operation) in noisy:
            operation = operation.to_mutable() if hasattr(operation, "to_mutable") else operation.copy()
            operation.label = _SILENT
        yield operation, on
        return
    definition = defined(operation)
    if shiftable and (len(on) <= _MAX_MATRIX_QUBITS or definition is None):
        matrix = matrix_of(operation)
        if matrix is not None:
            yield UnitaryGate(matrix, label=flat.error or _SILENT), on
            return
    if definition is None:
        raise EngineError(f"'{operation.name}' has no definition that AerSimulator takes; transpile first")
    for part in flattened_gates(definition):
        yield from _runnable(replace(part, qubits=tuple(on[q] for q in part.qubits)), noisy)
    if flat.error is not None:
        yield UnitaryGate(np.eye(2 ** len(on)), label=flat.error), on


def _inserted(placed: PlacedTerm) -> tuple[Any, tuple[int, ...]]:
    """Return a noise term as an instruction of Aer, and its qubits."""
    assert isinstance(placed.amount, float | int)
    if placed.coherent:
        pauli = Operator(Pauli(placed.letters[::-1])).data
        half = placed.amount / 2
        matrix = math.cos(half) * np.eye(len(pauli)) - 1j * math.sin(half) * pauli
        return UnitaryGate(matrix, label=_SILENT), placed.qubits
    if placed.letters.startswith(ALL_PAULIS):
        return depolarizing_error(1 - math.exp(-2 * placed.amount), len(placed.qubits)).to_instruction(), placed.qubits
    chance = (1 - math.exp(-2 * placed.amount)) / 2
    error = pauli_error([(placed.letters[::-1], chance), ("I" * len(placed.letters), 1 - chance)])
    return error.to_instruction(), placed.qubits


@lru_cache(maxsize=1)
def _dense_names() -> frozenset[str]:
    return frozenset(AerSimulator(method="density_matrix").operation_names) - {"multiplexer"}


def measurement_groups(
    circuit: QuantumCircuit, terms: Sequence[PauliString], noisy: bool
) -> list[tuple[list[int], tuple[int, ...]]]:
    """Return the strings of each group that is measured together, and the qubits of the group's light cone."""
    limit = MAX_GROUP_QUBITS_NOISY if noisy else MAX_GROUP_QUBITS_IDEAL
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
    engine: AerEstimator,
) -> Group:
    """Return the group of the strings ``terms`` with coefficients (K,T') on the qubits of its light cone."""
    noise = Noise.from_model(engine.noise_model).model
    letters = {qubit: letter for term in terms for qubit, letter in term}
    measured = sorted(letters)
    place = {qubit: i for i, qubit in enumerate(qubits)}
    small = narrowed(circuit, qubits, past(circuit, measured)[1])
    if len(measured) > MAX_MEASURED_QUBITS:
        raise EngineError(
            f"an observable measures {len(measured)} qubits together; the maximum is {MAX_MEASURED_QUBITS}"
        )
    small.add_register(ClassicalRegister(len(measured)))
    for bit, qubit in enumerate(measured):
        if letters[qubit] != "Z":  # the label has no error in any noise model
            small.append(UnitaryGate(TO_Z[letters[qubit]], label=_SILENT), [place[qubit]])
        small.measure(place[qubit], bit)
    local = None if noise is None else restricted(noise, qubits)
    # a density matrix is 4^n once, a statevector under noise 2^n for every shot
    dense = local is not None and 2 ** len(qubits) <= 2 * engine.shots and len(qubits) <= 13
    simulator = AerSimulator(noise_model=local, method=engine.method or ("density_matrix" if dense else "automatic"))
    masks = np.array([sum(1 << measured.index(qubit) for qubit, _ in term) for term in terms], dtype=np.int64)
    used = tuple(sorted(order[parameter] for parameter in small.parameters))
    bits = tuple(place[qubit] for qubit in measured)
    for qubit in bits:
        assignment(local, qubit)  # raises for a correlated error, which Aer would ignore
    return Group(small, simulator, bits, used, masks, coefficients)
