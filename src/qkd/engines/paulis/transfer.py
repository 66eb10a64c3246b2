"""The Pauli transfer matrices of fused channels, built from all angles in a few torch calls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from qiskit.circuit import Parameter

from qkd.engines import chains
from qkd.engines.expressions import Expressions
from qkd.engines.paulis.channels import Channel


class TransferChains:
    """N products of channels on one or two qubits each, as functions of the parameters.

    Args:
        products: the channels of each product, the first acts first.
        size: d, 4 or 16.
        parameters: the columns of a call's values.
        dtype: real dtype of the matrices.
        device: where they live.
    """

    def __init__(
        self,
        products: Sequence[Sequence[Channel]],
        size: int,
        parameters: Sequence[Parameter],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        links = [[(channel.angle, channel.terms) for channel in chain] for chain in products]
        self._chains = chains.Chains(links, size, dtype, device)
        self._expressions = Expressions(self._chains.angles, parameters)

    def products(self, values: torch.Tensor) -> torch.Tensor:
        """Return each product's matrix (N,R,d,d) at parameter values (R,P)."""
        return self._chains.products(self._expressions(values))

    def applied(self, values: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """Return what the products make of a vector (d,): (N,R,d)."""
        return self._chains.applied(self._expressions(values), vector)
