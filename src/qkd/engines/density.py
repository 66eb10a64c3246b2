"""The exact engine for noisy circuits with wide light cones: the density matrix of each row.

The engine carries the 4^n real Pauli coefficients of the density matrix, rho = 2^-n sum_s c_s s, forward through the
blocks of the light-cone engine. It reads all observables from one state. It is
therefore the cheaper engine if each row has matrices of its own (data uploaded again behind entangling gates).
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from qkd.core.errors import EngineError
from qkd.engines.base import NoisyEstimator
from qkd.engines.chains import TransferChains
from qkd.engines.paulis.carry import Features, Named, differs, leading_channels, product
from qkd.engines.paulis.channels import LETTERS
from qkd.engines.paulis.cones import cone_union, fuse
from qkd.engines.paulis.events import attenuated_terms, channels
from qkd.engines.program import ExpectationProblem, Program

MAX_DENSITY_QUBITS = 12
"""Maximum number of qubits in the union of the light cones."""
_MAX_KEPT_BYTES = 2**30  # states kept for the backward pass, unless one row needs more


class DensityMatrixEstimator(NoisyEstimator):
    """Exact expectation values of circuits of few qubits under local noise, as a Qiskit V2 primitive.

    See ``NoisyEstimator`` for its arguments.
    """

    def _compile(self, problem: ExpectationProblem) -> DensityMatrixProgram:
        return DensityMatrixProgram(problem, self)


class DensityMatrixProgram(Program):
    """A circuit that is compiled for ``DensityMatrixEstimator``."""

    def __init__(self, problem: ExpectationProblem, engine: DensityMatrixEstimator) -> None:
        super().__init__(problem, engine)
        dtype, device = engine.dtype, engine.device
        self._device, both = device, problem.parameters
        batched = set(problem.batched)
        terms, self._coefficients, self._constants = attenuated_terms(
            problem.observables, engine.noise_model, dtype, device
        )
        measured = {qubit for string in terms for qubit, _ in string}
        sequence = channels(problem.circuit, engine.noise_model, measured)
        encoding, rest = leading_channels(sequence, problem.circuit.num_qubits, batched)
        blocks = fuse(rest)
        numbers, self._qubits = cone_union([block.qubits for block in blocks], terms)
        blocks = [blocks[number] for number in numbers]
        if len(self._qubits) > MAX_DENSITY_QUBITS:
            raise EngineError(
                f"the observables of circuit '{problem.circuit.name}' depend on {len(self._qubits)} qubits; the "
                f"density-matrix engine can carry at most {MAX_DENSITY_QUBITS}; use another engine"
            )
        self._features = Features([encoding.leads[qubit] for qubit in self._qubits], both, dtype, device)
        varying = [any(differs(channel, batched) for channel in block.channels) for block in blocks]
        by_kind = [
            [block.channels for block, own in zip(blocks, varying, strict=True) if own == kind]
            for kind in (False, True)
        ]
        self._common = TransferChains(by_kind[False], 16, problem.shared, dtype, device)
        self._own = TransferChains(by_kind[True], 16, both, dtype, device)
        self._pairs = [(block.qubits, own) for block, own in zip(blocks, varying, strict=True)]
        self._row_bytes = 3 * dtype.itemsize * 4 ** len(self._qubits) * (len(blocks) + 1)
        unit = {qubit: 4 ** (len(self._qubits) - 1 - i) for i, qubit in enumerate(self._qubits)}
        places = [sum(LETTERS.index(letter) * unit[qubit] for qubit, letter in string) for string in terms]
        self._places = torch.tensor(places, dtype=torch.int64, device=device)

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        if not len(self._places):
            return self._constants.expand(len(batched), -1)
        shared = shared.to(self._device, torch.float64)
        values = torch.cat([batched.to(shared), shared.expand(len(batched), -1)], dim=1)
        common = self._common.products(shared[None])[:, 0]
        rows = max(1, _MAX_KEPT_BYTES // self._row_bytes)
        if rows >= len(values):
            evs = self._strings(common, values)
        else:  # recomputed in the backward pass, some rows at a time
            parts = [checkpoint(self._strings, common, part, use_reentrant=False) for part in values.split(rows)]
            evs = torch.cat(parts)
        return evs @ self._coefficients.T + self._constants

    def _strings(self, common: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return the expectation values (B,T) of all strings at parameter values (B,P)."""
        shared, own = iter(common), iter(self._own.products(values))
        state = Named(product(self._features(values).unbind()), dict.fromkeys(self._qubits, 4))
        for (first, second), varying in self._pairs:
            matrix = next(own) if varying else next(shared).expand(len(values), -1, -1)
            axes = [first] if second < 0 else [first, second]
            state.apply(matrix if second >= 0 else matrix[:, ::4, ::4], axes, dict.fromkeys(axes, 4))
        state.to_front(self._qubits)
        return state.values.reshape(len(values), -1).index_select(1, self._places)
