"""The dense matrices of fused blocks, built from all shared angles of a circuit in a few torch calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from qkd.engines.amplitudes.steps import DenseBlock, gathered
from qkd.engines.chains import Chains, Link, Operations
from qkd.engines.gates import ElementaryGate

_MAX_PADDED_QUBITS = 4  # smaller blocks are padded to the widest of them and built in one batch


class BlockBuilder:
    """All dense blocks of a fused circuit as functions of the angles inside them.

    A gate inside a block of k qubits is ``sum_f w_f(angle) A_f`` with matrices A_f of size 2^k. They are prepared once,
    and constant gates are multiplied into their neighbors. A call is one batched product for all gates of a size and a
    chain of batched matrix products.

    Args:
        blocks: The blocks.
        gates: The gates to which the blocks refer.
        dtype: The complex dtype of the matrices; matrices that are real at every angle get the real dtype.
        device: The device of the matrices.

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
            matrices: The tensors of the matrices.
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
            for b, matrix, mu in zip(members, recorded.products, recorded.mus, strict=True):
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
