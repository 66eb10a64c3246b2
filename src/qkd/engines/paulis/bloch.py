"""Encoding of data: the first channels of each qubit act on one qubit, so each row contributes a short vector.

The channels prepare the Bloch vector r = M f from |0>, with a constant matrix M (4,d) and d features f of the row. A
qubit without data has d = 1 and f = (1). A qubit with a single angle t has d = 3 and f = (1, cos t, sin t). Any other
qubit has d = 4 and f = r. M is part of the circuit, so a row contributes d numbers for each qubit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.circuit import Parameter

from qkd.engines.chains import TransferChains
from qkd.engines.expressions import Expressions
from qkd.engines.gates import NUM_HARMONICS
from qkd.engines.paulis.channels import Channel, constant
from qkd.engines.paulis.cones import joined

_ZERO = np.array([1.0, 0.0, 0.0, 1.0])  # the Bloch vector of |0>, identity first
_SINGLE = (0, 3, 4)  # the harmonics 1, cos t and sin t; a single-qubit channel has no others


@dataclass(frozen=True)
class Encoding:
    """The encoding of data on n qubits.

    Attributes:
        leads: The encoding channels of each qubit.
        sizes: The number d of features of each qubit.
    """

    leads: tuple[tuple[Channel, ...], ...]
    sizes: tuple[int, ...]


def leading_channels(
    channels: Sequence[Channel], num_qubits: int, batched: set[Parameter]
) -> tuple[Encoding, list[Channel]]:
    """Split a circuit into each qubit's encoding channels and the rest, which begins with the matrices M."""
    chains: list[list[int]] = [[] for _ in range(num_qubits)]
    blocked: set[int] = set()
    for number, channel in enumerate(channels):
        if len(channel.qubits) == 1 and channel.qubits[0] not in blocked and len(channel.terms) == NUM_HARMONICS:
            chains[channel.qubits[0]].append(number)
        else:
            blocked |= set(channel.qubits)
    encoding: set[int] = set()
    leads, sizes, first = [], [], []
    for qubit, chain in enumerate(chains):
        while chain and not differs(channels[chain[-1]], batched):
            chain.pop()
        encoding |= set(chain)
        lead = joined([channels[number] for number in chain])
        matrix = np.eye(4)
        if not lead:
            matrix = _ZERO[:, None]
        elif len(lead) == 1:
            matrix = np.stack([lead[0].terms[f] @ _ZERO for f in _SINGLE], axis=1)
        leads.append(tuple(lead))
        sizes.append(matrix.shape[1])
        first.append(Channel((qubit,), constant(np.pad(matrix, ((0, 0), (0, 4 - matrix.shape[1]))))))
    rest = [channel for number, channel in enumerate(channels) if number not in encoding]
    return Encoding(tuple(leads), tuple(sizes)), first + rest


def differs(channel: Channel, batched: set[Parameter]) -> bool:
    """Return whether a channel differs from row to row."""
    return channel.angle is not None and bool(batched & set(channel.angle.parameters))


class Features:
    """The features of encoded qubits as functions of the parameters."""

    def __init__(
        self,
        leads: Sequence[Sequence[Channel]],
        parameters: Sequence[Parameter],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._dtype = dtype
        kinds = [min(len(lead), 2) for lead in leads]
        single = [lead[0].angle for lead, kind in zip(leads, kinds, strict=True) if kind == 1]
        self._angles = Expressions([angle for angle in single if angle is not None], parameters)
        self._chains = TransferChains([lead for lead in leads if len(lead) > 1], 4, parameters, dtype, device)
        by_kind = [qubit for kind in range(3) for qubit, own in enumerate(kinds) if own == kind]
        self._plain = kinds.count(0)
        self._order = torch.as_tensor(np.argsort(by_kind), dtype=torch.int64, device=device)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return features (n,B,4), padded with zeros, at parameter values (B,P)."""
        angles = self._angles(values).T.to(self._dtype)
        ones = torch.ones_like(angles)
        plain = ones.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(self._plain, len(values), 4)
        single = torch.stack([ones, angles.cos(), angles.sin(), torch.zeros_like(ones)], dim=-1)
        zero = torch.as_tensor(_ZERO, dtype=self._dtype, device=values.device)
        return torch.cat([plain, single, self._chains.applied(values, zero)]).index_select(0, self._order)


class Matrices:
    """The matrices of blocks and the features of encoded qubits as functions of parameter values.

    Args:
        common: The channels of the blocks that all rows share.
        both: The A' batched parameters, then the shared ones.
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
        """Return the shared matrices (N,1 or B,16,16), the rows' own matrices and the features."""
        return self.shared(shared), *self.rows(batched, shared)
