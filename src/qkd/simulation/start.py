"""Start of training: input values around which expectation values respond linearly to the data.

After a rotation about Y the expectation value of Z is cos(x). It is even around x = 0, where a student can only
memorize, and linear around pi/2. For other circuits such a point is searched for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.config import EngineSpec
from qkd.core.console import working
from qkd.core.errors import QkdError
from qkd.simulation.factory import Engine, is_affordable, make_engine

WEIGHT_SPREAD = 0.1
"""Standard deviation, radians, of a student's initial circuit weights."""
DRAWS = 8
"""Number of random weight vectors over which a response is averaged."""
COARSE_DRAWS, COARSE_TRUNCATION = 3, 0.01
"""Number of weight vectors and truncation threshold for light cones that are too wide to be exact."""
ELSEWHERE = 64
"""Number of random inputs in the search for the largest response."""
BLIND = 0.25
"""Fraction of an input's largest response below which the input counts as blind."""
ALIKE = 0.8
"""Fraction of the best score above which starts are equivalent; the one nearest to pi/2 wins."""
STEPS = 12
"""Grid points per pi."""


@dataclass(frozen=True)
class Response:
    """Response of a circuit to its A inputs around one point at initial weights.

    Attributes:
        angles: The point (A,) in radians.
        slope: The slopes (A,) per radian of each input: Euclidean norm over observables, root mean square over
            initial weights.
        best: The largest slopes (A,) at any tried point.
    """

    angles: tuple[float, ...]
    slope: tuple[float, ...]
    best: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Slopes over largest slopes, (A,); 0 for inputs without any effect."""
        return tuple(s / b if b > 1e-9 else 0.0 for s, b in zip(self.slope, self.best, strict=True))

    @property
    def blind(self) -> tuple[int, ...]:
        """The indices of inputs without a linear response."""
        return tuple(a for a, share in enumerate(self.shares) if share < BLIND)


@public
def linear_response(student: StudentCircuit, engine: Engine | None = None, seed: int = 0) -> Response:
    """Return the response of a circuit at its ``start``, or at the best start of a grid if it has none.

    Args:
        engine: The engine; None is an ideal one in double precision.
        seed: The seed of the initial weights.

    Raises:
        QkdError: No engine supports the circuit.
    """
    draws = DRAWS
    if engine is None:
        engine, draws = _engine_and_draws(student)
    slopes = _Slopes(student, engine, seed, draws)
    inputs = len(student.inputs)
    rng = np.random.default_rng(seed)
    grid = np.pi * np.arange(1 - STEPS, STEPS) / STEPS
    common = np.repeat(grid[:, None], inputs, axis=1)
    everywhere = slopes.at(np.vstack([common, rng.uniform(-np.pi, np.pi, (ELSEWHERE, inputs))]))
    best = everywhere.max(axis=0, initial=0)
    if student.start:
        point, slope = np.array(student.start), slopes.at(np.array([student.start]))[0]
    else:
        point, slope = _best_start(slopes, grid, everywhere[: len(grid)], best)
    return Response(tuple(point.tolist()), tuple(slope.tolist()), tuple(np.maximum(best, slope).tolist()))


def with_start(student: StudentCircuit, engine: Engine | None = None) -> StudentCircuit:
    """Return ``student`` with its own ``start``, or with the best one if it has none."""
    if student.start:
        return student
    with working(f"looking for a linear start of circuit '{student.name}'"):
        return replace(student, start=linear_response(student, engine).angles)


def _engine_and_draws(student: StudentCircuit) -> tuple[Engine, int]:
    """Return an engine that evaluates slopes in seconds, and the number of weight vectors.

    A start only needs slopes to about 20 %, so a coarse truncation is enough in light cones too wide to be exact. A
    search to the usual accuracy would take minutes for every weight vector.
    """
    spec = EngineSpec(precision="double", torch_device="cpu")
    try:
        affordable = is_affordable(student)
    except QkdError:  # only the statevector engine supports its gates
        affordable = True
    if affordable:
        return make_engine(spec, student), DRAWS
    coarse = spec.model_copy(update={"engine": "lightcone", "truncation": COARSE_TRUNCATION})
    return make_engine(coarse, student), COARSE_DRAWS


class _Slopes:
    """The slopes of a circuit at given inputs, at initial weights."""

    def __init__(self, student: StudentCircuit, engine: Engine, seed: int, draws: int) -> None:
        self._program = engine.estimator.compile(
            student.circuit, student.observables, batched=student.inputs, shared=student.weights
        )
        rng = np.random.default_rng([seed, 1])
        shape = (draws, len(student.weights))
        self._device = engine.device
        self._weights = torch.tensor(rng.normal(0, WEIGHT_SPREAD, shape), device=engine.device)
        # Hutchinson: squared derivatives of sums with random signs average to the squared norm of the derivatives
        self._signs = torch.tensor(rng.choice([-1.0, 1.0], (draws, len(student.observables))), device=engine.device)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return slopes (T,A) at inputs (T,A)."""
        if not points.shape[1]:
            return np.zeros(points.shape)
        squares = torch.zeros(points.shape, dtype=torch.float64, device=self._device)
        for weights, signs in zip(self._weights, self._signs, strict=True):
            rows = torch.tensor(points, device=self._device, requires_grad=True)
            total = (self._program(rows, weights) * signs).sum()
            if total.requires_grad:
                squares += torch.autograd.grad(total, rows)[0].double().square()
        return (squares / len(self._weights)).sqrt().cpu().numpy()


def _best_start(
    slopes: _Slopes, grid: np.ndarray, common: np.ndarray, best: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the start (A,) with the largest response of its weakest input, and the slopes (A,) there.

    All inputs get the same value, unless a value for each input is clearly better.

    Args:
        grid: The candidate values (T,).
        common: The slopes (T,A) with all inputs at one candidate.
        best: The largest slopes (A,).
    """

    def weakest(responses: np.ndarray) -> np.ndarray:
        """Return the smallest fraction of each row, without inputs that have no effect."""
        alive = best > 1e-9
        return (responses[:, alive] / best[alive]).min(axis=1, initial=1.0)

    def pick(scores: np.ndarray) -> int:
        """Return the index of the candidate nearest to pi/2 among the best ones."""
        near = np.flatnonzero(scores >= ALIKE * scores.max())
        return int(near[np.abs(grid[near] - math.pi / 2).argmin()])

    scores = weakest(common)
    chosen = pick(scores)
    point = np.full(len(best), grid[chosen])
    if scores[chosen] >= 2 * BLIND:
        return point, common[chosen]
    each = np.array([grid[pick(column)] for column in common.T])
    there = slopes.at(each[None])
    return (each, there[0]) if weakest(there)[0] > scores[chosen] else (point, common[chosen])
