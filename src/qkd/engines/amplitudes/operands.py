"""What steps need beside states: matrices of blocks, phases, permutations; and the gradients by them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from qiskit.circuit import ParameterExpression

from qkd.engines.amplitudes.blocks import BlockBuilder
from qkd.engines.amplitudes.steps import DenseBlock, FusedCircuit, Permute, Phase, gathered
from qkd.engines.gates import Atom


class Operands:
    """Matrices, phases and permutations in tensors that stay, made from all angles that the rows share.

    Args:
        fused: the steps.
        atoms: the gates that they refer to.
        dtype: complex dtype of the states.
        device: where everything lives.
    """

    def __init__(self, fused: FusedCircuit, atoms: Sequence[Atom], dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.values: dict[int, torch.Tensor] = {}
        """By the step's number a matrix (2^k,2^k), or the phases (2^m,1) that all rows share."""
        self.phases: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """By the step's number what angles add to those of the phases, (2^m,T), and what is added anyway, (2^m,1)."""
        self.moves: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """By the step's number the permutation (2^m,) and its inverse."""
        blocks = {number: step for number, step in enumerate(fused.steps) if isinstance(step, DenseBlock)}
        builder = BlockBuilder(list(blocks.values()), atoms, dtype, device)
        kinds = [dtype.to_real() if real else dtype for real in builder.real]
        for (number, block), kind in zip(blocks.items(), kinds, strict=True):
            size = 2 ** len(block.window)
            self.values[number] = torch.zeros(size, size, dtype=kind, device=device)
        self.angles, self.rowwise = list(builder.angles), list[ParameterExpression]()
        """What the angles (S,) are that all rows share; what those (T,) of each row are, beside the encoding's."""
        for number, step in enumerate(fused.steps):
            if isinstance(step, Phase):
                slopes, constant = (torch.from_numpy(part).to(device, dtype.to_real()) for part in _phases(step, atoms))
                self.phases[number] = slopes, constant
                angles = [atoms[i].angle for i in step.atoms if atoms[i].angle is not None]
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
        self._there, self._back = builder.record(self._angles, self._by_angles, matrices, gradients)
        start = len(builder.angles)
        for number in [number for number in self.phases if number in self.values]:
            start = self._record_phase(number, start)
        self._holds: object = None

    def _record_phase(self, number: int, start: int) -> int:
        """Record phases whose angles start at a place, and return where they end."""
        (slopes, constant), phase, gradient = self.phases[number], self.values[number], self.gradients[number]
        own = slice(start, start + slopes.shape[1])
        few, angle = slopes.new_zeros(slopes.shape[1], 1), torch.empty_like(constant)
        parts, down = torch.view_as_real(phase), -slopes.T
        self._there += [
            partial(few.copy_, self._angles[own, None]),
            partial(torch.addmm, constant, slopes, few, out=angle),
            partial(torch.cos, angle, out=parts[..., 0]),
            partial(torch.sin, angle, out=parts[..., 1]),
        ]
        self._back.append(lambda: self._by_angles[own].copy_((down @ gradient.imag)[:, 0]))
        return own.stop

    def load(self, angles: torch.Tensor, name: object) -> None:
        """Make everything at angles (S,), unless what is here has that name."""
        if self._holds is not name:
            self._holds = None
            self._angles.copy_(angles)
            for operation in self._there:
                operation()
            self._holds = name

    def start(self) -> None:
        """Let the gradients be 0."""
        for gradient in self.gradients.values():
            gradient.zero_()

    def finish(self) -> torch.Tensor:
        """Return the gradient of the angles (S,)."""
        self._by_angles.zero_()
        for operation in self._back:
            operation()
        return self._by_angles.clone()


def _phases(step: Phase, atoms: Sequence[Atom]) -> tuple[np.ndarray, np.ndarray]:
    states = np.arange(2**step.width)
    columns, constant = [], np.zeros(2**step.width)
    for i, axes in zip(step.atoms, step.axes, strict=True):
        local = gathered(states, [step.width - 1 - axis for axis in axes])
        if atoms[i].angle is None:
            constant += np.angle(atoms[i].terms[0].diagonal())[local]
        else:
            columns.append(atoms[i].generator.diagonal().real[local])
    return np.array(columns).reshape(-1, 2**step.width).T.copy(), constant[:, None]
