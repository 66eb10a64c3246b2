"""Quantum trajectories: unbiased estimates under noise for circuits whose density matrices do not fit in memory.

The engine draws one Kraus operator K_m of each channel with probability ``q_m = tr(K_m^+ K_m) / 2^k`` and applies
``K_m / sqrt(q_m)``. The probabilities do not depend on the state, so the states are not normalized. The mean of
``<psi|O|psi>`` over the draws is ``tr(O rho)``, and the mean of its derivatives is the derivative. The usual method
(Dalibard, Castin and Moelmer, Phys. Rev. Lett. 68:580) draws by the norms of the state, and its derivatives are biased.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from torch.utils.checkpoint import checkpoint

from qkd.core.errors import EngineError
from qkd.engines.amplitudes.measure import Measurement, PauliTable
from qkd.engines.amplitudes.operands import embed as embed_gate
from qkd.engines.base import Estimates, NoisyEstimator
from qkd.engines.chains import Chains, Link, product
from qkd.engines.expressions import Expressions
from qkd.engines.gates import ElementaryGate, constant
from qkd.engines.noise import Noise, NoiseLike
from qkd.engines.paulis.carry import Named
from qkd.engines.paulis.channels import LETTERS, Channel, as_channel, embed, kraus
from qkd.engines.paulis.cones import cone_union, pair_blocks
from qkd.engines.paulis.events import attenuated_terms, events, reading
from qkd.engines.program import ExpectationProblem, PauliString, Program

MAX_TRAJECTORY_QUBITS = 20
"""Maximum number of qubits in the union of the light cones."""
MAX_READOUT_TERMS = 2**12
"""Maximum number of Pauli strings that one string becomes under readout error."""
_MAX_KEPT_BYTES = 2**29  # states kept for the backward pass, unless one row needs more


class TrajectoryEstimator(NoisyEstimator):
    """Unbiased expectation values under local noise, with standard errors, as a Qiskit V2 primitive.

    The other arguments are those of ``NoisyEstimator``.

    Args:
        trajectories: The number S of trajectories of each expectation value.

    Raises:
        EngineError: There are fewer than two trajectories, or as in ``NoisyEstimator``.
    """

    samples = True

    def __init__(
        self,
        noise_model: NoiseLike = None,
        dtype: str = "float64",
        device: str | None = None,
        trajectories: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(noise_model, dtype, device)
        if trajectories < 2:
            raise EngineError(f"a standard error needs at least 2 trajectories, not {trajectories}")
        self.trajectories, self.seed = trajectories, seed
        self.random = torch.Generator(self.device)
        self.reseed(0)

    def reseed(self, number: int) -> None:
        """Start stream ``number`` of the draws."""
        self.random.manual_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 1))

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return (*super()._settings(circuit), self.trajectories)

    def _compile(self, problem: ExpectationProblem) -> TrajectoryProgram:
        return TrajectoryProgram(problem, self)

    def _estimates(
        self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float | None
    ) -> Estimates:
        assert isinstance(program, TrajectoryProgram)
        with torch.no_grad():
            evs, stds = (part.double().cpu().numpy() for part in program.estimate(batched, shared))
        return Estimates.sampled(evs, stds)


class TrajectoryProgram(Program):
    """A circuit that is compiled for ``TrajectoryEstimator``; each call draws new trajectories."""

    def __init__(self, problem: ExpectationProblem, engine: TrajectoryEstimator) -> None:
        super().__init__(problem, engine)
        self._count, self._device = engine.trajectories, engine.device
        self._random = engine.random
        complex_dtype = torch.complex64 if engine.dtype == torch.float32 else torch.complex128
        terms, coefficients, constants = attenuated_terms(problem.observables, engine.noise_model)
        blocks = pair_blocks(list(events(problem.circuit, engine.noise_model)))
        numbers, self._qubits = cone_union([pair for pair, _ in blocks], terms)
        if len(self._qubits) > MAX_TRAJECTORY_QUBITS:
            raise EngineError(
                f"the observables of circuit '{problem.circuit.name}' depend on {len(self._qubits)} qubits; the "
                f"trajectory engine can carry at most {MAX_TRAJECTORY_QUBITS}; use fewer layers"
            )
        self._pairs = [blocks[number][0] for number in numbers]
        chains = [_merged(*blocks[number]) for number in numbers]
        self._factors = _Factors(chains, problem.parameters, complex_dtype, engine.device)
        self._row_bytes = (
            3 * self._count * complex_dtype.itemsize * 2 ** len(self._qubits) * (len(chains) + len(terms) + 2)
        )
        measured = [_measured(string, self._qubits, engine.noise_model) for string in terms]
        summed = [
            sum(
                (value * string for value, string in zip(row, measured, strict=True) if value),
                SparsePauliOp("I" * max(1, len(self._qubits)), constant_part),
            ).simplify(atol=0, rtol=0)
            for row, constant_part in zip(coefficients.numpy(), constants.tolist(), strict=True)
        ]
        order = [place for place in range(max(1, len(self._qubits)))][::-1]
        self._measurement = Measurement(PauliTable.from_observables(summed), {0: order}, engine.dtype, engine.device)
        self._qubits = self._qubits or [0]

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        return self.samples(batched, shared).mean(dim=1)

    def estimate(self, batched: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return estimates (B,K) of expectation values and their standard errors (B,K)."""
        samples = self.samples(batched, shared)
        return samples.mean(dim=1), samples.std(dim=1) / self._count**0.5

    def samples(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return the observables' values (B,S,K) of each trajectory."""
        shared = shared.to(self._device, torch.float64)
        values = torch.cat([batched.to(shared), shared.expand(len(batched), -1)], dim=1)
        rows = max(1, _MAX_KEPT_BYTES // self._row_bytes)
        drawn = [self._factors.draw(len(part) * self._count, self._random) for part in values.split(rows)]
        if len(drawn) == 1:
            samples = self._part(values, drawn[0])
        else:  # recomputed in the backward pass, some rows at a time
            samples = torch.cat(
                [
                    checkpoint(self._part, part, draws, use_reentrant=False)
                    for part, draws in zip(values.split(rows), drawn, strict=True)
                ]
            )
        return samples.view(len(batched), self._count, -1)

    def _part(self, values: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return the observables' values (R S, K) of the trajectories of rows of parameter values (R,P)."""
        matrices = self._factors(values, draws)  # (N,R S,4,4)
        first = torch.zeros(1, 2 ** len(self._qubits), dtype=matrices.dtype, device=self._device)
        first[0, 0] = 1
        state = Named(first.expand(draws.shape[1], -1), dict.fromkeys(self._qubits, 2))
        for (qubit, partner), matrix in zip(self._pairs, matrices, strict=True):
            axes = [qubit] if partner < 0 else [qubit, partner]
            state.apply(matrix if partner >= 0 else matrix[:, ::2, ::2], axes, dict.fromkeys(axes, 2))
        state.to_front(self._qubits[::-1])
        whole = state.values.reshape(draws.shape[1], -1).T.contiguous()
        return self._measurement.combine(self._measurement.values({0: whole}))


class _Factors:
    """The matrices of blocks as products of gates and drawn Kraus operators."""

    def __init__(
        self,
        chains: Sequence[Sequence[Link]],
        parameters: Sequence[Parameter],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        length, count = max(map(len, chains), default=1), len(chains)
        options = max((len(terms) for chain in chains for angle, terms in chain if angle is None), default=1)
        drawn = np.zeros((length, count, options, 4, 4), dtype=complex)
        drawn[:, :, 0] = np.eye(4)
        chances = np.zeros((length, count, options))
        chances[:, :, 0] = 1
        for n, chain in enumerate(chains):
            for s, (angle, terms) in enumerate(chain):
                if angle is None:
                    weights = np.einsum("mab,mab->m", terms.conj(), terms).real
                    chances[s, n, : len(terms)] = weights / weights.sum()
                    drawn[s, n, : len(terms)] = terms / np.sqrt(weights / weights.sum())[:, None, None]
        identity = constant(np.eye(4))
        turned = [[(angle, identity if angle is None else terms) for angle, terms in chain] for chain in chains]
        self._turned = Chains(turned, 4, dtype, device)
        self._expressions = Expressions(self._turned.angles, parameters)
        self._drawn = torch.as_tensor(drawn.reshape(-1, options, 16), dtype=dtype, device=device)
        self._chances = torch.as_tensor(chances.reshape(-1, options), device=device)
        self._shape = (length, count)

    def draw(self, samples: int, random: torch.Generator) -> torch.Tensor:
        """Return the number of the Kraus operator of each sample at each place (L N, samples)."""
        if not len(self._chances):
            return torch.zeros((0, samples), dtype=torch.int64, device=self._chances.device)
        return torch.multinomial(self._chances, samples, replacement=True, generator=random)

    def __call__(self, values: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return the blocks' matrices (N,R S,4,4) at parameter values (R,P) and draws (L N,R S)."""
        turned = self._turned.factors(self._expressions(values))  # (L,N,R,4,4)
        drawn = self._drawn.gather(1, draws[:, :, None].expand(-1, -1, 16))
        samples = draws.shape[1] // len(values)
        # one of the two factors is the identity
        factors = turned.unsqueeze(3) @ drawn.view(*self._shape, len(values), samples, 4, 4)
        return product(factors.flatten(2, 3))


def _merged(pair: tuple[int, int], chain: Sequence[ElementaryGate | Channel]) -> list[Link]:
    """Return a block's factors: gates with an angle as terms (5,4,4), all others merged to Kraus operators (M,4,4)."""
    factors: list[Link] = []
    between = None
    for event in chain:
        if isinstance(event, ElementaryGate) and event.angle is not None:
            if between is not None:
                factors.append((None, kraus(between)))
            factors.append((event.angle, embed_gate(event, pair)))
            between = None
        else:
            if event.angle is not None:
                raise EngineError("the trajectory engine needs numbers as rates; bind the parameters of the noise")
            channel = as_channel(event)
            matrix = embed(channel.terms, channel.qubits, pair)[0]
            between = matrix if between is None else matrix @ between
    return factors if between is None else [*factors, (None, kraus(between))]


def _measured(string: PauliString, qubits: Sequence[int], noise: NoiseLike) -> SparsePauliOp:
    """Return the operator on ``qubits`` that is measured instead of a string because of readout error."""
    operator, model = SparsePauliOp("I" * len(qubits)), Noise.from_model(noise).model
    for qubit, letter in string:
        channel = reading(model, qubit)
        weights = np.eye(4)[LETTERS.index(letter)] if channel is None else channel.terms[0, LETTERS.index(letter)]
        letters = [
            (name, [qubits.index(qubit)], float(weight))
            for name, weight in zip(LETTERS, weights, strict=True)
            if weight
        ]
        operator = SparsePauliOp.from_sparse_list(letters, len(qubits)).compose(operator)
        if len(operator) > MAX_READOUT_TERMS:
            raise EngineError(
                f"under readout error a string on {len(string)} qubits is a sum of more than {MAX_READOUT_TERMS:,} "
                "strings, the maximum of the trajectory engine; use the light-cone or density engine"
            )
    return operator
