"""The exact engine for shallow circuits of any width, with or without noise.

An observable is carried backwards through the circuit (Heisenberg picture) as real coefficients over the Pauli strings
of its past light cone; a noise channel is one more real matrix. Data rotations come first and on each qubit alone,
so the encoded state is a product of Bloch vectors r = (1, x, y, z): the carried-back coefficients, computed once for a
whole batch, meet every row in one contraction

    <O> = sum_s c_s  prod_q r_q[s_q].

The cost is linear in the number of observables and does not depend on the width of the circuit. Coefficients are kept
densely in cones of few qubits, as a list of strings (``paulis/sparse.py``) where that is shorter, and in cones too wide
for either as a list of those strings that an accuracy asks for (``paulis/adaptive.py``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from torch.utils.checkpoint import checkpoint

from qkd.core.errors import EngineError
from qkd.engines.base import Estimates, NoisyEstimator
from qkd.engines.noise import NoiseLike
from qkd.engines.paulis.adaptive import Adaptive, Limits, StringLists
from qkd.engines.paulis.carry import Encoding, Kind, Matrices, Stack, Tables, differs, leading_channels
from qkd.engines.paulis.channels import Channel
from qkd.engines.paulis.cones import ChannelBlock, Cone, FactoredStrings, factors, fuse
from qkd.engines.paulis.cones import cone as cone_of
from qkd.engines.paulis.events import attenuated_terms, channels
from qkd.engines.paulis.search import MAX_STRINGS_EXACT, MAX_STRINGS_TRUNCATED, Route, Search, TooManyStrings
from qkd.engines.paulis.sparse import Carrier
from qkd.engines.program import ExpectationProblem, PauliString, Program

MAX_CONE_QUBITS = 11
"""Maximum number w of qubits of a light cone whose 4^w coefficients are stored densely."""
_DENSE_COEFFICIENTS = 4**8  # up to this number of coefficients, dense arithmetic is the fastest
_MIN_SPARSITY = 64  # a list of strings is used if it is this many times shorter than the dense coefficients
_MAX_KEPT_BYTES = 2**28  # coefficients that are kept for the backward pass


class LightConeEstimator(NoisyEstimator):
    """Expectation values of shallow circuits under local noise, as a Qiskit V2 primitive.

    Values are exact unless an accuracy or a truncation is given. With one of them and wide light cones, a result's
    metadata contains upper bounds ``error_bounds`` and estimates ``error_estimates`` of the truncation error. The other
    arguments are those of ``NoisyEstimator``.

    Args:
        accuracy: Largest error of a Pauli string's expectation value if its light cone is wide. Gradients have at most
            ten times this relative error. The engine measures which strings this needs. 0 is exact.
        truncation: Least importance of the strings that are kept in wide light cones, without any control of the error;
            0 uses ``accuracy``.
        max_terms: Maximum number of strings of a light cone; beyond it the least important ones are dropped.

    Raises:
        EngineError: One of the last three arguments is out of range, or as in ``NoisyEstimator``.
    """

    threads = 1  # the engine runs many small operations

    def __init__(
        self,
        noise_model: NoiseLike = None,
        dtype: str = "float64",
        device: str | None = None,
        accuracy: float = 0.0,
        truncation: float = 0.0,
        max_terms: int = MAX_STRINGS_TRUNCATED,
    ) -> None:
        super().__init__(noise_model, dtype, device)
        for name, value in (("accuracy", accuracy), ("truncation", truncation)):
            if not 0 <= value < 1:
                raise EngineError(f"{name} is 0 or a small positive number, not {value}")
        if max_terms < 1:
            raise EngineError(f"max_terms is at least 1, not {max_terms}")
        self.accuracy, self.truncation, self.max_terms = accuracy, truncation, max_terms
        self.stream = 0
        self.latest: StringLists | None = None
        """The lists of strings of the latest call."""

    def reseed(self, number: int) -> None:
        """Let programs search again for their strings, so that values do not depend on earlier calls."""
        self.stream += 1

    def note(self) -> str:
        """Return threshold and estimated errors of the latest call; empty if nothing was truncated."""
        if self.latest is None:
            return ""
        return (
            f"threshold {self.latest.threshold:.0e}, errors of about {self.latest.error:.0e} in values and "
            f"{100 * self.latest.slope:.1g} % in gradients"
        )

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return (*super()._settings(circuit), self.accuracy, self.truncation, self.max_terms)

    def _compile(self, problem: ExpectationProblem) -> LightConeProgram:
        return LightConeProgram(problem, self)

    def _estimates(
        self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float | None
    ) -> Estimates:
        assert isinstance(program, LightConeProgram)
        program.clear_cache()
        with torch.no_grad():
            evs, bounds, errors = program.bounded(batched, shared)
        estimates = Estimates.exact(evs.double().cpu().numpy())
        shape = estimates.evs.shape
        return replace(estimates, bounds=np.broadcast_to(bounds, shape), errors=np.broadcast_to(errors, shape))


def light_cones(
    circuit: QuantumCircuit,
    terms: Sequence[PauliString],
    noise: NoiseLike,
    batched: Sequence[Parameter] = (),
    largest: float = math.inf,
) -> tuple[Encoding, list[ChannelBlock], list[Cone]]:
    """Return the encoding, the other channels as blocks, and the light cone of each factor of the terms.

    The first cone with more than ``largest`` coefficients is the last one.
    """
    measured = {qubit for string in terms for qubit, _ in string}
    encoding, rest = leading_channels(channels(circuit, noise, measured), circuit.num_qubits, set(batched))
    blocks = fuse(rest)
    parts = dict.fromkeys(part for string in terms for part in factors(string, blocks))
    cones: list[Cone] = []
    for string in parts:
        cones.append(cone_of(string, blocks, encoding.sizes))
        if max(cones[-1].counts, default=1) > largest:
            break
    return encoding, blocks, cones


class LightConeProgram(Program):
    """A circuit that is compiled for ``LightConeEstimator``.

    Each light cone is carried in one of three ways. Narrow cones have dense coefficients, stacked with cones of the
    same shape. Wide cones with few strings have an exact list. All other cones have an adaptive list, if the engine has
    an accuracy or a truncation.
    """

    def __init__(self, problem: ExpectationProblem, engine: LightConeEstimator) -> None:
        super().__init__(problem, engine)
        noise, dtype, device = engine.noise_model, engine.dtype, engine.device
        self._engine, self._device, self._stream = engine, device, engine.stream
        terms, self._coefficients, self._constants = attenuated_terms(problem.observables, noise, dtype, device)
        encoding, blocks, cones = light_cones(problem.circuit, terms, noise, problem.batched)
        self.widths = tuple(len(cone.qubits) for cone in cones)
        self._factors = FactoredStrings(terms, blocks, [cone.string for cone in cones], device)
        live = sorted({qubit for cone in cones for qubit in cone.qubits})
        both = problem.parameters
        self._row = {qubit: i for i, qubit in enumerate(live)}
        leads = [encoding.leads[qubit] for qubit in live]

        used = {number: i for i, number in enumerate(sorted({number for cone in cones for number, _ in cone.blocks}))}
        cones = [replace(cone, blocks=tuple((used[number], flip) for number, flip in cone.blocks)) for cone in cones]
        chains = [blocks[number].channels for number in used]
        self._varying = [any(differs(channel, set(problem.batched)) for channel in chain) for chain in chains]
        common, own = (
            [chain for chain, varies in zip(chains, self._varying, strict=True) if varies == kind]
            for kind in (False, True)
        )
        self._forms = Matrices(common, own, leads, problem.shared, both, dtype, device)
        self._tables = Tables(self._varying)
        pairs = {i: blocks[number].qubits for number, i in used.items()}
        patterns = {i: _pattern(chain) for i, chain in enumerate(chains)}
        by_shape: dict[object, list[int]] = {}
        listed: dict[int, Route] = {}
        searched: dict[int, Search] = {}
        for number, cone in enumerate(cones):
            choice = self._choice(cone, pairs, patterns)
            if isinstance(choice, Route):
                listed[number] = choice
            elif isinstance(choice, Search):
                searched[number] = choice
            else:
                kinds = tuple(self._varying[number] for number, _ in cone.blocks)
                shape = cone.moves, kinds, tuple(encoding.sizes[q] for q in cone.qubits)
                by_shape.setdefault(shape, []).append(number)
        self._lists = [Carrier(route, self._rows(cones[number]), device) for number, route in listed.items()]
        self._stacks = [
            Stack([cones[i] for i in members], self._tables, self._row, dtype, device) for members in by_shape.values()
        ]
        self._adaptive: Adaptive | None = None
        if searched:
            exactly = Matrices(common, own, leads, problem.shared, both, torch.float64, device)
            self._adaptive = Adaptive(
                list(searched.values()),
                [self._rows(cones[number]) for number in searched],
                lambda batched, shared: self._numbered(exactly(batched, shared)),
                any(self._varying),
                Limits(engine.accuracy, engine.truncation, engine.max_terms),
                device,
            )
        order = [*(i for members in by_shape.values() for i in members), *listed, *searched]
        self._back = torch.as_tensor(np.argsort(order), device=device)
        self._truncated = np.isin(np.arange(len(cones)), list(searched))

    def _choice(
        self, cone: Cone, pairs: Mapping[int, tuple[int, int]], patterns: Mapping[int, np.ndarray]
    ) -> Route | Search | None:
        """Return an exact list of a cone's strings, the search for an adaptive list, or None for dense coefficients."""
        size = max(cone.counts, default=1)
        if size > _DENSE_COEFFICIENTS:
            search = Search(cone, pairs, self._varying, self._device)
            if self._engine.accuracy or self._engine.truncation:
                return search
            limit = size // _MIN_SPARSITY if size <= 4**MAX_CONE_QUBITS else MAX_STRINGS_EXACT
            with suppress(TooManyStrings):
                return search.route(patterns, 0.0, limit)
        if size > 4**MAX_CONE_QUBITS:
            raise _too_wide(cone)
        return None

    def _rows(self, cone: Cone) -> list[int]:
        return [self._row[qubit] for qubit in cone.qubits]

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        return self._evaluate(batched, shared, False)[0]

    def clear_cache(self) -> None:
        """Search again for strings if they depend on the values of the rows."""
        if self._adaptive is not None and any(self._varying):
            self._adaptive.clear_cache()

    def forecast(self, batched: torch.Tensor, shared: torch.Tensor, budget: float = 3.0) -> tuple[float, float]:
        """Estimate the seconds of a search for strings and of a step in light cones that are too wide to be exact."""
        return (0.0, 0.0) if self._adaptive is None else self._adaptive.forecast(batched, shared, budget)

    def bounded(self, batched: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """Return expectation values (B,K), and upper bounds (K,) and estimates (K,) of their truncation errors."""
        return self._evaluate(batched, shared, True)

    def _evaluate(
        self, batched: torch.Tensor, shared: torch.Tensor, bounded: bool
    ) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        nothing = np.zeros(len(self._constants))
        if not len(self._back):
            return self._constants.expand(len(batched), -1), nothing, nothing
        shared = shared.to(self._device, torch.float64)
        batched = batched.to(shared)
        adapted = self._search(batched, shared)
        lists = [*self._lists, *(adapted.carriers if adapted else ())]
        common = self._forms.shared(shared[None])
        rows = max([1, _MAX_KEPT_BYTES // max((stack.row_bytes for stack in self._stacks), default=1)])
        parts = [self._part(common, part, shared, lists, bounded) for part in batched.split(rows)]
        strings = self._factors.values(torch.cat([evs for evs, _ in parts], dim=1)[self._back])
        evs = strings.T @ self._coefficients.T + self._constants
        if not bounded:
            return evs, nothing, nothing
        sizes = self._coefficients.abs().cpu().numpy()
        bounds = self._factors.bounds(np.max([bounds for _, bounds in parts], axis=0)[self._back.cpu().numpy()])
        errors = self._factors.bounds(self._truncated * (adapted.error if adapted else 0.0))
        return evs, sizes @ bounds, np.sqrt(sizes**2 @ errors**2)

    def _search(self, batched: torch.Tensor, shared: torch.Tensor) -> StringLists | None:
        """Return the adaptive lists, or None if no cone needs one."""
        if self._adaptive is None:
            return None
        if self._stream != self._engine.stream:
            self._stream = self._engine.stream
            self._adaptive.clear_cache()
        self._engine.latest = self._adaptive(batched, shared)
        return self._engine.latest

    def _part(
        self, common: torch.Tensor, batched: torch.Tensor, shared: torch.Tensor, lists: Sequence[Carrier], bounded: bool
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Return the expectation values (T,B) of all strings, dense cones first, and bounds (T,)."""
        own, features = self._forms.rows(batched, shared[None])
        values = self._dense(self._tables(common, own), features) if self._stacks else []
        bounds = [0.0] * sum(map(len, self._stacks))
        if lists:
            matrices = self._numbered((common, own, features))[0]
            for carrier in lists:
                evs, bound = carrier(matrices, features, bounded)
                values.append(evs[None])
                bounds.append(bound)
        return torch.cat(values), np.array(bounds)

    def _numbered(
        self, forms: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        """Return the matrices of all blocks by their numbers, and the features."""
        shared, own = iter(forms[0]), iter(forms[1])
        return {i: next(own if varying else shared) for i, varying in enumerate(self._varying)}, forms[2]

    def _dense(self, tables: dict[Kind, torch.Tensor], features: torch.Tensor) -> list[torch.Tensor]:
        """Return the expectation values (G,B) of each stack's strings."""
        sizes = [stack.bytes + features.shape[1] * stack.row_bytes for stack in self._stacks]
        keep = sum(size * len(stack) for size, stack in zip(sizes, self._stacks, strict=True)) <= _MAX_KEPT_BYTES
        parts = []
        for size, stack in zip(sizes, self._stacks, strict=True):
            members = len(stack) if keep else max(1, _MAX_KEPT_BYTES // size)
            for start in range(0, len(stack), members):
                some = slice(start, start + members)
                if keep:
                    parts.append(stack(tables, features, some))
                else:  # recomputed in the backward pass
                    parts.append(checkpoint(stack, tables, features, some, use_reentrant=False))
        return parts


def _pattern(chain: Sequence[Channel]) -> np.ndarray:
    """Return a mask (1,16,16) of the entries of a block's matrix that may differ from 0."""
    pattern = np.eye(16)
    for channel in chain:
        pattern = (np.abs(channel.terms).sum(axis=0) > 0) @ pattern
    return (pattern > 0)[None].astype(float)


def _too_wide(cone: Cone) -> EngineError:
    name = " ".join(f"{letter}{qubit}" for qubit, letter in cone.string)
    return EngineError(
        f"the light cone of {name} has {len(cone.qubits)} qubits and {max(cone.counts):.1e} coefficients, and the "
        f"light-cone engine can carry {4**MAX_CONE_QUBITS:.1e}; use fewer layers, an accuracy, or the statevector "
        "engine if there is no noise"
    )
