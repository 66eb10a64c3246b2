"""The exact engine for shallow circuits of any width, with or without noise.

An observable is carried backwards through the circuit (Heisenberg picture) as real coefficients over the Pauli strings
of its past light cone; a noise channel is one more real matrix. What the data do comes first and on each qubit alone,
so the encoded state is a product of Bloch vectors r = (1, x, y, z): the carried-back coefficients, computed once for a
whole batch, meet every row in one contraction

    <O> = sum_s c_s  prod_q r_q[s_q].

The cost is linear in the number of observables and does not depend on the width of the circuit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel
from torch.utils.checkpoint import checkpoint

from qkd.engines.bloch import Encoding, Features, differs, split
from qkd.engines.carry import Stack, Tables
from qkd.engines.channels import channels
from qkd.engines.cones import Block, Cone, cone, fuse
from qkd.engines.noisy import NoisyEstimator
from qkd.engines.program import check_program
from qkd.engines.strings import PauliString, pauli_terms
from qkd.engines.transfer import Chains
from qkd.errors import QkdError

WIDEST = 11
"""A light cone is kept densely up to the 4^w coefficients of this many qubits."""
_KEPT_BYTES = 2**28  # what of the coefficients is kept for the way back, at most


class LightConeEstimator(NoisyEstimator):
    """Exact expectation values of shallow circuits under local noise, as a Qiskit V2 primitive.

    See ``NoisyEstimator`` for its arguments.
    """

    def compile(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
    ) -> LightConeProgram:
        """Return a program for the K observables; see ``ExactEstimator.compile``.

        Raises:
            QkdError: also where a light cone is too wide.
        """
        check_program(circuit, observables, batched, shared)
        return LightConeProgram(circuit, observables, batched, shared, self.noise_model, self.dtype, self.device)


def past(
    circuit: QuantumCircuit,
    terms: Sequence[PauliString],
    noise: NoiseModel | None,
    batched: Sequence[Parameter] = (),
) -> tuple[Encoding, list[Block], list[Cone]]:
    """Return what encodes the data, the other channels as blocks, and each term's cone."""
    encoding, rest = split(channels(circuit, noise), circuit.num_qubits, set(batched))
    blocks = fuse(rest)
    return encoding, blocks, [cone(string, blocks, encoding.sizes) for string in terms]


class LightConeProgram:
    """A compiled circuit; see ``Program`` for what a call takes and gives."""

    def __init__(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
        noise: NoiseModel | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._device = device
        terms, self._coefficients, self._constants = pauli_terms(observables, dtype, device)
        encoding, blocks, cones = past(circuit, terms, noise, batched)
        self.widths = tuple(len(one.qubits) for one in cones)
        _check_sizes(cones)
        live = sorted({qubit for one in cones for qubit in one.qubits})
        both = [*batched, *shared]
        self._features = Features([encoding.leads[qubit] for qubit in live], both, dtype, device)
        row = {qubit: i for i, qubit in enumerate(live)}

        used = {number: i for i, number in enumerate(sorted({number for one in cones for number, _ in one.blocks}))}
        cones = [replace(one, blocks=tuple((used[number], flip) for number, flip in one.blocks)) for one in cones]
        chains = [blocks[number].channels for number in used]
        varying = [any(differs(channel, set(batched)) for channel in chain) for chain in chains]
        common, own = (
            [chain for chain, one in zip(chains, varying, strict=True) if one == kind] for kind in (False, True)
        )
        self._common, self._own = Chains(common, 16, shared, dtype, device), Chains(own, 16, both, dtype, device)
        self._tables = Tables(varying)
        by_shape: dict[object, list[int]] = {}
        for number, one in enumerate(cones):
            kinds = tuple(varying[number] for number, _ in one.blocks)
            by_shape.setdefault((one.moves, kinds, tuple(encoding.sizes[q] for q in one.qubits)), []).append(number)
        self._stacks = [
            Stack([cones[i] for i in members], self._tables, row, noise, dtype, device) for members in by_shape.values()
        ]
        order = [i for members in by_shape.values() for i in members]
        self._back = torch.as_tensor(np.argsort(order), device=device)

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K); see ``Program``."""
        if not self._stacks:
            return self._constants.expand(len(batched), -1)
        shared = shared.to(self._device, torch.float64)
        values = torch.cat([batched.to(shared), shared.expand(len(batched), -1)], dim=1)
        common = self._common.products(shared[None])
        rows = max(1, _KEPT_BYTES // max(stack.row_bytes for stack in self._stacks))
        found = torch.cat([self._part(common, part) for part in values.split(rows)], dim=1)
        return found[self._back].T @ self._coefficients.T + self._constants

    def _part(self, common: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return the expectation values (T,B) of all strings for some rows of parameter values (B,P)."""
        tables, features = self._tables(common, self._own.products(values)), self._features(values)
        sizes = [stack.bytes + len(values) * stack.row_bytes for stack in self._stacks]
        keep = sum(size * len(stack) for size, stack in zip(sizes, self._stacks, strict=True)) <= _KEPT_BYTES
        found = []
        for size, stack in zip(sizes, self._stacks, strict=True):
            members = len(stack) if keep else max(1, _KEPT_BYTES // size)
            for start in range(0, len(stack), members):
                some = slice(start, start + members)
                if keep:
                    found.append(stack(tables, features, some))
                else:  # computed again on the way back
                    found.append(checkpoint(stack, tables, features, some, use_reentrant=False))
        return torch.cat(found)


def _check_sizes(cones: Sequence[Cone]) -> None:
    """Raise where a cone has too many coefficients.

    Raises:
        QkdError: says which observable and what to do.
    """
    for one in cones:
        if max(one.counts) > 4**WIDEST:
            name = " ".join(f"{letter}{qubit}" for qubit, letter in one.string)
            raise QkdError(
                f"the light cone of {name} holds {len(one.qubits)} qubits and {max(one.counts):.1e} coefficients, "
                f"{4**WIDEST:.1e} is the most that the light-cone engine carries; use fewer layers, or the statevector "
                "engine where there is no noise"
            )
