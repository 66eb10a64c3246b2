"""The student: a projection to angles, a core, and a linear head.

(B,D) -projection-> angles (B,A) -core-> features (B,K) -head-> logits (B,C)

The core is a circuit on an engine, or a classical control in its place; see ``student/cores``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import QkdError
from qkd.engines.machine import threads
from qkd.results import Parameters
from qkd.simulation.factory import Engine
from qkd.student.cores.base import StudentCore
from qkd.student.cores.quantum import QuantumCore
from qkd.student.dropout import Dropout

START_SPREAD = 0.1
"""Standard deviation, radians, of a training text's initial angles around the circuit's start."""
EDGE = 0.95
"""Of pi: the largest angle at which tanh is still steep enough to start."""


class StudentModel(nn.Module):
    """A text embedding's way to logits through a core.

    Args:
        core: what stands between projection and head; A inputs, K outputs.
        dim: D, the embedding width.
        classes: the C class names, in the order of the logits.
        angle_map: ``tanh`` (angles in (-pi, pi)) or ``minmax`` (the paper's: each text's projection scaled
            to [0, 10] by its own minimum and maximum); a core that is not ``mapped`` gets the projection as it is.
        dropout: the fraction of embedding entries dropped in training.
        fresh: draw initial parameters; False where they are about to be loaded.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        core: StudentCore,
        dim: int,
        classes: Sequence[str],
        angle_map: str = "tanh",
        dropout: float = 0.0,
        fresh: bool = True,
    ) -> None:
        super().__init__()
        self.classes, self.angle_map = tuple(classes), angle_map
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(dim, core.num_inputs)
        self.core = core
        self.head = nn.Linear(core.num_outputs, len(self.classes))
        if fresh:
            core.start(self.projection, self.head)
            self._start_linear()

    @torch.no_grad()
    def _start_linear(self) -> None:
        """Let angles of standardised embeddings start ``START_SPREAD`` around where the core responds linearly.

        The paper's map leaves no choice: it spreads each text's angles over [0, 10] whatever the projection is.
        """
        centre = self.core.centre()
        if centre is None or not self.core.mapped or self.angle_map != "tanh":
            return
        share = (centre / math.pi).clamp(-EDGE, EDGE)
        slope = math.pi * (1 - share.square())  # of pi tanh(z) where it is centre
        drawn = (1 / 3) ** 0.5  # standard deviation of torch's initial projection of standardised embeddings
        self.projection.weight.mul_((START_SPREAD / (drawn * slope))[:, None])
        self.projection.bias.copy_(torch.atanh(share))

    def with_engine(self, circuit: StudentCircuit, engine: Engine) -> StudentModel:
        """Return this student on an equivalent circuit and another engine; it has copies of the same tensors."""
        core = QuantumCore(circuit, engine)
        other = StudentModel(core, self.dim, self.classes, self.angle_map, self.dropout.p, fresh=False).to(
            engine.device
        )
        other.load_state_dict(self.state_dict())
        return other

    @property
    def quantum(self) -> QuantumCore:
        """The core, of a quantum student.

        Raises:
            QkdError: this is a classical control.
        """
        if not isinstance(self.core, QuantumCore):
            raise QkdError(f"the student '{self.core.name}' is a classical control and has no circuit to run")
        return self.core

    @property
    def circuit(self) -> StudentCircuit:
        """The circuit of a quantum student."""
        return self.quantum.circuit

    @property
    def engine(self) -> Engine:
        """The engine of a quantum student."""
        return self.quantum.engine

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        return self.projection.in_features

    @property
    def num_parameters(self) -> int:
        """How many numbers training changes: projection, core and head."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameter_counts(self) -> Parameters:
        """Return how many numbers training changes in the circuit (``quantum``) and around it (``classical``)."""
        quantum = self.core.num_parameters if isinstance(self.core, QuantumCore) else 0
        return Parameters(classical=self.num_parameters - quantum, quantum=quantum)

    def standardize(self, embeddings: torch.Tensor) -> None:
        """Set the fixed shift and scale in front of the projection from training embeddings (N,D)."""
        self.center.copy_(embeddings.mean(dim=0))
        self.scale.copy_(1 / embeddings.std(dim=0).clamp_min(1e-6))

    def angles(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the core's inputs (B,A), in radians where it is a circuit, of embeddings (B,D)."""
        z = self.projection(self.dropout((embeddings - self.center) * self.scale))
        if not self.core.mapped:
            return z
        if self.angle_map == "tanh":
            return math.pi * torch.tanh(z)
        low, high = z.amin(dim=1, keepdim=True), z.amax(dim=1, keepdim=True)
        return 10 * (z - low) / (high - low + 1e-9)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return logits (B,C) of embeddings (B,D)."""
        return self.head(self.core(self.angles(embeddings)))

    @torch.no_grad()
    def logits(self, embeddings: np.ndarray, batch: int = 512) -> np.ndarray:
        """Return logits (N,C), float32, of embeddings (N,D), without dropout."""
        self.eval()
        rows = torch.as_tensor(embeddings, dtype=self.projection.weight.dtype, device=self.projection.weight.device)
        with threads(self.core.threads):
            parts = [self(part) for part in rows.split(batch)]
        return torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, len(self.classes)), np.float32)

    @torch.no_grad()
    def values(self, embeddings: np.ndarray) -> np.ndarray:
        """Return parameter values (N,A+P), inputs first, float64, of embeddings (N,D)."""
        self.eval()
        rows = torch.as_tensor(embeddings, dtype=self.projection.weight.dtype, device=self.projection.weight.device)
        angles = self.angles(rows)
        return torch.cat([angles, self.quantum.weights.expand(len(rows), -1)], dim=1).double().cpu().numpy()

    @torch.no_grad()
    def logits_of(self, evs: np.ndarray) -> np.ndarray:
        """Return logits (N,C), float32, of expectation values (N,K), wherever they were measured."""
        self.eval()
        rows = torch.as_tensor(evs, dtype=self.head.weight.dtype, device=self.head.weight.device)
        return self.head(rows).float().cpu().numpy()
