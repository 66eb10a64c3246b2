"""Observables as sums of Pauli terms.

A device run measures the T distinct Pauli terms of all K observables. Each term has outcomes +1 and -1, so its shot
noise at S shots is ``sqrt((1 - p^2) / S)``. An observable ``sum_t c_t P_t`` then has the standard error
``sqrt(sum_t c_t^2 (1 - p_t^2) / S)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits.student import StudentCircuit
from qkd.engines.program import pauli_terms


@dataclass(frozen=True)
class Terms:
    """The Pauli terms of a circuit's observables.

    Attributes:
        student: The circuit with one observable for each term, coefficient 1.
        coefficients: Coefficients (K,T).
        constants: Identity parts (K,).
    """

    student: StudentCircuit
    coefficients: np.ndarray
    constants: np.ndarray

    @classmethod
    def from_student(cls, student: StudentCircuit) -> Terms:
        """Return the distinct terms, in the order in which the observables name them."""
        strings, coefficients, constants = pauli_terms(student.observables)
        width = student.num_qubits
        paulis = [
            SparsePauliOp.from_sparse_list(
                [("".join(letter for _, letter in string), [qubit for qubit, _ in string], 1.0)], width
            )
            for string in strings
        ] or [SparsePauliOp("I" * width)]  # observables that are all constant
        if not strings:
            coefficients = coefficients.new_zeros((len(student.observables), 1))
        circuit = student.with_circuit(student.circuit, paulis, student.layout)
        return cls(circuit, coefficients.numpy(), constants.numpy())

    def values(self, evs: np.ndarray) -> np.ndarray:
        """Return the observables' values (N,K) of term values (N,T)."""
        return evs @ self.coefficients.T + self.constants

    def errors(self, stds: np.ndarray) -> np.ndarray:
        """Return the observables' standard errors (N,K) of independent term errors (N,T)."""
        return np.sqrt(np.square(stds) @ np.square(self.coefficients).T)
