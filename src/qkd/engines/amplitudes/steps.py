"""The steps of a fused circuit: what can be done to the pieces of a state, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Move = tuple[np.ndarray | None, tuple[int, ...]]


@dataclass(frozen=True)
class Join:
    """Pieces ``parts`` become one, the first most significant, under the name of the first."""

    parts: tuple[int, ...]


@dataclass(frozen=True)
class DenseBlock:
    """Atoms act on neighbouring axes of a piece: 2^before x 2^k x 2^after amplitudes; ``window`` are their qubits."""

    piece: int
    atoms: tuple[int, ...]
    window: tuple[int, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Phase:
    """Diagonal atoms, each on the axes of the piece that belong to its qubits; ``rowwise`` if rows differ."""

    piece: int
    atoms: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    width: int
    rowwise: bool


@dataclass(frozen=True)
class Permute:
    """Basis states of a piece change places.

    A move is ``(image, bits)``: where the bits (least significant first) read i, they read image[i] afterwards;
    or ``(None, bits)``: bit j afterwards is bit bits[j] before.
    """

    piece: int
    moves: tuple[Move, ...]
    width: int

    def source(self) -> np.ndarray:
        """Return (2^m,): amplitude i becomes what amplitude ``source[i]`` was."""
        source = states = np.arange(2**self.width)
        for image, bits in self.moves:
            if image is None:
                source = source[_scattered(states, bits)]
            else:
                rest = states & ~sum(1 << bit for bit in bits)
                source = source[rest | _scattered(np.argsort(image)[gathered(states, bits)], bits)]
        return source


def gathered(states: np.ndarray, bits: Sequence[int]) -> np.ndarray:
    """Return the numbers whose bit j is bit ``bits[j]`` of the states."""
    return sum((((states >> bit) & 1) << j for j, bit in enumerate(bits)), np.zeros_like(states))


def _scattered(states: np.ndarray, bits: Sequence[int]) -> np.ndarray:
    return sum((((states >> j) & 1) << bit for j, bit in enumerate(bits)), np.zeros_like(states))


Step = Join | DenseBlock | Phase | Permute


@dataclass(frozen=True)
class FusedCircuit:
    """What to do to a product state.

    Args:
        steps: the steps in order.
        pieces: the qubits of each final piece, most significant first, by the piece's name.
        amplitudes: how many amplitudes a row has in all states together, as a sweep back keeps them.
    """

    steps: tuple[Step, ...]
    pieces: dict[int, tuple[int, ...]]
    amplitudes: int
