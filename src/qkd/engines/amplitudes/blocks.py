"""The dense matrices of fused blocks, built from all shared angles of a circuit in a few torch calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from qkd.engines.amplitudes.steps import DenseBlock, gathered
from qkd.engines.chains import Chains, Link, Operations
from qkd.engines.gates import Atom

_COMMON = 4  # blocks of up to this many qubits are built together, at the size of the widest of them


class BlockBuilder:
    """All dense blocks of a fused circuit as functions of the angles inside them.

    An atom inside a block of k qubits is ``sum_f w_f(angle) A_f`` with A_f of size 2^k x 2^k, prepared here
    once; constant atoms are multiplied into their neighbours. A call is then one batched product for all
    atoms of a size and a tree of batched matrix products, whatever the number of gates.

    Args:
        blocks: its blocks.
        atoms: the gates they refer to.
        dtype: complex dtype of the matrices; those that are real at every angle are made real.
        device: where they live.
    """

    def __init__(
        self, blocks: Sequence[DenseBlock], atoms: Sequence[Atom], dtype: torch.dtype, device: torch.device
    ) -> None:
        chains = [chain([(atoms[i].angle, embed(atoms[i], block.window)) for i in block.atoms]) for block in blocks]
        self.real = [all(not terms.imag.any() for _, terms in links) for links in chains]
        """Which blocks' matrices are real."""
        self._sizes = [2 ** len(block.window) for block in blocks]
        small = max([size for size in self._sizes if size <= 2**_COMMON], default=0)
        alike: dict[int, list[int]] = {}
        for b, size in enumerate(self._sizes):
            alike.setdefault(max(size, small), []).append(b)
        self._groups = [
            (members, Chains([[_widened(link, size) for link in chains[b]] for b in members], size, dtype, device))
            for size, members in alike.items()
        ]
        self.angles = [angle for _, group in self._groups for angle in group.angles]
        """What the angles (S,) of a call are."""

    def record(
        self,
        angles: torch.Tensor,
        by_angles: torch.Tensor,
        matrices: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
    ) -> tuple[Operations, Operations]:
        """Return what makes the blocks' matrices (2^k,2^k), and what makes the angles' gradient of theirs.

        Args:
            angles: (S,) where they will be, in double precision.
            by_angles: (S,) what the gradient is added to.
            matrices: where the matrices go.
            gradients: where their gradients will be, dL = Re sum(gradient dM).
        """
        there: Operations = []
        back: Operations = []
        start = 0
        for members, group in self._groups:
            own = slice(start, start + len(group.angles))
            start = own.stop
            recorded = group.record(angles[own], by_angles[own])
            there += recorded.there
            for b, matrix, mu in zip(members, recorded.products, recorded.mus, strict=True):
                step = len(matrix) // self._sizes[b]  # the first of the qubits that the group's matrices have more
                matrix, mu = (part.real if self.real[b] else part for part in (matrix, mu))
                there.append(partial(matrices[b].copy_, matrix[::step, ::step]))
                back.append(partial(mu[::step, ::step].copy_, gradients[b]))
            back += recorded.back
        return there, back


def _widened(link: Link, size: int) -> Link:
    """Return a factor on further, least significant qubits, on which it is the identity."""
    angle, terms = link
    return angle, np.kron(terms, np.eye(size // terms.shape[-1]))


def chain(sequence: Sequence[Link]) -> list[Link]:
    """Multiply the constant atoms of a product (first acts first) into those with an angle."""
    merged: list[Link] = []
    for angle, terms in sequence:
        if merged and angle is None:
            merged[-1] = (merged[-1][0], terms[0] @ merged[-1][1])
        elif merged and merged[-1][0] is None:
            merged[-1] = (angle, terms @ merged[-1][1][0])
        else:
            merged.append((angle, terms))
    return merged


def embed(atom: Atom, window: Sequence[int]) -> np.ndarray:
    """Return the atom's terms (5,2^k,2^k) on the k qubits of ``window``, the first most significant."""
    bits = [len(window) - 1 - window.index(q) for q in atom.qubits]
    states = np.arange(2 ** len(window))
    local, rest = gathered(states, bits), states & ~sum(1 << bit for bit in bits)
    return np.where(rest[:, None] == rest, atom.terms[:, local[:, None], local], 0)
