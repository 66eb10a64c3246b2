"""Operands of the steps, all built from angles in a few torch calls, and their gradients.

Operands are matrices of blocks, phases, permutations and the first states of the qubits. Single-qubit gates at the
start of the circuit cost almost nothing on a state of one qubit. They are removed from the circuit, up to the last one
whose angle differs from row to row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from qiskit.circuit import ParameterExpression

from qkd.engines.amplitudes.steps import DenseBlock, FusedCircuit, Permute, Phase, gathered
from qkd.engines.chains import Chains, Link, Operations, Recorded
from qkd.engines.gates import ElementaryGate, constant, sines

_MAX_PADDED_QUBITS = 4  # smaller blocks are padded to the widest of them and built in one batch


def leading_gates(
    gates: Sequence[ElementaryGate], batched: Sequence[bool], qubits: Sequence[int]
) -> tuple[list[list[int]], list[int]]:
    """Return the numbers of the gates that encode data on each qubit, and the numbers of the other gates."""
    leading: list[list[int]] = []
    for qubit in qubits:
        run: list[int] = []
        for i, gate in enumerate(gates):
            if qubit in gate.qubits:
                if len(gate.qubits) > 1:
                    break
                run.append(i)
        while run and not batched[run[-1]]:
            run.pop()
        leading.append(run)
    taken = {i for run in leading for i in run}
    return leading, [i for i in range(len(gates)) if i not in taken]


class FirstStates:
    """The qubits' first states as functions of the angles of the encoding gates.

    Attributes:
        angles: The expressions of the angles (E,R) of a call, E = rounds x n.
    """

    def __init__(
        self, runs: Sequence[Sequence[ElementaryGate]], qubits: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.qubits, self._dtype = tuple(qubits), dtype
        chains = [chain([(gate.angle, gate.terms) for gate in run]) for run in runs]
        self._rounds = max([1, *map(len, chains)])
        identity = (0.0, constant(np.eye(2)))
        padded = [links + [identity] * (self._rounds - len(links)) for links in chains]
        entries = [run[r] for r in range(self._rounds) for run in padded]
        self.angles = [0.0 if angle is None else angle for angle, _ in entries]
        terms = np.stack([terms for _, terms in entries])
        self._used = tuple(np.flatnonzero(terms.any(axis=(0, 2, 3))).tolist())
        terms = terms[:, self._used].transpose(0, 2, 3, 1).reshape(len(entries), 4, -1)
        # real numbers (E,8,F): a complex matrix product would need more operations
        self._terms = torch.from_numpy(np.concatenate([terms.real, terms.imag], axis=1)).to(device, dtype.to_real())

    def record(self, angles: torch.Tensor, by_angles: torch.Tensor) -> Recorded:
        """Return the operations for the states (n,2,R) at angles (E,R) and for the angles' gradient."""
        entries, rows = angles.shape
        count = len(self.qubits)
        turns, starts = (part[:, None] for part in sines(self._used, angles.dtype, angles.device))
        angle = angles.new_zeros(entries, len(self._used), rows)
        table, slopes = torch.empty_like(angle), torch.empty_like(angle)
        numbers = angles.new_zeros(entries, 8, rows)
        matrices = torch.zeros(self._rounds, count, 2, 2, rows, dtype=self._dtype, device=angles.device)
        by_matrices = torch.zeros_like(matrices)
        pairs = [torch.view_as_real(part).view(entries, 4, rows, 2) for part in (matrices, by_matrices)]
        forward: Operations = [
            partial(torch.addcmul, starts, angles[:, None], turns, out=angle),
            partial(torch.sin, angle, out=table),
            partial(torch.bmm, self._terms, table, out=numbers),
            partial(pairs[0].copy_, numbers.view(entries, 2, 4, rows).permute(0, 2, 3, 1)),
        ]
        states, mus = [matrices[0, :, :, 0]], [by_matrices[0, :, :, 0]]  # the first column of each matrix acts on |0>
        backward: Operations = []
        for matrix, by_matrix in zip(matrices[1:], by_matrices[1:], strict=True):
            state, mu = states[-1], torch.zeros_like(mus[0], memory_format=torch.contiguous_format)
            product, new = torch.empty_like(matrix), torch.empty_like(mu)
            forward += [
                partial(torch.mul, matrix, state[:, None], out=product),
                partial(torch.sum, product, 2, out=new),
            ]
            backward += [
                partial(torch.sum, product, 1, out=mus[-1]),
                partial(torch.mul, matrix, mu[:, :, None], out=product),
                partial(torch.mul, mu[:, :, None], state[:, None], out=by_matrix),
            ]
            states.append(new)
            mus.append(mu)
        signs = torch.repeat_interleave(self._terms.new_tensor([1.0, -1.0]), 4)
        down = (self._terms * signs[:, None]).transpose(1, 2) * turns
        by_numbers = torch.empty_like(numbers)
        backward = [
            *reversed(backward),
            partial(by_numbers.view(entries, 2, 4, rows).copy_, pairs[1].permute(0, 3, 1, 2)),
            partial(torch.bmm, down, by_numbers, out=table),
            partial(torch.cos, angle, out=slopes),
            partial(slopes.mul_, table),
            partial(torch.sum, slopes, 1, out=by_angles),
        ]
        return Recorded(states[-1], mus[-1], forward, backward)


