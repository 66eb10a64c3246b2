"""Observables as one table of Pauli strings, and gates that move from the circuit into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.quantum_info import Pauli, SparsePauliOp

from qkd.engines.gates import ElementaryGate
from qkd.engines.program import pauli_terms


@dataclass(frozen=True)
class PauliTable:
    """K observables over T distinct Pauli strings on n qubits.

    Attributes:
        x: Whether string t has an X or Y on qubit q (T,n).
        z: Whether string t has a Z or Y on qubit q (T,n).
        coefficients: The real coefficients (K,T); observable k is sum_t coefficients[k,t] string_t.
    """

    x: np.ndarray
    z: np.ndarray
    coefficients: np.ndarray

    @classmethod
    def from_observables(cls, observables: Sequence[SparsePauliOp]) -> PauliTable:
        """Return the table of K observables."""
        terms, coefficients, constants = pauli_terms(observables)
        if constants.any():  # the identity is a string like the others here
            terms, coefficients = [*terms, ()], torch.column_stack([coefficients, constants])
        x = np.zeros((len(terms), observables[0].num_qubits), dtype=bool)
        z = np.zeros_like(x)
        for t, string in enumerate(terms):
            for qubit, letter in string:
                x[t, qubit], z[t, qubit] = letter in "XY", letter in "YZ"
        return cls(x, z, coefficients.numpy())


def absorb(gates: Sequence[ElementaryGate], table: PauliTable) -> tuple[list[ElementaryGate], PauliTable]:
    """Return the gates that must be simulated, and the observables that belong to them.

    The function goes backward from the measurement. It drops a gate that commutes with every string (outside all past
    light cones, or diagonal before a Z). It moves a gate into the strings if the gate maps products of Z to products of
    Z (CX, SWAP, X, ...). All other gates remain, and they block the gates before them.
    """
    z, coefficients = table.z.copy(), table.coefficients.copy()
    x = table.x
    remaining: list[ElementaryGate] = []
    blocked: set[int] = set()  # qubits of gates that remain
    for gate in reversed(gates):
        on = list(gate.qubits)
        if not blocked & set(on):
            local_x, local_z = x[:, on], z[:, on]
            if _commutes(gate, local_x, local_z):
                continue
            moved = None if local_x.any() else _moved_through(gate, local_z)
            if moved is not None:
                z[:, on] = moved[0]
                coefficients *= moved[1]
                continue
        remaining.append(gate)
        blocked.update(on)
    return remaining[::-1], PauliTable(x, z, coefficients)


def _commutes(gate: ElementaryGate, x: np.ndarray, z: np.ndarray) -> bool:
    if not (x.any() or z.any()):
        return True
    if gate.diagonal:
        return not x.any()
    for string in np.unique(np.concatenate([x, z], axis=1), axis=0):
        pauli = Pauli((string[len(gate.qubits) :], string[: len(gate.qubits)])).to_matrix()
        if not np.allclose(gate.terms @ pauli, pauli @ gate.terms, atol=1e-12):
            return False
    return True


def _moved_through(gate: ElementaryGate, z: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return strings (T,k) and signs (T,) of U^dagger Z^z U for a permutation U, None if they are not strings."""
    image = gate.permutation
    if image is None:
        return None
    k = len(gate.qubits)
    bits = (np.arange(2**k)[:, None] >> np.arange(k)) & 1  # (2^k,k)
    parity = (bits[image] @ z.T.astype(int)) & 1  # (2^k,T): sign of string t on the image of state i
    constant = parity[0]
    moved = (parity[1 << np.arange(k)] ^ constant).T  # (T,k)
    if not np.array_equal((bits @ moved.T + constant) & 1, parity):
        return None
    return moved.astype(bool), 1 - 2 * constant
