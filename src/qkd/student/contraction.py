"""The expectation values of a circuit with fixed weights as tensor contractions in plain numpy.

With fixed weights, an expectation value of a circuit whose data enter through rotations is a trigonometric polynomial
of the inputs in its light cone (Schuld et al., arXiv:2008.08605). An input x that enters d rotations contributes the
features (1, cos x, sin x, ..., cos dx, sin dx). The polynomial's coefficients form a tensor with one axis per input.
This module finds them by interpolation on an equidistant grid, where the discrete Fourier transform is orthogonal.
A singular value decomposition splits the tensor between two halves of the inputs::

    <O> = sum_r (left_features @ left)[r] * (right_features @ right)[r]

Shallow circuits entangle the halves weakly, so few ranks r are not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch

from qkd.circuits.cone import cut, input_uses
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import EngineError, ModelError
from qkd.engines.base import EngineEstimator, threads
from qkd.engines.lightcone import LightConeEstimator
from qkd.engines.noise import NoiseLike
from qkd.engines.statevector import StatevectorEstimator
from qkd.student.gatelist import MAX_QUBITS

# Grid points of one light cone: 3^12 inputs of an ideal circuit, 3^10 under noise, where each point costs more.
MAX_IDEAL_POINTS = 3**12
MAX_NOISY_POINTS = 3**10
# Singular values below this fraction of the largest are rounding errors.
RELATIVE_RANK_CUTOFF = 1e-12
# Samples of each half of the inputs with which the search for the rank starts.
FIRST_SAMPLES, SAMPLES_GROWTH = 16, 4
# Largest deviation from the engine, at random inputs, of an interpolation with the right frequencies.
INTERPOLATION_TOLERANCE = 1e-8
CHECK_POINTS = 8
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Contraction:
    """One expectation value as a product of two halves, see the module's formula.

    Attributes:
        inputs: Columns of the angles (B,A) that enter, in the order of the tensor's axes.
        degrees: Highest frequency of each of these inputs.
        split: Number of inputs in the left half.
        left: Matrix (F_left,R); F is the product of ``2 * degree + 1`` over the half's inputs.
        right: Matrix (F_right,R).
        bound: Largest possible change of the value by the omitted ranks.
    """

    inputs: tuple[int, ...]
    degrees: tuple[int, ...]
    split: int
    left: np.ndarray
    right: np.ndarray
    bound: float = 0.0

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return expectation values (B,) at angles (B,A)."""
        halves = zip(
            (self.inputs[: self.split], self.inputs[self.split :]),
            (self.degrees[: self.split], self.degrees[self.split :]),
            (self.left, self.right),
            strict=True,
        )
        left, right = (product_features(angles[:, list(inputs)], own) @ matrix for inputs, own, matrix in halves)
        return np.einsum("br,br->b", left, right)


