"""Observables as one table of Pauli strings, gates that move from the circuit into it, and expectation values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.quantum_info import Pauli, SparsePauliOp

from qkd.engines.gates import ElementaryGate
from qkd.engines.program import pauli_terms

_LOW_QUBITS = 12  # signs are stored as two tables, one for the lower 12 qubits and one for the others


@dataclass(frozen=True)
class PauliTable:
    """K observables over T distinct Pauli strings on n qubits.

    Attributes:
        x: Whether string t has an X or Y on qubit q (T,n).
        z: Whether string t has a Z or Y on qubit q (T,n).
        coefficients: The real coefficients (K,T); observable k is sum_t coefficients[k,t] string_t.
    """

    x: np.ndarray
    z: np.ndarray
    coefficients: np.ndarray

    @classmethod
    def from_observables(cls, observables: Sequence[SparsePauliOp]) -> PauliTable:
        """Return the table of K observables."""
        terms, coefficients, constants = pauli_terms(observables)
        if constants.any():  # the identity is a string like the others here
            terms, coefficients = [*terms, ()], torch.column_stack([coefficients, constants])
        x = np.zeros((len(terms), observables[0].num_qubits), dtype=bool)
        z = np.zeros_like(x)
        for t, string in enumerate(terms):
            for qubit, letter in string:
                x[t, qubit], z[t, qubit] = letter in "XY", letter in "YZ"
        return cls(x, z, coefficients.numpy())


def absorb(gates: Sequence[ElementaryGate], table: PauliTable) -> tuple[list[ElementaryGate], PauliTable]:
    """Return the gates that must be simulated, and the observables that belong to them.

    The function goes backward from the measurement. It drops a gate that commutes with every string (outside all past
    light cones, or diagonal before a Z). It moves a gate into the strings if the gate maps products of Z to products of
    Z (CX, SWAP, X, ...). All other gates remain, and they block the gates before them.
    """
    z, coefficients = table.z.copy(), table.coefficients.copy()
    x = table.x
    remaining: list[ElementaryGate] = []
    blocked: set[int] = set()  # qubits of gates that remain
    for gate in reversed(gates):
        on = list(gate.qubits)
        if not blocked & set(on):
            local_x, local_z = x[:, on], z[:, on]
            if _commutes(gate, local_x, local_z):
                continue
            moved = None if local_x.any() else _moved_through(gate, local_z)
            if moved is not None:
                z[:, on] = moved[0]
                coefficients *= moved[1]
                continue
        remaining.append(gate)
        blocked.update(on)
    return remaining[::-1], PauliTable(x, z, coefficients)


def _commutes(gate: ElementaryGate, x: np.ndarray, z: np.ndarray) -> bool:
    if not (x.any() or z.any()):
        return True
    if gate.diagonal:
        return not x.any()
    for string in np.unique(np.concatenate([x, z], axis=1), axis=0):
        pauli = Pauli((string[len(gate.qubits) :], string[: len(gate.qubits)])).to_matrix()
        if not np.allclose(gate.terms @ pauli, pauli @ gate.terms, atol=1e-12):
            return False
    return True


def _moved_through(gate: ElementaryGate, z: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return strings (T,k) and signs (T,) of U^dagger Z^z U for a permutation U, None if they are not strings."""
    image = gate.permutation
    if image is None:
        return None
    k = len(gate.qubits)
    bits = (np.arange(2**k)[:, None] >> np.arange(k)) & 1  # (2^k,k)
    parity = (bits[image] @ z.T.astype(int)) & 1  # (2^k,T): sign of string t on the image of state i
    constant = parity[0]
    moved = (parity[1 << np.arange(k)] ^ constant).T  # (T,k)
    if not np.array_equal((bits @ moved.T + constant) & 1, parity):
        return None
    return moved.astype(bool), 1 - 2 * constant


