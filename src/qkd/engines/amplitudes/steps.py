"""The steps of a fused circuit on the pieces of a state, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Move = tuple[np.ndarray | None, tuple[int, ...]]


@dataclass(frozen=True)
class Join:
    """The product of several pieces, of which the first is most significant and gives the name."""

    parts: tuple[int, ...]


@dataclass(frozen=True)
class DenseBlock:
    """Gates on the neighboring qubits ``window`` of a piece of 2^before x 2^k x 2^after amplitudes."""

    piece: int
    gates: tuple[int, ...]
    window: tuple[int, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Phase:
    """Diagonal gates on ``axes`` of a piece of ``width`` qubits; ``rowwise`` if their angles differ from row to row."""

    piece: int
    gates: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    width: int
    rowwise: bool


@dataclass(frozen=True)
class Permute:
    """A permutation of the basis states of a piece.

    A move ``(image, bits)`` replaces the value i of the bits (least significant first) by image[i]. A move
    ``(None, bits)`` makes bit bits[j] the new bit j.
    """

    piece: int
    moves: tuple[Move, ...]
    width: int

    def source(self) -> np.ndarray:
        """Return the permutation (2^m,): the new amplitude i is the old amplitude ``source[i]``."""
        source = states = np.arange(2**self.width)
        for image, bits in self.moves:
            if image is None:
                source = source[_scattered(states, bits)]
            else:
                rest = states & ~sum(1 << bit for bit in bits)
                source = source[rest | _scattered(np.argsort(image)[gathered(states, bits)], bits)]
        return source


def gathered(states: np.ndarray, bits: Sequence[int]) -> np.ndarray:
    """Return numbers whose bit j is bit ``bits[j]`` of the states."""
    return sum((((states >> bit) & 1) << j for j, bit in enumerate(bits)), np.zeros_like(states))


def _scattered(states: np.ndarray, bits: Sequence[int]) -> np.ndarray:
    return sum((((states >> j) & 1) << bit for j, bit in enumerate(bits)), np.zeros_like(states))


Step = Join | DenseBlock | Phase | Permute


@dataclass(frozen=True)
class FusedCircuit:
    """The steps that take a product state to the final state.

    Attributes:
        steps: The steps in order.
        pieces: The qubits of each final piece, most significant first, by the piece's name.
        amplitudes: The number of amplitudes of a row in all states together, which a backward sweep keeps.
    """

    steps: tuple[Step, ...]
    pieces: dict[int, tuple[int, ...]]
    amplitudes: int
