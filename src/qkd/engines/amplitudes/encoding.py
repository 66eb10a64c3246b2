"""Encoding of data: the first gates of each qubit, applied to states of one qubit.

Single-qubit gates at the start of the circuit cost almost nothing on a state of one qubit. They are removed from the
circuit, up to the last one whose angle differs from row to row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from qkd.engines.amplitudes.operands import chain
from qkd.engines.chains import Operations, Recorded
from qkd.engines.gates import ElementaryGate, constant, sines


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
