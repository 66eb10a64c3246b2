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
from qiskit.circuit import Barrier, Delay, ParameterExpression, QuantumCircuit, Reset
from qiskit.circuit.exceptions import CircuitError
from qiskit.circuit.library import GlobalPhaseGate, IGate, PauliEvolutionGate, UnitaryGate
from qiskit.quantum_info import SparsePauliOp

from qkd.core.errors import EngineError
from qkd.engines.instructions import defined, free, is_channel, leaves, matrix_of

WAVES = 5
_WIDEST = 4  # a constant gate on more qubits is replaced by its definition
_IGNORED = (Barrier, Delay, IGate, GlobalPhaseGate)


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
    """Return the waves (...,F) of angles (...), all five or those ``used``; a sixth, exp(-2 t), is that of rates."""
    turns, starts = sines(tuple(f for f in used if f < WAVES), angles.dtype, angles.device)
    table = torch.addcmul(starts, angles.unsqueeze(-1), turns).sin()
    return torch.cat([table, (-2 * angles).exp().unsqueeze(-1)], dim=-1) if WAVES in used else table


@lru_cache
def sines(used: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how often the sines that are the waves 1, cos(t/2), sin(t/2), cos t, sin t turn, and where they start."""
    turns, starts = np.array([(0, 0.5, 0.5, 1, 1), (np.pi / 2, np.pi / 2, 0, np.pi / 2, 0)])[:, list(used)]
    with torch.inference_mode(False):  # whoever asks first; tensors of inference serve no gradient later
        return torch.as_tensor(turns, dtype=dtype, device=device), torch.as_tensor(starts, dtype=dtype, device=device)


GRID = 4 * math.pi * np.arange(WAVES) / WAVES
FROM_GRID = np.linalg.inv(waves(torch.from_numpy(GRID)).numpy())  # the waves' coefficients from five values


def atoms(circuit: QuantumCircuit) -> list[Atom]:
    """Return the circuit's gates, in order, as atoms; collinear neighbours are merged.

    Barriers, delays and identities are left out, and a reset of a qubit still in |0>. Global phases are
    dropped: they leave every expectation value alone. A ``PauliEvolutionGate`` is what its synthesis says
    (the circuit that a device would run), whether its time is bound or not.

    Raises:
        EngineError: a channel, or a reset of a qubit in use (see ``without_resets``), or what ``leaves`` refuses.
    """
    merged: list[Atom] = []
    last: dict[int, int] = {}  # qubit -> position in `merged` of the last atom on it
    for atom in _all_atoms(circuit):
        positions = {last.get(q, -1) for q in atom.qubits}
        position = positions.pop()
        before = merged[position] if not positions and position >= 0 else None
        if before is not None and before.angle is not None and _collinear(before, atom):
            merged[position] = Atom(atom.qubits, atom.terms, before.angle + atom.angle)
            continue
        last.update(dict.fromkeys(atom.qubits, len(merged)))
        merged.append(atom)
    return merged


def _all_atoms(circuit: QuantumCircuit) -> Iterator[Atom]:
    used: set[int] = set()
    for leaf in leaves(circuit):
        operation, on = leaf.operation, leaf.qubits
        if is_channel(operation) or (isinstance(operation, Reset) and used & set(on)):
            raise EngineError(
                f"'{operation.name}' on qubits {list(on)} is not unitary; take an engine that knows noise"
            )
        if not isinstance(operation, Reset):
            atoms = list(gate_atoms(operation, on))
            used.update(on if atoms else ())
            yield from atoms


def without_resets(
    circuit: QuantumCircuit, observables: Sequence[SparsePauliOp]
) -> tuple[QuantumCircuit, Sequence[SparsePauliOp]]:
    """Return a circuit that takes a fresh qubit where a qubit in use is reset, and the observables that go with it.

    What was on the qubit before is never looked at again, which is what a reset does to it.
    """
    wire, width, used = list(range(circuit.num_qubits)), circuit.num_qubits, set[int]()
    operations = leaves(circuit)
    moved: list[tuple[Any, list[int]]] = []
    for leaf in operations:
        if isinstance(leaf.operation, Reset):
            (qubit,) = leaf.qubits
            if qubit in used:
                wire[qubit], width = width, width + 1
                used.discard(qubit)
        else:
            used.update(leaf.qubits)
            moved.append((leaf.operation, [wire[q] for q in leaf.qubits]))
    if width == circuit.num_qubits:
        return circuit, observables
    wide = QuantumCircuit(width, name=circuit.name)
    for operation, on in moved:
        wide.append(operation, on)
    return wide, [observable.apply_layout(wire, width) for observable in observables]


def _collinear(first: Atom, second: Atom) -> bool:
    return second.angle is not None and first.qubits == second.qubits and np.array_equal(first.terms, second.terms)


def gate_atoms(operation: Any, on: tuple[int, ...], widest: int = _WIDEST) -> Iterator[Atom]:
    """Yield the atoms of one gate on the qubits ``on``: itself, or those of its definition.

    Args:
        operation: a gate or a delay.
        on: its qubits.
        widest: a gate on more qubits is replaced by its definition.

    Raises:
        EngineError: it has neither a matrix of this form nor a definition.
    """
    if isinstance(operation, _IGNORED):
        return
    fitted = _fit(operation, widest)
    if fitted is not None:
        yield Atom(on, *fitted)
        return
    definition = defined(operation)
    if definition is None:
        raise EngineError(
            f"instruction '{operation.name}' on qubits {list(on)} has neither a matrix nor a definition; "
            "decompose the circuit into standard gates"
        )
    for leaf in leaves(definition):
        yield from gate_atoms(leaf.operation, tuple(on[q] for q in leaf.qubits), widest)


def _fit(operation: Any, widest: int) -> tuple[np.ndarray, ParameterExpression | None] | None:
    """Return an operation's ``(terms, angle)``, or None where its definition has to be used."""
    angles = free(operation)
    whole = isinstance(operation, UnitaryGate) and widest >= _WIDEST
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
        return np.tensordot(waves(torch.tensor(angle, dtype=torch.float64)).numpy(), terms, axes=1)

    known = all(np.allclose(fitted(angle), at(angle), atol=1e-12) for angle in (0.7, 4.9))
    return terms if known and np.allclose(fitted(0.7) @ fitted(1.1), fitted(1.8), atol=1e-12) else None


def _number(value: Any) -> float:
    return float(np.real(value.numeric())) if isinstance(value, ParameterExpression) else value
