"""Engines: a Qiskit V2 estimator, an exact gradient, and what a person should know about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.engines.base import EngineEstimator
from qkd.engines.cones import operations
from qkd.engines.gradient import EngineGradient
from qkd.engines.lightcone import WIDEST, LightConeEstimator, past
from qkd.engines.statevector import StatevectorEstimator
from qkd.engines.strings import pauli_terms
from qkd.errors import QkdError

__all__ = ["Engine", "EngineGradient", "LightConeEstimator", "StatevectorEstimator", "make_engine", "torch_device"]

STATEVECTOR_OPERATIONS = 50
"""Multiply-adds per amplitude and row that a statevector sweep is taken to need, when engines are compared."""
ROWS = 32
"""Rows of the batch for which they are compared."""


@dataclass(frozen=True)
class Engine:
    """What answers a student's PUBs.

    estimator: a V2 estimator that also compiles to differentiable programs.
    gradient: gradients of its values.
    shots: per expectation value, or None where values are exact.
    device: where its torch arithmetic happens.
    reason: what it is and why it was picked.
    """

    estimator: EngineEstimator
    gradient: EngineGradient
    shots: int | None
    device: torch.device
    reason: str

    @property
    def precision(self) -> float:
        """The standard error that is asked of the estimator; 0 where values are exact."""
        return 0.0 if self.shots is None else self.shots**-0.5

    def describe(self) -> str:
        """Return what computes, and why, in one line."""
        return self.reason


def make_engine(spec: EngineSpec, student: StudentCircuit) -> Engine:
    """Return the engine that ``spec`` asks for, for this circuit.

    Args:
        spec: the simulator, the engine and the precision.
        student: the circuit that it will run.

    Raises:
        QkdError: the torch device does not exist.
    """
    device = torch_device(spec.torch_device)
    kind: str = spec.engine
    why = "as asked"
    if kind == "auto":
        kind, why = _cheaper(student)
    if kind == "lightcone":
        dtype = "float32" if spec.precision == "single" else "float64"
        estimator: EngineEstimator = LightConeEstimator(dtype=dtype, device=str(device))
    else:
        dtype = "complex64" if spec.precision == "single" else "complex128"
        estimator = StatevectorEstimator(dtype=dtype, device=str(device))
    reason = f"{kind} engine ({why}), exact, ideal, {dtype} on {device}"
    return Engine(estimator, EngineGradient(estimator), None, device, reason)


def _cheaper(student: StudentCircuit) -> tuple[str, str]:
    """Return the exact engine that needs fewer operations for a batch of ``ROWS``, and why, in words."""
    statevector = 2.0**student.num_qubits * STATEVECTOR_OPERATIONS * ROWS
    try:
        terms, _, _ = pauli_terms(student.observables)
        _, _, cones = past(student.circuit, terms, None)
    except QkdError as error:  # gates that only the other engine takes
        return "statevector", str(error)
    widths = [len(one.qubits) for one in cones] or [0]
    lightcone = operations(cones) + ROWS * sum(4.0**width for width in widths)
    if max(widths) <= WIDEST and lightcone < statevector:
        return "lightcone", f"light cones of {max(widths)} qubits cost less than 2^{student.num_qubits} amplitudes"
    return "statevector", f"2^{student.num_qubits} amplitudes cost less than light cones of {max(widths)} qubits"


def torch_device(name: str) -> torch.device:
    """Return the torch device called ``name``; ``auto`` is CUDA when there is one.

    Raises:
        QkdError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise QkdError(f"--torch-device {name}: not to be had here ({str(error).splitlines()[0]})") from None
