"""Many products of small matrices at once, each factor a sum of waves of one angle, in a few torch calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from qiskit.circuit import ParameterExpression
from torch.autograd.function import once_differentiable

from qkd.engines.gates import WAVES, waves

Link = tuple[ParameterExpression | None, np.ndarray]
"""A factor: its angle t, or None, and A_f (5,d,d) of ``sum_f w_f(t) A_f``; a constant has only the first."""


class Chains:
    """N products of at most L factors ``sum_f w_f(t) A_f`` of size d, padded with identities to one length.

    ``angles`` says what the G angles of a call are, one for each factor that has one.

    Args:
        chains: the factors of each product, the first acts first.
        size: d.
        dtype: of the matrices, real or complex.
        device: where they live.
    """

    def __init__(
        self, chains: Sequence[Sequence[Link]], size: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        length = max(map(len, chains), default=1)
        complex_matrices = any(np.iscomplexobj(terms) for chain in chains for _, terms in chain)
        most = max((len(own) for chain in chains for _, own in chain), default=WAVES)
        terms = np.zeros((length, len(chains), most, size, size), dtype=complex if complex_matrices else float)
        terms[:, :, 0] = np.eye(size)
        place = np.zeros((length, len(chains)), dtype=np.int64)
        self.angles: list[ParameterExpression] = []
        for n, chain in enumerate(chains):
            for s, (angle, own) in enumerate(chain):
                terms[s, n] = 0
                terms[s, n, : len(own)] = own
                if angle is not None:
                    place[s, n] = len(self.angles)  # a constant may read any angle: its waves have no matrices
                    self.angles.append(angle)
        self._used = [f for f in range(most) if f == 0 or terms[:, :, f].any()] if self.angles else [0]
        flat = terms[:, :, self._used].reshape(length, len(chains), len(self._used), size * size)
        self._terms = torch.as_tensor(flat, dtype=dtype, device=device)
        self._place = torch.as_tensor(place.reshape(-1), device=device)
        self._shape = (length, len(chains), size)

    def factors(self, angles: torch.Tensor) -> torch.Tensor:
        """Return all factors (L,N,R,d,d) at angles (R,G)."""
        length, count, size = self._shape
        if not self.angles:  # one number, which the constants' only wave does not look at
            angles = angles.new_zeros(len(angles), 1)
        table = waves(angles, self._used).to(self._terms).index_select(1, self._place)  # (R,L N,F)
        product = table.view(len(angles), length, count, len(self._used)).permute(1, 2, 0, 3) @ self._terms
        return product.view(length, count, len(angles), size, size)

    def products(self, angles: torch.Tensor) -> torch.Tensor:
        """Return each chain's matrix (N,R,d,d)."""
        return product(self.factors(angles))

    def applied(self, angles: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """Return what the chains make of a vector (d,): (N,R,d)."""
        factors = self.factors(angles)
        vectors = vector.expand(*factors.shape[1:3], -1).unsqueeze(-1)
        for factor in factors:
            vectors = factor @ vectors
        return vectors.squeeze(-1)


def product(factors: torch.Tensor) -> torch.Tensor:
    """Return the matrix products (...,d,d) of factors (L,...,d,d), the first acts first."""
    return _Product.apply(factors) if len(factors) > 1 else factors[0]


class _Product(torch.autograd.Function):
    """A product and its derivative: one batched product a factor there, one back, and one for all derivatives."""

    @staticmethod
    def forward(ctx: Any, factors: torch.Tensor) -> torch.Tensor:
        """Return the products."""
        flat = factors.reshape(len(factors), -1, *factors.shape[-2:])
        partial = [flat[0]]
        for factor in flat[1:].unbind(0):
            partial.append(torch.bmm(factor, partial[-1]))
        ctx.save_for_backward(flat, *partial[:-1])
        return partial[-1].view(factors.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the factors."""
        flat, *before = ctx.saved_tensors
        after = [grad.reshape(flat.shape[1:])]
        for adjoint in flat[1:].mH.resolve_conj().unbind(0)[::-1]:
            after.append(torch.bmm(adjoint, after[-1]))
        left, right = torch.cat(after[-2::-1]), torch.cat(before)
        return torch.cat([after[-1], torch.bmm(left, right.mH)]).view(-1, *grad.shape)
