"""Comparison of an engine with AerSimulator on a few points, before and after training.

Narrow light cones are compared with Aer's exact density matrices, wide ones with its trajectories within their
standard errors. If all observables would take too long, the comparison uses a random sample of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.console import log, working
from qkd.core.errors import QkdError
from qkd.engines.aer import AerEstimator, AerProgram
from qkd.engines.noise import NoiseLike
from qkd.engines.program import ExpectationProblem, pauli_terms
from qkd.results.run import EngineCheck
from qkd.simulation.factory import METHODS, Engine, Load, cheapest, loads
from qkd.simulation.start import WEIGHT_SPREAD

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
SIGMAS = 6
"""Largest accepted difference in standard errors, where the engine or Aer samples."""
LIKELY = 5
"""Largest accepted difference in units of the error that a truncating engine estimates itself."""
SECONDS, MAX_SECONDS = 10.0, 30.0
"""Estimated seconds (see ``factory.py``) for a comparison, and the most for a single group of Pauli strings."""
MAX_DENSE_QUBITS = 8
"""Maximum width of light cones in which random weights are drawn from the whole circle."""
SHOTS, FEWEST = 512, 64
"""Default and minimum number of trajectories."""


class Agreement(EngineCheck):
    """Result of a comparison."""

    def describe(self) -> str:
        """Return one sentence."""
        seen = f"all {self.of}" if self.observables == self.of else f"{self.observables} of {self.of}"
        where = f"on {self.points} point{'s' * (self.points > 1)}, {seen} observables"
        if self.shots:
            return (
                f"the engine and AerSimulator's {METHODS[self.method]} ({self.shots} shots) agree within "
                f"{self.sigmas:.1f} standard errors, {self.difference:.0e} at most, {where}"
            )
        return f"the engine and AerSimulator's {METHODS[self.method]} agree to {self.difference:.0e} {where}"


@public
def compare_with_aer(
    engine: Engine, student: StudentCircuit, noise: NoiseLike, values: np.ndarray | None = None, seed: int = 0
) -> Agreement | None:
    """Compare an engine's expectation values with AerSimulator's.

    Args:
        engine: The engine for training under ``noise``.
        values: Parameter values (R,A+P), inputs first. As many rows are used as ``SECONDS`` allow. None draws two
            random points.
        seed: The seed of points, sampled observables and Aer's shots.

    Returns:
        The result, or None if AerSimulator would need more than ``MAX_SECONDS`` for a single group of strings.

    Raises:
        QkdError: The engine and AerSimulator disagree.
    """
    whole = loads(student, noisy=True)
    if values is None:
        values = _random_points(student, max(load.qubits for load in whole), seed)
    method = cheapest(whole, SHOTS)
    shots, chosen = _affordable(whole, method, seed)
    if chosen[0].seconds(method, shots) > MAX_SECONDS:
        log.info(f"not compared with AerSimulator, which would need more than {MAX_SECONDS:.0f} s for one observable")
        return None
    cost = sum(load.seconds(method, shots) for load in chosen)
    values = values[: max(1, min(len(values), int(SECONDS / max(cost, 1e-9))))]
    numbers = _covered(student, chosen)
    order = [student.parameters.index(parameter) for parameter in student.circuit.parameters]
    pub = (student.circuit, [[student.observables[k]] for k in numbers], values[:, order])
    with working(f"comparing the {engine.kind} engine with AerSimulator"):
        expected, errors = _by_aer(student, noise, numbers, values, method, shots, seed)
        result = engine.estimator.run([pub]).result()[0]
    difference = np.abs(result.data.evs.T - expected)
    allowed = TOLERANCE[torch.float64 if getattr(engine.estimator, "dtype", None) == torch.float64 else torch.float32]
    likely = np.broadcast_to(result.metadata.get("error_estimates", 0.0), result.data.evs.shape).T
    measured = [student.observables[k] for k in numbers]
    errors = np.maximum(errors, _shot_noise(measured, result.data.evs.T, shots, method))
    sampled = np.hypot(errors, result.data.stds.T)
    if (difference > allowed + LIKELY * likely + SIGMAS * sampled).any():
        raise QkdError(
            f"the {engine.kind} engine and AerSimulator disagree by {difference.max():.1e} on circuit "
            f"'{student.name}' under this noise; train with --engine aer, and please report it with the circuit and "
            "the device"
        )
    return Agreement(
        difference=float(difference.max(initial=0.0)),
        sigmas=float((difference[sampled > 0] / sampled[sampled > 0]).max(initial=0.0)),
        method=method,
        shots=0 if method == "density_matrix" else shots,
        points=len(values),
        observables=len(numbers),
        of=len(student.observables),
    )


def _random_points(student: StudentCircuit, width: int, seed: int) -> np.ndarray:
    """Return two random parameter vectors (2,A+P) with the same weights.

    Weights in wide light cones stay near 0, where training starts: far from it the light-cone engine would need
    minutes to find the Pauli strings that matter.
    """
    rng, inputs = np.random.default_rng(seed), len(student.inputs)
    values = rng.uniform(-np.pi, np.pi, (2, len(student.parameters)))
    values[:, inputs:] = values[0, inputs:] if width <= MAX_DENSE_QUBITS else values[0, inputs:] * WEIGHT_SPREAD
    return values


def _shot_noise(observables: Sequence[SparsePauliOp], evs: np.ndarray, shots: int, method: str) -> np.ndarray:
    """Return the standard errors (R,K') of trajectories whose means are an engine's values (R,K').

    A few trajectories near an eigenvalue scatter too little: their own standard error is too small, or even 0.
    """
    if method == "density_matrix":
        return np.zeros_like(evs)
    strings = [
        observable.coeffs[(o.x | o.z).any(axis=1)].real for observable in observables for o in [observable.paulis]
    ]
    squares = np.array([(coefficients**2).sum() for coefficients in strings])
    single = np.array([len(coefficients) == 1 for coefficients in strings])
    return np.sqrt(np.clip(squares - single * evs**2, 0, None) / shots)


def _affordable(whole: list[Load], method: str, seed: int) -> tuple[int, list[Load]]:
    """Return the shots and a random sample of groups that take at most ``SECONDS`` together at one point."""
    order = [whole[i] for i in np.random.default_rng([seed, 2]).permutation(len(whole))]
    first = order[0].seconds(method, 1) if order else 0.0
    shots = int(np.clip(SECONDS / max(first, 1e-9), FEWEST, SHOTS))
    spent, chosen = 0.0, list[Load]()
    for load in order:
        spent += load.seconds(method, shots)
        if chosen and spent > SECONDS:
            break
        chosen.append(load)
    return shots, chosen


def _covered(student: StudentCircuit, chosen: list[Load]) -> list[int]:
    """Return the observables whose Pauli strings are all in the groups, or the first observable if none is."""
    strings = {t for load in chosen for t in load.strings}
    _, coefficients, _ = pauli_terms(student.observables)
    needed = [set(row.nonzero().flatten().tolist()) for row in coefficients]
    return [k for k, needs in enumerate(needed) if needs <= strings] or [0]


def _by_aer(
    student: StudentCircuit,
    noise: NoiseLike,
    numbers: list[int],
    values: np.ndarray,
    method: str,
    shots: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return Aer's expectation values and their standard errors, (R,K') each."""
    question = ExpectationProblem(student.circuit, [student.observables[k] for k in numbers], student.parameters, ())
    aer = AerProgram(question, AerEstimator(noise, shots=shots, seed=seed, method=method))
    angles = aer.angles(torch.from_numpy(values), torch.zeros(0)).numpy()
    if method == "density_matrix":
        evs = aer.exact(angles)
        return evs, np.zeros_like(evs)
    return aer.sample(angles, shots)
