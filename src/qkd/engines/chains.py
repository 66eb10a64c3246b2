"""Batched products of small matrices, in which each factor is a sum of harmonics of one angle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from qiskit.circuit import Parameter, ParameterExpression
from torch.autograd.function import once_differentiable

from qkd.engines.expressions import Expressions
from qkd.engines.gates import NUM_HARMONICS, harmonics, sines

if TYPE_CHECKING:
    from qkd.engines.paulis.channels import Channel

Link = tuple[ParameterExpression | None, np.ndarray]
"""A factor ``sum_f w_f(t) A_f``: its angle t, or None, and the matrices A_f (5,d,d); a constant has only the first."""
Operations = list[Callable[[], object]]


@dataclass(frozen=True)
class Recorded:
    """Operations between preallocated tensors.

    Attributes:
        results: The matrices (N,d,d) or states that ``forward`` computes.
        mus: The gradients of the same shape from which ``backward`` starts, dL = Re sum(mu dM).
        forward: The operations of the forward pass.
        backward: The operations of the backward pass.
    """

    results: torch.Tensor
    mus: torch.Tensor
    forward: Operations
    backward: Operations


class Chains:
    """N products of at most L factors ``sum_f w_f(t) A_f`` of size d, padded with identities to equal length.

    Args:
        chains: The factors of each product, in the order in which they act.

    Attributes:
        angles: The expressions of the G angles of a call, one for each factor with an angle.
    """

    def __init__(
        self, chains: Sequence[Sequence[Link]], size: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        length = max(map(len, chains), default=1)
        complex_matrices = any(np.iscomplexobj(terms) for chain in chains for _, terms in chain)
        most = max((len(own) for chain in chains for _, own in chain), default=NUM_HARMONICS)
        terms = np.zeros((length, len(chains), most, size, size), dtype=complex if complex_matrices else float)
        terms[:, :, 0] = np.eye(size)
        place = np.zeros((length, len(chains)), dtype=np.int64)
        self.angles: list[ParameterExpression] = []
        for n, chain in enumerate(chains):
            for s, (angle, own) in enumerate(chain):
                terms[s, n] = 0
                terms[s, n, : len(own)] = own
                if angle is not None:
                    place[s, n] = len(self.angles)  # a constant reads angle 0, but its harmonics have no matrices
                    self.angles.append(angle)
        self._used = [f for f in range(most) if f == 0 or terms[:, :, f].any()] if self.angles else [0]
        flat = terms[:, :, self._used].reshape(length, len(chains), len(self._used), size * size)
        self._terms = torch.as_tensor(flat, dtype=dtype, device=device)
        self._place = torch.as_tensor(place.reshape(-1), device=device)
        self._shape = (length, len(chains), size)

    def factors(self, angles: torch.Tensor) -> torch.Tensor:
        """Return all factors (L,N,R,d,d) at angles (R,G)."""
        length, count, size = self._shape
        if not self.angles:  # the only harmonic of a constant does not depend on it
            angles = angles.new_zeros(len(angles), 1)
        table = harmonics(angles, self._used).to(self._terms).index_select(1, self._place)  # (R,L N,F)
        product = table.view(len(angles), length, count, len(self._used)).permute(1, 2, 0, 3) @ self._terms
        return product.view(length, count, len(angles), size, size)

    def record(self, angles: torch.Tensor, by_angles: torch.Tensor) -> Recorded:
        """Return the operations that compute complex products and add to the gradient of the angles.

        Args:
            angles: The tensor (G,), in double precision, that will contain the angles.
            by_angles: The tensor (G,) to which the gradient is added.
        """
        length, count, size = self._shape
        entries, num_used = length * count, len(self._used)
        terms = torch.view_as_real(self._terms).reshape(entries, num_used, -1)
        turns, starts = sines(tuple(self._used), angles.dtype, angles.device)
        own, angle = angles.new_zeros(entries), angles.new_zeros(entries, num_used)
        table = terms.new_zeros(entries, 1, num_used)
        factors, partial_products = (self._terms.new_zeros(*self._shape, size) for _ in range(2))
        adjoints, by_factors = (torch.zeros_like(factors) for _ in range(2))
        partial_products = factors if length == 1 else partial_products
        gather: Operations = [partial(torch.index_select, angles, 0, self._place, out=own)]
        forward: Operations = [
            *(gather if self.angles else []),
            partial(torch.addcmul, starts, own[:, None], turns, out=angle),
            lambda: table.copy_(angle.sin()[:, None]),
            partial(torch.bmm, table, terms, out=torch.view_as_real(factors).view(entries, 1, -1)),
        ]
        backward: Operations = []
        if length > 1:
            forward.append(partial(partial_products[0].copy_, factors[0]))
        for s in range(1, length):
            forward.append(partial(torch.bmm, factors[s], partial_products[s - 1], out=partial_products[s]))
            backward.append(partial(torch.bmm, factors[s].mT, adjoints[s], out=adjoints[s - 1]))
        if length > 1:
            left, right = adjoints[1:].flatten(0, 1), partial_products[:-1].flatten(0, 1).mT
            backward = [*reversed(backward), partial(torch.bmm, left, right, out=by_factors[1:].flatten(0, 1))]
        # Re(mu F) is the product of the real parts minus that of the imaginary parts
        signs = torch.tensor([1.0, -1.0]).to(terms).repeat(size * size)
        down = terms * signs * turns[:, None].to(terms)
        by_harmonics = terms.new_zeros(entries, 1, num_used)
        if not self.angles:
            return Recorded(partial_products[-1], adjoints[-1], forward, [])
        backward += [
            partial(by_factors[0].copy_, adjoints[0]),
            # the row stands left: products of a few rows with one column take six times as long
            partial(torch.bmm, torch.view_as_real(by_factors).view(entries, 1, -1), down.mT, out=by_harmonics),
            lambda: by_angles.index_add_(0, self._place, (angle.cos() * by_harmonics[:, 0]).sum(1)),
        ]
        return Recorded(partial_products[-1], adjoints[-1], forward, backward)

    def products(self, angles: torch.Tensor) -> torch.Tensor:
        """Return the product (N,R,d,d) of each chain at angles (R,G)."""
        return product(self.factors(angles))

    def applied(self, angles: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """Return the products (N,R,d) of each chain with a vector (d,), at angles (R,G)."""
        factors = self.factors(angles)
        vectors = vector.expand(*factors.shape[1:3], -1).unsqueeze(-1)
        for factor in factors:
            vectors = factor @ vectors
        return vectors.squeeze(-1)


class TransferChains:
    """N products of channels on one or two qubits each, as functions of the parameters."""

    def __init__(
        self,
        products: Sequence[Sequence[Channel]],
        size: int,
        parameters: Sequence[Parameter],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        links = [[(channel.angle, channel.terms) for channel in chain] for chain in products]
        self._chains = Chains(links, size, dtype, device)
        self._expressions = Expressions(self._chains.angles, parameters)

    def products(self, values: torch.Tensor) -> torch.Tensor:
        """Return the matrix (N,R,d,d) of each product at parameter values (R,P)."""
        return self._chains.products(self._expressions(values))

    def applied(self, values: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """Return the products (N,R,d) with a vector (d,) at parameter values (R,P)."""
        return self._chains.applied(self._expressions(values), vector)


def product(factors: torch.Tensor) -> torch.Tensor:
    """Return the matrix products (...,d,d) of factors (L,...,d,d), of which the first acts first."""
    return _Product.apply(factors) if len(factors) > 1 else factors[0]


class _Product(torch.autograd.Function):
    """A product and its derivative: two batched products for each factor, and one for all derivatives."""

    @staticmethod
    def forward(ctx: Any, factors: torch.Tensor) -> torch.Tensor:
        flat = factors.reshape(len(factors), -1, *factors.shape[-2:])
        partial = [flat[0]]
        for factor in flat[1:].unbind(0):
            partial.append(torch.bmm(factor, partial[-1]))
        ctx.save_for_backward(flat, *partial[:-1])
        return partial[-1].view(factors.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        flat, *before = ctx.saved_tensors
        after = [grad.reshape(flat.shape[1:])]
        for adjoint in flat[1:].mH.resolve_conj().unbind(0)[::-1]:
            after.append(torch.bmm(adjoint, after[-1]))
        left, right = torch.cat(after[-2::-1]), torch.cat(before)
        return torch.cat([after[-1], torch.bmm(left, right.mH)]).view(-1, *grad.shape)
