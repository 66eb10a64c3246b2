"""How data enters: each qubit's own first channels, a vector per row; what does not depend on the row stays behind.

The Bloch vector that they make of |0> is r = M f with a constant matrix M (4,d) and d features f of the row: a qubit
that no data touches has d = 1 and f = (1), one that a single angle t touches has d = 3 and f = (1, cos t, sin t), any
other d = 4 and f = r. M belongs to the circuit, so that d numbers per qubit are all that a row brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.circuit import Parameter

from qkd.engines.expressions import Expressions
from qkd.engines.gates import WAVES
from qkd.engines.paulis.channels import Channel, constant
from qkd.engines.paulis.cones import joined
from qkd.engines.paulis.transfer import TransferChains

_ZERO = np.array([1.0, 0.0, 0.0, 1.0])
_SINGLE = (0, 3, 4)  # the waves 1, cos t and sin t; a single-qubit channel has no others


@dataclass(frozen=True)
class Encoding:
    """How data enters n qubits.

    leads: each qubit's encoding channels.
    sizes: each qubit's number of features d.
    """

    leads: tuple[tuple[Channel, ...], ...]
    sizes: tuple[int, ...]


def leading_channels(
    channels: Sequence[Channel], num_qubits: int, batched: set[Parameter]
) -> tuple[Encoding, list[Channel]]:
    """Split a circuit into each qubit's encoding channels and the rest, which begins with the matrices M.

    Args:
        channels: the circuit's channels.
        num_qubits: n.
        batched: parameters that differ from row to row.
    """
    chains: list[list[int]] = [[] for _ in range(num_qubits)]
    met: set[int] = set()
    for number, channel in enumerate(channels):
        if len(channel.qubits) == 1 and channel.qubits[0] not in met and len(channel.terms) == WAVES:
            chains[channel.qubits[0]].append(number)
        else:
            met |= set(channel.qubits)
    taken: set[int] = set()
    leads, sizes, first = [], [], []
    for qubit, chain in enumerate(chains):
        while chain and not differs(channels[chain[-1]], batched):
            chain.pop()
        taken |= set(chain)
        lead = joined([channels[number] for number in chain])
        matrix = np.eye(4)
        if not lead:
            matrix = _ZERO[:, None]
        elif len(lead) == 1:
            matrix = np.stack([lead[0].terms[wave] @ _ZERO for wave in _SINGLE], axis=1)
        leads.append(tuple(lead))
        sizes.append(matrix.shape[1])
        first.append(Channel((qubit,), constant(np.pad(matrix, ((0, 0), (0, 4 - matrix.shape[1]))))))
    rest = [channel for number, channel in enumerate(channels) if number not in taken]
    return Encoding(tuple(leads), tuple(sizes)), first + rest


def differs(channel: Channel, batched: set[Parameter]) -> bool:
    """Return whether rows have channels of their own."""
    return channel.angle is not None and bool(batched & set(channel.angle.parameters))


class Features:
    """The features of encoded qubits as functions of the parameters.

    Args:
        leads: the qubits' encoding channels, as ``leading_channels`` gives them.
        parameters: the columns of a call's values.
        dtype: real dtype.
        device: where they live.
    """

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
        """Return features (n,B,4), zeros behind the first d, at parameter values (B,P)."""
        angles = self._angles(values).T.to(self._dtype)
        ones = torch.ones_like(angles)
        plain = ones.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(self._plain, len(values), 4)
        single = torch.stack([ones, angles.cos(), angles.sin(), torch.zeros_like(ones)], dim=-1)
        zero = torch.as_tensor(_ZERO, dtype=self._dtype, device=values.device)
        return torch.cat([plain, single, self._chains.applied(values, zero)]).index_select(0, self._order)
