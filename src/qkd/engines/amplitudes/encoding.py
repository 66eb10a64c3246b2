"""How the data enters: each qubit's own first gates, applied to one qubit at a time.

Single-qubit gates that act on a qubit before anything else cost nothing on a state of one qubit. They are
taken out of the circuit up to the last one whose angle differs from row to row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qkd.engines.amplitudes.blocks import chain
from qkd.engines.gates import Atom, constant, waves


def split(atoms: Sequence[Atom], batched: Sequence[bool], qubits: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Return the atoms (by number) that encode data on each of the qubits, and those that remain."""
    leading: list[list[int]] = []
    for qubit in qubits:
        run: list[int] = []
        for i, atom in enumerate(atoms):
            if qubit in atom.qubits:
                if len(atom.qubits) > 1:
                    break
                run.append(i)
        while run and not batched[run[-1]]:
            run.pop()
        leading.append(run)
    taken = {i for run in leading for i in run}
    return leading, [i for i in range(len(atoms)) if i not in taken]


class Encoding:
    """The qubits' first states as functions of the angles of the encoding gates.

    Args:
        runs: for each qubit its encoding gates in order.
        dtype: complex dtype.
        device: where the states live.
    """

    def __init__(self, runs: Sequence[Sequence[Atom]], dtype: torch.dtype, device: torch.device) -> None:
        chains = [chain([(atom.angle, atom.terms) for atom in run]) for run in runs]
        self._rounds, self._qubits = max([1, *map(len, chains)]), len(chains)
        identity = (0.0, constant(np.eye(2)))
        padded = [links + [identity] * (self._rounds - len(links)) for links in chains]
        entries = [run[r] for r in range(self._rounds) for run in padded]
        self.angles = [0.0 if angle is None else angle for angle, _ in entries]
        """What the angles (E,B) of a call are."""
        terms = np.stack([terms for _, terms in entries]) if entries else np.zeros((0, 5, 2, 2))
        self._used = tuple(np.flatnonzero(terms.any(axis=(0, 2, 3))).tolist())
        terms = terms[:, self._used].transpose(0, 2, 3, 1).reshape(len(entries), 4, -1)
        self._terms = torch.from_numpy(terms).to(device, dtype)  # (E,4,F)

    def __call__(self, angles: torch.Tensor) -> torch.Tensor:
        """Return the states (n,2,B) at angles (E,B)."""
        table = waves(angles, self._used).transpose(1, 2).to(self._terms)  # (E,F,B)
        matrices = torch.bmm(self._terms, table).view(self._rounds, self._qubits, 2, 2, -1)
        state = matrices[0, :, :, 0]  # of |0>
        for matrix in matrices[1:]:
            state = (matrix * state[:, None]).sum(2)
        return state
