"""Engines that sample: AerSimulator with gradients, and shot noise on the values of another engine.

Each group of Pauli strings that are measured together has one circuit, built once: its past light cone, in which every
gate's angle is a parameter of its own that is bound to an array over all rows. Gates outside the light cone change no
result inside it, and without them Aer's density matrix is small enough under noise.

The engine differentiates with respect to the gates' angles and applies the chain rule from there to the parameters:

- ``parameter-shift``: ``df/dt = (f(t + pi/2) - f(t - pi/2)) / 2``, for gates with generators of eigenvalues +-1/2
  (Mitarai et al., arXiv:1803.00745; Schuld et al., arXiv:1811.11184). It needs two evaluations for each angle of each
  row.
- ``spsa``: all angles of a row are shifted simultaneously in random directions d,
  ``df/dt_g = d_g (f(t + c d) - f(t - c d)) / 2c`` (Spall, IEEE Trans. Autom. Control 37:332). It needs two evaluations
  for each row and is unbiased up to order c^2.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Literal

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

from qkd.core.errors import EngineError
from qkd.engines.base import EngineEstimator, Estimates
from qkd.engines.expressions import Expressions
from qkd.engines.measured import Group, measured_group, measurement_groups, prepared
from qkd.engines.noise import Noise, NoiseLike
from qkd.engines.program import ExpectationProblem, PauliString, Program, pauli_terms

Gradient = Literal["spsa", "parameter-shift"]
SPSA_STEP = 0.2
"""The shift c in radians: a larger one gives less noise, a smaller one less bias."""
MAX_EXACT_QUBITS = 12
"""Maximum number of qubits of a light cone in ``AerProgram.exact``."""
_ROWS_PER_CALL = 4096  # circuits in one call of Aer


def shots_for_precision(precision: float, variances: np.ndarray) -> int:
    """Return the number of shots after which no standard error exceeds a precision.

    Args:
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


class AerEstimator(SampledEstimator):
    """Expectation values sampled by AerSimulator, as a Qiskit V2 primitive whose programs torch can differentiate.

    Args:
        noise_model: Aer's noise model; None is no noise.
        shots: The number S of shots of each Pauli string in PUBs without a precision.
        seed: The seed of the shots and of SPSA's directions.
        method: Aer's simulation method; by default qkd chooses one for each light cone.

    Raises:
        EngineError: There are no shots.
    """

    def __init__(
        self,
        noise_model: NoiseLike = None,
        shots: int = 4096,
        seed: int = 0,
        gradient: Gradient = "spsa",
        method: str | None = None,
    ) -> None:
        super().__init__(shots, seed)
        self.noise_model, self.gradient, self.method = noise_model, gradient, method

    def _noise_parameters(self) -> frozenset[Parameter]:
        return Noise.from_model(self.noise_model).parameters

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return Noise.from_model(self.noise_model).key(circuit), self.shots, self.method

    def _compile(self, problem: ExpectationProblem) -> AerProgram:
        return AerProgram(problem, self)

    def _estimates(
        self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float | None
    ) -> Estimates:
        assert isinstance(program, AerProgram)
        with torch.no_grad():
            angles = program.angles(batched, shared).numpy()
        shots = shots_for_precision(precision, program.variances()) if precision else self.shots
        evs, stds = program.sample(angles, shots)
        return Estimates.sampled(evs, stds)


