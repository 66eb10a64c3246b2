"""AerSimulator as an engine: expectation values of a finite number of shots, and gradients made of such values.

A circuit is built once for each group of Pauli strings that are measured together: its past light cone alone, each
gate's angle a parameter of its own, bound as an array over all rows. Sampling a light cone is sampling the circuit, for
nothing outside it changes what is measured inside; under noise it is what makes Aer's density matrix affordable.

Gradients are taken by the angles, and by the chain rule from there to what the angles are made of:

- ``parameter-shift``: ``df/dt = (f(t + pi/2) - f(t - pi/2)) / 2``, for gates with generators of eigenvalues +-1/2
  (Mitarai et al., arXiv:1803.00745; Schuld et al., arXiv:1811.11184): two evaluations for each angle of each row.
- ``spsa``: all angles of a row are moved at once, each up or down by chance,
  ``df/dt_g = d_g (f(t + c d) - f(t - c d)) / 2c`` (Spall, IEEE Trans. Autom. Control 37:332): two evaluations for each
  row, unbiased up to order c^2.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Literal

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit_aer import AerSimulator

from qkd.core.errors import EngineError
from qkd.engines.base import EngineEstimator, Estimates
from qkd.engines.expressions import Expressions
from qkd.engines.measured import Group, measured_group, prepared, together
from qkd.engines.noise import Noise, NoiseLike, noise_of
from qkd.engines.paulis.strings import pauli_terms
from qkd.engines.program import Program, Question
from qkd.engines.shots import shots_for_precision

Gradient = Literal["spsa", "parameter-shift"]
SPSA_STEP = 0.2
"""c, in radians: larger is less noisy, smaller less biased."""
MOST_EXACT = 12
"""Qubits of a light cone up to which ``AerProgram.exact`` goes."""
_AT_ONCE = 4096  # circuits in one call of Aer


class AerEstimator(EngineEstimator):
    """Expectation values sampled by AerSimulator, as a Qiskit V2 primitive whose programs torch can differentiate.

    Args:
        noise_model: Aer's; None is no noise.
        backend: take the noise model from this backend instead.
        shots: S, for each Pauli string where no precision is asked for.
        seed: of the shots and of SPSA's directions.
        gradient: how gradients are estimated.
        method: Aer's simulation method; when left out, what suits each light cone.

    Raises:
        EngineError: there are no shots, or both a noise model and a backend are given.
    """

    samples = True

    def __init__(
        self,
        noise_model: NoiseLike = None,
        backend: object | None = None,
        shots: int = 4096,
        seed: int = 0,
        gradient: Gradient = "spsa",
        method: str | None = None,
    ) -> None:
        super().__init__()
        if shots < 1:
            raise EngineError(f"an expectation value needs at least 1 shot, not {shots}")
        self.noise_model = noise_of(noise_model, backend)
        self.shots, self.gradient, self.method = shots, gradient, method
        self.seed = seed
        self.reseed(0)

    def reseed(self, number: int) -> None:
        """Start stream ``number`` of shots and directions."""
        self.random = np.random.default_rng([self.seed, number])

    def _noise_parameters(self) -> frozenset[Parameter]:
        return Noise.from_model(self.noise_model).parameters

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return Noise.from_model(self.noise_model).key(circuit), self.shots, self.method

    def _compile(self, question: Question) -> AerProgram:
        return AerProgram(question, self)

    def _default_precision(self) -> float:
        return self.shots**-0.5

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
    """A circuit built once; see ``Program``. Each call takes new shots."""

    def __init__(self, question: Question, engine: AerEstimator) -> None:
        super().__init__(question, engine)
        self._engine = engine
        free, angles = prepared(question.circuit, engine.noise_model)
        self._expressions = Expressions([angle for _, angle in angles], question.parameters)
        self._free = [parameter for parameter, _ in angles]
        terms, coefficients, constants = pauli_terms(question.observables)
        self._constants = constants.numpy()
        order = {parameter: g for g, parameter in enumerate(self._free)}
        self._groups = [
            measured_group(
                free,
                order,
                [terms[t] for t in members],
                coefficients.numpy()[:, members],
                qubits,
                Noise.from_model(engine.noise_model).model,
                engine.shots,
                engine.method,
            )
            for members, qubits in together(free, terms, engine.noise_model is not None)
        ]

    def angles(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return the angles (B,G) of all gates at parameter values (B,A') and (P',)."""
        batched, shared = batched.cpu().double(), shared.cpu().double()
        if not (batched.isfinite().all() and shared.isfinite().all()):
            raise EngineError("a parameter value is not a finite number")
        return self._expressions(torch.cat([batched, shared.expand(len(batched), -1)], dim=1))

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return estimates (B,K) of expectation values; see ``Program``."""
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
            for start in range(0, len(angles), _AT_ONCE):
                rows = slice(start, start + _AT_ONCE)
                mean, square = self._moments(group, angles[rows], shots)
                evs[rows] += mean
                variances[rows] += (square - mean**2).clip(0) / shots
        return evs, np.sqrt(variances)

    def exact(self, angles: np.ndarray) -> np.ndarray:
        """Return Aer's exact expectation values (R,K) of angles (R,G), from density matrices instead of shots.

        Raises:
            EngineError: a light cone has more qubits than a density matrix is kept for.
        """
        evs = np.tile(self._constants, (len(angles), 1))
        for group in self._groups:
            if group.circuit.num_qubits > MOST_EXACT:
                raise EngineError(
                    f"a light cone of {group.circuit.num_qubits} qubits is too wide for Aer's density matrix "
                    f"({MOST_EXACT} at most)"
                )
            simulator = AerSimulator(noise_model=group.simulator.options.noise_model, method="density_matrix")
            binds = [{self._free[g]: angles[:, g].tolist() for g in group.used}] if group.used else None
            result = simulator.run([group.unread()], parameter_binds=binds).result()
            if not result.success:
                raise EngineError(f"AerSimulator failed: {result.status}")
            for row in range(len(angles)):
                evs[row] += group.expected(np.asarray(result.data(row if binds else 0)["probabilities"]))
        return evs

    def _moments(self, group: Group, angles: np.ndarray, shots: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and mean square, (R,K) each, of what a group's shots say of the observables."""
        binds = [{self._free[g]: angles[:, g].tolist() for g in group.used}] if group.used else None
        seed = int(self._engine.random.integers(2**31))
        result = group.simulator.run([group.circuit], parameter_binds=binds, shots=shots, seed_simulator=seed).result()
        if not result.success:
            raise EngineError(f"AerSimulator failed: {result.status}")
        mean, square = np.zeros((2, len(angles), len(group.coefficients)))
        for row in range(len(angles)):
            counts: dict[str, int] = result.data(row if binds else 0)["counts"]
            values = group.said(np.array([int(key, 16) for key in counts], dtype=np.int64))  # (outcomes,K)
            weights = np.fromiter(counts.values(), float) / shots
            mean[row], square[row] = weights @ values, weights @ values**2
        return mean, square

    def moved(self, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (M,B,G) to evaluate for a gradient, the angles themselves first, and directions (M',B,G).

        Row 1 + 2m is moved in direction m and row 2 + 2m against it.
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
        """What a difference is multiplied by to be a derivative."""
        return 1 / (2 * SPSA_STEP) if self._engine.gradient == "spsa" else 0.5

    @property
    def shots(self) -> int:
        """Shots of a call."""
        return self._engine.shots


class _Sampled(torch.autograd.Function):
    """Expectation values (B,K) of angles (B,G); one call of ``sample`` answers both directions."""

    @staticmethod
    def forward(ctx: Any, angles: torch.Tensor, program: AerProgram) -> torch.Tensor:
        plain = angles.detach().numpy()
        if not ctx.needs_input_grad[0]:
            return torch.from_numpy(program.sample(plain, program.shots)[0])
        rows, directions = program.moved(plain)
        evs = program.sample(rows.reshape(-1, plain.shape[1]), program.shots)[0].reshape(len(rows), len(plain), -1)
        ctx.differences, ctx.directions = program.slope * (evs[1::2] - evs[2::2]), directions
        return torch.from_numpy(evs[0])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        along = np.einsum("bk,mbk->mb", grads[0].numpy(), ctx.differences)
        return torch.from_numpy(np.einsum("mb,mbg->bg", along, ctx.directions)), None
