"""One forward sweep of a fused circuit over a batch of states, and one backward sweep.

A state is a tensor (2^m,R) for the R rows of a batch. For the loss L the backward sweep carries ``mu`` with
``dL = Re sum(mu dpsi)``. This is the conjugate of the usual adjoint state, so a step psi' = M psi needs no conjugation:
``mu = M^T mu'`` and ``dL/dM = mu' psi^T``. Real matrices act on the adjoint state itself. (Source: adjoint
differentiation, Jones and Gacon, arXiv:2009.02823, here with states kept instead of uncomputed.)

The operations depend on the number of rows alone. They are recorded once as operations between preallocated tensors
(``amplitudes/recording.py``) and then repeated, because for small states allocation takes longer than arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from qkd.engines.amplitudes.measure import Measurement
from qkd.engines.amplitudes.operands import FirstStates, Operands
from qkd.engines.amplitudes.recording import Recording
from qkd.engines.amplitudes.steps import FusedCircuit

MAX_KEPT_BYTES = 2**28
"""Maximum size of the states that split batches keep for the backward sweep, and of all recordings. Beyond it the
backward sweep recomputes states, and recordings are discarded."""


class Sweeper:
    """The sweeps of one circuit for any number of rows.

    Args:
        row_bytes: The size of the states that one row keeps for the backward sweep.
    """

    def __init__(
        self, fused: FusedCircuit, encoding: FirstStates, measurement: Measurement, operands: Operands, row_bytes: int
    ) -> None:
        self.fused, self.encoding, self.measurement, self.operands = fused, encoding, measurement, operands
        self.lock = threading.RLock()
        self._row_bytes = row_bytes
        self._recordings: dict[tuple[int, int, bool], Recording] = {}

    def __call__(self, angles: torch.Tensor, shared: torch.Tensor, max_rows: int) -> list[torch.Tensor]:
        """Return the values (T,B) of the strings of every measured piece, differentiable in both arguments.

        Args:
            angles: The angles (B,E) of the encoding and of the phases that differ from row to row.
            shared: The angles (S,) of the operands, in double precision.
            max_rows: Maximum number of rows of one sweep.
        """
        count = -(-len(angles) // max_rows) or 1
        return list(_Sweep.apply(self, count, torch.is_grad_enabled(), angles, shared))

    def recordings(self, rows: Sequence[int], backward: bool) -> list[Recording]:
        """Return a recording for each chunk of rows; chunks share one if they exceed ``MAX_KEPT_BYTES`` together."""
        keep = backward and sum(rows) * self._row_bytes <= MAX_KEPT_BYTES
        chosen: list[Recording] = []
        for slot, count in enumerate(rows):
            key = (count, slot if keep else 0, backward)
            recording = self._recordings.get(key)
            if recording is None:
                recording = Recording(self.fused, self.encoding, self.measurement, self.operands, count, backward)
                if sum(other.bytes for other in self._recordings.values()) + recording.bytes > MAX_KEPT_BYTES:
                    self._recordings.clear()
                self._recordings[key] = recording
            chosen.append(recording)
        if sum(recording.bytes for recording in self._recordings.values()) > MAX_KEPT_BYTES:
            self._recordings.clear()
        return chosen


class _Sweep(torch.autograd.Function):
    """All steps and the measurement as one function of the angles."""

    @staticmethod
    def forward(
        ctx: Any, sweeper: Sweeper, count: int, backward: bool, angles: torch.Tensor, shared: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        chunks = angles.tensor_split(count)
        ctx.sweeper, ctx.count, ctx.names = sweeper, count, [object() for _ in chunks]
        with sweeper.lock:
            sweeper.operands.load(shared, ctx.names[0])
            recordings = sweeper.recordings([len(chunk) for chunk in chunks], backward)
            parts = [
                recording.forward(chunk, name)
                for recording, chunk, name in zip(recordings, chunks, ctx.names, strict=True)
            ]
        ctx.recordings = recordings if backward else []
        ctx.save_for_backward(angles, shared)
        return tuple(torch.cat(pieces, dim=1) if count > 1 else pieces[0] for pieces in zip(*parts, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        angles, shared = ctx.saved_tensors
        by_angles = torch.empty_like(angles)
        sweeper = ctx.sweeper
        with sweeper.lock:
            sweeper.operands.load(shared, ctx.names[0])
            sweeper.operands.zero_gradients()
            start = 0
            for recording, chunk, name in zip(
                reversed(ctx.recordings), reversed(angles.tensor_split(ctx.count)), reversed(ctx.names), strict=True
            ):
                start += len(chunk)
                rows = slice(len(angles) - start, len(angles) - start + len(chunk))
                if recording.loaded is not name:
                    recording.forward(chunk, name)
                recording.backward([gradient[:, rows] for gradient in gradients], by_angles[rows])
            by_shared = sweeper.operands.angle_gradient()
        return None, None, None, by_angles, by_shared
