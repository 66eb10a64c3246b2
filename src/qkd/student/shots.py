"""Training for few shots: what finite shots do to an expectation value, as noise through which gradients go.

A value estimated from S shots of a Pauli string has the variance ``(1 - ev^2) / S`` exactly. In training it is drawn as
``ev + sqrt((1 - ev^2) / S) z`` with z standard normal, so that the loss is that of the student as a device answers it,
its gradient is exact, and margins grow where shots are few.
"""

from __future__ import annotations

import torch
from torch import nn

from qkd.core.errors import QkdError
from qkd.student.model import StudentModel

LEAST = 1e-6
"""The variance of one shot that is always there: at ev = 1 the gradient of the square root has no end."""


def train_with_shots(student: StudentModel, shots: int) -> None:
    """Let a student's expectation values have shot noise while it is trained; evaluated, they stay exact.

    The draws come from torch's own generator, which a checkpoint keeps.

    Args:
        student: changed in place.
        shots: S.

    Raises:
        QkdError: an observable is no single Pauli string, so its variance is not known from its value alone.
    """
    if any(len(observable) != 1 for observable in student.circuit.observables):
        raise QkdError(f"--train-shots needs observables of one Pauli string each; circuit '{student.circuit.name}'")

    scale = torch.tensor([abs(float(observable.coeffs[0].real)) for observable in student.circuit.observables])

    def drawn(module: nn.Module, _: object, evs: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return evs
        size = scale.to(evs)
        variance = (size.square() - evs.square()).clamp_min(LEAST) / shots
        return evs + variance.sqrt() * torch.randn_like(evs)

    student.middle.register_forward_hook(drawn)