class AerProgram(Program):
    """A circuit that is built once; each call draws new shots."""

    def __init__(self, problem: ExpectationProblem, engine: AerEstimator) -> None:
        super().__init__(problem, engine)
        self._engine = engine
        free, angles = prepared(problem.circuit, engine.noise_model)
        self._expressions = Expressions([angle for _, angle in angles], problem.parameters)
        self._free = [parameter for parameter, _ in angles]
        terms, coefficients, constants = pauli_terms(problem.observables)
        self._constants = constants.numpy()
        order = {parameter: g for g, parameter in enumerate(self._free)}
        self._groups = [
            measured_group(free, order, [terms[t] for t in members], coefficients.numpy()[:, members], qubits, engine)
            for members, qubits in measurement_groups(free, terms, engine.noise_model is not None)
        ]

    def angles(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return the angles (B,G) of all gates at parameter values (B,A') and (P',)."""
        batched, shared = batched.cpu().double(), shared.cpu().double()
        if not (batched.isfinite().all() and shared.isfinite().all()):
            raise EngineError("a parameter value is not a finite number")
        return self._expressions(torch.cat([batched, shared.expand(len(batched), -1)], dim=1))

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        evs: torch.Tensor = _Sampled.apply(self.angles(batched, shared), self)
        return evs.to(batched)

    def variances(self) -> np.ndarray:
        """Return upper bounds (K,) of the variance of one shot of each observable.

        Strings of one group share their shots, so their errors add up; groups are measured apart.
        """
        return sum(
            (np.abs(group.coefficients).sum(axis=1) ** 2 for group in self._groups), np.zeros(len(self._constants))
        )

    def sample(self, angles: np.ndarray, shots: int) -> tuple[np.ndarray, np.ndarray]:
        """Return estimated expectation values and their standard errors, (R,K) each, of angles (R,G)."""
        evs = np.tile(self._constants, (len(angles), 1))
        variances = np.zeros_like(evs)
        for group in self._groups:
            for start in range(0, len(angles), _ROWS_PER_CALL):
                rows = slice(start, start + _ROWS_PER_CALL)
                mean, square = self._moments(group, angles[rows], shots)
                evs[rows] += mean
                variances[rows] += (square - mean**2).clip(0) / shots
        return evs, np.sqrt(variances)

    def exact(self, angles: np.ndarray) -> np.ndarray:
        """Return Aer's exact expectation values (R,K) of angles (R,G), from density matrices instead of shots."""
        evs = np.tile(self._constants, (len(angles), 1))
        for group in self._groups:
            if group.circuit.num_qubits > MAX_EXACT_QUBITS:
                raise EngineError(
                    f"a light cone of {group.circuit.num_qubits} qubits is too wide for Aer's density matrix "
                    f"({MAX_EXACT_QUBITS} at most); use the light-cone engine"
                )
            simulator = AerSimulator(noise_model=group.simulator.options.noise_model, method="density_matrix")
            results = self._run(simulator, group.with_saved_probabilities(), group, angles)
            for row, data in enumerate(results):
                evs[row] += group.expected(np.asarray(data["probabilities"]))
        return evs

    def _run(
        self, simulator: AerSimulator, circuit: QuantumCircuit, group: Group, angles: np.ndarray, **options: Any
    ) -> list[dict[str, Any]]:
        """Return Aer's data for each row of angles (R,G)."""
        binds = [{self._free[g]: angles[:, g].tolist() for g in group.used}] if group.used else None
        result = simulator.run([circuit], parameter_binds=binds, **options).result()
        if not result.success:
            raise EngineError(f"AerSimulator failed: {result.status}")
        return [result.data(row if binds else 0) for row in range(len(angles))]

    def _moments(self, group: Group, angles: np.ndarray, shots: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and mean square, (R,K) each, of the observables over a group's shots."""
        seed = int(self._engine.random.integers(2**31))
        results = self._run(group.simulator, group.circuit, group, angles, shots=shots, seed_simulator=seed)
        mean, square = np.zeros((2, len(angles), len(group.coefficients)))
        for row, data in enumerate(results):
            counts: dict[str, int] = data["counts"]
            values = group.observable_values(np.array([int(key, 16) for key in counts], dtype=np.int64))  # (outcomes,K)
            weights = np.fromiter(counts.values(), float) / shots
            mean[row], square[row] = weights @ values, weights @ values**2
        return mean, square

    def shifted_rows(self, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (M,B,G) to evaluate for a gradient, the angles themselves first, and directions (M',B,G).

        Row 1 + 2m is shifted along direction m and row 2 + 2m against it.
        """
        if self._engine.gradient == "spsa":
            signs = self._engine.random.choice([-1.0, 1.0], angles.shape)[None]
            step, directions = SPSA_STEP, signs
        else:
            directions = np.repeat(np.eye(angles.shape[1])[:, None], len(angles), axis=1)
            step = math.pi / 2
        pairs = np.stack([angles + step * directions, angles - step * directions], axis=1)
        return np.concatenate([angles[None], pairs.reshape(-1, *angles.shape)]), directions

    @property
    def slope(self) -> float:
        """The factor that turns a difference into a derivative."""
        return 1 / (2 * SPSA_STEP) if self._engine.gradient == "spsa" else 0.5

    @property
    def shots(self) -> int:
        """The number of shots of a call."""
        return self._engine.shots


class _Sampled(torch.autograd.Function):
    """Expectation values (B,K) of angles (B,G); the forward pass also samples the shifted rows of the backward pass."""

    @staticmethod
    def forward(ctx: Any, angles: torch.Tensor, program: AerProgram) -> torch.Tensor:
        plain = angles.detach().numpy()
        if not ctx.needs_input_grad[0]:
            return torch.from_numpy(program.sample(plain, program.shots)[0])
        rows, directions = program.shifted_rows(plain)
        evs = program.sample(rows.reshape(-1, plain.shape[1]), program.shots)[0].reshape(len(rows), len(plain), -1)
        ctx.differences, ctx.directions = program.slope * (evs[1::2] - evs[2::2]), directions
        return torch.from_numpy(evs[0])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        along = np.einsum("bk,mbk->mb", grads[0].numpy(), ctx.differences)
        return torch.from_numpy(np.einsum("mb,mbg->bg", along, ctx.directions)), None