class Measurement:
    """K observables on the final pieces.

    A string is a product over the pieces. On one piece, ``P = i^y X^x Z^z`` (y the number of Y) has
    ``<P> = Re i^y sum_s (-1)^(z.s) conj(psi[s^x]) psi[s]``: all strings with the same x share the product,
    and their sums are one real matrix product with signs.
    """

    def __init__(
        self, table: PauliTable, pieces: Mapping[int, Sequence[int]], dtype: torch.dtype, device: torch.device
    ) -> None:
        coefficients = torch.from_numpy(table.coefficients.T.copy()).to(device, dtype)  # (T,K)
        # whether each observable is one string
        self._single = torch.equal(coefficients, torch.eye(*coefficients.shape).to(coefficients))
        self._coefficients = coefficients
        self._pieces: list[tuple[int, list[_Flips], torch.Tensor | None]] = []
        measured = [name for name, order in pieces.items() if (table.x | table.z)[:, order].any()]
        for name in measured or list(pieces)[:1]:  # without any, the norm of one piece gives the identity
            order = pieces[name]
            weight = 1 << np.arange(len(order) - 1, -1, -1, dtype=np.int64)
            x, z = table.x[:, order] @ weight, table.z[:, order] @ weight
            strings, index = np.unique(np.stack([x, z], axis=1), axis=0, return_inverse=True)
            index = index.reshape(-1)
            masks = np.array([[a, (a & b).bit_count() % 2] for a, b in strings.tolist()])
            flips, order_of = [], np.zeros(len(strings), dtype=int)
            start = 0
            for mask in np.unique(masks, axis=0):
                chosen = np.flatnonzero((masks == mask).all(axis=1))
                flips.append(_Flips(int(mask[0]), strings[chosen, 1], len(order), dtype, device))
                order_of[chosen] = start + np.arange(len(chosen))
                start += len(chosen)
            place = order_of[index]
            plain = np.array_equal(place, np.arange(start))
            self._pieces.append((name, flips, None if plain else torch.from_numpy(place).to(device)))
        self._names = {name for name, _, _ in self._pieces}

    def values(self, pieces: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
        """Return the values (T',B) of the distinct strings on every measured piece (2^m,B)."""
        return [torch.cat([flip.values(pieces[name]) for flip in flips]) for name, flips, _ in self._pieces]

    def backward(
        self,
        pieces: Mapping[int, torch.Tensor],
        gradients: Sequence[torch.Tensor],
        adjoints: Mapping[int, torch.Tensor],
    ) -> None:
        """Write the adjoint state, dL = Re sum(conj(adjoint) dpsi), of every piece from the gradients of values."""
        for name, adjoint in adjoints.items():
            if name not in self._names:
                adjoint.zero_()
        for (name, flips, _), gradient in zip(self._pieces, gradients, strict=True):
            parts = gradient.split([flip.count for flip in flips])
            flips[0].backward(pieces[name], parts[0], adjoints[name])
            for flip, part in zip(flips[1:], parts[1:], strict=True):
                more = torch.empty_like(adjoints[name])
                flip.backward(pieces[name], part, more)
                adjoints[name].add_(more)

    def combine(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the expectation values (B,K) from ``values``."""
        whole = [v if place is None else v[place] for v, (_, _, place) in zip(values, self._pieces, strict=True)]
        strings = whole[0]
        for local in whole[1:]:
            strings = strings * local
        return strings.T if self._single else strings.T @ self._coefficients


class _Flips:
    """Strings of one piece that flip the same qubits and whose numbers of Y have the same parity."""

    def __init__(self, x: int, z: np.ndarray, width: int, dtype: torch.dtype, device: torch.device) -> None:
        low = min(width, _LOW_QUBITS)
        y = np.array([(x & int(b)).bit_count() for b in z])
        factor = np.array([1, -1, -1, 1])[y % 4]  # i^y = 1, i, -1, -i, followed by Re or -Im
        self._imaginary = bool(y[0] % 2)
        self.count = len(z)
        lower, index = np.unique(z & (2**low - 1), return_inverse=True)
        self._low = torch.from_numpy(_signs(lower, low)).to(device, dtype)  # (T',2^low)
        self._high: torch.Tensor | None = None
        self._index = torch.from_numpy(index.reshape(-1)).to(device)
        plain = width == low and np.array_equal(lower, z) and (factor == 1).all()
        if not plain:
            self._high = torch.from_numpy(_signs(z >> low, width - low) * factor[:, None]).to(device, dtype)
        self._flip = torch.from_numpy(np.arange(2**width) ^ x).to(device) if x else None

    def values(self, state: torch.Tensor) -> torch.Tensor:
        """Return the strings' values (T,B)."""
        if self._flip is None:
            parts = torch.view_as_real(state).flatten(1)  # adds real and imaginary parts last
            return self._summed(parts * parts).view(self.count, -1, 2).sum(-1)
        flipped = torch.view_as_real(state.index_select(0, self._flip))
        plain = torch.view_as_real(state)
        if self._imaginary:
            return self._summed(flipped[..., 0] * plain[..., 1] - flipped[..., 1] * plain[..., 0])
        return self._summed((flipped * plain).sum(-1))

    def _summed(self, terms: torch.Tensor) -> torch.Tensor:
        """Return the signed sums (T,B) of terms (2^m,B)."""
        sums = self._low @ terms.view(-1, self._low.shape[1], terms.shape[-1])  # (2^high,T',B)
        if self._high is None:
            return sums[0]
        return torch.einsum("th,htb->tb", self._high, sums[:, self._index])

    def _spread(self, grad: torch.Tensor) -> torch.Tensor:
        """Return the gradient (2^m,B) of the terms from that of their sums (T,B)."""
        if self._high is None:
            return self._low.T @ grad
        by_sum = torch.zeros(self._high.shape[1], len(self._low), grad.shape[1]).to(grad)
        by_sum.index_add_(1, self._index, self._high.T[:, :, None] * grad)
        return (self._low.T @ by_sum).flatten(0, 1)

    def backward(self, state: torch.Tensor, grad: torch.Tensor, adjoint: torch.Tensor) -> None:
        """Write the adjoint state (2^m,B), dL = Re sum(conj(adjoint) dpsi), from the gradient (T,B) of the values."""
        if self._flip is None:
            weight = self._spread((2 * grad).repeat_interleave(2, dim=1)).view(*state.shape, 2)
            torch.mul(torch.view_as_real(state), weight, out=torch.view_as_real(adjoint))
            return
        weight = self._spread(grad)
        forward = weight.index_select(0, self._flip)
        torch.index_select(state, 0, self._flip, out=adjoint)
        adjoint.mul_(1j * (weight - forward) if self._imaginary else weight + forward)


def _signs(z: np.ndarray, width: int) -> np.ndarray:
    """Return (-1)^(z.s), (T,2^width)."""
    parity = np.zeros((len(z), 2**width), dtype=np.int64)
    states = np.arange(2**width)
    for bit in range(width):
        parity ^= ((z[:, None] >> bit) & 1) & (states >> bit)
    return 1.0 - 2.0 * (parity & 1)
