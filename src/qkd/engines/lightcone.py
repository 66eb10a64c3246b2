"""The exact engine for shallow circuits of any width, with or without noise.

An observable is carried backwards through the circuit (Heisenberg picture) as real coefficients over the Pauli strings
of its past light cone; a noise channel is one more real matrix. What the data do comes first and on each qubit alone,
so the encoded state is a product of Bloch vectors r = (1, x, y, z): the carried-back coefficients, computed once for a
whole batch, meet every row in one contraction

    <O> = sum_s c_s  prod_q r_q[s_q].

The cost is linear in the number of observables and does not depend on the width of the circuit. Coefficients are kept
densely in cones of few qubits, as a list of strings (``paulis/sparse.py``) where that is shorter or truncated.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from torch.utils.checkpoint import checkpoint

from qkd.engines.base import Estimates
from qkd.engines.noise import NoiseLike
from qkd.engines.noisy import NoisyEstimator
from qkd.engines.paulis.bloch import Encoding, Features, differs, split
from qkd.engines.paulis.carry import Kind, Stack, Tables
from qkd.engines.paulis.channels import Channel, channels
from qkd.engines.paulis.cones import Block, Cone, cone, factors, fuse
from qkd.engines.paulis.sparse import MOST_PLACES, MOST_STRINGS, Plan, SparseCone, TooManyStrings
from qkd.engines.paulis.strings import PauliString, pauli_terms
from qkd.engines.paulis.transfer import Chains
from qkd.engines.program import Program, Question
from qkd.errors import EngineError

WIDEST = 11
"""A light cone is kept densely up to the 4^w coefficients of this many qubits."""
_CHEAP = 4**8  # coefficients up to which there is nothing to gain from leaving some out
_SPARSER = 64  # a list of strings is taken where it is this many times shorter
_KEPT_BYTES = 2**28  # what of the coefficients is kept for the way back, at most


class LightConeEstimator(NoisyEstimator):
    """Expectation values of shallow circuits under local noise, as a Qiskit V2 primitive; exact unless truncated.

    Args:
        noise_model: see ``NoisyEstimator``.
        backend: see ``NoisyEstimator``.
        dtype: see ``NoisyEstimator``.
        device: see ``NoisyEstimator``.
        truncation: in wide light cones, Pauli coefficients below this are left out; a result's metadata then has
            ``error_bounds``, which no error exceeds. 0 leaves nothing out.

    Raises:
        EngineError: the truncation is negative, or as ``NoisyEstimator``.
    """

    threads = 1  # many small operations

    def __init__(
        self,
        noise_model: NoiseLike = None,
        backend: object | None = None,
        dtype: str = "float64",
        device: str | None = None,
        truncation: float = 0.0,
    ) -> None:
        super().__init__(noise_model, backend, dtype, device)
        if truncation < 0:
            raise EngineError(f"truncation is 0 or a small positive number, not {truncation}")
        self.truncation = truncation

    def _settings(self) -> tuple[Hashable, ...]:
        return (*super()._settings(), self.truncation)

    def _compile(self, question: Question) -> LightConeProgram:
        return LightConeProgram(question, self)

    def _estimates(self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float) -> Estimates:
        assert isinstance(program, LightConeProgram)
        with torch.no_grad():
            evs, bounds = program.bounded(batched, shared)
        found = Estimates.exact(evs.double().cpu().numpy())
        return replace(found, bounds=np.broadcast_to(bounds, found.evs.shape))


def past(
    circuit: QuantumCircuit,
    terms: Sequence[PauliString],
    noise: NoiseLike,
    batched: Sequence[Parameter] = (),
) -> tuple[Encoding, list[Block], list[Cone]]:
    """Return what encodes the data, the other channels as blocks, and the cone of each of the terms' factors."""
    measured = {qubit for string in terms for qubit, _ in string}
    encoding, rest = split(channels(circuit, noise, measured), circuit.num_qubits, set(batched))
    blocks = fuse(rest)
    parts = dict.fromkeys(part for string in terms for part in factors(string, blocks))
    return encoding, blocks, [cone(string, blocks, encoding.sizes) for string in parts]


