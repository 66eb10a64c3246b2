"""Channels fused into blocks on pairs of qubits, and the past light cone of every Pauli string.

A cone numbers its qubits by places, in order of appearance. Cones of one shape (the same moves between the same places)
are carried backward together as one stack. On a line of qubits nearly all cones have the same shape.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkd.engines.paulis.channels import Channel, embed, multiply
from qkd.engines.program import PauliString

_Option = tuple[float, tuple[int, ...], int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class ChannelBlock:
    """Channels on a pair of qubits, in order of time; the second qubit is -1 in a block on one qubit."""

    qubits: tuple[int, int]
    channels: tuple[Channel, ...]


@dataclass(frozen=True)
class Move:
    """One block of a cone: a matrix on two places, of which the second may be new to the cone.

    Attributes:
        first: The first place.
        second: The second place; -1 for a block on one qubit.
        grows: Whether the second place is new, so that it has only the identity before the move.
        sizes: The numbers of coefficients of the two places after the move.
    """

    first: int
    second: int
    grows: bool
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Cone:
    """The past light cone of a Pauli string.

    Attributes:
        string: The Pauli string.
        qubits: The qubit at each place; the string's own qubits come first.
        moves: The moves, the latest block in time first.
        blocks: For each move the block's number, and whether its qubits are in reverse order.
        counts: The number of coefficients after each move.
        operations: The number of multiply-adds of all moves.
    """

    string: PauliString
    qubits: tuple[int, ...]
    moves: tuple[Move, ...]
    blocks: tuple[tuple[int, bool], ...]
    counts: tuple[int, ...]
    operations: float


def fuse(channels: Sequence[Channel]) -> list[ChannelBlock]:
    """Return channels as blocks on pairs of qubits; constant channels are multiplied into their neighbors."""
    blocks = []
    for pair, chain in pair_blocks(channels):
        wide = [Channel(pair, embed(channel.terms, channel.qubits, pair), channel.angle) for channel in chain]
        blocks.append(ChannelBlock(pair, tuple(joined(wide))))
    return blocks


def pair_blocks(channels: Sequence[Channel]) -> list[tuple[tuple[int, int], list[Channel]]]:
    """Return channels on one or two qubits, grouped by pairs of qubits, in order of time.

    A channel on one qubit joins the previous block of this qubit, or its first one. A qubit without a pair has the
    partner -1.
    """
    blocks: list[tuple[tuple[int, int], list[Channel]]] = []
    latest: dict[int, int] = {}
    early: dict[int, list[Channel]] = {}
    for channel in channels:
        numbers = {latest.get(qubit) for qubit in channel.qubits}
        number = numbers.pop()
        if not numbers and number is not None:
            blocks[number][1].append(channel)
        elif len(channel.qubits) == 1:
            early.setdefault(channel.qubits[0], []).append(channel)
        else:
            a, b = channel.qubits
            latest[a] = latest[b] = len(blocks)
            blocks.append(((a, b), [*early.pop(a, []), *early.pop(b, []), channel]))
    return blocks + [((qubit, -1), chain) for qubit, chain in early.items()]


def joined(chain: Sequence[Channel]) -> list[Channel]:
    """Return channels on the same qubits with the constant ones multiplied into their neighbors."""
    merged: list[Channel] = []
    for channel in chain:
        product = multiply(channel, merged[-1]) if merged else None
        if product is None:
            merged.append(channel)
        else:
            merged[-1] = product
    return merged


def cone(string: PauliString, blocks: Sequence[ChannelBlock], sizes: Sequence[int]) -> Cone:
    """Return the cone of ``string``.

    Args:
        blocks: The circuit, with at least one block on each qubit.
        sizes: The number of coefficients of each qubit before its first block in time.
    """
    waiting = _waiting(string, blocks)
    remaining = {qubit: len(queue) for qubit, queue in waiting.items()}
    places_of: dict[int, int] = {qubit: i for i, (qubit, _) in enumerate(string)}
    current = dict.fromkeys(places_of, 4)
    moves, numbers, counts = [], [], []
    total = 4 ** len(string)
    work = 0.0

    def option(number: int) -> _Option | None:
        """Return the effect of a block, or None if another block of the cone follows it in time."""
        pair = tuple(qubit for qubit in blocks[number].qubits if qubit >= 0)
        if any(waiting[qubit][0] != number for qubit in pair):
            return None
        inside = sorted((qubit for qubit in pair if qubit in places_of), key=places_of.__getitem__)
        order = (*inside, *(qubit for qubit in pair if qubit not in places_of))
        after = tuple(sizes[qubit] if remaining[qubit] == 1 else 4 for qubit in order)
        ratio = _product(after) / _product([current[qubit] for qubit in inside])
        return ratio, tuple(places_of[qubit] for qubit in inside), number, order, after

    options: dict[int, _Option] = {}
    changed = set(waiting)
    while True:
        for number in {waiting[qubit][0] for qubit in changed if waiting[qubit]}:
            known = option(number)
            if known is not None:
                options[number] = known
        if not options:
            break
        # Any block that no other block follows may be next. Greedy: the one that leaves the fewest coefficients.
        _, held_places, number, order, after = min(options.values())
        del options[number]
        work += total * _product(after)
        for qubit, size in zip(order, after, strict=True):
            total = total // current.get(qubit, 1) * size
            current[qubit] = size
            places_of.setdefault(qubit, len(places_of))
            waiting[qubit].popleft()
            remaining[qubit] -= 1
        changed = set(order)
        counts.append(total)
        second = places_of[order[1]] if len(order) == 2 else -1
        grown = len(held_places) < len(order)
        moves.append(Move(places_of[order[0]], second, grown, (after[0], after[1] if len(after) == 2 else 1)))
        numbers.append((number, blocks[number].qubits[0] != order[0]))
    return Cone(string, tuple(places_of), tuple(moves), tuple(numbers), tuple(counts), work)


def factors(string: PauliString, blocks: Sequence[ChannelBlock]) -> list[PauliString]:
    """Return the parts of a string with disjoint light cones; its mean is the product of their means."""
    if len(string) < 2:
        return [string]
    above = {qubit: qubit for qubit, _ in string}

    def root(qubit: int) -> int:
        while above[qubit] != qubit:
            qubit = above[qubit]
        return qubit

    for block in reversed(blocks):
        pair = [qubit for qubit in block.qubits if qubit >= 0]
        if any(qubit in above for qubit in pair):
            for qubit in pair:
                above.setdefault(qubit, qubit)
            above[root(pair[0])] = root(pair[-1])
    parts: dict[int, list[tuple[int, str]]] = {}
    for qubit, letter in string:
        parts.setdefault(root(qubit), []).append((qubit, letter))
    return [tuple(part) for part in parts.values()]


def cone_union(pair_blocks: Sequence[tuple[int, int]], terms: Sequence[PauliString]) -> tuple[list[int], list[int]]:
    """Return the numbers of the blocks in the union of all strings' cones, and the qubits of the union."""
    qubits = {qubit for string in terms for qubit, _ in string}
    numbers = []
    for number in range(len(pair_blocks) - 1, -1, -1):
        if qubits & set(pair_blocks[number]):
            numbers.append(number)
            qubits |= {qubit for qubit in pair_blocks[number] if qubit >= 0}
    return numbers[::-1], sorted(qubits)


