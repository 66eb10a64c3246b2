"""Classical cores of a circuit's size, as controls of the quantum core."""

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
    """The identity: projection and head alone form a linear classifier of rank A."""

    mapped: ClassVar[bool] = False

    def __init__(self, circuit: StudentCircuit, classes: int) -> None:
        super().__init__()
        self.name, self.num_inputs = "linear", len(circuit.inputs)
        self.num_outputs = self.num_inputs

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return the angles (B,A) unchanged."""
        return angles


class Mlp(StudentCore):
    """A residual block ``x + V tanh(U x + u)`` behind the angle map, with as many parameters as the circuit."""

    def __init__(self, circuit: StudentCircuit, classes: int) -> None:
        super().__init__()
        a, k, p = len(circuit.inputs), len(circuit.observables), len(circuit.weights)
        self.name, self.num_inputs, self.num_outputs = "mlp", a, a
        spare = p + (k - a) * classes  # the head is (A -> C) here and (K -> C) behind the circuit
        width = max(1, round(spare / (2 * a + 1)))
        self.hidden = skip_init(nn.Linear, a, width)  # start() draws: all share the projection's numbers
        self.out = skip_init(nn.Linear, width, a, bias=False)

    def start(self, projection: nn.Linear, head: nn.Linear) -> None:
        """Draw the layers as torch does."""
        self.hidden.reset_parameters()
        self.out.reset_parameters()

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return features (B,A)."""
        x = angles / math.pi
        return x + self.out(torch.tanh(self.hidden(x)))


class Fourier(StudentCore):
    """Random Fourier features ``cos(w x + b)`` with the frequencies of the circuit's encoding.

    An expectation value is a trigonometric polynomial of the angles in its light cone. Its integer frequencies reach
    the number of rotations that an angle enters (Schuld et al., arXiv:2008.08605). Fixed random features of these
    frequencies under a trained linear head are the classical surrogate (Landman et al., arXiv:2210.13200). Their number
    gives the head as many parameters as the circuit and its head have together.
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
        """Draw phases, and frequencies uniformly among those of a randomly drawn observable."""
        for feature in range(self.num_outputs):
            highest = self.uses[torch.randint(len(self.uses), ())]
            drawn = (torch.rand(self.num_inputs) * (2 * highest + 1)).floor() - highest
            self.frequencies[:, feature] = drawn
        self.phases.uniform_(0, 2 * math.pi)

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return features (B,K') in [-1, 1]."""
        return torch.cos(angles @ self.frequencies + self.phases)


def _uses(circuit: StudentCircuit, observable: int) -> torch.Tensor:
    """Return for each input the number of gates in an observable's light cone that it enters, (A,)."""
    _, items = past(circuit.circuit, support([circuit.observables[observable]]))
    place = {parameter: i for i, parameter in enumerate(circuit.inputs)}
    uses = torch.zeros(len(circuit.inputs))
    for item in items:
        entering = {q for value in item.operation.params for q in getattr(value, "parameters", ()) if q in place}
        for parameter in entering:
            uses[place[parameter]] += 1
    return uses
