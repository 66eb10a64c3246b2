"""One light cone as a list of Pauli strings: for wide cones, and for observables that stay small.

A string is a number, base 4, whose digit p is the letter at place p of the cone. A block maps the strings that agree
outside its places among each other. Which ones it can reach is known before any angle is, so an exact list is made
once. With a threshold, coefficients below it are left out after every block. What follows a block in the Heisenberg
picture never makes an operator's norm larger and a Pauli string has norm 1, so the expectation value is off by at most
the sum of what was left out (the method is Begusic, Gray and Chan's, arXiv:2308.05077).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from qkd.engines.paulis.channels import LETTERS
from qkd.engines.paulis.cones import Cone

MOST_PLACES = 31
"""Qubits of a light cone whose strings fit into 64 bits."""
MOST_STRINGS = 2**18
"""Strings up to which a list is kept."""
_KEPT_BYTES = 2**28  # of the rows' products kept for the way back, at most


class TooManyStrings(Exception):
    """A light cone has more strings than were allowed."""


@dataclass(frozen=True)
class _Step:
    """One block: coefficient ``source`` times entry ``entry`` of matrix ``number`` goes to ``target``, of ``size``."""

    number: int
    source: torch.Tensor
    entry: torch.Tensor
    target: torch.Tensor
    size: int


@dataclass(frozen=True)
class Plan:
    """How the strings of a cone are carried back.

    bound: how far the expectation value can be off for what was left out.
    """

    steps: tuple[_Step, ...]
    digits: torch.Tensor
    bound: float


class SparseCone:
    """A Pauli string's light cone.

    Args:
        one: the cone; its blocks are counted as the matrices of a call are.
        pairs: each block's qubits.
        row: where each qubit's features are.
        dtype: real dtype.
        device: where all this lives.
    """

    def __init__(
        self,
        one: Cone,
        pairs: Mapping[int, tuple[int, int]],
        row: Mapping[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.width, self._dtype, self._device = len(one.qubits), dtype, device
        place = {qubit: i for i, qubit in enumerate(one.qubits)}
        self._moves = [(number, [place[q] for q in pairs[number] if q >= 0]) for number, _ in one.blocks]
        self._rows = torch.tensor([row[qubit] for qubit in one.qubits], device=device)
        key = sum(LETTERS.index(letter) << 2 * i for i, (_, letter) in enumerate(one.string))
        self._keys, self._start = np.array([key], dtype=np.int64), np.ones(1)

    def plan(self, matrices: Mapping[int, np.ndarray], threshold: float, limit: int = MOST_STRINGS) -> Plan:
        """Return which strings are kept.

        Args:
            matrices: (R,16,16) of every block, for R rows; with a threshold of 0 only where they are 0 matters.
            threshold: coefficients below it in every row are left out; 0 keeps all.
            limit: how many strings there may be.

        Raises:
            TooManyStrings: there are more.
        """
        keys, values = self._keys, np.abs(self._start)[:, None] if threshold == 0 else self._start[:, None]
        steps, bound = [], 0.0
        for number, places in self._moves:
            matrix = matrices[number]
            held = _digits(keys, places)
            reached = (matrix != 0).any(axis=0)[held]  # (M,16)
            source, letters = np.nonzero(reached)
            found = _replaced(keys[source], places, letters)
            entry = held[source] * 16 + letters
            keys, target = np.unique(found, return_inverse=True)
            if len(keys) > limit:
                raise TooManyStrings
            if threshold > 0:
                terms = values[source] * matrix.reshape(len(matrix), 256).T[entry]
                values = np.zeros((len(keys), terms.shape[1]))
                np.add.at(values, target, terms)
                largest = np.abs(values).max(axis=1)
                kept = largest >= threshold
                bound += float(np.abs(values[~kept]).sum(axis=0).max(initial=0.0))
                place = np.cumsum(kept) - 1
                used = kept[target]
                source, entry, target = source[used], entry[used], place[target[used]]
                keys, values = keys[kept], values[kept]
            arrays = [self._tensor(numbers) for numbers in (source, entry, target)]
            steps.append(_Step(number, arrays[0], arrays[1], arrays[2], len(keys)))
        digits = (keys[:, None] >> 2 * np.arange(self.width)) & 3
        return Plan(tuple(steps), self._tensor(digits), bound)

    def _tensor(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(numbers, dtype=torch.int64, device=self._device)

    def __call__(self, plan: Plan, matrices: Mapping[int, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
        """Return the expectation value (B,).

        Args:
            plan: which strings are kept.
            matrices: (1 or B,16,16) of every block.
            features: (n,B,4) of the encoded qubits.
        """
        if not len(plan.digits):  # nothing is left: the value is 0
            return features.sum(dim=(0, 2)) * 0
        state = torch.as_tensor(self._start, dtype=self._dtype, device=self._device)[:, None]
        for step in plan.steps:
            weights = matrices[step.number].flatten(1).T.index_select(0, step.entry)
            terms = state.index_select(0, step.source) * weights
            state = terms.new_zeros(step.size, terms.shape[1]).index_add(0, step.target, terms)
        rows = max(1, _KEPT_BYTES // (4 * state.element_size() * len(state)))
        if rows >= features.shape[1]:
            return self._meet(plan.digits, state, features)
        parts = features.split(rows, dim=1)  # computed again on the way back
        states = state.split(rows, dim=1) if state.shape[1] > 1 else [state] * len(parts)
        return torch.cat(
            [
                checkpoint(self._meet, plan.digits, some, part, use_reentrant=False)
                for some, part in zip(states, parts, strict=True)
            ]
        )

    def _meet(self, digits: torch.Tensor, state: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        half = (self.width + 1) // 2
        left, right = (self._product(digits[:, part], features, part) for part in (slice(half), slice(half, None)))
        return (state * left * right).sum(0)

    def _product(self, digits: torch.Tensor, features: torch.Tensor, part: slice) -> torch.Tensor:
        """Return the products (M,B) of the features that the strings select at some of the places."""
        kinds, index = torch.unique(digits, dim=0, return_inverse=True)
        result = features.new_ones(len(kinds), features.shape[1])
        for place, row in enumerate(self._rows[part].tolist()):
            result = result * features[row].T.index_select(0, kinds[:, place])
        return result.index_select(0, index)


def _digits(keys: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Return the letters at one or two places as one number, 0 to 15, as a block's matrix counts them."""
    first = (keys >> 2 * places[0]) & 3
    return 4 * first + ((keys >> 2 * places[1]) & 3 if len(places) > 1 else 0)


def _replaced(keys: np.ndarray, places: Sequence[int], letters: np.ndarray) -> np.ndarray:
    """Return keys with other letters, counted as ``_digits`` does, at one or two places."""
    cleared = keys & ~sum(np.int64(3) << 2 * place for place in places)
    found = cleared | ((letters >> 2) << 2 * places[0])
    return found | ((letters & 3) << 2 * places[1]) if len(places) > 1 else found
