"""The student: a projection to angles, an ``EstimatorQNN`` on a circuit, and a linear head.

(B,D) -projection-> angles (B,A) -circuit on an engine-> evs (B,K) -head-> logits (B,C)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import EstimatorQNN
from torch import nn

from qkd.circuits.student import StudentCircuit
from qkd.engines.threads import threads
from qkd.simulation.make import Engine


class StudentQNN(EstimatorQNN):
    """An ``EstimatorQNN`` that asks its engine once per evaluation.

    A stock ``EstimatorQNN`` sends one PUB per observable and leaves input gradients off; this one sends a
    single PUB ``(circuit, observables (K,1), values (B, A+P))`` and always has input gradients, so that a
    projection in front of it trains.

    Args:
        circuit: the student circuit; its A inputs and P weights keep their order.
        engine: what evaluates it.
    """

    def __init__(self, circuit: StudentCircuit, engine: Engine) -> None:
        super().__init__(
            circuit=circuit.circuit,
            observables=list(circuit.observables),
            input_params=list(circuit.inputs),
            weight_params=list(circuit.weights),
            estimator=engine.estimator,
            gradient=engine.gradient,
            input_gradients=True,
            default_precision=engine.precision,
        )
        ordered = list(self._circuit.parameters)  # EstimatorQNN renamed them: A inputs, then P weights
        self._program = engine.estimator.compile(
            self._circuit, circuit.observables, batched=ordered[: self.num_inputs], shared=ordered[self.num_inputs :]
        )

    def _forward(self, input_data: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray:
        values, num_samples = self._preprocess_forward(input_data, weights)
        assert num_samples is not None
        pub = (self._circuit, [[observable] for observable in self._observables], values)
        evs = self.estimator.run([pub], precision=self._default_precision).result()[0].data.evs
        return self._forward_postprocess(num_samples, evs)

    def evaluate(self, angles: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K) of angles (B,A) and weights (P,), differentiable in both.

        The gradient is a vector-Jacobian product: the dense (B,K,A+P) Jacobian is never made.
        """
        return self._program(angles, weights)


class StudentModel(nn.Module):
    """A text embedding's way to logits through a quantum circuit.

    Args:
        circuit: what is run; A inputs, P weights, K observables.
        engine: what runs it.
        dim: D, the embedding width.
        classes: the C class names, in the order of the logits.
        angle_map: ``tanh`` (angles in (-pi, pi)) or ``minmax`` (the paper's: each text's projection scaled
            to [0, 10] by its own minimum and maximum).
        dropout: the fraction of embedding entries dropped in training.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        circuit: StudentCircuit,
        engine: Engine,
        dim: int,
        classes: Sequence[str],
        angle_map: str = "tanh",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.circuit, self.engine = circuit, engine
        self.classes, self.angle_map = tuple(classes), angle_map
        self.qnn = StudentQNN(circuit, engine)
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, len(circuit.inputs))
        self.weights = nn.Parameter(torch.empty(len(circuit.weights)))
        self.head = nn.Linear(len(circuit.observables), len(self.classes))
        # near the identity, where gradients of local observables do not vanish (Grant et al., arXiv:1903.05076)
        nn.init.normal_(self.weights, std=0.1)

    def moved(self, circuit: StudentCircuit, engine: Engine) -> StudentModel:
        """Return this student on an equivalent circuit and another engine; it has copies of the same tensors."""
        other = StudentModel(circuit, engine, self.dim, self.classes, self.angle_map, self.dropout.p).to(engine.device)
        other.load_state_dict(self.state_dict())
        return other

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        return self.projection.in_features

    @property
    def num_parameters(self) -> int:
        """How many numbers training changes: projection, circuit weights and head."""
        return sum(parameter.numel() for parameter in self.parameters())

    def standardise(self, embeddings: torch.Tensor) -> None:
        """Set the fixed shift and scale in front of the projection from training embeddings (N,D)."""
        self.center.copy_(embeddings.mean(dim=0))
        self.scale.copy_(1 / embeddings.std(dim=0).clamp_min(1e-6))

    def angles(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the circuit inputs (B,A), in radians, of embeddings (B,D)."""
        z = self.projection(self.dropout((embeddings - self.center) * self.scale))
        if self.angle_map == "tanh":
            return math.pi * torch.tanh(z)
        low, high = z.amin(dim=1, keepdim=True), z.amax(dim=1, keepdim=True)
        return 10 * (z - low) / (high - low + 1e-9)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return logits (B,C) of embeddings (B,D)."""
        return self.head(self.qnn.evaluate(self.angles(embeddings), self.weights))

    @torch.inference_mode()
    def logits(self, embeddings: np.ndarray, batch: int = 512) -> np.ndarray:
        """Return logits (N,C), float32, of embeddings (N,D), without dropout."""
        self.eval()
        rows = torch.as_tensor(embeddings, dtype=self.projection.weight.dtype, device=self.projection.weight.device)
        with threads(self.engine.estimator.threads):
            parts = [self(part) for part in rows.split(batch)]
        return torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, len(self.classes)), np.float32)

    @torch.inference_mode()
    def values(self, embeddings: np.ndarray) -> np.ndarray:
        """Return what a PUB takes for embeddings (N,D): parameter values (N,A+P), inputs first, float64."""
        self.eval()
        rows = torch.as_tensor(embeddings, dtype=self.projection.weight.dtype, device=self.projection.weight.device)
        angles = self.angles(rows)
        return torch.cat([angles, self.weights.expand(len(rows), -1)], dim=1).double().cpu().numpy()

    @torch.inference_mode()
    def logits_of(self, evs: np.ndarray) -> np.ndarray:
        """Return logits (N,C), float32, of expectation values (N,K), wherever they were measured."""
        self.eval()
        rows = torch.as_tensor(evs, dtype=self.head.weight.dtype, device=self.head.weight.device)
        return self.head(rows).float().cpu().numpy()
