"""What a student asks of its core: angles (B,A) in, K features (B,K) out."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn


class StudentCore(nn.Module):
    """Base of all cores; a subclass says how many numbers go in and out, and overrides ``forward``.

    num_inputs: A.
    num_outputs: K.
    name: what tables call it.
    mapped: whether the projection goes through the student's angle map first, as what enters a rotation must.
    decayed: whether weight decay means something to its parameters.
    """

    num_inputs: int
    num_outputs: int
    name: str
    mapped: ClassVar[bool] = True
    decayed: ClassVar[bool] = True

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return features (B,K) of angles (B,A), differentiable in both."""
        raise NotImplementedError

    def start(self, projection: nn.Linear, head: nn.Linear) -> None:
        """Draw the initial parameters from torch's generator: its own and, where it needs that, its neighbours'.

        Args:
            projection: the layer before it, freshly initialised.
            head: the layer behind it, freshly initialised.
        """

    def centre(self) -> torch.Tensor | None:
        """Return the inputs (A,), radians, around which it responds linearly to the data; None where 0 will do."""
        return None

    def reseed(self, stream: int) -> None:
        """Begin the ``stream``-th stream of random numbers, for a core that samples."""

    @property
    def threads(self) -> int | None:
        """How many threads its arithmetic wants; None for as many as torch takes."""
        return 1

    @property
    def num_parameters(self) -> int:
        """How many numbers training changes in it."""
        return sum(parameter.numel() for parameter in self.parameters())

    def describe(self) -> str:
        """Return what computes it, one line."""
        return f"{self.name}, classical"
