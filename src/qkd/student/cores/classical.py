"""Classical cores of a circuit's size: what a student of the same shape does without a quantum computer."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn
from torch.nn.utils import skip_init

from qkd.circuits.cone import past, support
from qkd.circuits.student import StudentCircuit
from qkd.student.cores.base import StudentCore


class Linear(StudentCore):
    """Nothing at all: projection and head alone, a linear classifier of rank A."""

    mapped: ClassVar[bool] = False

    def __init__(self, circuit: StudentCircuit, classes: int) -> None:
        super().__init__()
        self.name, self.num_inputs = "linear", len(circuit.inputs)
        self.num_outputs = self.num_inputs

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return what came in, (B,A)."""
        return angles


class Mlp(StudentCore):
    """A residual block ``x + V tanh(U x + u)`` behind the angle map, as wide as the circuit has weights for."""

    def __init__(self, circuit: StudentCircuit, classes: int) -> None:
        super().__init__()
        a, k, p = len(circuit.inputs), len(circuit.observables), len(circuit.weights)
        self.name, self.num_inputs, self.num_outputs = "mlp", a, a
        spare = p + (k - a) * classes  # the head is (A -> C) here and (K -> C) behind the circuit
        width = max(1, round(spare / (2 * a + 1)))
        self.hidden = skip_init(nn.Linear, a, width)  # start() draws, so that the projection is every student's
        self.out = skip_init(nn.Linear, width, a, bias=False)

    def start(self, projection: nn.Linear, head: nn.Linear) -> None:
        """Draw its layers as torch does."""
        self.hidden.reset_parameters()
        self.out.reset_parameters()

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return features (B,A)."""
        x = angles / math.pi
        return x + self.out(torch.tanh(self.hidden(x)))


class Fourier(StudentCore):
    """Random Fourier features ``cos(w x + b)`` of the frequencies that the circuit's encoding has.

    An expectation value is a trigonometric polynomial of the angles in its light cone, with integer frequencies up to
    the number of rotations an angle enters (Schuld et al., arXiv:2008.08605); features drawn from those frequencies,
    fixed, under a trained linear head, are its classical surrogate (Landman et al., arXiv:2210.13200).
    There are as many as give the head the parameters that the circuit and its head have together.
    """

    mapped: ClassVar[bool] = True
    frequencies: torch.Tensor
    phases: torch.Tensor

    def __init__(self, circuit: StudentCircuit, classes: int) -> None:
        super().__init__()
        self.name, self.num_inputs = "fourier", len(circuit.inputs)
        self.num_outputs = len(circuit.observables) + len(circuit.weights) // classes
        self.uses = torch.stack([_uses(circuit, k) for k in range(len(circuit.observables))])
        self.register_buffer("frequencies", torch.zeros(self.num_inputs, self.num_outputs))
        self.register_buffer("phases", torch.zeros(self.num_outputs))

    def start(self, projection: nn.Linear, head: nn.Linear) -> None:
        """Draw frequencies, uniform over those of an observable drawn first, and phases."""
        for feature in range(self.num_outputs):
            highest = self.uses[torch.randint(len(self.uses), ())]
            drawn = (torch.rand(self.num_inputs) * (2 * highest + 1)).floor() - highest
            self.frequencies[:, feature] = drawn
        self.phases.uniform_(0, 2 * math.pi)

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return features (B,K') in [-1, 1]."""
        return torch.cos(angles @ self.frequencies + self.phases)


def _uses(circuit: StudentCircuit, observable: int) -> torch.Tensor:
    """Return how many gates of an observable's light cone each input enters, (A,)."""
    _, items = past(circuit.circuit, support([circuit.observables[observable]]))
    place = {parameter: i for i, parameter in enumerate(circuit.inputs)}
    uses = torch.zeros(len(circuit.inputs))
    for item in items:
        entering = {q for value in item.operation.params for q in getattr(value, "parameters", ()) if q in place}
        for parameter in entering:
            uses[place[parameter]] += 1
    return uses
