"""Any unitary circuit as a list of atoms: constant matrices and gates ``U(t) = exp(i t H)`` of one angle t.

Every rotation, phase gate and controlled rotation of Qiskit is ``U(t) = sum_f w_f(t) A_f`` with constant
matrices A_f and the waves ``w = (1, cos t/2, sin t/2, cos t, sin t)``, the eigenvalues of H being 0, 1/2 or 1
apart. The A_f are read off the gate's own matrix at five angles, so that no table of gates is kept; a gate
that is not of this form is replaced by its definition until it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from qiskit.circuit import ParameterExpression, QuantumCircuit
from qiskit.circuit.exceptions import CircuitError
from qiskit.circuit.library import UnitaryGate

from qkd.errors import QkdError

WAVES = 5
_WIDEST = 4  # a constant gate on more qubits is replaced by its definition
_IGNORED = {"barrier", "delay", "id", "global_phase"}


@dataclass(frozen=True, eq=False)
class Atom:
    """A constant gate, or one of a one-parameter group: U(s) U(t) = U(s+t).

    Args:
        qubits: the k qubits it acts on; the first is the least significant bit of a matrix index.
        terms: (5, 2^k, 2^k) matrices A_f; a constant gate has only the first.
        angle: what t is, or None for a constant gate.
    """

    qubits: tuple[int, ...]
    terms: np.ndarray
    angle: ParameterExpression | None = None

    @property
    def diagonal(self) -> bool:
        """Whether the gate is diagonal at every angle."""
        size = self.terms.shape[-1]
        return not self.terms[:, ~np.eye(size, dtype=bool)].any()

    @property
    def permutation(self) -> np.ndarray | None:
        """``image[i]``, the basis state that state i becomes, if the gate only permutes them, else None."""
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
        """H of a gate exp(i t H): minus i times the derivative at t = 0."""
        return -1j * (self.terms[2] / 2 + self.terms[4])

    def diagonalised(self) -> list[Atom]:
        """Return this gate as constant, diagonal, constant: exp(i t H) = V exp(i t d) V^dagger, first acts first."""
        if self.angle is None or self.diagonal:
            return [self]
        values, vectors = np.linalg.eigh(self.generator)
        exponents = np.exp(1j * np.outer(GRID, values))  # (5,2^k)
        diagonal = np.einsum("fg,gi,ij->fij", FROM_GRID, exponents, np.eye(len(values)))
        return [
            Atom(self.qubits, constant(vectors.conj().T)),
            Atom(self.qubits, diagonal, self.angle),
            Atom(self.qubits, constant(vectors)),
        ]


def constant(matrix: np.ndarray) -> np.ndarray:
    """Return the terms (5,2^k,2^k) of a constant gate."""
    terms = np.zeros((WAVES, *matrix.shape), dtype=complex)
    terms[0] = matrix
    return terms


def waves(angles: torch.Tensor, used: Sequence[int] = range(WAVES)) -> torch.Tensor:
    """Return the waves (...,F) of angles (...), all five or those ``used``."""
    half = angles / 2
    make = (lambda: torch.ones_like(angles), half.cos, half.sin, angles.cos, angles.sin)
    return torch.stack([make[f]() for f in used], dim=-1)


GRID = 4 * math.pi * np.arange(WAVES) / WAVES
FROM_GRID = np.linalg.inv(waves(torch.from_numpy(GRID)).numpy())  # the waves' coefficients from five values


def atoms(circuit: QuantumCircuit) -> list[Atom]:
    """Return the circuit's gates, in order, as atoms; collinear neighbours are merged.

    Barriers, delays and identities are left out, and a reset of a qubit still in |0>. Global phases are
    dropped: they leave every expectation value alone. A ``PauliEvolutionGate`` is what its synthesis says
    (the circuit that a device would run), whether its time is bound or not.

    Raises:
        QkdError: a measurement, reset, control flow, or an instruction that is not unitary or has no definition.
    """
    merged: list[Atom] = []
    last: dict[int, int] = {}  # qubit -> position in `merged` of the last atom on it
    for atom in _expand(circuit, tuple(range(circuit.num_qubits)), set()):
        positions = {last.get(q, -1) for q in atom.qubits}
        position = positions.pop()
        before = merged[position] if not positions and position >= 0 else None
        if before is not None and before.angle is not None and _collinear(before, atom):
            merged[position] = Atom(atom.qubits, atom.terms, before.angle + atom.angle)
            continue
        last.update(dict.fromkeys(atom.qubits, len(merged)))
        merged.append(atom)
    return merged


def _collinear(one: Atom, other: Atom) -> bool:
    return other.angle is not None and one.qubits == other.qubits and np.array_equal(one.terms, other.terms)


def _expand(circuit: QuantumCircuit, qubits: Sequence[int], used: set[int]) -> Iterator[Atom]:
    position = {qubit: qubits[i] for i, qubit in enumerate(circuit.qubits)}
    for item in circuit.data:
        operation, on = item.operation, tuple(position[q] for q in item.qubits)
        if operation.name in _IGNORED or (operation.name == "reset" and not used & set(on)):
            continue
        _refuse(operation, item.clbits)
        if operation.num_qubits == 0:
            continue
        fitted = _fit(operation)
        if fitted is not None:
            used.update(on)
            yield Atom(on, *fitted)
        elif operation.name in ("u", "u3"):  # Qiskit's own definition of these two ends at themselves
            theta, phi, lam = operation.params
            rewritten = QuantumCircuit(1)
            rewritten.rz(lam, 0)
            rewritten.ry(theta, 0)
            rewritten.rz(phi, 0)
            yield from _expand(rewritten, on, used)
        else:
            definition = getattr(operation, "definition", None)
            if definition is None:
                raise QkdError(
                    f"instruction '{operation.name}' on qubits {list(on)} has neither a matrix nor a definition; "
                    "decompose the circuit into standard gates"
                )
            yield from _expand(definition, on, used)


def _refuse(operation: Any, clbits: Sequence[Any]) -> None:
    if operation.name == "measure":
        raise QkdError(
            "the circuit measures qubits, which an estimator does itself; call "
            "circuit.remove_final_measurements() first (mid-circuit measurements are not supported)"
        )
    if operation.name == "reset":
        raise QkdError("the circuit resets a qubit that is already in use; only unitary circuits are supported")
    if clbits or getattr(operation, "blocks", None):
        raise QkdError(
            f"instruction '{operation.name}' uses classical bits or control flow; only unitary circuits are supported"
        )


def _fit(operation: Any) -> tuple[np.ndarray, ParameterExpression | None] | None:
    """Return an operation's ``(terms, angle)``, or None where its definition has to be used."""
    free = (
        [i for i, p in enumerate(operation.params) if isinstance(p, ParameterExpression) and p.parameters]
        if hasattr(operation, "params")
        else []
    )
    matrix_gate = isinstance(operation, UnitaryGate)
    if len(free) > 1 or operation.name == "PauliEvolution" or (operation.num_qubits > _WIDEST and not matrix_gate):
        return None
    if not hasattr(operation, "to_matrix"):
        return None
    if not free:
        try:
            matrix = np.asarray(operation.to_matrix(), dtype=complex)
        except CircuitError:
            return None
        return constant(matrix), None
    others = tuple(None if i in free else _number(p) for i, p in enumerate(operation.params))
    if getattr(operation, "_standard_gate", None) is not None:
        kind: Any = type(operation)
        found = _fit_standard(kind, getattr(operation, "ctrl_state", None), others)
    else:
        found = _fit_angle(operation, free[0])
    return None if found is None else (found, operation.params[free[0]])


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
        return np.tensordot(waves(torch.tensor(angle, dtype=torch.float64)).numpy(), terms, axes=1)

    known = all(np.allclose(fitted(angle), at(angle), atol=1e-12) for angle in (0.7, 4.9))
    return terms if known and np.allclose(fitted(0.7) @ fitted(1.1), fitted(1.8), atol=1e-12) else None


def _number(value: Any) -> float:
    return float(np.real(value.numeric())) if isinstance(value, ParameterExpression) else value
