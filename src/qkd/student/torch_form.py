"""The classical form of a trained student as a torch module of plain operations, which ``torch.export`` takes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from qkd.core.errors import ModelError
from qkd.student.classical import ClassicalForm, LinearCore
from qkd.student.contraction import ContractedCircuit, Contraction


class TorchForm(nn.Module):
    """The map from embeddings (B,D) to logits (B,C), both float32.

    Args:
        form: The student's classical form.

    Raises:
        ModelError: The form consists of gates, because the circuit's light cones are too wide.
    """

    def __init__(self, form: ClassicalForm) -> None:
        super().__init__()
        if not isinstance(form.core, ContractedCircuit | LinearCore):
            raise ModelError("the student's light cones are too wide for a torch module; use fewer layers or qubits")
        self.angle_map = form.angle_map
        self.projection, self.head = _linear(form.weight, form.bias), _linear(form.head, form.head_bias)
        contractions = form.core.contractions if isinstance(form.core, ContractedCircuit) else ()
        self.values = nn.ModuleList(_Value(one) for one in contractions)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return logits (B,C) of embeddings (B,D)."""
        z = self.projection(embeddings)
        if self.angle_map == "tanh":
            z = math.pi * torch.tanh(z)
        elif self.angle_map == "minmax":
            low, high = z.amin(dim=1, keepdim=True), z.amax(dim=1, keepdim=True)
            z = 10 * (z - low) / (high - low + 1e-9)
        return self.head(torch.stack([value(z) for value in self.values], dim=1) if len(self.values) else z)


class _Value(nn.Module):
    """One expectation value, as ``Contraction`` computes it."""

    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, one: Contraction) -> None:
        super().__init__()
        self.columns = tuple(zip(one.inputs, one.degrees, strict=True))
        self.split = one.split
        for name in ("left", "right"):
            self.register_buffer(name, torch.as_tensor(getattr(one, name), dtype=torch.float32))

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return values (B,) of angles (B,A)."""
        left, right = _features(angles, self.columns[: self.split]), _features(angles, self.columns[self.split :])
        return ((left @ self.left) * (right @ self.right)).sum(dim=1)


def _features(angles: torch.Tensor, columns: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """Return all products (B,F) of the waves of some angles; see ``contraction.product_features``."""
    rows = torch.ones_like(angles[:, :1])
    for column, degree in columns:
        x = angles[:, column]
        waves = [torch.ones_like(x), *(wave(f * x) for f in range(1, degree + 1) for wave in (torch.cos, torch.sin))]
        rows = (rows[:, :, None] * torch.stack(waves, dim=1)[:, None]).flatten(1)
    return rows


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(*weight.shape)
    layer.load_state_dict({"weight": torch.as_tensor(weight.T), "bias": torch.as_tensor(bias)})
    return layer.requires_grad_(False)
