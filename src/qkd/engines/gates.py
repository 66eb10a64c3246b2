"""Unitary circuits as elementary gates: constant matrices and gates ``U(t) = exp(i t H)`` of one angle t.

Every rotation, phase gate and controlled rotation of Qiskit is ``U(t) = sum_f w_f(t) A_f`` with constant matrices A_f
and the harmonics ``w = (1, cos t/2, sin t/2, cos t, sin t)``, because eigenvalues of H differ by 0, 1/2 or 1. The A_f
follow from the gate's matrix at five angles, so there is no table of gates. A gate that does not have this form is
replaced by its definition.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from qiskit.circuit import Barrier, Delay, ParameterExpression, QuantumCircuit, Reset
from qiskit.circuit.exceptions import CircuitError
from qiskit.circuit.library import GlobalPhaseGate, IGate, PauliEvolutionGate, UnitaryGate

from qkd.core.errors import EngineError
from qkd.engines.instructions import defined, flattened_gates, free, is_channel, matrix_of

NUM_HARMONICS = 5
_MAX_GATE_QUBITS = 4  # a constant gate on more qubits is replaced by its definition
_IGNORED = (Barrier, Delay, IGate, GlobalPhaseGate)


@dataclass(frozen=True, eq=False)
class ElementaryGate:
    """A constant gate, or a gate of a one-parameter group: U(s) U(t) = U(s+t).

    Attributes:
        qubits: The k qubits; the first is the least significant bit of a matrix index.
        terms: The matrices A_f (5, 2^k, 2^k); a constant gate has only the first.
        angle: The expression of t, or None for a constant gate.
    """

    qubits: tuple[int, ...]
    terms: np.ndarray
    angle: ParameterExpression | None = None

    @property
    def diagonal(self) -> bool:
        """True if the gate is diagonal at every angle."""
        size = self.terms.shape[-1]
        return not self.terms[:, ~np.eye(size, dtype=bool)].any()

    @property
    def permutation(self) -> np.ndarray | None:
        """The basis state ``image[i]`` that state i becomes if the gate permutes basis states, else None."""
        if self.angle is not None:
            return None
        matrix = self.terms[0]
        image = np.abs(matrix).argmax(axis=0)
        entries = matrix[image, np.arange(len(image))]
        exact = np.zeros_like(matrix)
        exact[image, np.arange(len(image))] = entries[0]
        return image if np.allclose(matrix, exact, atol=1e-12) else None

    @property
    def generator(self) -> np.ndarray:
        """The generator H of a gate exp(i t H): the derivative at t = 0 times -i."""
        return -1j * (self.terms[2] / 2 + self.terms[4])

    def diagonalized(self) -> list[ElementaryGate]:
        """Return this gate as constant, diagonal, constant gates, in order of action: V^dagger, exp(i t d), V."""
        if self.angle is None or self.diagonal:
            return [self]
        values, vectors = np.linalg.eigh(self.generator)
        exponents = np.exp(1j * np.outer(GRID, values))  # (5,2^k)
        diagonal = np.einsum("fg,gi,ij->fij", FROM_GRID, exponents, np.eye(len(values)))
        return [
            ElementaryGate(self.qubits, constant(vectors.conj().T)),
            ElementaryGate(self.qubits, diagonal, self.angle),
            ElementaryGate(self.qubits, constant(vectors)),
        ]


def constant(matrix: np.ndarray) -> np.ndarray:
    """Return the terms (5,2^k,2^k) of a constant gate."""
    terms = np.zeros((NUM_HARMONICS, *matrix.shape), dtype=complex)
    terms[0] = matrix
    return terms


def harmonics(angles: torch.Tensor, used: Sequence[int] = range(NUM_HARMONICS)) -> torch.Tensor:
    """Return the harmonics (...,F) of angles (...), all five or those ``used``; the sixth, exp(-2 t), is for rates."""
    turns, starts = sines(tuple(f for f in used if f < NUM_HARMONICS), angles.dtype, angles.device)
    table = torch.addcmul(starts, angles.unsqueeze(-1), turns).sin()
    return torch.cat([table, (-2 * angles).exp().unsqueeze(-1)], dim=-1) if NUM_HARMONICS in used else table


@lru_cache
def sines(used: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return frequency and phase of each harmonic as a sine; 1 and the cosines have the phase pi/2."""
    turns, starts = np.array([(0, 0.5, 0.5, 1, 1), (np.pi / 2, np.pi / 2, 0, np.pi / 2, 0)])[:, list(used)]
    with torch.inference_mode(False):  # the cached tensors must serve later gradients
        return torch.as_tensor(turns, dtype=dtype, device=device), torch.as_tensor(starts, dtype=dtype, device=device)


GRID = 4 * math.pi * np.arange(NUM_HARMONICS) / NUM_HARMONICS
# maps values at the five angles to coefficients of the harmonics
FROM_GRID = np.linalg.inv(harmonics(torch.from_numpy(GRID)).numpy())


