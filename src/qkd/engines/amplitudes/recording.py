"""A sweep over R rows, recorded as lists of operations between preallocated tensors; see ``amplitudes/sweep.py``.

Each step appends its forward operations, and a function that later appends its backward operations. These functions
run in reverse order, because the backward sweep visits the steps in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from qkd.engines.amplitudes.measure import Measurement
from qkd.engines.amplitudes.operands import FirstStates, Operands
from qkd.engines.amplitudes.steps import DenseBlock, FusedCircuit, Join, Permute, Phase
from qkd.engines.chains import Operations


class _TensorPool:
    """Tensors for the results of operations; released tensors are reused."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._free: dict[int, list[torch.Tensor]] = {}
        self._own: set[int] = set()
        self.bytes = 0

    def acquire(self, *shape: int) -> torch.Tensor:
        """Return a complex tensor of any values."""
        size = int(np.prod(shape))
        if free := self._free.get(size):
            return free.pop().view(shape)
        created = torch.zeros(size, dtype=self._dtype, device=self._device)
        self._own.add(created.data_ptr())
        self.bytes += created.nbytes
        return created.view(shape)

    def release(self, tensor: torch.Tensor) -> None:
        """Make an acquired tensor available again; foreign tensors are ignored."""
        if tensor.data_ptr() in self._own:
            self._free.setdefault(tensor.numel(), []).append(tensor)


