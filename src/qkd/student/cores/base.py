"""The interface of a core: angles (B,A) in, K features (B,K) out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn


class StudentCore(nn.Module, ABC):
    """Base class of all cores; a subclass sets the attributes and overrides ``forward``.

    Attributes:
        num_inputs: Number of inputs A.
        num_outputs: Number of features K.
        name: The name in tables.
        mapped: Whether the student's angle map is applied to the projection first, as rotations require.
        decayed: Whether weight decay applies to the core's parameters.
    """

    num_inputs: int
    num_outputs: int
    name: str
    mapped: ClassVar[bool] = True
    decayed: ClassVar[bool] = True

    @abstractmethod
    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return features (B,K) of angles (B,A), differentiable in both."""

    def start(self, projection: nn.Linear, head: nn.Linear) -> None:
        """Draw the initial parameters of the core and, where it needs that, of its neighbors.

        Args:
            projection: the layer before the core, freshly initialized.
            head: the layer behind the core, freshly initialized.
        """

    def center(self) -> torch.Tensor | None:
        """Return the inputs (A,), radians, around which the core responds linearly; None means 0."""
        return None

    def reseed(self, stream: int) -> None:
        """Start the random stream with this number, for a core that samples."""

    @property
    def threads(self) -> int | None:
        """Number of threads that suits the core's arithmetic; None for torch's own choice."""
        return 1

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def describe(self) -> str:
        """Return a description of the core, one line."""
        return f"{self.name}, classical"