class Operands:
    """Matrices, phases and permutations in preallocated tensors, computed from the shared angles.

    Attributes:
        values: The matrix (2^k,2^k), or the phases (2^m,1) that all rows share, by the step's number.
        phases: The slopes (2^m,T) of a step's phases by its angles and the constants (2^m,1), by the step's number.
        moves: A permutation (2^m,) and its inverse, by the step's number.
        angles: The expressions of the angles (S,) that all rows share.
        rowwise: The expressions of the angles (T,) that differ from row to row, except those of the encoding.
        gradients: The gradients with respect to ``values``.
    """

    def __init__(
        self, fused: FusedCircuit, gates: Sequence[ElementaryGate], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dtype, self.device = dtype, device
        self.values: dict[int, torch.Tensor] = {}
        self.phases: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.moves: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        blocks = {number: step for number, step in enumerate(fused.steps) if isinstance(step, DenseBlock)}
        builder = BlockBuilder(list(blocks.values()), gates, dtype, device)
        kinds = [dtype.to_real() if real else dtype for real in builder.real]
        for (number, block), kind in zip(blocks.items(), kinds, strict=True):
            size = 2 ** len(block.window)
            self.values[number] = torch.zeros(size, size, dtype=kind, device=device)
        self.angles, self.rowwise = list(builder.angles), list[ParameterExpression]()
        for number, step in enumerate(fused.steps):
            if isinstance(step, Phase):
                slopes, constant = (torch.from_numpy(part).to(device, dtype.to_real()) for part in _phases(step, gates))
                self.phases[number] = slopes, constant
                angles = [gates[i].angle for i in step.gates if gates[i].angle is not None]
                (self.rowwise if step.rowwise else self.angles).extend(angles)
                if not step.rowwise:
                    self.values[number] = torch.zeros(2**step.width, 1, dtype=dtype, device=device)
            elif isinstance(step, Permute):
                source = step.source()
                inverse = np.argsort(source)
                self.moves[number] = torch.from_numpy(source).to(device), torch.from_numpy(inverse).to(device)
        self.gradients = {number: torch.zeros_like(value) for number, value in self.values.items()}
        self._angles = torch.zeros(len(self.angles), dtype=torch.float64, device=device)
        self._by_angles = torch.zeros_like(self._angles)
        matrices, gradients = ([part[number] for number in blocks] for part in (self.values, self.gradients))
        self._forward, self._backward = builder.record(self._angles, self._by_angles, matrices, gradients)
        start = len(builder.angles)
        for number in [number for number in self.phases if number in self.values]:
            start = self._record_phase(number, start)
        self._loaded: object = None

    def _record_phase(self, number: int, start: int) -> int:
        """Record the phases of a step whose angles start at ``start``, and return where they end."""
        (slopes, constant), phase, gradient = self.phases[number], self.values[number], self.gradients[number]
        own = slice(start, start + slopes.shape[1])
        few, angle = slopes.new_zeros(slopes.shape[1], 1), torch.empty_like(constant)
        parts, down = torch.view_as_real(phase), -slopes.T
        self._forward += [
            partial(few.copy_, self._angles[own, None]),
            partial(torch.addmm, constant, slopes, few, out=angle),
            partial(torch.cos, angle, out=parts[..., 0]),
            partial(torch.sin, angle, out=parts[..., 1]),
        ]
        self._backward.append(lambda: self._by_angles[own].copy_((down @ gradient.imag)[:, 0]))
        return own.stop

    def load(self, angles: torch.Tensor, name: object) -> None:
        """Compute all operands at angles (S,), unless those of this name are loaded."""
        if self._loaded is not name:
            self._loaded = None
            self._angles.copy_(angles)
            for operation in self._forward:
                operation()
            self._loaded = name

    def zero_gradients(self) -> None:
        """Set the gradients to 0."""
        for gradient in self.gradients.values():
            gradient.zero_()

    def angle_gradient(self) -> torch.Tensor:
        """Return the gradient of the angles (S,)."""
        self._by_angles.zero_()
        for operation in self._backward:
            operation()
        return self._by_angles.clone()


def _phases(step: Phase, gates: Sequence[ElementaryGate]) -> tuple[np.ndarray, np.ndarray]:
    states = np.arange(2**step.width)
    columns, constant = [], np.zeros(2**step.width)
    for i, axes in zip(step.gates, step.axes, strict=True):
        local = gathered(states, [step.width - 1 - axis for axis in axes])
        if gates[i].angle is None:
            constant += np.angle(gates[i].terms[0].diagonal())[local]
        else:
            columns.append(gates[i].generator.diagonal().real[local])
    return np.array(columns).reshape(-1, 2**step.width).T.copy(), constant[:, None]


class BlockBuilder:
    """All dense blocks of a fused circuit as functions of the angles inside them.

    A gate inside a block of k qubits is ``sum_f w_f(angle) A_f`` with matrices A_f of size 2^k. They are prepared once,
    and constant gates are multiplied into their neighbors. A call is one batched product for all gates of a size and a
    chain of batched matrix products.

    Attributes:
        real: Whether the matrix of each block is real at every angle.
        angles: The expressions of the angles (S,) of a call.
    """

    def __init__(
        self, blocks: Sequence[DenseBlock], gates: Sequence[ElementaryGate], dtype: torch.dtype, device: torch.device
    ) -> None:
        chains = [chain([(gates[i].angle, embed(gates[i], block.window)) for i in block.gates]) for block in blocks]
        self.real = [all(not terms.imag.any() for _, terms in links) for links in chains]
        self._sizes = [2 ** len(block.window) for block in blocks]
        small = max([size for size in self._sizes if size <= 2**_MAX_PADDED_QUBITS], default=0)
        alike: dict[int, list[int]] = {}
        for b, size in enumerate(self._sizes):
            alike.setdefault(max(size, small), []).append(b)
        self._groups = [
            (members, Chains([[_widened(link, size) for link in chains[b]] for b in members], size, dtype, device))
            for size, members in alike.items()
        ]
        self.angles = [angle for _, group in self._groups for angle in group.angles]

    def record(
        self,
        angles: torch.Tensor,
        by_angles: torch.Tensor,
        matrices: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
    ) -> tuple[Operations, Operations]:
        """Return the operations that compute the blocks' matrices (2^k,2^k), and those for the angles' gradient.

        Args:
            angles: The tensor (S,), in double precision, that will contain the angles.
            by_angles: The tensor (S,) to which the gradient is added.
            gradients: The tensors of their gradients, dL = Re sum(gradient dM).
        """
        forward: Operations = []
        backward: Operations = []
        start = 0
        for members, group in self._groups:
            own = slice(start, start + len(group.angles))
            start = own.stop
            recorded = group.record(angles[own], by_angles[own])
            forward += recorded.forward
            for b, matrix, mu in zip(members, recorded.results, recorded.mus, strict=True):
                step = (
                    len(matrix) // self._sizes[b]
                )  # rows that belong to |0> of the additional qubits of the group's matrices
                matrix, mu = (part.real if self.real[b] else part for part in (matrix, mu))
                forward.append(partial(matrices[b].copy_, matrix[::step, ::step]))
                backward.append(partial(mu[::step, ::step].copy_, gradients[b]))
            backward += recorded.backward
        return forward, backward


def _widened(link: Link, size: int) -> Link:
    """Return a factor with more, least significant qubits, on which it is the identity."""
    angle, terms = link
    return angle, np.kron(terms, np.eye(size // terms.shape[-1]))


def chain(sequence: Sequence[Link]) -> list[Link]:
    """Multiply the constant gates of a product, in the order of action, into those with an angle."""
    merged: list[Link] = []
    for angle, terms in sequence:
        if merged and angle is None:
            merged[-1] = (merged[-1][0], terms[0] @ merged[-1][1])
        elif merged and merged[-1][0] is None:
            merged[-1] = (angle, terms @ merged[-1][1][0])
        else:
            merged.append((angle, terms))
    return merged


def embed(gate: ElementaryGate, window: Sequence[int]) -> np.ndarray:
    """Return the gate's terms (5,2^k,2^k) on the k qubits of ``window``, of which the first is most significant."""
    bits = [len(window) - 1 - window.index(q) for q in gate.qubits]
    states = np.arange(2 ** len(window))
    local, rest = gathered(states, bits), states & ~sum(1 << bit for bit in bits)
    return np.where(rest[:, None] == rest, gate.terms[:, local[:, None], local], 0)
