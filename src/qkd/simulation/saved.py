"""Check before training that a circuit can be saved as OpenQASM 3 and read back."""

from __future__ import annotations

import numpy as np
import torch

from qkd.circuits.cone import cone_qubits, cut
from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import CircuitError
from qkd.engines.statevector import StatevectorEstimator

MAX_CONE_QUBITS = 12
"""Light cones of more qubits are compared gate by gate alone, as ``to_qasm`` always does."""
MAX_CONES = 16
"""Number of light cones whose values and gradients are compared."""
MAX_DIFFERENCE = 1e-7
"""Largest difference of a value or a derivative, as a share of the observable's coefficients."""


def check_saved(student: StudentCircuit, points: int = 2) -> None:
    """Write a circuit as OpenQASM 3, read it back and compare expectation values and gradients at random points."""
    again = from_qasm(to_qasm(student), f"circuit '{student.name}' as OpenQASM 3")
    values = np.random.default_rng(0).uniform(-np.pi, np.pi, (points, len(student.parameters)))
    cones = [k for k in range(len(student.observables)) if len(cone_qubits(student, k)) <= MAX_CONE_QUBITS]
    for k in cones[:MAX_CONES]:
        scale = np.abs(student.observables[k].coeffs).sum() or 1.0
        for old, new in zip(_evaluated(student, k, values), _evaluated(again, k, values), strict=True):
            if np.abs(old - new).max(initial=0) > MAX_DIFFERENCE * scale:
                raise CircuitError(
                    f"circuit '{student.name}' would be saved as another one: observable {k} differs by "
                    f"{np.abs(old - new).max():.1e}; decompose its gates into standard gates"
                )


def _evaluated(student: StudentCircuit, observable: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return expectation values (R,) of one observable and their derivatives (R,A+P) by all parameters."""
    part = cut(student, [observable])
    columns = [student.parameters.index(parameter) for parameter in part.parameters]
    rows = torch.tensor(values[:, columns], requires_grad=True)
    program = StatevectorEstimator(device="cpu").compile(part.circuit, part.observables, list(part.parameters), [])
    with torch.inference_mode(False), torch.enable_grad():
        evs = program(rows, torch.zeros(0, dtype=torch.float64))[:, 0]
        (gradient,) = torch.autograd.grad(evs.sum(), rows, allow_unused=True) if evs.requires_grad else (None,)
    derivatives = np.zeros_like(values)
    if gradient is not None:
        derivatives[:, columns] = gradient.numpy()
    return evs.detach().numpy(), derivatives
