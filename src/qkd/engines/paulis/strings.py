"""Observables as Pauli strings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from qiskit.quantum_info import SparsePauliOp

from qkd.engines.program import simplified

PauliString = tuple[tuple[int, str], ...]
"""The qubits on which a string is not the identity, in order, with their letters X, Y or Z."""


def pauli_terms(
    observables: Sequence[SparsePauliOp], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> tuple[list[PauliString], torch.Tensor, torch.Tensor]:
    """Return T distinct Pauli strings, coefficients (K,T) and the observables' identity parts (K,)."""
    place: dict[PauliString, int] = {}
    entries, constants = [], np.zeros(len(observables))
    for k, observable in enumerate(observables):
        for letters, qubits, coefficient in simplified(observable).to_sparse_list():
            string = tuple(sorted((q, letter) for q, letter in zip(qubits, letters, strict=True) if letter != "I"))
            if string:
                entries.append((k, place.setdefault(string, len(place)), coefficient.real))
            else:
                constants[k] += coefficient.real
    coefficients = np.zeros((len(observables), len(place)))
    for k, t, value in entries:
        coefficients[k, t] += value
    as_tensor = partial(torch.as_tensor, dtype=dtype, device=device)
    return list(place), as_tensor(coefficients), as_tensor(constants)
