"""A sweep over so many rows as lists of operations between tensors that stay; see ``amplitudes/sweep.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from qkd.engines.amplitudes.encoding import FirstStates
from qkd.engines.amplitudes.measure import Measurement
from qkd.engines.amplitudes.operands import Operands
from qkd.engines.amplitudes.steps import DenseBlock, FusedCircuit, Join, Permute, Phase
from qkd.engines.chains import Operations


class _Space:
    """Tensors that operations write to; what is given back is used again."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._free: dict[int, list[torch.Tensor]] = {}
        self._own: set[int] = set()
        self.bytes = 0

    def take(self, *shape: int) -> torch.Tensor:
        """Return a complex tensor whose values do not matter."""
        size = int(np.prod(shape))
        if free := self._free.get(size):
            return free.pop().view(shape)
        made = torch.zeros(size, dtype=self._dtype, device=self._device)
        self._own.add(made.data_ptr())
        self.bytes += made.nbytes
        return made.view(shape)

    def give(self, tensor: torch.Tensor) -> None:
        """Let a tensor that was taken be used again."""
        if tensor.data_ptr() in self._own:
            self._free.setdefault(tensor.numel(), []).append(tensor)


class Recording:
    """The sweep over R rows.

    Args:
        fused: the steps.
        encoding: makes the qubits' first states.
        measurement: what is asked of the last states.
        operands: what the steps need beside states.
        rows: R.
        back: whether there will be a way back, for which the states are kept.
    """

    def __init__(
        self,
        fused: FusedCircuit,
        encoding: FirstStates,
        measurement: Measurement,
        operands: Operands,
        rows: int,
        back: bool,
    ) -> None:
        self._measurement, self._operands, self._rows = measurement, operands, rows
        self._space = _Space(operands.dtype, operands.device)
        self._there: Operations = []
        self._back: Operations = []
        self.holds: object = None
        """The name of what is in the states at present."""
        self.bytes = 0
        own = [operands.phases[number][0].shape[1] for number in operands.phases if number not in operands.values]
        self._angles = torch.zeros(
            len(encoding.angles) + sum(own), rows, dtype=operands.dtype.to_real(), device=operands.device
        )
        self._by_angles = torch.zeros_like(self._angles)
        entered = len(encoding.angles)
        enters = encoding.record(self._angles[:entered], self._by_angles[:entered])
        self._there += enters.there
        self._pieces = dict(zip(encoding.qubits, enters.states.unbind(0), strict=True))
        self._undo: list[Callable[[], None]] = []
        self._adjoints: dict[int, tuple[torch.Tensor, bool]] = {}
        used = entered
        for number, step in enumerate(fused.steps):
            if isinstance(step, Join):
                self._join(step, back)
            elif isinstance(step, DenseBlock):
                self._block(step, operands.values[number], operands.gradients[number], back)
            elif isinstance(step, Permute):
                self._permute(step, *operands.moves[number], back)
            elif step.rowwise:
                count = operands.phases[number][0].shape[1]
                self._rowwise_phase(step, *operands.phases[number], slice(used, used + count), back)
                used += count
            else:
                self._shared_phase(step, operands.values[number], operands.gradients[number], back)
        self._last: dict[int, torch.Tensor] = {}
        if back:
            self._last = {name: self._space.take(*state.shape) for name, state in self._pieces.items()}
            self._adjoints = {name: (adjoint, True) for name, adjoint in self._last.items()}
            for undo in reversed(self._undo):
                undo()
            for q, mu in zip(encoding.qubits, enters.mus.unbind(0), strict=True):
                adjoint, conjugated = self._adjoints[q]
                self._back.append(
                    partial(torch.conj_physical, adjoint, out=mu) if conjugated else partial(mu.copy_, adjoint)
                )
            self._back += enters.back
        self._undo.clear()
        self.bytes += self._space.bytes

    def forward(self, angles: torch.Tensor, name: object) -> list[torch.Tensor]:
        """Return the values (T,R) of the strings of every measured piece at angles (R,E), and keep the states."""
        self.holds = None
        self._angles.copy_(angles.T)
        for operation in self._there:
            operation()
        self.holds = name
        return self._measurement.values(self._pieces)

    def backward(self, gradients: Sequence[torch.Tensor], by_angles: torch.Tensor) -> None:
        """Write the gradient of the angles (R,E), add those of the operands to theirs.

        Args:
            gradients: by the values that ``forward`` gave.
            by_angles: where to.
        """
        self._measurement.backward(self._pieces, gradients, self._last)
        for operation in self._back:
            operation()
        by_angles.copy_(self._by_angles.T)

    def _replace(self, name: int, state: torch.Tensor, back: bool) -> None:
        if not back:
            self._space.give(self._pieces[name])
        self._pieces[name] = state

    def _adjoint(self, name: int, conjugated: bool) -> torch.Tensor:
        """Return a piece's ``mu``, or the adjoint state, its conjugate."""
        adjoint, as_it_is = self._adjoints[name]
        if as_it_is != conjugated:
            self._back.append(partial(torch.conj_physical, adjoint, out=adjoint))
            self._adjoints[name] = adjoint, conjugated
        return adjoint

    def _change(self, name: int, adjoint: torch.Tensor) -> None:
        old, conjugated = self._adjoints[name]
        self._space.give(old)
        self._adjoints[name] = adjoint, conjugated

    def _join(self, step: Join, back: bool) -> None:
        parts = [self._pieces.pop(part) for part in step.parts]
        rests = [parts[-1]]  # products of the parts from one on
        for part in reversed(parts[:-1]):
            rest = rests[-1]
            whole = self._space.take(len(part), len(rest), self._rows)
            self._there.append(partial(torch.mul, part[:, None], rest, out=whole))
            rests.append(whole.view(-1, self._rows))
        self._pieces[step.parts[0]] = rests[-1]
        if not back:
            for used in [*parts, *rests[1:-1]]:
                self._space.give(used)

        def undo() -> None:
            mu = self._adjoint(step.parts[0], False)
            for name, part, rest in zip(step.parts, parts, rests[-2::-1], strict=False):
                mu = mu.view(len(part), len(rest), self._rows)
                product = self._space.take(*mu.shape)
                of_part, of_rest = self._space.take(*part.shape), self._space.take(*rest.shape)
                self._back += [
                    partial(torch.mul, mu, rest, out=product),
                    partial(torch.sum, product, 1, out=of_part),
                    partial(torch.mul, mu, part[:, None], out=product),
                    partial(torch.sum, product, 0, out=of_rest),
                ]
                self._space.give(product)
                self._space.give(mu)
                self._adjoints[name], mu = (of_part, False), of_rest
            self._adjoints[step.parts[-1]] = mu, False

        self._undo.append(undo)

    def _block(self, step: DenseBlock, matrix: torch.Tensor, gradient: torch.Tensor, back: bool) -> None:
        state, before, size = self._pieces[step.piece], 2**step.before, len(matrix)
        real = not matrix.is_complex()

        def view(tensor: torch.Tensor) -> torch.Tensor:
            return (torch.view_as_real(tensor) if real else tensor).view(before, size, -1)

        def multiply(matrix: torch.Tensor, old: torch.Tensor, new: torch.Tensor) -> Callable[[], object]:
            if view(old).shape[2] == 1:  # one product instead of many matrix-vector ones
                return partial(torch.mm, old.view(before, size), matrix.T, out=new.view(before, size))
            return partial(torch.bmm, matrix.expand(before, -1, -1), view(old), out=view(new))

        new = self._space.take(*state.shape)
        self._there.append(multiply(matrix, state, new))
        self._replace(step.piece, new, back)

        def undo() -> None:
            mu = self._adjoint(step.piece, real)
            self._back += self._outer(view(mu), view(state), gradient)
            changed = self._space.take(*mu.shape)
            self._back.append(multiply(matrix.T, mu, changed))
            self._change(step.piece, changed)

        self._undo.append(undo)

    def _outer(self, left: torch.Tensor, right: torch.Tensor, gradient: torch.Tensor) -> Operations:
        """Return what adds the sum over b and c of left[b,i,c] right[b,j,c] to a gradient (i,j)."""
        count, size, length = right.shape
        if count == 1:
            return [partial(gradient.addmm_, left[0], right[0].T)]
        if length < size:  # one long product instead of many short ones, whose sum would be long
            rows = [torch.empty(size, count, length, dtype=gradient.dtype, device=gradient.device) for _ in range(2)]
            copies = [partial(row.copy_, part.transpose(0, 1)) for row, part in zip(rows, (left, right), strict=True)]
            return [*copies, partial(gradient.addmm_, rows[0].view(size, -1), rows[1].view(size, -1).T)]
        products = torch.empty(count, size, size, dtype=gradient.dtype, device=gradient.device)
        total = torch.empty_like(gradient)
        return [
            partial(torch.bmm, left, right.transpose(1, 2), out=products),
            partial(torch.sum, products, 0, out=total),
            partial(gradient.add_, total),
        ]

    def _permute(self, step: Permute, source: torch.Tensor, inverse: torch.Tensor, back: bool) -> None:
        state = self._pieces[step.piece]
        new = self._space.take(*state.shape)
        self._there.append(partial(torch.index_select, state, 0, source, out=new))
        self._replace(step.piece, new, back)

        def undo() -> None:
            mu, _ = self._adjoints[step.piece]
            changed = self._space.take(*mu.shape)
            self._back.append(partial(torch.index_select, mu, 0, inverse, out=changed))
            self._change(step.piece, changed)

        self._undo.append(undo)

    def _phase(
        self, step: Phase, phase: torch.Tensor, by_phase: Callable[[torch.Tensor], Operations], back: bool
    ) -> None:
        """Multiply a piece by phases; ``by_phase`` says what is done with ``mu`` times the state on the way back."""
        state = self._pieces[step.piece]
        new = self._space.take(*state.shape)
        self._there.append(partial(torch.mul, state, phase, out=new))
        self._replace(step.piece, new, back)

        def undo() -> None:
            mu = self._adjoint(step.piece, False)
            product = self._space.take(*mu.shape)
            self._back += [partial(torch.mul, mu, phase, out=mu), partial(torch.mul, mu, state, out=product)]
            self._back += by_phase(product)
            self._space.give(product)

        self._undo.append(undo)

    def _shared_phase(self, step: Phase, phase: torch.Tensor, gradient: torch.Tensor, back: bool) -> None:
        total = torch.empty_like(gradient)

        def by_phase(product: torch.Tensor) -> Operations:
            return [partial(torch.sum, product, 1, keepdim=True, out=total), partial(gradient.add_, total)]

        self._phase(step, phase, by_phase, back)

    def _rowwise_phase(
        self, step: Phase, slopes: torch.Tensor, constant: torch.Tensor, angles: slice, back: bool
    ) -> None:
        phase = torch.zeros(len(slopes), self._rows, dtype=self._operands.dtype, device=slopes.device)
        angle, parts = torch.empty_like(phase.real, memory_format=torch.contiguous_format), torch.view_as_real(phase)
        self._there += [
            partial(torch.addmm, constant, slopes, self._angles[angles], out=angle),
            partial(torch.cos, angle, out=parts[..., 0]),
            partial(torch.sin, angle, out=parts[..., 1]),
        ]
        down = -slopes.T
        self.bytes += phase.nbytes + angle.nbytes

        def by_phase(product: torch.Tensor) -> Operations:
            return [partial(torch.mm, down, product.imag, out=self._by_angles[angles])]

        self._phase(step, phase, by_phase, back)
