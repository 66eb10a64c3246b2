"""The exact engine for shallow circuits of any width, with or without noise.

An observable is carried backwards through the circuit (Heisenberg picture) as real coefficients over the Pauli strings
of its past light cone; a noise channel is one more real matrix. What the data do comes first and on each qubit alone,
so the encoded state is a product of Bloch vectors r = (1, x, y, z): the carried-back coefficients, computed once for a
whole batch, meet every row in one contraction

    <O> = sum_s c_s  prod_q r_q[s_q].

The cost is linear in the number of observables and does not depend on the width of the circuit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel

from qkd.engines.base import ExactEstimator
from qkd.engines.channels import Channel, channels, constant, embed, multiply, strings
from qkd.engines.cones import Block, Cone, PauliString, cone, fuse, split_lead, stacks
from qkd.engines.expressions import Expressions
from qkd.engines.gates import waves
from qkd.engines.program import check_program
from qkd.errors import QkdError

WIDEST = 11
"""Qubits of a light cone up to which its 4^w coefficients are kept densely."""


class LightConeEstimator(ExactEstimator):
    """Exact expectation values of shallow circuits under local noise, as a Qiskit V2 primitive.

    Args:
        noise_model: Aer's; its local quantum errors follow the instructions they are for, its readout errors (one qubit
            each) are part of what is measured. None is no noise.
        backend: take the noise model from this backend instead.
        dtype: ``float64``, or ``float32`` for training.
        device: a torch device; the CPU when left out.

    Raises:
        QkdError: the dtype is another, or both a noise model and a backend are given.
    """

    def __init__(
        self,
        noise_model: NoiseModel | None = None,
        backend: object | None = None,
        dtype: str = "float64",
        device: str | None = None,
    ) -> None:
        super().__init__()
        if dtype not in ("float32", "float64"):
            raise QkdError(f"dtype is float32 or float64, not '{dtype}'")
        if noise_model is not None and backend is not None:
            raise QkdError("give a noise model or a backend to take it from, not both")
        self.noise_model = NoiseModel.from_backend(backend) if backend is not None else noise_model
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = torch.device(device or "cpu")

    def compile(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
    ) -> LightConeProgram:
        """Return a program for the K observables; see ``ExactEstimator.compile``.

        Raises:
            QkdError: also where a light cone is too wide.
        """
        check_program(circuit, observables, batched, shared)
        return LightConeProgram(circuit, observables, batched, shared, self.noise_model, self.dtype, self.device)


def past(
    circuit: QuantumCircuit, terms: Sequence[PauliString], noise: NoiseModel | None
) -> tuple[list[list[Channel]], list[Block], list[Cone]]:
    """Return each qubit's channels before its first two-qubit one, the others as blocks, and each term's cone."""
    lead, rest = split_lead(channels(circuit, noise), circuit.num_qubits)
    blocks = fuse(rest)
    return lead, blocks, [cone(string, blocks) for string in terms]


class LightConeProgram:
    """A compiled circuit; see ``Program`` for what a call takes and gives."""

    def __init__(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
        noise: NoiseModel | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._dtype, self._device = dtype, device
        terms, self._coefficients, self._constants = pauli_terms(observables, dtype, device)
        lead, blocks, cones = past(circuit, terms, noise)
        self.widths = tuple(len(one.qubits) for one in cones)
        _check_widths(cones)
        used = sorted({number for one in cones for number, _ in one.blocks})
        place = {number: i for i, number in enumerate(used)}
        varying = set(batched)
        self._blocks = _Chains(
            [_padded(blocks[number]) for number in used], [*batched, *shared], varying, dtype, device
        )
        live = sorted({qubit for one in cones for qubit in one.qubits})
        self._lead = _Chains([lead[qubit] for qubit in live], [*batched, *shared], varying, dtype, device, always=True)
        row = {qubit: i for i, qubit in enumerate(live)}
        self._stacks = [
            _Stack([cones[i] for i in members], place, row, noise, dtype, device) for members in stacks(cones)
        ]
        order = [i for members in stacks(cones) for i in members]
        self._back = torch.as_tensor(np.argsort(order), device=device)

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K); see ``Program``."""
        values = torch.cat([batched, shared.expand(len(batched), -1)], dim=1).to(self._device, torch.float64)
        if not self._stacks:
            return self._constants.expand(len(batched), -1)
        vectors = self._lead.on_zero(values)
        matrices = self._blocks.products(values)
        found = torch.cat([stack(matrices, vectors) for stack in self._stacks])
        return found[self._back].T @ self._coefficients.T + self._constants


