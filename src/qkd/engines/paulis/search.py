"""Which Pauli strings of a light cone are carried backward: a route, made once and used while the weights stay near.

A block acts on two places of a cone. Strings that agree at all other places form a group of at most 16 coefficients,
and the block is one product of all groups with its matrix (16,16). A block leaves a string alone if both of its letters
there are I: in the Heisenberg picture a unital channel keeps the identity. A channel that is not unital adds to it.

With a threshold, the search keeps a string if ``c DAMPING_PER_LETTER^k`` reaches the threshold. Here c is the root mean
square of its coefficient over sampled parameter values, and k is the number of its letters minus their mean over all
strings (or minus ``MAX_MEAN_LETTERS``, if that is less). A string with more letters matters less: later noise damps
each letter, and so does the mean over texts of the encoded qubits. The difference to the mean is used because all
strings of an observable with many letters have many letters.

The samples are drawn around the weights of the call. A string whose coefficient is zero there but whose derivative is
not has a coefficient at nearby weights, so the search keeps it.

Sources: truncation by coefficient, Begusic, Gray and Chan, arXiv:2308.05077; by letters, Rudolph et al.,
arXiv:2308.09109.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkd.engines.paulis.channels import LETTERS
from qkd.engines.paulis.cones import Cone

MAX_STRINGS_TRUNCATED = 2**18
"""Maximum number of strings of a cone with a threshold; beyond it the least important ones are dropped."""
MAX_STRINGS_EXACT = 2**16
"""Maximum number of strings of a cone without a threshold."""
DAMPING_PER_LETTER = 0.85
"""Factor of a string's importance for each letter more."""
MAX_MEAN_LETTERS = 16.0
"""Maximum of the mean number of letters; an observable beyond it matters less as a whole."""
_NUM_LETTERS = np.array([(j // 4 > 0) + (j % 4 > 0) for j in range(16)])  # letters other than I of a pair's index


class TooManyStrings(Exception):
    """A light cone has more strings, or groups of strings, than allowed."""


@dataclass(frozen=True)
class Step:
    """One block: ``groups`` rows of 16 coefficients, of which those at ``slots`` come from ``sources`` of the arena.

    Attributes:
        number: The number of the block.
        groups: The number of groups.
        sources: The positions in the arena of the strings on which the block acts.
        slots: The positions of these strings in the groups.
        dropped: The positions in the product that the search drops.
    """

    number: int
    groups: int
    sources: torch.Tensor
    slots: torch.Tensor
    dropped: torch.Tensor


@dataclass(frozen=True)
class Part:
    """Steps with one arena: the coefficients taken from the previous part, then the product of each step.

    Attributes:
        rowwise: Whether each row of a batch has its own arena.
        inherited: The positions of the first coefficients in the arena of the previous part.
        steps: The steps.
        size: The size of the arena.
    """

    rowwise: bool
    inherited: torch.Tensor
    steps: tuple[Step, ...]
    size: int


@dataclass(frozen=True)
class Route:
    """The strings that are carried backward through a cone.

    Attributes:
        parts: One or two parts; the second has an arena for each row of a batch.
        places: The positions in the last arena of the M coefficients that meet the encoded qubits.
        letters: The letters (M,w) of these strings.
        groups: The number of groups of all steps, which determines the cost of a call.
        full: Whether the limit on strings dropped strings that reach the threshold.
    """

    parts: tuple[Part, ...]
    places: torch.Tensor
    letters: np.ndarray
    groups: int
    full: bool


@dataclass
class _Strings:
    """The strings at one point of the search.

    Attributes:
        letters: The letters (M,w).
        names: A 64-bit hash (M,) of each string.
        values: The coefficients (R,M) at the sampled parameter values.
        arena: The position (M,) of each coefficient in the current arena.
        size: The size of the current arena.
    """

    letters: np.ndarray
    names: np.ndarray
    values: np.ndarray
    arena: np.ndarray
    size: int


class Search:
    """The search for the important strings of a cone.

    Args:
        cone: The cone; its blocks have the numbers of the matrices of a call.
        varying: Whether rows have matrices of their own, for each block.
    """

    def __init__(
        self, cone: Cone, pairs: Mapping[int, tuple[int, int]], varying: Sequence[bool], device: torch.device
    ) -> None:
        place = {qubit: i for i, qubit in enumerate(cone.qubits)}
        self.width, self._device = len(cone.qubits), device
        self._moves = [
            (number, [place[q] for q in pairs[number] if q >= 0], bool(varying[number])) for number, _ in cone.blocks
        ]
        self._letters = np.zeros((1, self.width), dtype=np.int8)
        self._letters[0, : len(cone.string)] = [LETTERS.index(letter) for _, letter in cone.string]
        # Zobrist hashing: the name of a string is the XOR of one random number for each place and letter. Removing the
        # letters of a pair is one more XOR, so strings that agree at all other places are found by sorting names.
        self._names = np.random.default_rng(self.width).integers(1, 2**63, (self.width, 4), dtype=np.int64)
        self._names[:, 0] = 0

    def route(
        self,
        matrices: Mapping[int, np.ndarray],
        threshold: float,
        limit: int = MAX_STRINGS_TRUNCATED,
        max_groups: int | None = None,
    ) -> Route:
        """Return the strings that are kept.

        Args:
            matrices: The matrix (R,16,16) of every block at R sampled parameter values. Without a threshold only the
                positions of zeros matter.
            threshold: Least importance of a kept string; 0 keeps every string.
            limit: Maximum number of strings; with a threshold the most important ones are kept.
            max_groups: Maximum number of groups of all steps.
        """
        rows = max((len(matrix) for matrix in matrices.values()), default=1)
        names = np.bitwise_xor.reduce(self._names[np.arange(self.width), self._letters], axis=1, initial=np.int64(0))
        strings = _Strings(self._letters, names, np.ones((rows, 1), dtype=np.float32), np.arange(1), 1)
        parts: list[Part] = []
        steps: list[Step] = []
        inherited, rowwise, full, groups = strings.arena, False, False, 0
        for number, pair, varies in self._moves:
            if varies and not rowwise:  # from here on the batch needs an arena for each row
                rowwise = True
                if steps:
                    parts.append(Part(False, self._tensor(inherited), tuple(steps), strings.size))
                    inherited, steps = strings.arena, []
                    strings.arena, strings.size = np.arange(len(strings.letters)), len(strings.letters)
            if _pair_index(strings.letters, pair).any():
                step, exceeded = self._step(strings, number, pair, matrices[number], threshold, limit)
                steps.append(step)
                full, groups = full or exceeded, groups + step.groups
                if max_groups is not None and groups > max_groups:
                    raise TooManyStrings
        parts.append(Part(rowwise, self._tensor(inherited), tuple(steps), strings.size))
        return Route(tuple(parts), self._tensor(strings.arena), strings.letters, groups, full)

    def _step(
        self, strings: _Strings, number: int, pair: Sequence[int], matrices: np.ndarray, threshold: float, limit: int
    ) -> tuple[Step, bool]:
        """Carry the strings backward through one block, in place; also return whether ``limit`` dropped a string."""
        rows, letter = len(strings.values), _pair_index(strings.letters, pair)
        matrix = np.broadcast_to(matrices, (rows, 16, 16)).astype(np.float32)  # enough to rank strings
        rest = strings.names ^ self._pair_names(pair, letter)
        source, group, keys = _grouped(rest, letter, not_unital=bool(np.abs(matrix[:, 1:, 0]).max(initial=0) > 0))
        slots, count = 16 * group + letter[source], len(keys)
        first = np.zeros(count, dtype=np.int64)
        first[group] = source
        common = strings.letters[first]  # a group's letters at all other places
        common[:, pair] = 0
        own = strings.letters[source]
        own[:, pair] = 0
        if not np.array_equal(own, common[group]):
            raise AssertionError("two Pauli strings have one name")  # by chance, once in about 10^9 routes
        before = np.zeros((rows, 16 * count), dtype=np.float32)
        before[:, slots] = strings.values[:, source]
        # torch instead of numpy, so that torch's number of threads applies
        after = torch.bmm(torch.from_numpy(before.reshape(rows, count, 16)), torch.from_numpy(matrix)).numpy()
        importance, exceeded = np.sqrt(np.einsum("rgj,rgj->gj", after, after) / rows), False
        chosen = importance > 0
        if threshold > 0:
            sizes = np.count_nonzero(common, axis=1)[:, None] + _NUM_LETTERS
            share = importance**2
            total = float(share.sum())
            mean = min(MAX_MEAN_LETTERS, float((share * sizes).sum()) / total) if total else 0.0
            importance *= DAMPING_PER_LETTER ** (sizes - mean)
            cutoff = _cutoff(importance, threshold, limit - (len(letter) - len(source)))
            exceeded = cutoff > threshold
            dropped, chosen = chosen & (importance < cutoff), importance >= cutoff
        else:
            dropped, after = np.zeros_like(chosen), chosen[None].astype(np.float32)
        out, new_letter = np.nonzero(chosen)
        untouched = np.ones(len(letter), dtype=bool)
        untouched[source] = False
        if threshold == 0 and len(out) + untouched.sum() > limit:
            raise TooManyStrings
        sources = strings.arena[source]
        new = common[out]
        new[:, pair] = np.stack([new_letter // 4, new_letter % 4][: len(pair)], axis=1).astype(np.int8)
        strings.letters = np.concatenate([strings.letters[untouched], new])
        strings.names = np.concatenate([strings.names[untouched], keys[out] ^ self._pair_names(pair, new_letter)])
        strings.values = np.concatenate([strings.values[:, untouched], after[:, out, new_letter]], axis=1)
        strings.arena = np.concatenate([strings.arena[untouched], strings.size + 16 * out + new_letter])
        strings.size += 16 * count
        indices = (self._tensor(part) for part in (sources, slots, np.flatnonzero(dropped)))
        return Step(number, count, *indices), exceeded

    def _tensor(self, indices: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(indices, dtype=torch.int64, device=self._device)

    def _pair_names(self, pair: Sequence[int], letter: np.ndarray) -> np.ndarray:
        """Return the part of the names that a pair's letters, as a pair's index, contribute."""
        first = self._names[pair[0], letter // 4]
        return first if len(pair) == 1 else first ^ self._names[pair[1], letter % 4]


def _grouped(rest: np.ndarray, letter: np.ndarray, not_unital: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the strings on which a block acts, the group of each, and the groups' names.

    Args:
        rest: The names (M,) of the strings without the block's letters.
        letter: The block's letters (M,) as a pair's index.
        not_unital: Whether the block maps other letters to II, so that a string with II joins an existing group.
    """
    active = np.flatnonzero(letter)
    keys, group = np.unique(rest[active], return_inverse=True)
    if not_unital and len(keys):
        idle = np.flatnonzero(letter == 0)
        near = np.searchsorted(keys, rest[idle]).clip(max=len(keys) - 1)
        joins = keys[near] == rest[idle]
        return np.concatenate([active, idle[joins]]), np.concatenate([group, near[joins]]), keys
    return active, group, keys


def _cutoff(importance: np.ndarray, threshold: float, limit: int) -> float:
    """Return the least importance of a kept string: the threshold, or more if more than ``limit`` strings reach it."""
    if (importance >= threshold).sum() <= limit:
        return threshold
    ordered = np.sort(importance, axis=None)
    return max(threshold, float(np.nextafter(ordered[-max(1, limit)], np.inf)))


def _pair_index(letters: np.ndarray, pair: Sequence[int]) -> np.ndarray:
    """Return the letters (M,w) at one or two places as one number, 0 to 15, the index of a block's matrix."""
    first = 4 * letters[:, pair[0]].astype(np.int64)
    return first if len(pair) == 1 else first + letters[:, pair[1]]