class Recording:
    """The sweep over R rows.

    Attributes:
        loaded: The name of the batch whose states the tensors contain.
        bytes: The size of the recording's tensors.
    """

    def __init__(
        self,
        fused: FusedCircuit,
        encoding: FirstStates,
        measurement: Measurement,
        operands: Operands,
        rows: int,
        backward: bool,
    ) -> None:
        self._measurement, self._operands, self._rows = measurement, operands, rows
        self._pool = _TensorPool(operands.dtype, operands.device)
        self._forward: Operations = []
        self._backward: Operations = []
        self.loaded: object = None
        self.bytes = 0
        own = [operands.phases[number][0].shape[1] for number in operands.phases if number not in operands.values]
        self._angles = torch.zeros(
            len(encoding.angles) + sum(own), rows, dtype=operands.dtype.to_real(), device=operands.device
        )
        self._by_angles = torch.zeros_like(self._angles)
        num_encoding_angles = len(encoding.angles)
        first_states = encoding.record(self._angles[:num_encoding_angles], self._by_angles[:num_encoding_angles])
        self._forward += first_states.forward
        self._pieces = dict(zip(encoding.qubits, first_states.results.unbind(0), strict=True))
        self._record_backward: list[Callable[[], None]] = []
        self._adjoints: dict[int, tuple[torch.Tensor, bool]] = {}
        next_angle = num_encoding_angles
        for number, step in enumerate(fused.steps):
            if isinstance(step, Join):
                self._join(step, backward)
            elif isinstance(step, DenseBlock):
                self._block(step, operands.values[number], operands.gradients[number], backward)
            elif isinstance(step, Permute):
                self._permute(step, *operands.moves[number], backward)
            elif step.rowwise:
                count = operands.phases[number][0].shape[1]
                self._rowwise_phase(step, *operands.phases[number], slice(next_angle, next_angle + count), backward)
                next_angle += count
            else:
                self._shared_phase(step, operands.values[number], operands.gradients[number], backward)
        self._last: dict[int, torch.Tensor] = {}
        if backward:
            self._last = {name: self._pool.acquire(*state.shape) for name, state in self._pieces.items()}
            self._adjoints = {name: (adjoint, True) for name, adjoint in self._last.items()}
            for record_backward in reversed(self._record_backward):
                record_backward()
            for q, mu in zip(encoding.qubits, first_states.mus.unbind(0), strict=True):
                adjoint, conjugated = self._adjoints[q]
                self._backward.append(
                    partial(torch.conj_physical, adjoint, out=mu) if conjugated else partial(mu.copy_, adjoint)
                )
            self._backward += first_states.backward
        self._record_backward.clear()
        self.bytes += self._pool.bytes

    def forward(self, angles: torch.Tensor, name: object) -> list[torch.Tensor]:
        """Return the values (T,R) of the strings of every measured piece at angles (R,E), and keep the states."""
        self.loaded = None
        self._angles.copy_(angles.T)
        for operation in self._forward:
            operation()
        self.loaded = name
        return self._measurement.values(self._pieces)

    def backward(self, gradients: Sequence[torch.Tensor], by_angles: torch.Tensor) -> None:
        """Write the gradient of the angles (R,E), and add to the gradients of the operands."""
        self._measurement.backward(self._pieces, gradients, self._last)
        for operation in self._backward:
            operation()
        by_angles.copy_(self._by_angles.T)

    def _replace(self, name: int, state: torch.Tensor, backward: bool) -> None:
        if not backward:
            self._pool.release(self._pieces[name])
        self._pieces[name] = state

    def _adjoint(self, name: int, conjugated: bool) -> torch.Tensor:
        """Return a piece's ``mu``, or its conjugate, the adjoint state; conjugate it in place if necessary."""
        adjoint, is_conjugated = self._adjoints[name]
        if is_conjugated != conjugated:
            self._backward.append(partial(torch.conj_physical, adjoint, out=adjoint))
            self._adjoints[name] = adjoint, conjugated
        return adjoint

    def _change(self, name: int, adjoint: torch.Tensor) -> None:
        old, conjugated = self._adjoints[name]
        self._pool.release(old)
        self._adjoints[name] = adjoint, conjugated

    def _join(self, step: Join, backward: bool) -> None:
        parts = [self._pieces.pop(part) for part in step.parts]
        rests = [parts[-1]]  # products of the last parts, from the shortest to the longest
        for part in reversed(parts[:-1]):
            rest = rests[-1]
            whole = self._pool.acquire(len(part), len(rest), self._rows)
            self._forward.append(partial(torch.mul, part[:, None], rest, out=whole))
            rests.append(whole.view(-1, self._rows))
        self._pieces[step.parts[0]] = rests[-1]
        if not backward:
            for next_angle in [*parts, *rests[1:-1]]:
                self._pool.release(next_angle)

        def record_backward() -> None:
            mu = self._adjoint(step.parts[0], False)
            for name, part, rest in zip(step.parts, parts, rests[-2::-1], strict=False):
                mu = mu.view(len(part), len(rest), self._rows)
                product = self._pool.acquire(*mu.shape)
                of_part, of_rest = self._pool.acquire(*part.shape), self._pool.acquire(*rest.shape)
                self._backward += [
                    partial(torch.mul, mu, rest, out=product),
                    partial(torch.sum, product, 1, out=of_part),
                    partial(torch.mul, mu, part[:, None], out=product),
                    partial(torch.sum, product, 0, out=of_rest),
                ]
                self._pool.release(product)
                self._pool.release(mu)
                self._adjoints[name], mu = (of_part, False), of_rest
            self._adjoints[step.parts[-1]] = mu, False

        self._record_backward.append(record_backward)

    def _block(self, step: DenseBlock, matrix: torch.Tensor, gradient: torch.Tensor, backward: bool) -> None:
        state, before, size = self._pieces[step.piece], 2**step.before, len(matrix)
        real = not matrix.is_complex()

        def view(tensor: torch.Tensor) -> torch.Tensor:
            return (torch.view_as_real(tensor) if real else tensor).view(before, size, -1)

        def multiply(matrix: torch.Tensor, old: torch.Tensor, new: torch.Tensor) -> Callable[[], object]:
            if view(old).shape[2] == 1:  # one matrix product instead of many matrix-vector products
                return partial(torch.mm, old.view(before, size), matrix.T, out=new.view(before, size))
            return partial(torch.bmm, matrix.expand(before, -1, -1), view(old), out=view(new))

        new = self._pool.acquire(*state.shape)
        self._forward.append(multiply(matrix, state, new))
        self._replace(step.piece, new, backward)

        def record_backward() -> None:
            mu = self._adjoint(step.piece, real)
            self._backward += self._outer(view(mu), view(state), gradient)
            changed = self._pool.acquire(*mu.shape)
            self._backward.append(multiply(matrix.T, mu, changed))
            self._change(step.piece, changed)

        self._record_backward.append(record_backward)

    def _outer(self, left: torch.Tensor, right: torch.Tensor, gradient: torch.Tensor) -> Operations:
        """Return operations that add the sum over b and c of left[b,i,c] right[b,j,c] to a gradient (i,j)."""
        count, size, length = right.shape
        if count == 1:
            return [partial(gradient.addmm_, left[0], right[0].T)]
        if length < size:  # one long product instead of many short ones and a long sum
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

    def _permute(self, step: Permute, source: torch.Tensor, inverse: torch.Tensor, backward: bool) -> None:
        state = self._pieces[step.piece]
        new = self._pool.acquire(*state.shape)
        self._forward.append(partial(torch.index_select, state, 0, source, out=new))
        self._replace(step.piece, new, backward)

        def record_backward() -> None:
            mu, _ = self._adjoints[step.piece]
            changed = self._pool.acquire(*mu.shape)
            self._backward.append(partial(torch.index_select, mu, 0, inverse, out=changed))
            self._change(step.piece, changed)

        self._record_backward.append(record_backward)

    def _phase(
        self, step: Phase, phase: torch.Tensor, by_phase: Callable[[torch.Tensor], Operations], backward: bool
    ) -> None:
        """Multiply a piece by phases; ``by_phase`` uses ``mu`` times the state for the phases' gradient."""
        state = self._pieces[step.piece]
        new = self._pool.acquire(*state.shape)
        self._forward.append(partial(torch.mul, state, phase, out=new))
        self._replace(step.piece, new, backward)

        def record_backward() -> None:
            mu = self._adjoint(step.piece, False)
            product = self._pool.acquire(*mu.shape)
            self._backward += [partial(torch.mul, mu, phase, out=mu), partial(torch.mul, mu, state, out=product)]
            self._backward += by_phase(product)
            self._pool.release(product)

        self._record_backward.append(record_backward)

    def _shared_phase(self, step: Phase, phase: torch.Tensor, gradient: torch.Tensor, backward: bool) -> None:
        total = torch.empty_like(gradient)

        def by_phase(product: torch.Tensor) -> Operations:
            return [partial(torch.sum, product, 1, keepdim=True, out=total), partial(gradient.add_, total)]

        self._phase(step, phase, by_phase, backward)

    def _rowwise_phase(
        self, step: Phase, slopes: torch.Tensor, constant: torch.Tensor, angles: slice, backward: bool
    ) -> None:
        phase = torch.zeros(len(slopes), self._rows, dtype=self._operands.dtype, device=slopes.device)
        angle, parts = torch.empty_like(phase.real, memory_format=torch.contiguous_format), torch.view_as_real(phase)
        self._forward += [
            partial(torch.addmm, constant, slopes, self._angles[angles], out=angle),
            partial(torch.cos, angle, out=parts[..., 0]),
            partial(torch.sin, angle, out=parts[..., 1]),
        ]
        down = -slopes.T
        self.bytes += phase.nbytes + angle.nbytes

        def by_phase(product: torch.Tensor) -> Operations:
            return [partial(torch.mm, down, product.imag, out=self._by_angles[angles])]

        self._phase(step, phase, by_phase, backward)
