"""Everything of a light cone's arithmetic that depends on parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from qiskit.circuit import Parameter

from qkd.engines.paulis.bloch import Features
from qkd.engines.paulis.channels import Channel
from qkd.engines.paulis.transfer import TransferChains


class Matrices:
    """Blocks' matrices and encoded qubits' features as functions of parameter values.

    Args:
        common: the channels of the blocks that all rows share.
        own: the channels of the others.
        leads: the encoding channels of the qubits.
        shared: the parameters of all rows.
        both: those of the rows, then those of all rows.
        dtype: real dtype.
        device: where they live.
    """

    def __init__(
        self,
        common: Sequence[Sequence[Channel]],
        own: Sequence[Sequence[Channel]],
        leads: Sequence[Sequence[Channel]],
        shared: Sequence[Parameter],
        both: Sequence[Parameter],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.shared = TransferChains(common, 16, shared, dtype, device).products
        self._own = TransferChains(own, 16, both, dtype, device)
        self._features = Features(leads, both, dtype, device)

    def rows(self, batched: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows' own matrices (N',B,16,16) and features (n,B,4) at (B,A') and (1 or B,P')."""
        values = torch.cat([batched, shared.expand(len(batched), -1)], dim=1)
        return self._own.products(values), self._features(values)

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the shared matrices (N,1 or B,16,16), the rows' own and the features."""
        return self.shared(shared), *self.rows(batched, shared)