class LightConeProgram:
    """A compiled circuit; see ``Program`` for what a call takes and gives."""

    def __init__(self, question: Question, engine: LightConeEstimator) -> None:
        noise, dtype, device = engine.noise_model, engine.dtype, engine.device
        self._device, self._truncation = device, engine.truncation
        terms, self._coefficients, self._constants = pauli_terms(question.observables, dtype, device)
        encoding, blocks, cones = past(question.circuit, terms, noise, question.batched)
        self.widths = tuple(len(one.qubits) for one in cones)
        self._factors = _Factors(terms, blocks, [one.string for one in cones], device)
        live = sorted({qubit for one in cones for qubit in one.qubits})
        both = question.parameters
        self._features = Features([encoding.leads[qubit] for qubit in live], both, dtype, device)
        row = {qubit: i for i, qubit in enumerate(live)}

        used = {number: i for i, number in enumerate(sorted({number for one in cones for number, _ in one.blocks}))}
        cones = [replace(one, blocks=tuple((used[number], flip) for number, flip in one.blocks)) for one in cones]
        chains = [blocks[number].channels for number in used]
        varying = [any(differs(channel, set(question.batched)) for channel in chain) for chain in chains]
        common, own = (
            [chain for chain, one in zip(chains, varying, strict=True) if one == kind] for kind in (False, True)
        )
        self._common = Chains(common, 16, question.shared, dtype, device)
        self._own = Chains(own, 16, both, dtype, device)
        self._tables = Tables(varying)
        self._varying = varying
        pairs = {i: blocks[number].qubits for number, i in used.items()}
        patterns = {i: _pattern(chain) for i, chain in enumerate(chains)}
        self._sparse: list[tuple[SparseCone, Plan | None]] = []
        by_shape: dict[object, list[int]] = {}
        last = []
        for number, one in enumerate(cones):
            size = max(one.counts, default=1)
            if size > _CHEAP and len(one.qubits) <= MOST_PLACES:
                sparse = SparseCone(one, pairs, row, dtype, device)
                plan = None
                if not self._truncation:
                    plan = _listed(sparse, patterns, size // _SPARSER if size <= 4**WIDEST else MOST_STRINGS)
                if plan or self._truncation:
                    self._sparse.append((sparse, plan))
                    last.append(number)
                    continue
            if size > 4**WIDEST:
                raise _too_wide(one)
            kinds = tuple(varying[number] for number, _ in one.blocks)
            by_shape.setdefault((one.moves, kinds, tuple(encoding.sizes[q] for q in one.qubits)), []).append(number)
        self._stacks = [
            Stack([cones[i] for i in members], self._tables, row, dtype, device) for members in by_shape.values()
        ]
        order = [i for members in by_shape.values() for i in members] + last
        self._back = torch.as_tensor(np.argsort(order), device=device)

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K); see ``Program``."""
        return self.bounded(batched, shared)[0]

    def bounded(self, batched: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """Return expectation values (B,K) and how far each observable's (K,) can be off."""
        if not len(self._back):
            return self._constants.expand(len(batched), -1), np.zeros(len(self._constants))
        shared = shared.to(self._device, torch.float64)
        values = torch.cat([batched.to(shared), shared.expand(len(batched), -1)], dim=1)
        common = self._common.products(shared[None])
        rows = max([1, _KEPT_BYTES // max((stack.row_bytes for stack in self._stacks), default=1)])
        parts = [self._part(common, part) for part in values.split(rows)]
        found = torch.cat([evs for evs, _ in parts], dim=1)
        bounds = np.max([bounds for _, bounds in parts], axis=0)[self._back.cpu().numpy()]
        strings, bounds = self._factors(found[self._back], bounds)
        return strings.T @ self._coefficients.T + self._constants, self._coefficients.abs().cpu().numpy() @ bounds

    def _part(self, common: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """Return the expectation values (T,B) of all strings, dense cones first, and bounds (T,)."""
        own, features = self._own.products(values), self._features(values)
        found = self._dense(self._tables(common, own), features) if self._stacks else []
        bounds = [0.0] * sum(map(len, self._stacks))
        if self._sparse:
            one, many = iter(common), iter(own)
            matrices = {i: next(many if varying else one) for i, varying in enumerate(self._varying)}
            numbers = {i: matrix.detach().double().cpu().numpy() for i, matrix in matrices.items()}
        for sparse, kept in self._sparse:
            plan = kept or _truncated(sparse, numbers, self._truncation)
            found.append(sparse(plan, matrices, features)[None])
            bounds.append(plan.bound)
        return torch.cat(found), np.array(bounds)

    def _dense(self, tables: dict[Kind, torch.Tensor], features: torch.Tensor) -> list[torch.Tensor]:
        """Return the expectation values (G,B) of each stack's strings."""
        sizes = [stack.bytes + features.shape[1] * stack.row_bytes for stack in self._stacks]
        keep = sum(size * len(stack) for size, stack in zip(sizes, self._stacks, strict=True)) <= _KEPT_BYTES
        found = []
        for size, stack in zip(sizes, self._stacks, strict=True):
            members = len(stack) if keep else max(1, _KEPT_BYTES // size)
            for start in range(0, len(stack), members):
                some = slice(start, start + members)
                if keep:
                    found.append(stack(tables, features, some))
                else:  # computed again on the way back
                    found.append(checkpoint(stack, tables, features, some, use_reentrant=False))
        return found


class _Factors:
    """Strings as products of what was computed."""

    def __init__(
        self, terms: Sequence[PauliString], blocks: Sequence[Block], parts: Sequence[PauliString], device: torch.device
    ) -> None:
        place = {part: i for i, part in enumerate(parts)}
        index = [[place[part] for part in factors(string, blocks)] for string in terms]
        most = max(map(len, index), default=1)
        padded = np.array([one + [len(parts)] * (most - len(one)) for one in index], dtype=np.int64).reshape(-1, most)
        self._plain = most == 1 and np.array_equal(padded[:, 0], np.arange(len(parts)))
        self._index = torch.as_tensor(padded, device=device)

    def __call__(self, found: torch.Tensor, bounds: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Return values (T,B) and bounds (T,) of the strings from those of their factors, (T',B) and (T',)."""
        if self._plain:
            return found, bounds
        one = found.new_ones(1, found.shape[1])
        values = torch.cat([found, one]).index_select(0, self._index.flatten()).view(*self._index.shape, -1)
        within = np.append(1 + bounds, 1.0)[self._index.cpu().numpy()]  # each factor is at most 1 in size
        return values.prod(dim=1), within.prod(axis=1) - 1


def _pattern(chain: Sequence[Channel]) -> np.ndarray:
    """Return where a block's matrix (1,16,16) can be other than 0, as ones."""
    pattern = np.eye(16)
    for channel in chain:
        pattern = (np.abs(channel.terms).sum(axis=0) > 0) @ pattern
    return (pattern > 0)[None].astype(float)


def _listed(sparse: SparseCone, patterns: dict[int, np.ndarray], limit: int) -> Plan | None:
    try:
        return sparse.plan(patterns, 0.0, limit)
    except TooManyStrings:
        return None


def _truncated(sparse: SparseCone, matrices: dict[int, np.ndarray], truncation: float) -> Plan:
    """Return what is kept of a cone.

    Raises:
        EngineError: too much.
    """
    try:
        return sparse.plan(matrices, truncation)
    except TooManyStrings:
        raise EngineError(
            f"more than {MOST_STRINGS:,} Pauli coefficients of a light cone of {sparse.width} qubits are at least "
            f"{truncation:g}; raise the truncation, or use fewer layers"
        ) from None


def _too_wide(one: Cone) -> EngineError:
    name = " ".join(f"{letter}{qubit}" for qubit, letter in one.string)
    return EngineError(
        f"the light cone of {name} holds {len(one.qubits)} qubits and {max(one.counts):.1e} coefficients, "
        f"{4**WIDEST:.1e} is the most that the light-cone engine carries; use fewer layers, a truncation, or the "
        "statevector engine where there is no noise"
    )
