"""The quantum core: the weights of a circuit and an ``EstimatorQNN`` that calls its engine once."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import EstimatorQNN
from torch import nn

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import CircuitError
from qkd.simulation.factory import Engine
from qkd.simulation.start import WEIGHT_SPREAD, with_start
from qkd.student.cores.base import StudentCore

MIN_SHOT_VARIANCE = 1e-6
"""Smallest variance of one shot: at |ev| = 1 the gradient of the square root is infinite."""


class StudentQNN(EstimatorQNN):
    """An ``EstimatorQNN`` that calls its engine once per evaluation.

    A stock ``EstimatorQNN`` sends one PUB per observable and disables input gradients. This one sends a single PUB
    ``(circuit, observables (K,1), values (B, A+P))`` and always has input gradients, which train the projection.

    Args:
        circuit: the student circuit; its A inputs and P weights keep their order.
        engine: the engine that evaluates it.
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
            default_precision=0.0,  # an engine that samples then takes its own number of shots
        )
        ordered = list(self._circuit.parameters)  # EstimatorQNN has renamed them: A inputs, then P weights
        self._program = engine.estimator.compile(
            self._circuit, circuit.observables, batched=ordered[: self.num_inputs], shared=ordered[self.num_inputs :]
        )

    def _forward(self, input_data: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray:
        values, num_samples = self._preprocess_forward(input_data, weights)
        pub = (self._circuit, [[observable] for observable in self._observables], values)
        evs = self.estimator.run([pub], precision=self._default_precision).result()[0].data.evs
        return self._forward_postprocess(num_samples or 1, evs)

    def evaluate(self, angles: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K) of angles (B,A) and weights (P,), differentiable in both.

        The gradient is a vector-Jacobian product; the dense (B,K,A+P) Jacobian is never computed.
        """
        return self._program(angles, weights)


class QuantumCore(StudentCore):
    """Expectation values of a circuit's observables.

    Args:
        circuit: the circuit; A inputs, P weights, K observables.
        engine: the engine that runs it.
        train_shots: shots S whose noise each expectation value has while the student trains; 0 is none. A value of S
            shots of a Pauli string has the variance ``(1 - ev^2) / S``. It is drawn as ``ev + sqrt((1 - ev^2) / S) z``
            with z standard normal, so gradients pass through the noise and margins grow where shots are few.

    Raises:
        CircuitError: ``train_shots`` is not 0 and an observable has several Pauli strings, whose variance does not
            follow from its value.
    """

    decayed: ClassVar[bool] = False  # decay would pull angles toward 0, which is no special point on their circle

    def __init__(self, circuit: StudentCircuit, engine: Engine, train_shots: int = 0) -> None:
        super().__init__()
        if train_shots and any(len(observable) != 1 for observable in circuit.observables):
            raise CircuitError(f"--train-shots needs observables of one Pauli string each; circuit '{circuit.name}'")
        self.circuit, self.engine, self.name, self.train_shots = circuit, engine, circuit.name, train_shots
        self.num_inputs, self.num_outputs = len(circuit.inputs), len(circuit.observables)
        self.qnn = StudentQNN(circuit, engine)
        self.weights = nn.Parameter(torch.zeros(len(circuit.weights)))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the compiled program, which copies and pickles compile again."""
        return {name: value for name, value in self.__dict__.items() if name != "qnn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.qnn = StudentQNN(self.circuit, self.engine)

    def start(self, projection: nn.Linear, head: nn.Linear) -> None:
        """Draw weights near the identity, where gradients of local observables do not vanish.

        Source: Grant et al., arXiv:1903.05076.
        """
        nn.init.normal_(self.weights, std=WEIGHT_SPREAD)

    def center(self) -> torch.Tensor:
        """Return the circuit's ``start`` (A,), searched if the circuit does not specify it."""
        return torch.tensor(with_start(self.circuit).start, dtype=torch.float32)

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K) of angles (B,A); with shot noise where it trains for shots."""
        evs = self.qnn.evaluate(angles, self.weights)
        if not (self.training and self.train_shots):
            return evs
        scale = torch.tensor([abs(float(observable.coeffs[0].real)) for observable in self.circuit.observables]).to(evs)
        variance = (scale.square() - evs.square()).clamp_min(MIN_SHOT_VARIANCE) / self.train_shots
        return evs + variance.sqrt() * torch.randn_like(evs)

    def reseed(self, stream: int) -> None:
        """Start another stream of shots or trajectories."""
        self.engine.estimator.reseed(stream)

    @property
    def threads(self) -> int | None:
        """Number of threads that suits the engine."""
        return self.engine.estimator.threads

    def describe(self) -> str:
        """Return the engine's description and the reason for its choice."""
        return self.engine.describe()
