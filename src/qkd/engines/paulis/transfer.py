"""The Pauli transfer matrices of fused channels, built from all angles in a few torch calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from qiskit.circuit import Parameter, ParameterExpression

from qkd.engines.expressions import Expressions
from qkd.engines.gates import WAVES, waves
from qkd.engines.paulis.channels import Channel, constant


class Chains:
    """N products of channels ``sum_f w_f(t) T_f`` on one or two qubits each, padded with identities to one length.

    Args:
        chains: the channels of each product, the first acts first.
        size: d, 4 or 16.
        parameters: the columns of a call's values.
        dtype: real dtype of the matrices.
        device: where they live.
    """

    def __init__(
        self,
        chains: Sequence[Sequence[Channel]],
        size: int,
        parameters: Sequence[Parameter],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        length = max(map(len, chains), default=1)
        terms = np.zeros((length, len(chains), WAVES, size, size))
        terms[:] = constant(np.eye(size))
        place = np.zeros((length, len(chains)), dtype=np.int64)
        angles: list[ParameterExpression] = []
        for n, chain in enumerate(chains):
            for s, channel in enumerate(chain):
                terms[s, n] = channel.terms
                if channel.angle is not None:
                    place[s, n] = len(angles)  # a constant channel may read any angle: its waves are zeros
                    angles.append(channel.angle)
        self._expressions = Expressions(angles or [0.0], parameters)
        self._used = [f for f in range(WAVES) if f == 0 or terms[:, :, f].any()]
        self._terms = torch.as_tensor(terms[:, :, self._used], dtype=dtype, device=device)
        self._place = torch.as_tensor(place, device=device)

    def _factors(self, values: torch.Tensor) -> torch.Tensor:
        """Return all factors (L,N,R,d,d) at parameter values (R,P)."""
        table = waves(self._expressions(values), self._used).to(self._terms)[:, self._place]  # (R,L,N,F)
        length, count, used, size, _ = self._terms.shape
        product = table.permute(1, 2, 0, 3) @ self._terms.view(length, count, used, size * size)
        return product.view(length, count, len(values), size, size)

    def products(self, values: torch.Tensor) -> torch.Tensor:
        """Return each chain's matrix (N,R,d,d)."""
        factors = self._factors(values)
        while len(factors) > 1:
            pairs = factors[1::2] @ factors[: len(factors) // 2 * 2 : 2]
            factors = torch.cat([pairs, factors[-1:]]) if len(factors) % 2 else pairs
        return factors[0]

    def applied(self, values: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """Return what the chains make of a vector (d,): (N,R,d)."""
        factors = self._factors(values)
        vectors = vector.expand(*factors.shape[1:3], -1).unsqueeze(-1)
        for factor in factors:
            vectors = factor @ vectors
        return vectors.squeeze(-1)
