"""Another engine's expectation values with the shot noise of a finite number of measurements.

This engine serves circuits that AerSimulator cannot sample in acceptable time. It draws the mean of each Pauli string
from the binomial distribution of S shots, independently of all other strings. Correlations between strings that a
device measures in the same shots are neglected.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.core.errors import EngineError
from qkd.engines.base import EngineEstimator, Estimates
from qkd.engines.program import ExpectationProblem, PauliString, Program, pauli_terms


def shots_for_precision(precision: float, variances: np.ndarray) -> int:
    """Return the number of shots after which no standard error exceeds a precision.

    Args:
        precision: Largest standard error that is accepted.
        variances: Upper bounds (K,) of the variance of one shot of each observable. A string with coefficient c and
            mean p that is measured by itself contributes ``c^2 (1 - p^2) / S`` to the variance after S shots, so the
            bound is the sum of the squared coefficients. Strings that share their shots may be fully correlated; their
            bound is the square of the sum of the absolute coefficients.
    """
    return max(1, math.ceil(float(np.max(variances, initial=0.0)) / precision**2 * (1 - 1e-12)))


class SampledEstimator(EngineEstimator):
    """An estimator whose values are means over shots.

    Args:
        shots: The number S of shots of each Pauli string in PUBs without a precision.
        seed: The seed of all random numbers.

    Raises:
        EngineError: There are no shots.
    """

    samples = True

    def __init__(self, shots: int, seed: int) -> None:
        super().__init__()
        if shots < 1:
            raise EngineError(f"an expectation value needs at least 1 shot, not {shots}")
        self.shots, self.seed = shots, seed
        self.reseed(0)

    def reseed(self, number: int) -> None:
        """Start stream ``number`` of the random numbers."""
        self.random = np.random.default_rng([self.seed, number])

    def _default_precision(self) -> float:
        return self.shots**-0.5


class ShotEstimator(SampledEstimator):
    """Shot noise on the values of an engine that has none, as a Qiskit V2 primitive with standard errors.

    Args:
        engine: The engine that computes the expectation values.
        shots: The number of shots, as in ``SampledEstimator``.
        seed: The seed of the shots.
    """

    def __init__(self, engine: EngineEstimator, shots: int = 4096, seed: int = 0) -> None:
        super().__init__(shots, seed)
        self.engine, self.threads = engine, engine.threads

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return self.engine._settings(circuit)  # noqa: SLF001 - a part of that engine

    def _compile(self, problem: ExpectationProblem) -> ShotProgram:
        return ShotProgram(problem, self)

    def _estimates(
        self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float | None
    ) -> Estimates:
        assert isinstance(program, ShotProgram)
        coefficients = program.coefficients.double().cpu().numpy()
        shots = shots_for_precision(precision, np.square(coefficients).sum(axis=1)) if precision else self.shots
        with torch.no_grad():
            means = program.strings(batched, shared).double().cpu().numpy()
        drawn = self.random.binomial(shots, ((1 + means) / 2).clip(0, 1)) * 2 / shots - 1
        evs = drawn @ coefficients.T + program.constants.double().cpu().numpy()
        return Estimates.sampled(evs, np.sqrt((1 - drawn**2) / shots @ coefficients.T**2))


class ShotProgram(Program):
    """A circuit with its distinct Pauli strings; a call returns the values of the inner engine."""

    def __init__(self, problem: ExpectationProblem, engine: ShotEstimator) -> None:
        super().__init__(problem, engine)
        terms, self.coefficients, self.constants = pauli_terms(problem.observables)
        self._strings: Program | None = None
        if terms:
            operators = [_operator(term, problem.circuit.num_qubits) for term in terms]
            self._strings = engine.engine.compile(problem.circuit, operators, problem.batched, problem.shared)

    def strings(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return the expectation values (B,T) of the strings."""
        return torch.zeros(len(batched), 0) if self._strings is None else self._strings(batched, shared)

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        means = self.strings(batched, shared)
        return means @ self.coefficients.to(means).T + self.constants.to(means)


def _operator(term: PauliString, width: int) -> SparsePauliOp:
    letters = "".join(letter for _, letter in term)
    return SparsePauliOp.from_sparse_list([(letters, [qubit for qubit, _ in term], 1.0)], width)