@dataclass(frozen=True)
class ContractedCircuit:
    """K expectation values, each a contraction of the light cone of its observable.

    Attributes:
        contractions: One for each observable.
    """

    contractions: tuple[Contraction, ...]

    @property
    def bounds(self) -> np.ndarray:
        """Largest possible change (K,) of each value by the omitted ranks."""
        return np.array([one.bound for one in self.contractions])

    @property
    def num_numbers(self) -> int:
        """Number of coefficients."""
        return sum(one.left.size + one.right.size for one in self.contractions)

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return expectation values (B,K) at angles (B,A)."""
        return np.stack([contraction(angles) for contraction in self.contractions], axis=1)


def contract(
    circuit: StudentCircuit, weights: np.ndarray, noise: NoiseLike = None, tolerance: float = 0.0
) -> ContractedCircuit:
    """Return the contractions of a circuit's observables.

    Args:
        noise: A noise model on the circuit's qubits, or None.
        tolerance: Largest allowed error of an expectation value.

    Raises:
        ModelError: A light cone holds too many inputs, or an input enters with other than whole frequencies.
    """
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for k in range(len(circuit.observables)):
        uses = input_uses(circuit, k)
        inputs = tuple(i for i, count in enumerate(uses) if count)
        degrees = tuple(uses[i] for i in inputs)
        points = int(np.prod([2.0 * degree + 1 for degree in degrees]))
        limit = MAX_IDEAL_POINTS if noise is None else MAX_NOISY_POINTS
        if points > limit:
            raise ModelError(
                f"circuit '{circuit.name}': the light cone of observable {k} holds {len(inputs)} inputs, and its "
                f"{points:.1e} coefficients are more than {limit:,}"
            )
        groups.setdefault((inputs, degrees), []).append(k)
    contractions: list[Contraction | None] = [None] * len(circuit.observables)
    for (inputs, degrees), members in groups.items():
        made = _interpolate(_Values(circuit, weights, members, inputs, noise), inputs, degrees, tolerance)
        if made is None:
            raise ModelError(
                f"circuit '{circuit.name}': an expectation value is no trigonometric polynomial with whole frequencies "
                "of its inputs"
            )
        for k, contraction in zip(members, made, strict=True):
            contractions[k] = contraction
    return ContractedCircuit(tuple(one for one in contractions if one is not None))


class _Values:
    """Expectation values of some observables as a function of the inputs in their light cone."""

    def __init__(
        self,
        circuit: StudentCircuit,
        weights: np.ndarray,
        members: Sequence[int],
        inputs: Sequence[int],
        noise: NoiseLike,
    ) -> None:
        # Noise belongs to numbered qubits, so only an ideal circuit may be cut to its light cone.
        small = cut(circuit, members) if noise is None else circuit
        observables = small.observables if noise is None else [circuit.observables[k] for k in members]
        self._columns = [small.inputs.index(circuit.inputs[i]) for i in inputs]
        self._width = len(small.inputs)
        place = {parameter: i for i, parameter in enumerate(circuit.weights)}
        self._weights = torch.as_tensor(weights[[place[p] for p in small.weights]], dtype=torch.float64)
        narrow = small.num_qubits <= MAX_QUBITS and noise is None
        engine: EngineEstimator = StatevectorEstimator() if narrow else LightConeEstimator(noise, device="cpu")
        try:
            self._program = engine.compile(small.circuit, observables, small.inputs, small.weights)
        except EngineError as error:
            raise ModelError(f"circuit '{circuit.name}': {error}") from None
        self._threads = engine.threads

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return values (B,K') at angles (B,A') of the light cone's inputs."""
        values = np.zeros((len(angles), self._width))
        values[:, self._columns] = angles
        with torch.no_grad(), threads(self._threads):
            parts = [
                self._program(torch.from_numpy(values[start : start + CHUNK_ROWS]), self._weights)
                for start in range(0, len(values), CHUNK_ROWS)
            ]
        return torch.cat(parts).double().cpu().numpy()

    def product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return values (K',G,H) at all pairs of angles (G,A') of the left half and (H,A'') of the right one."""
        pairs = np.concatenate([np.repeat(left, len(right), axis=0), np.tile(right, (len(left), 1))], axis=1)
        return self(pairs).T.reshape(-1, len(left), len(right))


def _interpolate(
    program: _Values, inputs: tuple[int, ...], degrees: tuple[int, ...], tolerance: float
) -> list[Contraction] | None:
    """Return each observable's contraction, or None where a value has other frequencies.

    The tensor, as a matrix from the left to the right half of the inputs, has a low rank R. So p > R samples of each
    half determine it: M = M[:, J] pinv(M[I, J]) M[I, :], the skeleton decomposition (Goreinov et al., Linear Algebra
    Appl. 261:1, 1997). The number of samples grows until the contraction equals the engine at random inputs.
    """
    split = (len(inputs) + 1) // 2
    left, right = _half_grid(degrees[:split]), _half_grid(degrees[split:])
    rng = np.random.default_rng(0)
    samples = FIRST_SAMPLES
    while True:
        complete = 2 * samples >= min(len(left.points), len(right.points))
        if complete:
            by_left = left.inverse @ program.product(left.points, right.points) @ right.inverse.T
            by_right = core = np.broadcast_to(np.eye(len(right.points)), (len(by_left), *[len(right.points)] * 2))
        else:
            some = [rng.uniform(-np.pi, np.pi, (samples, half.points.shape[1])) for half in (left, right)]
            by_left = left.inverse @ program.product(left.points, some[1])
            by_right = program.product(some[0], right.points) @ right.inverse.T
            core = np.linalg.pinv(program.product(*some), rcond=RELATIVE_RANK_CUTOFF)
        parts = zip(by_left, core, by_right, strict=True)
        made = [_factorize(*part, inputs, degrees, tolerance) for part in parts]
        if _equal(program, made):
            return made
        if complete:
            return None
        samples *= SAMPLES_GROWTH


@dataclass(frozen=True)
class _HalfGrid:
    """Equidistant points of some inputs.

    Attributes:
        points: Angles (G,A') of the points.
        inverse: Matrix (F,G) from values at the points to coefficients; F = G.
    """

    points: np.ndarray
    inverse: np.ndarray


def _half_grid(degrees: Sequence[int]) -> _HalfGrid:
    axes = [2 * np.pi * np.arange(2 * degree + 1) / (2 * degree + 1) for degree in degrees]
    if not axes:
        return _HalfGrid(np.zeros((1, 0)), np.ones((1, 1)))
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    inverses = [np.linalg.inv(features(axis, degree)) for axis, degree in zip(axes, degrees, strict=True)]
    return _HalfGrid(points, reduce(np.kron, inverses))


def _factorize(
    columns: np.ndarray,
    core: np.ndarray,
    rows: np.ndarray,
    inputs: tuple[int, ...],
    degrees: tuple[int, ...],
    tolerance: float,
) -> Contraction:
    """Return the contraction with coefficients ``columns @ core @ rows``; ranks within ``tolerance`` are omitted."""
    first, left = np.linalg.qr(columns)
    last, right = np.linalg.qr(rows.T)
    u, singular, v = np.linalg.svd(left @ core @ right.T, full_matrices=False)
    # The features of an input of degree d have norm sqrt(1 + d), which bounds what a singular value contributes.
    norm = float(np.sqrt(np.prod([1.0 + degree for degree in degrees])))
    errors = norm * singular  # the remaining ranks change a value by at most the largest singular value among them
    rank = max(1, int(np.sum((errors > tolerance) & (singular > RELATIVE_RANK_CUTOFF * max(singular[0], 1e-300)))))
    root = np.sqrt(singular[:rank])
    omitted = float(errors[rank]) if rank < len(errors) else 0.0
    halves = np.ascontiguousarray(first @ u[:, :rank] * root), np.ascontiguousarray(last @ v[:rank].T * root)
    return Contraction(inputs, degrees, (len(inputs) + 1) // 2, halves[0], halves[1], omitted)


def _equal(program: _Values, contractions: Sequence[Contraction]) -> bool:
    """Return whether contractions equal the engine at random inputs."""
    inputs = contractions[0].inputs
    angles = np.random.default_rng(1).uniform(-np.pi, np.pi, (CHECK_POINTS, len(inputs)))
    wide = np.zeros((CHECK_POINTS, max(inputs, default=0) + 1))
    wide[:, list(inputs)] = angles
    return all(
        np.abs(contraction(wide) - exact).max() <= contraction.bound + INTERPOLATION_TOLERANCE
        for contraction, exact in zip(contractions, program(angles).T, strict=True)
    )


def features(angles: np.ndarray, degree: int) -> np.ndarray:
    """Return (1, cos x, sin x, ..., cos dx, sin dx), shape (B,2d+1), of angles (B,)."""
    waves = [wave(f * angles) for f in range(1, degree + 1) for wave in (np.cos, np.sin)]
    return np.stack([np.ones_like(angles), *waves], axis=1)


def product_features(angles: np.ndarray, degrees: Sequence[int]) -> np.ndarray:
    """Return all products (B,F) of the features of angles (B,A'), the last input's index running fastest."""
    parts = [features(column, degree) for column, degree in zip(angles.T, degrees, strict=True)]
    one = np.ones((len(angles), 1))
    return reduce(lambda left, right: (left[:, :, None] * right[:, None]).reshape(len(left), -1), parts, one)
