"""The dense matrices of fused blocks, built from all shared angles of a circuit in a few torch calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from qkd.engines.fusion import Block
from qkd.engines.gates import WAVES, Atom, constant


class BlockBuilder:
    """All dense blocks of a plan as functions of the waves of the shared angles.

    An atom inside a block of k qubits is ``sum_f w_f(angle) A_f`` with A_f of size 2^k x 2^k, prepared here
    once; constant atoms are multiplied into their neighbours. A step is then one batched product for all
    atoms of a size and a tree of batched matrix products, whatever the number of gates.

    Args:
        blocks: the plan's blocks.
        atoms: the gates they refer to.
        row: for each atom with an angle, its row in the waves (S,5).
        dtype: complex dtype of the matrices.
        device: where they live.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        atoms: Sequence[Atom],
        row: Mapping[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        by_size: dict[int, list[int]] = {}
        for b, block in enumerate(blocks):
            by_size.setdefault(len(block.window), []).append(b)
        self.count = len(blocks)
        self._groups = []
        for members in by_size.values():
            chains = [chain([(row.get(i), embed(atoms[i], blocks[b].window)) for i in blocks[b].atoms]) for b in members]
            self._groups.append((members, _Chains(chains, dtype, device)))

    def __call__(self, table: torch.Tensor) -> list[torch.Tensor]:
        """Return the blocks' matrices (2^k,2^k) at the waves (S,5) of all shared angles."""
        matrices: list[torch.Tensor] = [table] * self.count
        for members, chains in self._groups:
            for b, matrix in zip(members, chains(table), strict=True):
                matrices[b] = matrix
        return matrices


class _Chains:
    """G products of at most L atoms on k qubits each."""

    def __init__(
        self, chains: Sequence[list[tuple[int | None, np.ndarray]]], dtype: torch.dtype, device: torch.device
    ) -> None:
        length, size = max(len(chain) for chain in chains), chains[0][0][1].shape[-1]
        padded = [chain + [(None, constant(np.eye(size)))] * (length - len(chain)) for chain in chains]
        terms = np.stack([term for chain in padded for _, term in chain])
        used = terms.any(axis=(0, 2, 3))
        rows = np.array([-1 if row is None else row for chain in padded for row, _ in chain])
        self._shape = (len(chains), length, size, size)
        self._used = torch.from_numpy(np.flatnonzero(used)).to(device)
        self._rows = torch.from_numpy(rows).to(device)
        self._terms = torch.from_numpy(terms[:, used].reshape(len(rows), -1, size * size)).to(device, dtype)

    def __call__(self, table: torch.Tensor) -> torch.Tensor:
        """Return the products (G,2^k,2^k)."""
        weights = torch.cat([table, torch.eye(1, WAVES).to(table)])[self._rows][:, self._used]
        product = torch.bmm(weights[:, None].to(self._terms), self._terms).view(self._shape)
        while product.shape[1] > 1:
            even = product.shape[1] // 2 * 2
            paired = product[:, 1:even:2] @ product[:, 0:even:2]
            product = torch.cat([paired, product[:, even:]], dim=1) if even < product.shape[1] else paired
        return product[:, 0]


def chain(sequence: Sequence[tuple[int | None, np.ndarray]]) -> list[tuple[int | None, np.ndarray]]:
    """Multiply the constant atoms of a product (first acts first) into those with an angle."""
    merged: list[tuple[int | None, np.ndarray]] = []
    for row, terms in sequence:
        if merged and row is None:
            merged[-1] = (merged[-1][0], terms[0] @ merged[-1][1])
        elif merged and merged[-1][0] is None:
            merged[-1] = (row, terms @ merged[-1][1][0])
        else:
            merged.append((row, terms))
    return merged


def embed(atom: Atom, window: Sequence[int]) -> np.ndarray:
    """Return the atom's terms (5,2^k,2^k) on the k qubits of ``window``, the first most significant."""
    shifts = np.array([len(window) - 1 - window.index(q) for q in atom.qubits])
    states = np.arange(2 ** len(window))
    local = ((states[:, None] >> shifts) & 1) @ (1 << np.arange(len(shifts)))
    rest = states & ~int((1 << shifts).sum())
    return np.where(rest[:, None] == rest, atom.terms[:, local[:, None], local], 0)
