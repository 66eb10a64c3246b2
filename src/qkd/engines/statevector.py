"""Exact expectation values from a batch of statevectors, differentiated in reverse mode.

The state of B rows is a tensor (2^n, B). With the batch last, a gate on neighboring qubits is one matrix product on a
view, without any transpose. Reverse mode keeps the states between the steps and carries ``lambda = O psi`` backward
through them (adjoint differentiation: Jones and Gacon, arXiv:2009.02823). One backward sweep gives the gradient of all
weights and all inputs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from qiskit.circuit import Parameter, ParameterExpression, QuantumCircuit

from qkd.circuits.flatten import without_resets
from qkd.core.errors import EngineError
from qkd.engines.amplitudes.fusion import fuse
from qkd.engines.amplitudes.measure import Measurement, PauliTable, absorb
from qkd.engines.amplitudes.operands import FirstStates, Operands, leading_gates
from qkd.engines.amplitudes.sweep import Sweeper
from qkd.engines.base import EngineEstimator, device_called
from qkd.engines.expressions import Expressions
from qkd.engines.gates import ElementaryGate, elementary_gates
from qkd.engines.program import ExpectationProblem, Program

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_CHUNK_BYTES = 2**30
# A batch is split so that its states fit into a core's own cache, or into a part of the shared cache if fewer than
# _MIN_ROWS rows would fit. Without the split, 64 rows take 1.4 times as long on 11 qubits and twice as long on 16.
_CORE_CACHE_BYTES, _SHARED_CACHE_BYTES, _MIN_ROWS = 3 * 2**18, 2**23, 32


class StatevectorEstimator(EngineEstimator):
    """Exact, ideal expectation values of any unitary circuit, as a Qiskit V2 primitive.

    Args:
        dtype: The dtype ``complex128``, or ``complex64`` for training (gradients agree to 1e-4).
        device: A torch device such as ``cuda``; by default ``cuda`` if torch sees one, else ``cpu``.
    """

    def __init__(self, dtype: str = "complex128", device: str | None = None) -> None:
        super().__init__()
        if dtype not in ("complex64", "complex128"):
            raise EngineError(f"dtype is complex64 or complex128, not '{dtype}'")
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = device_called(device)

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return self.dtype, self.device

    def _compile(self, problem: ExpectationProblem) -> StatevectorProgram:
        return StatevectorProgram(problem, self)


class StatevectorProgram(Program):
    """A circuit that is compiled for ``StatevectorEstimator``."""

    def __init__(self, problem: ExpectationProblem, engine: StatevectorEstimator) -> None:
        super().__init__(problem, engine)
        dtype, device = engine.dtype, engine.device
        self._real, self._device = _REAL[dtype], device
        circuit, observables = without_resets(problem.circuit, problem.observables)
        gates, table = absorb(elementary_gates(circuit), PauliTable.from_observables(observables))
        rowwise = set(problem.batched)

        def differs(gate: ElementaryGate) -> bool:
            return gate.angle is not None and bool(rowwise & set(gate.angle.parameters))

        live = set(np.flatnonzero((table.x | table.z).any(axis=0)).tolist()).union(*(gate.qubits for gate in gates))
        self._qubits = sorted(live) or [0]
        leading, remaining = leading_gates(gates, [differs(gate) for gate in gates], self._qubits)
        rest = [part for i in remaining for part in (gates[i].diagonalized() if differs(gates[i]) else [gates[i]])]
        limit = int(math.log2(free_memory(device) / (8 * dtype.itemsize)))
        fused = fuse(rest, [differs(gate) for gate in rest], self._qubits, limit)
        widest = 2 ** max(map(len, fused.pieces.values()), default=0)
        self._state_bytes = widest * dtype.itemsize
        self._row_bytes = 4 * widest * dtype.itemsize
        self._row_bytes_backward = (fused.amplitudes + 4 * widest) * dtype.itemsize

        encoding = FirstStates([[gates[i] for i in run] for run in leading], self._qubits, dtype, device)
        self._measurement = Measurement(table, fused.pieces, self._real, device)
        operands = Operands(fused, rest, dtype, device)
        self._sweeper = Sweeper(fused, encoding, self._measurement, operands, self._row_bytes_backward)
        self._shared = Expressions(operands.angles, problem.shared)
        own = [*encoding.angles, *operands.rowwise]
        arguments = set[Parameter]().union(
            *(angle.parameters for angle in own if isinstance(angle, ParameterExpression))
        )
        self._mixed = not arguments.isdisjoint(problem.shared)  # a gate whose angle contains data and weights
        self._own = Expressions(own, problem.parameters if self._mixed else problem.batched)

    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        batched, shared = batched.to(self._device, self._real), shared.to(self._device)
        arguments = torch.cat([batched, shared.to(batched).expand(len(batched), -1)], dim=1) if self._mixed else batched
        strings = self._sweeper(self._own(arguments), self._shared(shared.double()), self._rows_at_once())
        return self._measurement.combine(strings)

    def _rows_at_once(self) -> int:
        needed = self._row_bytes_backward if torch.is_grad_enabled() else self._row_bytes
        if needed > _CHUNK_BYTES and needed > (free := free_memory(self._device)):
            raise EngineError(
                f"a gradient needs {needed / 2**30:.3g} GiB of states for one row and {free / 2**30:.3g} GiB are free; "
                "use fewer qubits or layers, complex64, or the light-cone engine"
            )
        rows = max(1, _CHUNK_BYTES // needed)
        if self._device.type == "cpu":
            near = _CORE_CACHE_BYTES // self._state_bytes
            rows = min(rows, near if near >= _MIN_ROWS else max(1, _SHARED_CACHE_BYTES // self._state_bytes))
        return rows


def free_memory(device: torch.device) -> int:
    """Return the bytes that a process can still allocate on ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration):  # Linux; free pages alone omit what caches of files would give back
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