def _waiting(string: PauliString, blocks: Sequence[ChannelBlock]) -> dict[int, deque[int]]:
    """Return the numbers of the cone's blocks on each qubit, the latest first."""
    waiting: dict[int, deque[int]] = defaultdict(deque, {qubit: deque() for qubit, _ in string})
    for number in range(len(blocks) - 1, -1, -1):
        pair = [qubit for qubit in blocks[number].qubits if qubit >= 0]
        if any(qubit in waiting for qubit in pair):
            for qubit in pair:
                waiting[qubit].append(number)
    return waiting


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


class FactoredStrings:
    """Strings (T) as products of factors (T'), each with a light cone of its own."""

    def __init__(
        self,
        terms: Sequence[PauliString],
        blocks: Sequence[ChannelBlock],
        parts: Sequence[PauliString],
        device: torch.device,
    ) -> None:
        places_of = {part: i for i, part in enumerate(parts)}
        index = [[places_of[part] for part in factors(string, blocks)] for string in terms]
        most = max(map(len, index), default=1)
        padded = np.array([row + [len(parts)] * (most - len(row)) for row in index], dtype=np.int64).reshape(-1, most)
        self._plain = most == 1 and np.array_equal(padded[:, 0], np.arange(len(parts)))
        self._index = torch.as_tensor(padded, device=device)

    def values(self, by_factor: torch.Tensor) -> torch.Tensor:
        """Return values (T,B) of the strings from those (T',B) of their factors."""
        if self._plain:
            return by_factor
        unit = by_factor.new_ones(1, by_factor.shape[1])
        values = torch.cat([by_factor, unit]).index_select(0, self._index.flatten()).view(*self._index.shape, -1)
        return values.prod(dim=1)

    def bounds(self, by_factor: np.ndarray) -> np.ndarray:
        """Return how far strings (T,) can be off from how far their factors (T',) can."""
        within = np.append(1 + by_factor, 1.0)[self._index.cpu().numpy()]  # no factor exceeds 1
        return within.prod(axis=1) - 1
