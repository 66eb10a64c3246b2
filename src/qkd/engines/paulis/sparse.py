"""One light cone as a list of Pauli strings: for wide cones, and for observables with few strings.

``search.py`` chooses the strings. This module computes their coefficients from the blocks' matrices and contracts them
with the encoded qubits. A block in the Heisenberg picture does not increase an operator's norm, and a Pauli string has
norm 1. An expectation value is therefore off by at most the sum of the dropped coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from qkd.engines.paulis.search import Part, Route, Step

_MAX_KEPT_BYTES = 2**27  # the rows' products that are kept for the backward pass


@dataclass(frozen=True)
class _Node:
    """Products of features over several places: entries ``first`` of one half times entries ``second`` of the other."""

    halves: tuple[_Node | int, _Node | int]
    first: torch.Tensor
    second: torch.Tensor


class Carrier:
    """The strings of a cone, carried backward along a route.

    Args:
        rows: The row of the features of each place's qubit.
    """

    def __init__(self, route: Route, rows: Sequence[int], device: torch.device) -> None:
        self.groups, self.full = route.groups, route.full
        self._parts, self._places = route.parts, route.places

        def indices(numbers: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(numbers, dtype=torch.int64, device=device)

        tree, index, _ = _tree(route.letters, list(rows), indices)
        self._tree, self._index = tree, None if index is None else indices(index)

    def __call__(
        self, matrices: Mapping[int, torch.Tensor], features: torch.Tensor, bounded: bool = False
    ) -> tuple[torch.Tensor, float]:
        """Return the expectation value (B,) and an upper bound of its truncation error.

        Args:
            matrices: The matrix (1 or B,16,16) of every block.
            features: The features (n,B,4) of the encoded qubits.
            bounded: Whether the bound is computed; without it 0 is returned.
        """
        state, bound = features.new_ones(1, 1), 0.0  # the measured string
        for part in self._parts:
            blocks = [matrices[step.number] for step in part.steps]
            state = state.index_select(1, part.inherited).expand(features.shape[1] if part.rowwise else 1, -1)
            if bounded:
                bound += _dropped_sum(part, state, blocks)
            if part.steps:
                blocks = [block.expand(len(state), -1, -1) for block in blocks]
                state = _Carried.apply(part, state, torch.stack(blocks))
        state = state.index_select(1, self._places)
        rows = max(1, _MAX_KEPT_BYTES // (4 * state.element_size() * max(1, state.shape[1])))
        if rows >= features.shape[1]:
            return self._contract(state, features), bound
        parts = features.split(rows, dim=1)  # recomputed in the backward pass
        states = state.split(rows) if len(state) > 1 else [state] * len(parts)
        values = [
            checkpoint(self._contract, some, part, use_reentrant=False)
            for some, part in zip(states, parts, strict=True)
        ]
        return torch.cat(values), bound

    def _contract(self, state: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return the expectation values (B,) of coefficients (1 or B,M)."""
        products = _products(self._tree, features)
        if self._index is not None:
            products = products.index_select(0, self._index)
        return (state @ products)[0] if len(state) == 1 else (state.T * products).sum(0)


class _Carried(torch.autograd.Function):
    """The arena (C, size) of a part as a function of its first coefficients and its blocks' matrices (S,C,16,16).

    All coefficients of a part are in one tensor, so the backward pass needs no copies and autograd sees one operation
    instead of several for each block.
    """

    @staticmethod
    def forward(ctx: Any, part: Part, start: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        arena = _arena(part, start, matrices)
        ctx.part = part
        ctx.save_for_backward(arena, matrices)
        return arena

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        part: Part = ctx.part
        arena, matrices = ctx.saved_tensors
        adjoint = grads[0].clone()
        by_matrix = torch.empty_like(matrices)
        end = part.size
        for step, matrix, gradient in zip(
            reversed(part.steps), reversed(matrices.unbind()), reversed(by_matrix.unbind()), strict=True
        ):
            begin = end - 16 * step.groups
            after = adjoint[:, begin:end].view(len(adjoint), step.groups, 16)
            before = _groups(step, arena)
            torch.bmm(before.mT, after, out=gradient)
            back = torch.bmm(after, matrix.mT).view(len(adjoint), -1)
            adjoint.index_add_(1, step.sources, back.index_select(1, step.slots))
            end = begin
        return None, adjoint[:, :end], by_matrix


def _arena(part: Part, start: torch.Tensor, matrices: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    arena = start.new_empty(len(start), part.size)
    arena[:, : start.shape[1]] = start
    begin = start.shape[1]
    for step, matrix in zip(part.steps, matrices, strict=True):
        end = begin + 16 * step.groups
        arena[:, begin:end] = torch.bmm(_groups(step, arena), matrix).view(len(arena), -1)
        begin = end
    return arena


def _groups(step: Step, arena: torch.Tensor) -> torch.Tensor:
    """Return the groups of coefficients (C,G,16) of a step."""
    before = arena.new_zeros(len(arena), 16 * step.groups)
    before.index_copy_(1, step.slots, arena.index_select(1, step.sources))
    return before.view(len(arena), step.groups, 16)


@torch.no_grad()
def _dropped_sum(part: Part, start: torch.Tensor, matrices: Sequence[torch.Tensor]) -> float:
    """Return the sum of the absolute values of a part's dropped coefficients, of the row where it is largest."""
    arena = _arena(part, start, [matrix.expand(len(start), -1, -1) for matrix in matrices])
    total, begin = torch.zeros(len(arena), dtype=torch.float64), start.shape[1]
    for step in part.steps:
        dropped = arena.index_select(1, begin + step.dropped)
        total += dropped.abs().sum(1, dtype=torch.float64).cpu()
        begin += 16 * step.groups
    return float(total.max())


def _tree(letters: np.ndarray, rows: Sequence[int], indices: Any) -> tuple[_Node | int, np.ndarray | None, int]:
    """Return a tree of products of features, the product that each string needs, and the number of products.

    Strings share the products of each half of the places, so there are far fewer products than strings times places. At
    the root the products are those of the strings, in order, and there is no index.
    """

    def halve(places: slice, root: bool) -> tuple[_Node | int, np.ndarray, int]:
        some = letters[:, places]
        count = some.shape[1]
        if count == 1:
            return rows[places.start], some[:, 0].astype(np.int64), 4
        center = places.start + count // 2
        left, first, _ = halve(slice(places.start, center), False)
        right, second, width = halve(slice(center, places.stop), False)
        if root:
            return _Node((left, right), indices(first), indices(second)), np.arange(len(letters)), len(letters)
        kinds, index = np.unique(first * width + second, return_inverse=True)
        return _Node((left, right), indices(kinds // width), indices(kinds % width)), index, len(kinds)

    tree, index, count = halve(slice(0, letters.shape[1]), True)
    return tree, None if isinstance(tree, _Node) else index, count


def _products(node: _Node | int, features: torch.Tensor) -> torch.Tensor:
    """Return a node's products of features (n,B,4), a row (B,) for each product."""
    if isinstance(node, int):
        return features[node].T
    left, right = (_products(half, features) for half in node.halves)
    return left.index_select(0, node.first) * right.index_select(0, node.second)