class _Chains:
    """Chains of channels on one or two qubits, all of one dimension d, as products of ``sum_f w_f(t) T_f``."""

    def __init__(
        self,
        chains: Sequence[Sequence[Channel]],
        parameters: Sequence[Parameter],
        varying: set[Parameter],
        dtype: torch.dtype,
        device: torch.device,
        always: bool = False,
    ) -> None:
        angles = [channel.angle for chain in chains for channel in chain if channel.angle is not None]
        # rows of a batch need matrices of their own only where some angle differs between them
        self._by_row = always or any(varying & set(angle.parameters) for angle in angles)
        self._expressions = Expressions(angles, parameters)
        dim = max((len(chain[0].terms[0]) for chain in chains if len(chain)), default=4)
        length = max(map(len, chains), default=0)
        terms = np.tile(constant(np.eye(dim)), (max(length, 1), len(chains), 1, 1, 1))
        index = np.full((max(length, 1), len(chains)), len(angles))
        number = 0
        for i, chain in enumerate(chains):
            for j, channel in enumerate(chain):
                terms[j, i] = channel.terms
                if channel.angle is not None:
                    index[j, i], number = number, number + 1
        self._terms = torch.as_tensor(terms, dtype=dtype, device=device)
        self._index = torch.as_tensor(index, device=device)

    def _matrices(self, values: torch.Tensor) -> torch.Tensor:
        """Return all factors (S, chains, B or 1, d, d)."""
        angles = self._expressions(values if self._by_row else values[:1])
        angles = torch.cat([angles, angles.new_zeros((len(angles), 1))], dim=1)
        weights = waves(angles).to(self._terms.dtype)[:, self._index]  # (B, S, chains, 5)
        return torch.einsum("bscf,scfij->scbij", weights, self._terms)

    def products(self, values: torch.Tensor) -> torch.Tensor:
        """Return each chain's whole matrix (chains, B or 1, d, d), the first channel acting first."""
        factors = self._matrices(values)
        while len(factors) > 1:
            pairs = factors[1::2] @ factors[0 : 2 * (len(factors) // 2) : 2]
            factors = torch.cat([pairs, factors[-1:]]) if len(factors) % 2 else pairs
        return factors[0]

    def on_zero(self, values: torch.Tensor) -> torch.Tensor:
        """Return what the chains make of |0>: Bloch vectors (chains, B, 4)."""
        factors = self._matrices(values)
        vectors = factors.new_tensor([1.0, 0.0, 0.0, 1.0]).expand(*factors.shape[1:3], 4).unsqueeze(-1)
        for factor in factors:
            vectors = factor @ vectors
        return vectors.squeeze(-1)


class _Stack:
    """Cones of one shape, carried back together."""

    def __init__(
        self,
        cones: Sequence[Cone],
        place: dict[int, int],
        row: dict[int, int],
        noise: NoiseModel | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._moves = cones[0].moves
        starts = []
        for one in cones:
            measured = strings(dict(one.string), noise)
            start = np.ones(1)
            for qubit, _ in one.string:
                start = np.kron(start, measured[qubit])
            starts.append(start)
        self._start = torch.as_tensor(np.stack(starts), dtype=dtype, device=device)
        numbers = [[place[number] for number, _ in one.blocks] for one in cones]
        flips = [[flip for _, flip in one.blocks] for one in cones]
        size = (len(self._moves), len(cones))
        self._numbers = torch.as_tensor(np.array(numbers, dtype=np.int64).T.reshape(size), device=device)
        self._flips = torch.as_tensor(np.array(flips, dtype=bool).T.reshape(size), device=device)
        self._rows = torch.as_tensor([[row[qubit] for qubit in one.qubits] for one in cones], device=device)
        self._width = len(cones[0].qubits)
        self._first = cones[0].start

    def __call__(self, matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return expectation values (G,B) from block matrices (N, B or 1, 16, 16) and Bloch vectors (n,B,4)."""
        count = len(self._start)
        rows = matrices.shape[1] if self._moves else 1
        state = self._start[:, None].expand(-1, rows, -1)
        axes = list(range(self._first))
        for move, numbers, flips in zip(self._moves, self._numbers, self._flips, strict=True):
            matrix = matrices[numbers]
            if flips.any():
                turned = matrix.unflatten(-2, (4, 4)).unflatten(-1, (4, 4)).permute(0, 1, 3, 2, 5, 4)
                matrix = torch.where(flips[:, None, None, None], turned.reshape(matrix.shape), matrix)
            # the adjoint channel's matrix is the transpose; a place that holds the identity has one row of it
            lead = [move.first] if move.second < 0 or move.grows else [move.first, move.second]
            state, axes = _to_front(state, axes, lead, count, rows)
            if move.second < 0:
                matrix = matrix.unflatten(-2, (4, 4)).unflatten(-1, (4, 4))[:, :, :, 0, :, 0]
            elif move.grows:
                matrix = matrix.unflatten(-2, (4, 4))[:, :, :, 0]
                axes.insert(1, move.second)
            state = (matrix.mT @ state).reshape(count, rows, -1)
        return self._meet(state, axes, vectors)

    def _meet(self, state: torch.Tensor, axes: list[int], vectors: torch.Tensor) -> torch.Tensor:
        """Contract coefficients (G, B or 1, 4^w) with the Bloch vectors of their places: (G,B)."""
        held = vectors[self._rows[:, axes]]  # (G, w, B, 4)
        half = (len(axes) + 1) // 2
        left, right = (_product(part) for part in (held[:, :half], held[:, half:]))
        table = state.view(*state.shape[:2], left.shape[-1], right.shape[-1])
        if table.shape[1] == 1:
            return ((right @ table[:, 0].mT) * left).sum(-1)
        return ((table @ right.unsqueeze(-1)).squeeze(-1) * left).sum(-1)


def _to_front(
    state: torch.Tensor, axes: list[int], lead: list[int], count: int, rows: int
) -> tuple[torch.Tensor, list[int]]:
    """Return the coefficients as (G, B or 1, 4^len(lead), rest) with the places ``lead`` first, and the new order."""
    order = [*lead, *(axis for axis in axes if axis not in lead)]
    if order != axes:
        state = state.reshape(count, rows, *[4] * len(axes))
        state = state.permute(0, 1, *(2 + axes.index(axis) for axis in order))
    return state.reshape(count, rows, 4 ** len(lead), -1), order


def _product(vectors: torch.Tensor) -> torch.Tensor:
    """Return the Kronecker products (G,B,4^w) of vectors (G,w,B,4), row by row."""
    product = vectors.new_ones((vectors.shape[0], vectors.shape[2], 1))
    for place in vectors.unbind(1):
        product = (product.unsqueeze(-1) * place.unsqueeze(-2)).flatten(-2)
    return product


def _padded(block: Block) -> list[Channel]:
    """Return a block's channels on two qubits (an idle one beside a single qubit), constants multiplied in."""
    order = block.qubits if len(block.qubits) == 2 else (*block.qubits, -1)
    chain: list[Channel] = []
    for channel in block.channels:
        wide = Channel(order, embed(channel.terms, channel.qubits, order), channel.angle)
        joined = multiply(wide, chain[-1]) if chain else None
        if joined is None:
            chain.append(wide)
        else:
            chain[-1] = joined
    return chain


def pauli_terms(
    observables: Sequence[SparsePauliOp], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> tuple[list[PauliString], torch.Tensor, torch.Tensor]:
    """Return T distinct Pauli strings, coefficients (K,T) and the observables' identity parts (K,)."""
    place: dict[PauliString, int] = {}
    entries, constants = [], np.zeros(len(observables))
    for k, observable in enumerate(observables):
        for letters, qubits, coefficient in observable.simplify().to_sparse_list():
            string = tuple(sorted((q, letter) for q, letter in zip(qubits, letters, strict=True) if letter != "I"))
            if string:
                entries.append((k, place.setdefault(string, len(place)), coefficient.real))
            else:
                constants[k] += coefficient.real
    coefficients = np.zeros((len(observables), len(place)))
    for k, t, value in entries:
        coefficients[k, t] += value
    as_tensor = partial(torch.as_tensor, dtype=dtype, device=device)
    return list(place), as_tensor(coefficients), as_tensor(constants)


def _check_widths(cones: Sequence[Cone]) -> None:
    """Raise where a cone is too wide for dense coefficients.

    Raises:
        QkdError: says which observable and what to do.
    """
    for one in cones:
        if len(one.qubits) > WIDEST:
            name = " ".join(f"{letter}{qubit}" for qubit, letter in one.string)
            raise QkdError(
                f"the light cone of {name} holds {len(one.qubits)} qubits, {WIDEST} is the most that the light-cone "
                "engine carries; use fewer layers, or the statevector engine where there is no noise"
            )


