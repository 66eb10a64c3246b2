"""The student model: a projection to angles, a core, and a linear head.

(B,D) -projection-> angles (B,A) -core-> features (B,K) -head-> logits (B,C)

The core is a circuit on an engine, or a classical control in its place; see ``student/cores.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.errors import QkdError
from qkd.engines.base import threads
from qkd.models.linear_probes import CONSTANT, NEGLIGIBLE
from qkd.results import Parameters
from qkd.simulation.factory import Engine
from qkd.student.cores import QuantumCore, StudentCore

START_SPREAD = 0.1
"""Standard deviation, radians, of a training text's initial angles around the circuit's start."""
MAX_START_SHARE = 0.95
"""Largest initial angle as a fraction of pi; tanh is too flat for training beyond it."""


class Dropout(nn.Module):
    """Dropout with probability ``p``, rounded to 1/256 (Srivastava et al., JMLR 15:1929, 2014).

    It draws one random byte for each entry, because torch's dropout took half of a student's training time. The draws
    come from torch's own generator, which a checkpoint keeps.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, with entries dropped and the others scaled up while training; the mean over draws is ``x``."""
        threshold = max(1, round(256 * (1 - self.p)))
        if not self.training or threshold == 256:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        draws = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (draws < threshold).to(x.dtype).mul_(256 / threshold)

    def extra_repr(self) -> str:
        """Return the probability for ``repr``."""
        return f"p={self.p}"


class StudentModel(nn.Module):
    """The map from a text's embedding to its logits.

    Args:
        core: the core between projection and head; A inputs, K outputs.
        dim: the embedding width D.
        classes: the C class names, in the order of the logits.
        angle_map: ``tanh`` (angles in (-pi, pi)) or ``minmax`` (the paper's: each text's projection is scaled to
            [0, 10] by its own minimum and maximum). A core that is not ``mapped`` gets the projection itself.
        dropout: the fraction of embedding entries dropped in training.
        fresh: whether to draw initial parameters; False where they are about to be loaded.
    """

    center: torch.Tensor
    scale: torch.Tensor

    @public
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
        """Place the initial angles of standardized embeddings where the core responds linearly, with ``START_SPREAD``.

        The paper's map allows no choice: it spreads each text's angles over [0, 10] for every projection.
        """
        center = self.core.center()
        if center is None or not self.core.mapped or self.angle_map != "tanh":
            return
        share = (center / math.pi).clamp(-MAX_START_SHARE, MAX_START_SHARE)
        slope = math.pi * (1 - share.square())  # of pi tanh(z) at the center
        drawn = (1 / 3) ** 0.5  # standard deviation of torch's initial projection of standardized embeddings
        self.projection.weight.mul_((START_SPREAD / (drawn * slope))[:, None])
        self.projection.bias.copy_(torch.atanh(share))

    def with_engine(self, circuit: StudentCircuit, engine: Engine) -> StudentModel:
        """Return a copy of this model on an equivalent circuit and another engine."""
        core = QuantumCore(circuit, engine)
        other = StudentModel(core, self.dim, self.classes, self.angle_map, self.dropout.p, fresh=False)
        other = other.to(engine.device)
        other.load_state_dict(self.state_dict())
        return other

    @property
    def quantum(self) -> QuantumCore:
        """The core of a quantum student.

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
        """The embedding width D."""
        return self.projection.in_features

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters in projection, core and head."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameter_counts(self) -> Parameters:
        """Return the number of trainable parameters in the circuit (``quantum``) and outside it (``classical``)."""
        quantum = self.core.num_parameters if isinstance(self.core, QuantumCore) else 0
        return Parameters(classical=self.num_parameters - quantum, quantum=quantum)

    def standardize(self, embeddings: torch.Tensor) -> None:
        """Set the fixed shift and scale before the projection from training embeddings (N,D).

        The scale of a constant feature is 0. Its weights stay random, because no training text changes them.
        """
        std = embeddings.std(dim=0)
        varies = (std > CONSTANT * embeddings.abs().amax(dim=0)) & (std > NEGLIGIBLE * std.max())
        self.center.copy_(embeddings.mean(dim=0))
        self.scale.copy_(torch.where(varies, 1 / std, torch.zeros_like(std)))

    def angles(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the core's inputs (B,A), in radians for a circuit, of embeddings (B,D)."""
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

    # no_grad rather than inference_mode: engines with wide light cones take gradients while they evaluate
    @torch.no_grad()
    def logits(self, embeddings: np.ndarray, batch: int = 512) -> np.ndarray:
        """Return logits (N,C), float32, of embeddings (N,D), without dropout."""
        self.eval()
        with threads(self.core.threads):
            parts = [self(part) for part in self._rows(embeddings).split(batch)]
        return torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, len(self.classes)), np.float32)

    @torch.no_grad()
    def values(self, embeddings: np.ndarray) -> np.ndarray:
        """Return parameter values (N,A+P), inputs first, float64, of embeddings (N,D)."""
        self.eval()
        angles = self.angles(self._rows(embeddings))
        return torch.cat([angles, self.quantum.weights.expand(len(angles), -1)], dim=1).double().cpu().numpy()

    @torch.no_grad()
    def logits_of(self, evs: np.ndarray) -> np.ndarray:
        """Return logits (N,C), float32, of expectation values (N,K) from any source."""
        self.eval()
        return self.head(self._rows(evs)).float().cpu().numpy()

    def _rows(self, values: np.ndarray) -> torch.Tensor:
        weight = self.head.weight
        return torch.as_tensor(values, dtype=weight.dtype, device=weight.device)
