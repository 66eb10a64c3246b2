"""One forward sweep of a fused circuit over a batch of states and one sweep back.

A state is (2^m,R), R rows of a batch. With the loss L, the sweep back carries ``mu`` with ``dL = Re sum(mu dpsi)``, the
conjugate of the usual adjoint state, so that a step psi' = M psi needs no conjugation: ``mu = M^T mu'`` and
``dL/dM = mu' psi^T`` (adjoint differentiation: Jones and Gacon, arXiv:2009.02823, with the states kept instead of
uncomputed). A real matrix wants the adjoint state itself.

What is done depends on the number of rows alone. It is recorded once, as operations between tensors that stay
(``amplitudes/recording.py``), and then run again and again: where states are small, making tensors takes longer than
arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from qkd.engines.amplitudes.encoding import FirstStates
from qkd.engines.amplitudes.measure import Measurement
from qkd.engines.amplitudes.operands import Operands
from qkd.engines.amplitudes.recording import Recording
from qkd.engines.amplitudes.steps import FusedCircuit

KEPT_BYTES = 2**28
"""Of states that are kept for the way back where rows are split, and of recordings in all; beyond it states are
computed again, and recordings made anew."""


class Sweeper:
    """The sweeps of one circuit, whatever the number of rows.

    Args:
        fused: the steps.
        encoding: makes the qubits' first states.
        measurement: what is asked of the last states.
        operands: what the steps need beside states.
        row_bytes: what one row's states take on the way back.
    """

    def __init__(
        self, fused: FusedCircuit, encoding: FirstStates, measurement: Measurement, operands: Operands, row_bytes: int
    ) -> None:
        self.fused, self.encoding, self.measurement, self.operands = fused, encoding, measurement, operands
        self.lock = threading.RLock()
        self._row_bytes = row_bytes
        self._recordings: dict[tuple[int, int, bool], Recording] = {}

    def __call__(self, angles: torch.Tensor, shared: torch.Tensor, most: int) -> list[torch.Tensor]:
        """Return the values (T,B) of the strings of every measured piece, differentiable in both arguments.

        Args:
            angles: (B,E) of the encoding and of the phases that differ from row to row.
            shared: (S,) those of the operands, in double precision.
            most: rows that are swept at once.
        """
        count = -(-len(angles) // most) or 1
        return list(_Sweep.apply(self, count, torch.is_grad_enabled(), angles, shared))

    def recordings(self, rows: Sequence[int], back: bool) -> list[Recording]:
        """Return what sweeps batches of so many rows; the same for several where not all of them can be kept."""
        keep = back and sum(rows) * self._row_bytes <= KEPT_BYTES
        chosen: list[Recording] = []
        for slot, count in enumerate(rows):
            key = (count, slot if keep else 0, back)
            recording = self._recordings.get(key)
            if recording is None:
                recording = Recording(self.fused, self.encoding, self.measurement, self.operands, count, back)
                if sum(other.bytes for other in self._recordings.values()) + recording.bytes > KEPT_BYTES:
                    self._recordings.clear()
                self._recordings[key] = recording
            chosen.append(recording)
        if sum(recording.bytes for recording in self._recordings.values()) > KEPT_BYTES:
            self._recordings.clear()
        return chosen


class _Sweep(torch.autograd.Function):
    """All steps and the measurement as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any, sweeper: Sweeper, count: int, back: bool, angles: torch.Tensor, shared: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the strings' values."""
        chunks = angles.tensor_split(count)
        ctx.sweeper, ctx.count, ctx.names = sweeper, count, [object() for _ in chunks]
        with sweeper.lock:
            sweeper.operands.load(shared, ctx.names[0])
            recordings = sweeper.recordings([len(chunk) for chunk in chunks], back)
            parts = [
                recording.forward(chunk, name)
                for recording, chunk, name in zip(recordings, chunks, ctx.names, strict=True)
            ]
        ctx.recordings = recordings if back else []
        ctx.save_for_backward(angles, shared)
        return tuple(torch.cat(pieces, dim=1) if count > 1 else pieces[0] for pieces in zip(*parts, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """Return the gradients of both kinds of angles."""
        angles, shared = ctx.saved_tensors
        by_angles = torch.empty_like(angles)
        sweeper = ctx.sweeper
        with sweeper.lock:
            sweeper.operands.load(shared, ctx.names[0])
            sweeper.operands.start()
            start = 0
            for recording, chunk, name in zip(
                reversed(ctx.recordings), reversed(angles.tensor_split(ctx.count)), reversed(ctx.names), strict=True
            ):
                start += len(chunk)
                rows = slice(len(angles) - start, len(angles) - start + len(chunk))
                if recording.holds is not name:
                    recording.forward(chunk, name)
                recording.backward([gradient[:, rows] for gradient in gradients], by_angles[rows])
            by_shared = sweeper.operands.finish()
        return None, None, None, by_angles, by_shared
