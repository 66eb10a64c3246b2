"""One forward sweep of a plan over a batch of states and one sweep back.

A state is (2^m, B). With the loss L, the sweep back carries ``mu`` with ``dL = Re sum(mu dpsi)``, the
conjugate of the usual adjoint state, so that a step psi' = M psi needs no conjugation: ``mu = M^T mu'`` and
``dL/dM = mu' psi^T`` (adjoint differentiation: Jones and Gacon, arXiv:2009.02823, with the states kept
instead of uncomputed). A real matrix wants the usual adjoint state instead; ``mu`` is then that one with torch's mark
that it is to be conjugated, and nothing is conjugated between real matrices. A step has two methods,

    forward(state, operand) -> (state, tensors to keep)
    backward(mu, kept, operand) -> (mu, derivative by the operand or None)

and the operand is a tensor that depends on the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from qkd.engines.amplitudes.measure import Measurement
from qkd.engines.amplitudes.steps import Block, Join, Permute, Phase, Step, gathered
from qkd.engines.gates import Atom

State = torch.Tensor
Saved = tuple[torch.Tensor, ...]


class Stage(Protocol):
    """What a step does to one piece."""

    def forward(self, state: State, operand: Any) -> tuple[State, Saved]:
        """Return the new state and what ``backward`` needs."""
        ...

    def backward(self, mu: State, saved: Saved, operand: Any) -> tuple[State, torch.Tensor | None]:
        """Return ``mu`` before the step and the derivative by the operand."""
        ...


class Dense:
    """A matrix (2^k,2^k), the same for all rows, on k neighbouring axes; real where every entry is."""

    def __init__(self, step: Block) -> None:
        self._before, self._size, self._after = 2**step.before, 2 ** len(step.window), 2**step.after

    def _view(self, state: State, real: bool) -> torch.Tensor:
        state = torch.view_as_real(state) if real else state
        return state.view(self._before, self._size, -1)

    def _product(self, matrix: torch.Tensor, state: State) -> State:
        if self._after * state.shape[-1] == 1:  # one product instead of many matrix-vector ones
            return (state.view(self._before, self._size) @ matrix.T.to(state.dtype)).view(-1, 1)
        if matrix.is_complex():
            return torch.bmm(matrix.expand(self._before, -1, -1), self._view(state, False)).view(state.shape)
        result = torch.bmm(matrix.expand(self._before, -1, -1), self._view(state, True))
        return torch.view_as_complex(result.view(*state.shape, 2))

    def forward(self, state: State, operand: torch.Tensor) -> tuple[State, Saved]:
        """Return the state after the matrix."""
        return self._product(operand, state), (state,)

    def backward(self, mu: State, saved: Saved, operand: torch.Tensor) -> tuple[State, torch.Tensor]:
        """Return M^T mu and the sum of mu psi^T over everything else."""
        real = not operand.is_complex()
        adjoint = mu.conj().resolve_conj() if real else mu.resolve_conj()
        before = self._product(operand.T, adjoint)
        before = before.conj() if real else before
        left, right = self._view(adjoint, real), self._view(saved[0], real)
        if right.shape[2] < self._size:  # one long product instead of many short ones, whose sum would be long
            left, right = (part.transpose(0, 1).reshape(self._size, -1) for part in (left, right))
            return before, left @ right.T
        return before, torch.bmm(left, right.transpose(1, 2)).sum(0)


class Phases:
    """Diagonal gates: amplitude s of row b gets the phase sum_t d[s,t] angle[t,b] + constant[s]."""

    def __init__(self, step: Phase, atoms: Sequence[Atom], dtype: torch.dtype, device: torch.device) -> None:
        states = np.arange(2**step.width)
        columns, constant = [], np.zeros(2**step.width)
        for i, axes in zip(step.atoms, step.axes, strict=True):
            local = gathered(states, [step.width - 1 - axis for axis in axes])
            if atoms[i].angle is None:
                constant += np.angle(atoms[i].terms[0].diagonal())[local]
            else:
                columns.append(atoms[i].generator.diagonal().real[local])
        self._slopes = torch.from_numpy(np.array(columns).reshape(-1, 2**step.width).T.copy()).to(device, dtype)
        self._constant = torch.from_numpy(constant[:, None]).to(device, dtype)

    def forward(self, state: State, operand: torch.Tensor) -> tuple[State, Saved]:
        """Return the state times its phases; the angles are (T,B) or, shared by all rows, (T,1)."""
        angle = torch.addmm(self._constant, self._slopes, operand)
        phase = torch.complex(angle.cos(), angle.sin())
        return state * phase, (state, phase)

    def backward(self, mu: State, saved: Saved, operand: torch.Tensor) -> tuple[State, torch.Tensor]:
        """Return mu times the phases and the derivative by the angles."""
        state, phase = saved
        mu = mu.resolve_conj() * phase
        product = mu * state
        product = product.sum(1, keepdim=True) if operand.shape[1] == 1 else product
        return mu, self._slopes.T @ -product.imag


class Permuted:
    """A permutation of the amplitudes."""

    def __init__(self, step: Permute, device: torch.device) -> None:
        source = step.source()
        self._source = torch.from_numpy(source).to(device)
        self._inverse = torch.from_numpy(np.argsort(source)).to(device)

    def forward(self, state: State, operand: None) -> tuple[State, Saved]:
        """Return the permuted state."""
        return state.index_select(0, self._source), ()

    def backward(self, mu: State, saved: Saved, operand: None) -> tuple[State, None]:
        """Return mu, permuted back."""
        return mu.resolve_conj().index_select(0, self._inverse), None


def join(parts: Sequence[State]) -> State:
    """Return the product state of pieces (2^m_i,B), the first most significant."""
    state = parts[-1]
    for part in reversed(parts[:-1]):
        state = (part[:, None] * state[None]).view(-1, part.shape[-1])
    return state


def unjoin(mu: State, parts: Sequence[State]) -> list[State]:
    """Return mu of every piece from mu of their product."""
    result = []
    mu = mu.resolve_conj()
    for i, part in enumerate(parts[:-1]):
        rest = join(parts[i + 1 :])
        mu = mu.view(len(part), len(rest), -1)
        result.append((mu * rest).sum(1))
        mu = (mu * part[:, None]).sum(0)
    return [*result, mu]


class Sweep(torch.autograd.Function):
    """All steps and the measurement as one differentiable function.

    ``stages`` are pairs of a step and its stage (None for a join), ``first`` (n,2,B) the qubits' first
    states in the order of ``qubits``, ``operands`` one for every stage that has one. Returns the values
    (T,B) of the strings of every measured piece. With ``keep`` the states stay for the sweep back;
    without, they are computed again there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        stages: Sequence[tuple[Step, Any]],
        qubits: Sequence[int],
        measurement: Measurement,
        keep: bool,
        first: torch.Tensor,
        *operands: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return the strings' values."""
        pieces, tape = _forward(stages, qubits, first, operands, keep)
        ctx.plan = stages, qubits, measurement, list(pieces)
        ctx.counts = [len(entry) for entry in tape] if keep else None
        states = [*pieces.values(), *(tensor for entry in tape for tensor in entry)] if keep else []
        ctx.save_for_backward(first, *operands, *states)
        ctx.operands = len(operands)
        return tuple(measurement.values(pieces))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        """Return the gradients of ``first`` and the operands."""
        stages, qubits, measurement, names = ctx.plan
        first, *saved = ctx.saved_tensors
        operands, states = saved[: ctx.operands], iter(saved[ctx.operands :])
        if ctx.counts is None:
            pieces, tape = _forward(stages, qubits, first, operands, True)
        else:
            pieces = {name: next(states) for name in names}
            tape = [tuple(next(states) for _ in range(count)) for count in ctx.counts]
        mus = measurement.backward(pieces, grads)
        derivatives: list[torch.Tensor | None] = [None] * len(operands)
        at = len(operands)
        for (step, stage), own in zip(reversed(stages), reversed(tape), strict=True):
            if isinstance(step, Join):
                mus.update(zip(step.parts, unjoin(mus.pop(step.parts[0]), own), strict=True))
            elif isinstance(step, Permute):
                mus[step.piece], _ = stage.backward(mus[step.piece], own, None)
            else:
                at -= 1
                mus[step.piece], by_operand = stage.backward(mus[step.piece], own, operands[at])
                derivatives[at] = by_operand.conj()
        by_first = torch.stack([mus[q] for q in qubits]).conj()
        return None, None, None, None, by_first, *derivatives


def _forward(
    stages: Sequence[tuple[Step, Any]],
    qubits: Sequence[int],
    first: torch.Tensor,
    operands: Sequence[torch.Tensor],
    keep: bool,
) -> tuple[dict[int, State], list[Saved]]:
    """Return the final pieces and, with ``keep``, what every step needs on the way back."""
    pieces = dict(zip(qubits, first.unbind(0), strict=True))
    tape: list[Saved] = []
    remaining = iter(operands)
    for step, stage in stages:
        if isinstance(step, Join):
            own: Saved = tuple(pieces.pop(part) for part in step.parts)
            pieces[step.parts[0]] = join(own)
        else:
            operand = None if isinstance(step, Permute) else next(remaining)
            pieces[step.piece], own = stage.forward(pieces[step.piece], operand)
        if keep:
            tape.append(own)
    return pieces, tape


def stage(step: Step, atoms: Sequence[Atom], dtype: torch.dtype, device: torch.device) -> Stage | None:
    """Return what carries out a step, ``dtype`` being real; None for a join, which is not about one piece."""
    if isinstance(step, Block):
        return Dense(step)
    if isinstance(step, Phase):
        return Phases(step, atoms, dtype, device)
    return Permuted(step, device) if isinstance(step, Permute) else None
