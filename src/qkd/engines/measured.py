"""The circuits that AerSimulator measures for a program: the light cones of Pauli strings, every angle a parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qiskit.circuit import ClassicalRegister, Parameter, ParameterExpression, QuantumCircuit
from qiskit.circuit.library import UnitaryGate
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from qkd.circuits.cone import narrowed, past
from qkd.engines.noise import restricted
from qkd.engines.paulis.strings import PauliString
from qkd.errors import QkdError

SHIFTABLE = frozenset({"rx", "ry", "rz", "p", "u1", "u", "u3", "rxx", "ryy", "rzz", "rzx"})
"""Gates whose every angle has a generator of eigenvalues +-1/2, up to a phase."""
TOGETHER = 8
"""Qubits of a group's light cone up to which strings join it under noise."""
TOGETHER_IDEAL = 20
"""The same without noise."""
_TO_Z = {"X": np.array([[1, 1], [1, -1]]) / math.sqrt(2), "Y": np.array([[1, -1j], [1, 1j]]) / math.sqrt(2)}


@dataclass(frozen=True)
class Group:
    """Strings that are measured together.

    circuit: their light cone, measured; angle g is the parameter ``free[g]``.
    simulator: Aer, with the noise of the cone.
    used: the angles g that occur.
    masks: (T',) which measured bits each string is the parity of.
    coefficients: (K,T') of the strings in the observables.
    """

    circuit: QuantumCircuit
    simulator: AerSimulator
    used: tuple[int, ...]
    masks: np.ndarray
    coefficients: np.ndarray

    def said(self, outcomes: np.ndarray) -> np.ndarray:
        """Return what measured outcomes (M,) say of the observables, (M,K)."""
        signs = 1 - 2 * (np.bitwise_count(outcomes[:, None] & self.masks) & 1).astype(float)
        return signs @ self.coefficients.T

    def expected(self, probabilities: np.ndarray) -> np.ndarray:
        """Return expectation values (K,) from the probabilities (2^m,) of perfectly read outcomes; readout errs."""
        noise = self.simulator.options.noise_model
        measured = [item for item in self.circuit.data if item.operation.name == "measure"]
        table = probabilities.reshape([2] * len(measured))  # the highest bit first
        for bit, item in enumerate(measured):
            qubit = self.circuit.find_bit(item.qubits[0]).index
            error = None if noise is None else noise._local_readout_errors.get((qubit,), noise._default_readout_error)
            if error is not None:
                axis = len(measured) - 1 - bit
                table = np.moveaxis(np.tensordot(table, error.probabilities, axes=(axis, 0)), -1, axis)
        return table.reshape(-1) @ self.said(np.arange(table.size))

    def unread(self) -> QuantumCircuit:
        """Return the circuit with its outcomes' exact probabilities saved instead of sampled."""
        circuit = self.circuit.copy()
        qubits = [item.qubits[0] for item in circuit.data if item.operation.name == "measure"]
        circuit.data = [item for item in circuit.data if item.operation.name != "measure"]
        circuit.save_probabilities(qubits)
        return circuit


def known(circuit: QuantumCircuit, noise: NoiseModel | None) -> QuantumCircuit:
    """Return a circuit of gates that Aer knows and whose angles can be shifted.

    Raises:
        QkdError: a gate cannot be taken apart into such.
    """
    names = {"barrier", *AerSimulator().operation_names} | set(noise.noise_instructions if noise is not None else ())
    while True:
        odd = [
            item.operation
            for item in circuit.data
            if item.operation.name not in names
            or (item.operation.name not in SHIFTABLE and any(map(_is_free, item.operation.params)))
        ]
        if not odd:
            return circuit
        for operation in odd:
            if operation.name in ("measure", "reset") or operation.definition is None:
                raise QkdError(f"'{operation.name}' has no definition that AerSimulator takes; transpile first")
        circuit = circuit.decompose([operation.name for operation in odd])


def _is_free(value: Any) -> bool:
    return isinstance(value, ParameterExpression) and bool(value.parameters)


def freed(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[tuple[Parameter, ParameterExpression]]]:
    """Return a circuit whose free angles are parameters of their own, one each, and what each stands for.

    Raises:
        QkdError: the circuit measures or resets.
    """
    free = QuantumCircuit(circuit.num_qubits)
    angles: list[tuple[Parameter, ParameterExpression]] = []
    for item in circuit.data:
        operation = item.operation
        if operation.name in ("measure", "reset"):
            raise QkdError(f"'{operation.name}' inside a circuit leaves no expectation value to sample; take it out")
        if operation.name == "barrier":
            continue
        params = []
        for value in operation.params:
            if _is_free(value):
                angles.append((Parameter(f"t{len(angles)}"), value))
                params.append(angles[-1][0])
            else:
                params.append(value)
        if params != list(operation.params):
            operation = operation.to_mutable()
            operation.params = params
        free.append(operation, [circuit.find_bit(qubit).index for qubit in item.qubits])
    return free, angles


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
    small.add_register(ClassicalRegister(len(measured)))
    for bit, qubit in enumerate(measured):
        if letters[qubit] != "Z":  # labelled, so that no noise model has an error for it
            small.append(UnitaryGate(_TO_Z[letters[qubit]], label="qkd_basis"), [place[qubit]])
        small.measure(place[qubit], bit)
    local = None if noise is None else restricted(noise, qubits)
    # a density matrix is 4^n once, a statevector under noise 2^n for every shot
    dense = local is not None and 2 ** len(qubits) <= 2 * shots and len(qubits) <= 13
    simulator = AerSimulator(noise_model=local, method=method or ("density_matrix" if dense else "automatic"))
    masks = np.array([sum(1 << measured.index(qubit) for qubit, _ in term) for term in terms], dtype=np.int64)
    used = tuple(sorted(order[parameter] for parameter in small.parameters))
    return Group(small, simulator, used, masks, coefficients)
