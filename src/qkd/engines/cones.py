"""Where each observable looks: channels fused into pair blocks, and the past light cone of every Pauli string.

Cones of one shape (the same blocks between the same places) are carried back together, as one stack: on a line of
qubits nearly all of them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qkd.engines.channels import Channel, multiply

PauliString = tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Block:
    """Channels on at most two qubits, in the order in which they happen."""

    qubits: tuple[int, ...]
    channels: tuple[Channel, ...]


@dataclass(frozen=True)
class Move:
    """One block of a cone: a matrix on two places, of which the second may be new to the cone.

    first, second: places, numbered in order of appearance; second is -1 for a block on one qubit.
    grows: whether the second place is new, so that only the identity is there yet.
    """

    first: int
    second: int
    grows: bool


@dataclass(frozen=True)
class Cone:
    """The past light cone of a Pauli string.

    qubits: the qubit at each place.
    start: how many places the string itself has.
    moves: what is done, the latest block first.
    blocks: for each move the block's number and whether its qubits are taken in reverse order.
    """

    string: PauliString
    qubits: tuple[int, ...]
    start: int
    moves: tuple[Move, ...]
    blocks: tuple[tuple[int, bool], ...]

    @property
    def shape(self) -> tuple[int, tuple[Move, ...]]:
        """What cones that can be stacked have in common."""
        return self.start, self.moves


def split_lead(found: Sequence[Channel], num_qubits: int) -> tuple[list[list[Channel]], list[Channel]]:
    """Split channels into those before each qubit's first two-qubit one (per qubit) and the others.

    The former keep |0...0> a product of Bloch vectors.
    """
    lead: list[list[Channel]] = [[] for _ in range(num_qubits)]
    entangled: set[int] = set()
    rest = []
    for channel in found:
        if len(channel.qubits) == 1 and channel.qubits[0] not in entangled:
            chain = lead[channel.qubits[0]]
            joined = multiply(channel, chain[-1]) if chain else None
            if joined is None:
                chain.append(channel)
            else:
                chain[-1] = joined
        else:
            rest.append(channel)
            entangled |= set(channel.qubits)
    return lead, rest


def fuse(found: Sequence[Channel]) -> list[Block]:
    """Return channels as blocks on pairs, each as early as its qubits allow."""
    qubits: list[tuple[int, ...]] = []
    inside: list[list[Channel]] = []
    latest: dict[int, int] = {}
    for channel in found:
        index = max((latest.get(q, -1) for q in channel.qubits), default=-1)
        union = tuple(dict.fromkeys((*qubits[index], *channel.qubits))) if index >= 0 else ()
        if index >= 0 and len(union) <= 2:
            qubits[index] = union
        else:
            index = len(qubits)
            qubits.append(channel.qubits)
            inside.append([])
        inside[index].append(channel)
        latest.update(dict.fromkeys(channel.qubits, index))
    return [Block(pair, tuple(chain)) for pair, chain in zip(qubits, inside, strict=True)]


def cone(string: PauliString, blocks: Sequence[Block]) -> Cone:
    """Return the cone of ``string``: going back in time, every block that touches it."""
    place: dict[int, int] = {qubit: i for i, (qubit, _) in enumerate(string)}
    moves, numbers = [], []
    for number in range(len(blocks) - 1, -1, -1):
        held = [qubit for qubit in blocks[number].qubits if qubit in place]
        if not held:
            continue
        pair = blocks[number].qubits
        if len(pair) == 1:
            moves.append(Move(place[pair[0]], -1, False))
            numbers.append((number, False))
            continue
        # a new qubit comes second; two known ones in order of place, so that mirror images have one shape
        first = held[0] if len(held) == 1 else min(held, key=place.__getitem__)
        second = pair[1] if pair[0] == first else pair[0]
        grows = second not in place
        place.setdefault(second, len(place))
        moves.append(Move(place[first], place[second], grows))
        numbers.append((number, pair[0] != first))
    return Cone(string, tuple(place), len(string), tuple(moves), tuple(numbers))


def stacks(cones: Sequence[Cone]) -> list[list[int]]:
    """Return the numbers of cones that have one shape, together."""
    by_shape: dict[object, list[int]] = {}
    for number, one in enumerate(cones):
        by_shape.setdefault(one.shape, []).append(number)
    return list(by_shape.values())


def operations(found: Sequence[Cone]) -> float:
    """Return about how many multiply-adds it takes to carry cones back, for one set of weights."""
    total = 0.0
    for one in found:
        width = one.start
        for move in one.moves:
            width += move.grows
            total += 4.0**width * (4 if move.grows else 16)
    return total
