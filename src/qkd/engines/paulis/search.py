"""Which Pauli strings of a light cone are carried back: a route, made once and used while the weights stay near.

A block acts on two places of a cone. Strings that agree everywhere else form a group of at most 16 coefficients, and
the block is one product of all groups with its matrix (16,16). A string whose letters at both places are I is left
alone (Heisenberg picture: the identity stays the identity) unless a channel that is not unital adds to it. What comes
out is kept where ``c WEIGHT^k`` is at least the threshold: ``c`` is the root mean square of a coefficient over sampled
parameter values and ``k`` the number of its letters less their mean (heavy observables have heavy strings), or less
``HEAVY`` if that is less. Later noise damps a string by its letters, and so does the mean over texts of the encoded
qubits that it meets at the end. The sampled values lie around the weights of the call: a string whose coefficient is
zero there but not its derivative is kept as one of nearby weights.
(Truncation by coefficient is Begusic, Gray and Chan's, arXiv:2308.05077; by letters, Rudolph et al.'s,
arXiv:2308.09109.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkd.engines.paulis.channels import LETTERS
from qkd.engines.paulis.cones import Cone

MOST_TERMS = 2**18
"""Strings of a cone kept at once where a threshold is given; beyond it the least important are left out too."""
MOST_STRINGS = 2**16
"""Strings of a cone kept at once where none is left out."""
WEIGHT = 0.85
"""By how much a string is taken to matter less for each letter more."""
HEAVY = 16.0
"""Letters beyond which an observable whose strings all have more is taken to matter less as well."""
_LETTERS = np.array([(j // 4 > 0) + (j % 4 > 0) for j in range(16)])
_BLANK = np.int64(0)


class TooManyStrings(Exception):
    """A light cone has more strings, or groups of them, than were allowed."""


@dataclass(frozen=True)
class Step:
    """One block: of ``groups`` rows of 16 coefficients, those at ``slots`` are what lies at ``sources`` of the arena.

    number: of the block.
    dropped: the slots of the product that are left out.
    """

    number: int
    groups: int
    sources: np.ndarray
    slots: np.ndarray
    dropped: np.ndarray


@dataclass(frozen=True)
class Part:
    """Steps whose coefficients lie in one arena: first those ``taken`` from the one before, then each product.

    rowwise: whether each row of a batch has an arena of its own.
    """

    rowwise: bool
    taken: np.ndarray
    steps: tuple[Step, ...]
    size: int


@dataclass(frozen=True)
class Route:
    """How the strings of a cone are carried back.

    parts: one or two arenas, the second with a row for each of the batch.
    places: where in the last arena the M coefficients are that meet the encoded qubits.
    letters: (M,w) of these strings.
    groups: of all steps, which is what a call costs.
    full: whether more than the threshold was left out, for want of room.
    """

    parts: tuple[Part, ...]
    places: np.ndarray
    letters: np.ndarray
    groups: int
    full: bool


class Search:
    """A cone in whose strings is searched.

    Args:
        cone: what the strings are searched in; its blocks are counted as the matrices of a call are.
        pairs: each block's qubits.
        varying: for each block whether rows have matrices of their own.
    """

    def __init__(
        self,
        cone: Cone,
        pairs: Mapping[int, tuple[int, int]],
        varying: Sequence[bool],
    ) -> None:
        place = {qubit: i for i, qubit in enumerate(cone.qubits)}
        self.width = len(cone.qubits)
        self._moves = [
            (number, [place[q] for q in pairs[number] if q >= 0], bool(varying[number])) for number, _ in cone.blocks
        ]
        self._letters = np.zeros((1, self.width), dtype=np.int8)
        self._letters[0, : len(cone.string)] = [LETTERS.index(letter) for _, letter in cone.string]
        # what a letter at a place adds to a string's 64-bit name (Zobrist's hash); groups are checked letter by letter
        self._names = np.random.default_rng(self.width).integers(1, 2**63, (self.width, 4), dtype=np.int64)
        self._names[:, 0] = _BLANK

    def route(
        self,
        matrices: Mapping[int, np.ndarray],
        threshold: float,
        limit: int = MOST_TERMS,
        most: int | None = None,
    ) -> Route:
        """Return which strings are kept.

        Args:
            matrices: (R,16,16) of every block at R sampled parameter values; without a threshold only where they are 0
                matters.
            threshold: what matters less in the mean over the samples is left out; 0 keeps all.
            limit: how many strings there may be at once; with a threshold the most important are kept.
            most: groups there may be in all.

        Raises:
            TooManyStrings: there are more strings, and no threshold, or more groups.
        """
        letters, names = self._letters, self._named(self._letters)
        rows = max((len(matrix) for matrix in matrices.values()), default=1)
        values = np.ones((rows, 1), dtype=np.float32)  # enough to tell what matters
        at, size, groups = np.arange(len(letters)), len(letters), 0
        parts: list[Part] = []
        steps: list[Step] = []
        taken, rowwise, full = at, False, False
        for number, pair, varies in self._moves:
            if varies and not rowwise:
                if steps:
                    parts.append(Part(False, taken, tuple(steps), size))
                    taken, at, size, steps = at, np.arange(len(letters)), len(letters), []
                rowwise = True
            pair_letters = _pair(letters, pair)
            if not pair_letters.any():
                continue
            matrix = np.broadcast_to(matrices[number], (rows, 16, 16)).astype(np.float32)
            rest = names ^ self._pair_names(pair, pair_letters)
            source, group, keys = _grouped(rest, pair_letters, adds=bool(np.abs(matrix[:, 1:, 0]).max(initial=0) > 0))
            count = len(keys)
            slots = 16 * group + pair_letters[source]
            first = np.zeros(count, dtype=np.int64)
            first[group] = source
            common = letters[first]
            common[:, pair] = 0
            self._check(letters[source], common[group], pair)
            before = np.zeros((rows, 16 * count), dtype=np.float32)
            before[:, slots] = values[:, source]
            # torch, so that its setting of threads holds
            after = torch.bmm(torch.from_numpy(before.reshape(rows, count, 16)), torch.from_numpy(matrix)).numpy()
            matters = np.sqrt(np.einsum("rgj,rgj->gj", after, after) / rows)
            if threshold > 0:
                sizes = np.count_nonzero(common, axis=1)[:, None] + _LETTERS
                share = matters**2
                whole = float(share.sum())
                mean = min(HEAVY, float((share * sizes).sum()) / whole) if whole else 0.0
                matters *= WEIGHT ** (sizes - mean)
                least = _least(matters, threshold, limit - (len(letters) - len(source)))
                full = full or least > threshold
                chosen = matters >= least
            else:
                chosen = matters > 0
                after = chosen[None].astype(np.float32)
            out, letter = np.nonzero(chosen)
            stay = np.ones(len(letters), dtype=bool)
            stay[source] = False
            if len(out) + stay.sum() > limit and threshold == 0:
                raise TooManyStrings
            steps.append(Step(number, count, at[source], slots, np.flatnonzero(~chosen & (matters > 0))))
            new = common[out]
            new[:, pair] = _letters_of(letter, len(pair))
            letters = np.concatenate([letters[stay], new])
            names = np.concatenate([names[stay], keys[out] ^ self._pair_names(pair, letter)])
            values = np.concatenate([values[:, stay], after[:, out, letter]], axis=1)
            at = np.concatenate([at[stay], size + 16 * out + letter])
            size, groups = size + 16 * count, groups + count
            if most is not None and groups > most:
                raise TooManyStrings
        parts.append(Part(rowwise, taken, tuple(steps), size))
        return Route(tuple(parts), at, letters, groups, full)

    def _named(self, letters: np.ndarray) -> np.ndarray:
        return np.bitwise_xor.reduce(self._names[np.arange(self.width), letters], axis=1, initial=_BLANK)

    def _pair_names(self, pair: Sequence[int], letter: np.ndarray) -> np.ndarray:
        first = self._names[pair[0], letter // 4]
        return first if len(pair) == 1 else first ^ self._names[pair[1], letter % 4]

    @staticmethod
    def _check(letters: np.ndarray, common: np.ndarray, pair: Sequence[int]) -> None:
        letters[:, pair] = 0
        if not np.array_equal(letters, common):
            raise AssertionError("two Pauli strings have one name")  # by chance, once in about 10^9 routes


def _grouped(rest: np.ndarray, letter: np.ndarray, adds: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the strings that a block acts on, the group of each, and the groups' names.

    Args:
        rest: (M,) names of the strings without the block's letters.
        letter: (M,) the block's letters.
        adds: whether the block makes II of other letters, so that a string with II belongs to a group if there is one.
    """
    active = np.flatnonzero(letter)
    keys, group = np.unique(rest[active], return_inverse=True)
    if adds and len(keys):
        idle = np.flatnonzero(letter == 0)
        near = np.searchsorted(keys, rest[idle]).clip(max=len(keys) - 1)
        joins = keys[near] == rest[idle]
        return np.concatenate([active, idle[joins]]), np.concatenate([group, near[joins]]), keys
    return active, group, keys


def _least(matters: np.ndarray, threshold: float, room: int) -> float:
    """Return from where on strings are kept: the threshold, or more where there is room for fewer."""
    if (matters >= threshold).sum() <= room:
        return threshold
    ordered = np.sort(matters, axis=None)
    return max(threshold, float(np.nextafter(ordered[-max(1, room)], np.inf)))


def _pair(letters: np.ndarray, pair: Sequence[int]) -> np.ndarray:
    """Return the letters at one or two places as one number, 0 to 15, as a block's matrix counts them."""
    first = 4 * letters[:, pair[0]].astype(np.int64)
    return first if len(pair) == 1 else first + letters[:, pair[1]]


def _letters_of(letter: np.ndarray, count: int) -> np.ndarray:
    """Return the letters (M, 1 or 2) that a number, as ``_pair`` makes it, stands for."""
    return np.stack([letter // 4, letter % 4][:count], axis=1).astype(np.int8)