def elementary_gates(circuit: QuantumCircuit) -> list[ElementaryGate]:
    """Return the circuit's gates in order; neighbors with equal generators are merged.

    Barriers, delays, identities, global phases and resets of a qubit in |0> are ignored: they change no expectation
    value. A ``PauliEvolutionGate`` is the circuit of its synthesis, which a device would run, also with a bound time.
    """
    merged: list[ElementaryGate] = []
    last: dict[int, int] = {}  # qubit -> position of its last gate in `merged`
    for gate in _unmerged_gates(circuit):
        positions = {last.get(q, -1) for q in gate.qubits}
        position = positions.pop()
        before = merged[position] if not positions and position >= 0 else None
        if before is not None and before.angle is not None and _collinear(before, gate):
            merged[position] = ElementaryGate(gate.qubits, gate.terms, before.angle + gate.angle)
            continue
        last.update(dict.fromkeys(gate.qubits, len(merged)))
        merged.append(gate)
    return merged


def _unmerged_gates(circuit: QuantumCircuit) -> Iterator[ElementaryGate]:
    used: set[int] = set()
    for flat in flattened_gates(circuit):
        operation, on = flat.operation, flat.qubits
        if is_channel(operation) or (isinstance(operation, Reset) and used & set(on)):
            raise EngineError(f"'{operation.name}' on qubits {list(on)} is not unitary; use an engine with noise")
        if not isinstance(operation, Reset):
            gates = list(elementary_gates_of(operation, on))
            used.update(on if gates else ())
            yield from gates


def _collinear(first: ElementaryGate, second: ElementaryGate) -> bool:
    return second.angle is not None and first.qubits == second.qubits and np.array_equal(first.terms, second.terms)


def elementary_gates_of(
    operation: Any, on: tuple[int, ...], widest: int = _MAX_GATE_QUBITS
) -> Iterator[ElementaryGate]:
    """Yield the elementary gates of one gate on the qubits ``on``: the gate itself, or those of its definition.

    Args:
        widest: Maximum number of qubits of a gate; a wider one is replaced by its definition.
    """
    if isinstance(operation, _IGNORED):
        return
    fitted = _fit(operation, widest)
    if fitted is not None:
        yield ElementaryGate(on, *fitted)
        return
    definition = defined(operation)
    if definition is None:
        raise EngineError(
            f"instruction '{operation.name}' on qubits {list(on)} has neither a matrix nor a definition; "
            "decompose the circuit into standard gates"
        )
    for flat in flattened_gates(definition):
        yield from elementary_gates_of(flat.operation, tuple(on[q] for q in flat.qubits), widest)


def _fit(operation: Any, widest: int) -> tuple[np.ndarray, ParameterExpression | None] | None:
    """Return the ``(terms, angle)`` of an operation, or None if its definition must be used."""
    angles = free(operation)
    whole = isinstance(operation, UnitaryGate) and widest >= _MAX_GATE_QUBITS
    if len(angles) > 1 or isinstance(operation, PauliEvolutionGate) or (operation.num_qubits > widest and not whole):
        return None
    if not hasattr(operation, "to_matrix"):
        return None
    if not angles:
        matrix = matrix_of(operation)
        return None if matrix is None else (constant(matrix), None)
    others = tuple(None if i in angles else _number(p) for i, p in enumerate(operation.params))
    kind: Any = getattr(operation, "base_class", type(operation))
    if getattr(operation, "_standard_gate", None) is not None and kind.__module__.startswith("qiskit.circuit.library"):
        terms = _fit_standard(kind, getattr(operation, "ctrl_state", None), others)
    else:
        terms = _fit_angle(operation, angles[0])
    return None if terms is None else (terms, operation.params[angles[0]])


@lru_cache(maxsize=1024)
def _fit_standard(kind: type, ctrl_state: int | None, params: tuple[float | None, ...]) -> np.ndarray | None:
    extra = {} if ctrl_state is None else {"ctrl_state": ctrl_state}
    return _fit_angle(kind(*(0.0 if p is None else p for p in params), **extra), params.index(None))


def _fit_angle(operation: Any, free: int) -> np.ndarray | None:
    def at(angle: float) -> np.ndarray:
        bound = operation.to_mutable() if hasattr(operation, "to_mutable") else operation.copy()
        bound.params = [angle if i == free else _number(p) for i, p in enumerate(operation.params)]
        return np.asarray(bound.to_matrix(), dtype=complex)

    try:
        samples = np.stack([at(angle) for angle in GRID])
    except (CircuitError, TypeError):
        return None
    terms = np.tensordot(FROM_GRID, samples, axes=1)
    terms[np.abs(terms) < 1e-14] = 0

    def fitted(angle: float) -> np.ndarray:
        return np.tensordot(harmonics(torch.tensor(angle, dtype=torch.float64)).numpy(), terms, axes=1)

    known = all(np.allclose(fitted(angle), at(angle), atol=1e-12) for angle in (0.7, 4.9))
    return terms if known and np.allclose(fitted(0.7) @ fitted(1.1), fitted(1.8), atol=1e-12) else None


def _number(value: Any) -> float:
    return float(np.real(value.numeric())) if isinstance(value, ParameterExpression) else value
