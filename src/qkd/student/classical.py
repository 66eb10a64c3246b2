"""The classical form of a trained student: plain float64 arrays and a pure numpy function.

A circuit becomes tensor contractions (``student/contraction.py``) or, where those are too large, a list of gates for a
statevector (``student/gatelist.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import ModelError
from qkd.engines.base import EngineEstimator
from qkd.student.contraction import ContractedCircuit, contract
from qkd.student.gatelist import MAX_QUBITS, GateList, gate_list
from qkd.student.metrics import softmax
from qkd.student.model import StudentModel

CHUNK_ROWS = 4096


@dataclass(frozen=True)
class LinearCore:
    """The identity: features (B,A) of inputs (B,A)."""

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return the inputs."""
        return angles


@dataclass(frozen=True)
class MlpCore:
    """The residual block ``x + tanh(x U + u) V`` with x = angles / pi.

    Attributes:
        hidden: U (A,H).
        hidden_bias: u (H,).
        out: V (H,A).
    """

    hidden: np.ndarray
    hidden_bias: np.ndarray
    out: np.ndarray

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return features (B,A)."""
        x = angles / np.pi
        return x + np.tanh(x @ self.hidden + self.hidden_bias) @ self.out


@dataclass(frozen=True)
class FourierCore:
    """Random Fourier features ``cos(angles @ frequencies + phases)``.

    Attributes:
        frequencies: Frequencies (A,K).
        phases: Phases (K,), radians.
    """

    frequencies: np.ndarray
    phases: np.ndarray

    def __call__(self, angles: np.ndarray) -> np.ndarray:
        """Return features (B,K)."""
        return np.cos(angles @ self.frequencies + self.phases)


Core = ContractedCircuit | GateList | LinearCore | MlpCore | FourierCore


@dataclass(frozen=True)
class ClassicalForm:
    """A student as plain float64 arrays, from embeddings (B,D) to probabilities (B,C).

    Attributes:
        classes: The C class names.
        weight: Projection (D,A), standardization included.
        bias: Offset (A,) of the projection.
        angle_map: ``tanh`` (angles in (-pi, pi)), ``minmax`` ([0, 10] for each text) or ``none``.
        core: Function from angles (B,A) to features (B,K).
        head: Matrix (K,C).
        head_bias: Offset (C,) of the logits.
    """

    classes: tuple[str, ...]
    weight: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    angle_map: str
    core: Core = field(repr=False)
    head: np.ndarray = field(repr=False)
    head_bias: np.ndarray = field(repr=False)

    @property
    def bounds(self) -> np.ndarray:
        """Largest possible error (K,) of each feature; rounding errors where the form is exact."""
        exact = np.zeros(len(self.head))
        return self.core.bounds if isinstance(self.core, ContractedCircuit) else exact

    def angles(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the core's inputs (B,A), radians for circuits, of embeddings (B,D)."""
        z = np.asarray(embeddings, dtype=np.float64) @ self.weight + self.bias
        if self.angle_map == "none":
            return z
        if self.angle_map == "tanh":
            return np.pi * np.tanh(z)
        low, high = z.min(axis=1, keepdims=True), z.max(axis=1, keepdims=True)
        return 10 * (z - low) / (high - low + 1e-9)

    def values(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the core's features (B,K), expectation values for circuits, of embeddings (B,D)."""
        angles = self.angles(embeddings)
        parts = [self.core(angles[start : start + CHUNK_ROWS]) for start in range(0, len(angles), CHUNK_ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.head)))

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return logits (B,C), float64, of embeddings (B,D)."""
        return self.values(embeddings) @ self.head + self.head_bias

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        """Return class probabilities (B,C), float64, of embeddings (B,D)."""
        return softmax(self.logits(embeddings))


def classical_form(model: StudentModel, tolerance: float = 0.0) -> ClassicalForm:
    """Return the classical form of a student or of a classical control.

    A student whose engine has a noise model gets the noisy form. A circuit whose light cones hold too many inputs, or
    whose inputs enter with frequencies that are not whole numbers, becomes a list of gates for a statevector.

    Args:
        tolerance: Largest allowed error of an expectation value; 0 keeps the form exact.

    Raises:
        ModelError: The circuit has neither form, with the reason.
    """
    if not tolerance >= 0:
        raise ModelError(f"tolerance = {tolerance} is no error of an expectation value; give 0 or more")
    form = linear_form(model)
    return replace(form, core=_core(model, _state(model), tolerance))


def linear_form(model: StudentModel) -> ClassicalForm:
    """Return projection and head of a student around a core that returns its inputs."""
    state = _state(model)
    weight = state["projection.weight"] * state["scale"]
    return ClassicalForm(
        classes=model.classes,
        weight=np.ascontiguousarray(weight.T),
        bias=state["projection.bias"] - weight @ state["center"],
        angle_map=model.angle_map if model.core.mapped else "none",
        core=LinearCore(),
        head=np.ascontiguousarray(state["head.weight"].T),
        head_bias=state["head.bias"],
    )


def _state(model: StudentModel) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().double().numpy() for name, value in model.state_dict().items()}


def _core(model: StudentModel, state: dict[str, np.ndarray], tolerance: float) -> Core:
    name = model.core.name
    if "core.weights" in state:
        return _circuit_core(model.circuit, state["core.weights"], model.engine.estimator, tolerance)
    if name == "linear":
        return LinearCore()
    if name == "mlp":
        hidden, out = state["core.hidden.weight"].T, state["core.out.weight"].T
        return MlpCore(hidden, state["core.hidden.bias"], out)
    if name == "fourier":
        return FourierCore(state["core.frequencies"], state["core.phases"])
    raise ModelError(f"the student's core '{name}' has no classical form; export a circuit, linear, mlp or fourier")


def _circuit_core(
    circuit: StudentCircuit, weights: np.ndarray, engine: EngineEstimator, tolerance: float
) -> ContractedCircuit | GateList:
    noise = getattr(getattr(engine, "engine", engine), "noise_model", None)
    try:
        return contract(circuit, weights, noise, tolerance)
    except ModelError as error:
        if noise is not None:
            raise ModelError(f"{error}; a statevector knows no noise, so export the student without noise") from None
        if circuit.num_qubits > MAX_QUBITS:
            raise ModelError(
                f"{error}; the circuit has {circuit.num_qubits} qubits and a statevector form takes at most "
                f"{MAX_QUBITS}; use fewer layers or qubits"
            ) from None
        return gate_list(circuit, weights)
