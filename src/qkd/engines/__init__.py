"""Engines: a Qiskit V2 estimator, an exact gradient, and what a person should know about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from qiskit.primitives import BaseEstimatorV2
from qiskit_machine_learning.gradients import BaseEstimatorGradient

from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.engines.gradient import EngineGradient
from qkd.engines.statevector import StatevectorEstimator
from qkd.errors import QkdError

__all__ = ["Engine", "EngineGradient", "StatevectorEstimator", "make_engine"]


@dataclass(frozen=True)
class Engine:
    """What answers a student's PUBs.

    estimator: a V2 estimator; the exact ones also ``compile`` to differentiable programs.
    gradient: gradients of its values.
    shots: per expectation value, or None where values are exact.
    device: where its torch arithmetic happens.
    reason: what it is and why it was picked.
    """

    estimator: BaseEstimatorV2
    gradient: BaseEstimatorGradient
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
    dtype = "complex64" if spec.precision == "single" else "complex128"
    estimator = StatevectorEstimator(dtype=dtype, device=str(device))
    reason = f"statevector engine ({student.num_qubits} qubits, ideal, {dtype}, {device})"
    return Engine(estimator, EngineGradient(estimator), None, device, reason)


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
