"""The cores of students: angles (B,A) in, K features (B,K) out.

Students differ in their core alone. ``StudentCore`` is the interface. ``QuantumCore`` runs a circuit. The controls
``Linear``, ``Mlp`` and ``Fourier`` are torch modules of the same size. The control ``product`` is the circuit without
entanglers, so it is a ``QuantumCore``, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit_machine_learning.neural_networks import EstimatorQNN
from torch import nn
from torch.nn.utils import skip_init

from qkd.circuits.cone import input_uses
from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.core.errors import CircuitError, ConfigError, nearest
from qkd.simulation.factory import Engine, make_engine
from qkd.simulation.start import WEIGHT_SPREAD, with_start

MIN_SHOT_VARIANCE = 1e-6
"""Smallest variance of one shot: at |ev| = 1 the gradient of the square root is infinite."""


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
        """Draw the initial parameters of the core and, where it needs that, of its neighbors."""

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
        self.uses = torch.as_tensor([input_uses(circuit, k) for k in range(len(circuit.observables))])
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


class StudentQNN(EstimatorQNN):
    """An ``EstimatorQNN`` that calls its engine once per evaluation.

    A stock ``EstimatorQNN`` sends one PUB per observable and disables input gradients. This one sends a single PUB
    ``(circuit, observables (K,1), values (B, A+P))`` and always has input gradients, which train the projection.
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
        """Start another stream of shots."""
        self.engine.estimator.reseed(stream)

    @property
    def threads(self) -> int | None:
        """Number of threads that suits the engine."""
        return self.engine.estimator.threads

    def describe(self) -> str:
        """Return the engine's description and the reason for its choice."""
        return self.engine.describe()


CLASSICAL: dict[str, Callable[[StudentCircuit, int], StudentCore]] = {"linear": Linear, "mlp": Mlp, "fourier": Fourier}
"""Classical controls by name: functions of the circuit whose size they have, and of C."""


def make_control(name: str, circuit: StudentCircuit, classes: int, engine: EngineSpec) -> StudentCore:
    """Return the core of a control with a circuit's size.

    Args:
        name: ``linear``, ``mlp``, ``fourier``, or ``product``, the circuit without its entanglers.
        circuit: the circuit whose size the control has.
        engine: the engine that runs ``product``.

    Raises:
        QkdError: there is no such control.
    """
    if name == "product":
        alone = without_entanglers(circuit)
        return QuantumCore(alone, make_engine(engine, alone))
    if name not in CLASSICAL:
        raise ConfigError(f"there is no control '{name}'{nearest(name, [*CLASSICAL, 'product'])}")
    return CLASSICAL[name](circuit, classes)


def without_entanglers(circuit: StudentCircuit) -> StudentCircuit:
    """Return the single-qubit gates of a circuit with their parameters, in the same order."""
    product = QuantumCircuit(circuit.num_qubits, name="product")
    for item in circuit.circuit.data:
        if len(item.qubits) == 1:
            product.append(item.operation, [circuit.circuit.find_bit(item.qubits[0]).index])
    used = set(product.parameters)
    return StudentCircuit(
        product,
        tuple(parameter for parameter in circuit.inputs if parameter in used),
        tuple(parameter for parameter in circuit.weights if parameter in used),
        circuit.observables,
        name="product",
    )
