"""A batch of tensors with named axes, and the application of small matrices to some axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

ROW = -2
"""The name of the axis of rows; qubits or places have the names 0, 1, ..."""


class Named:
    """Values (G, ...) whose other axes have the names and lengths ``sizes``, in order."""

    def __init__(self, values: torch.Tensor, sizes: Mapping[int, int]) -> None:
        self.values, self.sizes = values, dict(sizes)

    def to_front(self, names: Sequence[int]) -> None:
        """Move axes to the front."""
        order = [*names, *(name for name in self.sizes if name not in names)]
        now = list(self.sizes)
        if order != now:
            whole = self.values.reshape(-1, *self.sizes.values())
            self.values = whole.permute(0, *(1 + now.index(name) for name in order))
            self.sizes = {name: self.sizes[name] for name in order}

    def apply(self, matrix: torch.Tensor, axes: Sequence[int], after: Mapping[int, int]) -> None:
        """Apply matrices (G,k,k'), or (G,B,k,k') one per row, to ``axes``; the result has the axes ``after``."""
        rowwise = matrix.dim() == 4
        lead = [ROW] if rowwise and ROW in self.sizes else []
        self.to_front([*lead, *axes])
        count, before = len(matrix), matrix.shape[-1]
        if lead:
            values = matrix @ self.values.reshape(count, matrix.shape[1], before, -1)
        else:
            values = torch.bmm(matrix.reshape(count, -1, before), self.values.reshape(count, before, -1))
        gone = {*axes, *lead}
        rest = {name: size for name, size in self.sizes.items() if name not in gone}
        row = {ROW: matrix.shape[1]} if rowwise else {}
        self.values, self.sizes = values, {**row, **after, **rest}


def product(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the Kronecker products (...,d1 d2 ...) of vectors (...,d), row by row."""
    result = parts[0]
    for part in parts[1:]:
        result = (result.unsqueeze(-1) * part.unsqueeze(-2)).flatten(-2)
    return result
