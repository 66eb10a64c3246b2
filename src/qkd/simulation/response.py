"""Where a circuit should start: input values around which its expectation values respond linearly to the data.

Behind rotations about Y an expectation value of Z is cos(x): around x = 0 it is even, nothing of it is linear in the
data, and a student that starts there memorises; around pi/2 it is linear. For any circuit the place is looked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.core.console import working
from qkd.core.errors import QkdError
from qkd.simulation.choice import is_affordable
from qkd.simulation.simulators import Engine, make_engine

WEIGHT_SPREAD = 0.1
"""Standard deviation, radians, of a student's initial circuit weights."""
DRAWS = 8
"""Random weight vectors over which a response is averaged."""
COARSE_DRAWS, COARSE_TRUNCATION = 3, 0.01
"""The same where light cones are too wide to be exact, and the threshold below which Pauli strings are dropped."""
ELSEWHERE = 64
"""Random inputs that show how large a response can be."""
BLIND = 0.25
"""A response below this share of the largest one that an input has anywhere is none."""
ALIKE = 0.8
"""Starts that reach this share of the best one are as good; of them the one nearest to pi/2 is taken."""
STEPS = 12
"""Values that are tried lie pi/STEPS apart."""


@dataclass(frozen=True)
class Response:
    """How a circuit responds to its A inputs around one point, at initial weights.

    angles: (A,) the point, radians.
    slope: (A,) change of the expectation values (their Euclidean norm over all observables, root mean square over
        initial weights) per radian of each input there.
    best: (A,) the largest slope found anywhere.
    """

    angles: tuple[float, ...]
    slope: tuple[float, ...]
    best: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """(A,) slope over best; 0 where an input has no effect at all."""
        return tuple(s / b if b > 1e-9 else 0.0 for s, b in zip(self.slope, self.best, strict=True))

    @property
    def blind(self) -> tuple[int, ...]:
        """The inputs to which nothing responds linearly."""
        return tuple(a for a, share in enumerate(self.shares) if share < BLIND)


def linear_response(student: StudentCircuit, engine: Engine | None = None, seed: int = 0) -> Response:
    """Return how a circuit responds at its ``start``, or where that is not said, at the best start that is found.

    Args:
        student: the circuit.
        engine: what evaluates it; exact, ideal and double where left out.
        seed: of the initial weights.

    Raises:
        QkdError: no engine takes the circuit.
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
    point = np.array(student.start) if student.start else _best_start(slopes, grid, everywhere[: len(grid)], best)
    slope = slopes.at(point[None])[0]
    return Response(tuple(point.tolist()), tuple(slope.tolist()), tuple(np.maximum(best, slope).tolist()))


def started(student: StudentCircuit, engine: Engine | None = None) -> StudentCircuit:
    """Return ``student`` with a ``start``; its own, where it has one."""
    if student.start:
        return student
    with working(f"looking for a linear start of circuit '{student.name}'"):
        return replace(student, start=linear_response(student, engine).angles)


def _engine_and_draws(student: StudentCircuit) -> tuple[Engine, int]:
    """Return an engine that evaluates slopes in seconds, and over how many weight vectors to average.

    Slopes are compared with one another in steps of a fifth, so that a coarse truncation is enough where light cones
    are too wide to be exact. A search to an accuracy would take minutes for each weight vector there.
    """
    spec = EngineSpec(precision="double", torch_device="cpu")
    try:
        affordable = is_affordable(student)
    except QkdError:  # only the statevector engine takes its gates
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
        # sums over observables with random signs: their squared derivatives average to those of the norm (Hutchinson)
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


def _best_start(slopes: _Slopes, grid: np.ndarray, common: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the start (A,) whose weakest input responds most: one value for all or, if that is weak, one for each.

    Args:
        slopes: of the circuit.
        grid: the values tried, (T,).
        common: slopes (T,A) with all inputs at one of them.
        best: the largest slopes (A,).
    """

    def weakest(responses: np.ndarray) -> np.ndarray:
        """Return the smallest share of each row; inputs without any effect do not count."""
        alive = best > 1e-9
        return (responses[:, alive] / best[alive]).min(axis=1, initial=1.0)

    def pick(scores: np.ndarray) -> int:
        """Return the number of the value among the best that is nearest to pi/2."""
        near = np.flatnonzero(scores >= ALIKE * scores.max())
        return int(near[np.abs(grid[near] - math.pi / 2).argmin()])

    scores = weakest(common)
    chosen = pick(scores)
    point = np.full(len(best), grid[chosen])
    if scores[chosen] >= 2 * BLIND:
        return point
    each = np.array([grid[pick(column)] for column in common.T])
    return each if weakest(slopes.at(each[None]))[0] > scores[chosen] else point
