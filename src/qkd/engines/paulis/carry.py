"""Light cones of one shape, carried backward together, and the encoding of data with which they are contracted.

The first channels of each qubit act on one qubit, so each row contributes a short vector. They prepare the Bloch vector
r = M f from |0>, with a constant matrix M (4,d) and d features f of the row. A qubit without data has d = 1, f = (1).
A qubit with a single angle t has d = 3 and f = (1, cos t, sin t). Any other qubit has d = 4 and f = r. M is part of the
circuit, so a row contributes d numbers for each qubit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.circuit import Parameter

from qkd.engines.chains import TransferChains
from qkd.engines.expressions import Expressions
from qkd.engines.gates import NUM_HARMONICS
from qkd.engines.paulis.channels import LETTERS, Channel, constant
from qkd.engines.paulis.cones import Cone, Move, joined

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


ROW = -2
"""The name of the axis of rows; qubits or places have the names 0, 1, ..."""
Kind = tuple[bool, bool, tuple[int, int]]
"""The shape of the matrices of one table: one per row or not, a new or missing second place, sizes after the move."""


class Tables:
    """The parts of the blocks' matrices that moves of each kind need.

    Args:
        varying: Whether rows have matrices of their own, for each block.
    """

    def __init__(self, varying: Sequence[bool]) -> None:
        self._varying = varying
        self._place = [sum(own == kind for own in varying[:number]) for number, kind in enumerate(varying)]
        self._entries: dict[Kind, dict[tuple[int, bool], int]] = {}

    def entry(self, number: int, flip: bool, move: Move) -> tuple[Kind, int]:
        """Return the kind of a block's matrix in a move, and its position in the table of that kind."""
        kind = (self._varying[number], move.grows or move.second < 0, move.sizes)
        entries = self._entries.setdefault(kind, {})
        return kind, entries.setdefault((self._place[number], flip), len(entries))

    def __call__(self, shared: torch.Tensor, own: torch.Tensor) -> dict[Kind, torch.Tensor]:
        """Return the tables (M,k,k') or, per row, (M,B,k,k') from matrices (N,1,16,16) and (N',B,16,16).

        They are transposed: from the k' coefficients after a block in time to the k before it.
        """
        tables = {}
        for kind, entries in self._entries.items():
            varying, alone, (first, second) = kind
            numbers = torch.tensor([number for number, _ in entries], device=shared.device)
            flips = torch.tensor([flip for _, flip in entries], device=shared.device)
            source = (own if varying else shared).index_select(0, numbers).unflatten(-2, (4, 4)).unflatten(-1, (4, 4))
            plain = source[:, :, :, : 1 if alone else 4, :first, :second]
            if flips.any():
                turned = source.permute(0, 1, 3, 2, 5, 4)[:, :, :, : 1 if alone else 4, :first, :second]
                plain = torch.where(flips.view(-1, 1, 1, 1, 1, 1), turned, plain)
            table = plain.flatten(4).flatten(2, 3).mT.contiguous()
            tables[kind] = table if varying else table[:, 0]
        return tables


class Stack:
    """G cones of one shape.

    Attributes:
        bytes: The approximate size of the tensors that one cone keeps for the backward pass.
        row_bytes: The approximate size of the additional tensors for each row.
    """

    def __init__(
        self, cones: Sequence[Cone], tables: Tables, row: Mapping[int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        first = cones[0]
        starts = []
        for cone in cones:
            start = np.ones(1)
            for _, letter in cone.string:
                start = np.kron(start, np.eye(4)[LETTERS.index(letter)])
            starts.append(start)
        self._start = torch.as_tensor(np.stack(starts), dtype=dtype, device=device)
        self._first = len(first.string)
        self._moves: list[tuple[Move, Kind, torch.Tensor]] = []
        for number, move in enumerate(first.moves):
            entries = [tables.entry(*cone.blocks[number], move) for cone in cones]
            at = torch.tensor([at for _, at in entries], device=device)
            self._moves.append((move, entries[0][0], at))
        rowwise = np.maximum.accumulate([kind[0] for _, kind, _ in self._moves] or [False])
        sizes = 2 * dtype.itemsize * np.array(first.counts or [0])
        self.bytes = int(sizes[~rowwise].sum())
        self.row_bytes = int(sizes[rowwise].sum()) + 4 * dtype.itemsize * math.isqrt(first.counts[-1])
        self._rows = torch.tensor([[row[qubit] for qubit in cone.qubits] for cone in cones], device=device)

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, tables: Mapping[Kind, torch.Tensor], features: torch.Tensor, members: slice) -> torch.Tensor:
        """Return some members' expectation values (G',B) from the moves' tables and features (n,B,4)."""
        state = Named(self._start[members], dict.fromkeys(range(self._first), 4))
        for move, kind, at in self._moves:
            axes = [move.first] if move.grows or move.second < 0 else [move.first, move.second]
            after = {
                place: size for place, size in zip((move.first, move.second), move.sizes, strict=True) if place >= 0
            }
            state.apply(tables[kind].index_select(0, at[members]), axes, after)
        return _contract(state, self._rows[members], features)


def _contract(state: Named, rows: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Contract coefficients with the features, at ``rows`` (G,w), of their places: (G,B)."""
    rowwise = ROW in state.sizes
    if rowwise:
        state.to_front([ROW])
    places = [place for place in state.sizes if place != ROW and state.sizes[place] > 1]
    parts = [features.index_select(0, rows[:, place])[..., : state.sizes[place]] for place in places]
    parts += [features.new_ones(1, 1, 1).expand(len(rows), features.shape[1], 1)] * (2 - len(parts))
    half = (len(parts) + 1) // 2
    left, right = product(parts[:half]), product(parts[half:])
    if rowwise:
        table = state.values.reshape(*left.shape, -1)
        return ((table @ right.unsqueeze(-1)).squeeze(-1) * left).sum(-1)
    table = state.values.reshape(len(left), left.shape[-1], -1)
    return (torch.bmm(left, table) * right).sum(-1)


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
