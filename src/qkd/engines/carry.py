"""Cones of one shape, carried back together and met by the encoded qubits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from qkd.engines.channels import strings
from qkd.engines.cones import Cone, Move

from qiskit_aer.noise import NoiseModel  # isort: skip

Kind = tuple[bool, bool, tuple[int, int]]
"""What the matrices of moves that can share a table have in common: per row or not, one place held, sizes after."""
_ROW = -2  # the name of the axis of rows; places are 0, 1, ..., and -1 is no place


class Tables:
    """The blocks' matrices, cut to what moves of each kind need of them.

    Args:
        varying: for each block whether rows have matrices of their own.
        device: where the matrices live.
    """

    def __init__(self, varying: Sequence[bool], device: torch.device) -> None:
        self._varying, self._device = varying, device
        inside = [np.cumsum([own == kind for own in varying]) - 1 for kind in (False, True)]
        self._place = [int(inside[own][number]) for number, own in enumerate(varying)]
        self._entries: dict[Kind, dict[tuple[int, bool], int]] = {}
        self._numbers: dict[Kind, list[torch.Tensor]] = {}

    def entry(self, number: int, flip: bool, move: Move) -> tuple[Kind, int]:
        """Return the kind of a block's matrix in a move, and its place in the table of that kind."""
        kind = (self._varying[number], move.grows or move.second < 0, move.sizes)
        entries = self._entries.setdefault(kind, {})
        return kind, entries.setdefault((self._place[number], flip), len(entries))

    def close(self) -> None:
        """Fix the tables once all entries are known."""
        for kind, entries in self._entries.items():
            halves = [[(number, at) for (number, flip), at in entries.items() if flip == wanted] for wanted in (False, True)]
            order = np.argsort([at for half in halves for _, at in half])
            found = [[number for number, _ in half] for half in halves]
            self._numbers[kind] = [torch.as_tensor(x, dtype=torch.int64, device=self._device) for x in (*found, order)]

    def __call__(self, shared: torch.Tensor, own: torch.Tensor) -> dict[Kind, torch.Tensor]:
        """Return the tables (M,k,k') or, per row, (M,B,k,k') from matrices (N,1,16,16) and (N',B,16,16).

        They are transposed: from the k' coefficients after a block in time to the k before it.
        """
        found = {}
        for kind, (plain, flipped, order) in self._numbers.items():
            varying, alone, (first, second) = kind
            source = (own if varying else shared).unflatten(-2, (4, 4)).unflatten(-1, (4, 4))
            parts = [source.index_select(0, plain)]
            if len(flipped):
                parts.append(source.index_select(0, flipped).permute(0, 1, 3, 2, 5, 4))
            after = slice(0, 1) if alone else slice(None)
            cut = torch.cat([part[:, :, :, after, :first, :second] for part in parts]).index_select(0, order)
            cut = cut.flatten(4).flatten(2, 3).mT
            found[kind] = cut if varying else cut[:, 0]
        return found


class Stack:
    """G cones of one shape.

    Args:
        cones: the cones.
        tables: where their matrices will be.
        row: where each qubit's features are.
        sizes: how many features each qubit has.
        noise: its readout errors are part of the measured strings.
        dtype: real dtype.
        device: where all this lives.
    """

    def __init__(
        self,
        cones: Sequence[Cone],
        tables: Tables,
        row: Mapping[int, int],
        sizes: Sequence[int],
        first: Mapping[int, np.ndarray],
        noise: NoiseModel | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        one = cones[0]
        self._moves = one.moves
        entries = [[tables.entry(number, flip, move) for (number, flip), move in zip(each.blocks, each.moves, strict=True)] for each in cones]
        self._kinds = [kind for kind, _ in entries[0]]
        self._at = torch.as_tensor([[at for _, at in each] for each in entries], device=device, dtype=torch.int64).T.contiguous()
        starts = []
        for each in cones:
            measured = strings(dict(each.string), noise)
            start = np.ones(1)
            for (qubit, _), size in zip(each.string, each.starts, strict=True):
                local = measured[qubit] if size == 4 else 0
                start = np.kron(start, measured[qubit])
            starts.append(start)
