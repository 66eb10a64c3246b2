"""Engines for training and measurement, made from settings, and the cost of AerSimulator under noise.

The constants of that cost are seconds on one core, fitted to Aer 0.18.2 with IBM's noise models. They are no
measurements of the machine at hand, so that the same circuit is simulated with the same method everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from qiskit.circuit import CircuitInstruction

from qkd.circuits.cone import past
from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.config import EngineSpec
from qkd.core.errors import ConfigError
from qkd.engines.aer import MAX_EXACT_QUBITS, AerEstimator, ShotEstimator
from qkd.engines.base import EngineEstimator
from qkd.engines.density import DensityMatrixEstimator
from qkd.engines.gradient import EngineGradient
from qkd.engines.lightcone import LightConeEstimator
from qkd.engines.measured import measurement_groups
from qkd.engines.noise import NoiseLike
from qkd.engines.program import pauli_terms
from qkd.engines.statevector import StatevectorEstimator
from qkd.engines.trajectories import TrajectoryEstimator
from qkd.simulation.choice import MAX_STATE_QUBITS, ROWS, choose

METHODS = {
    "density_matrix": "density matrices",
    "statevector": "trajectories of statevectors",
    "matrix_product_state": "trajectories of matrix product states",
}
"""Aer's methods under noise with their descriptions."""
THREADED = 14
"""Width from which statevector operations profit from several threads."""

MAX_AER_SECONDS = 0.2
"""Estimated seconds per text up to which AerSimulator measures a student."""


@dataclass(frozen=True)
class Load:
    """Pauli strings that are measured together, with the size of their light cone.

    Attributes:
        strings: The indices of the Pauli strings.
        qubits: The number of qubits in the light cone.
        gates: The number of gates in the light cone.
        bond: An upper bound on the bond dimension of a matrix product state.
    """

    strings: tuple[int, ...]
    qubits: int
    gates: int
    bond: int

    def seconds(self, method: str, shots: int) -> float:
        """Return the estimated seconds for one parameter vector."""
        if method == "density_matrix":
            return self.gates * (3e-5 + 2e-9 * 4**self.qubits)
        if method == "statevector":
            return shots * self.gates * (5e-6 + 6.4e-9 * 2**self.qubits)
        return shots * self.gates * (1.8e-5 + 1.4e-9 * self.bond**3)


def loads(student: StudentCircuit, noisy: bool) -> list[Load]:
    """Return the groups of Pauli strings that AerSimulator measures together for a circuit."""
    terms, _, _ = pauli_terms(student.observables)
    groups = []
    for strings, qubits in measurement_groups(student.circuit, terms, noisy):
        measured = {qubit for t in strings for qubit, _ in terms[t]}
        items = past(student.circuit, measured)[1]
        groups.append(Load(tuple(strings), len(qubits), len(items), _bond(student, qubits, items)))
    return groups


def cheapest(groups: Sequence[Load], shots: int) -> str:
    """Return the method for the widest light cones: exact if possible, else the fastest."""
    if all(load.qubits <= MAX_EXACT_QUBITS for load in groups):
        return "density_matrix"
    methods = ["matrix_product_state"]
    if all(load.qubits <= MAX_STATE_QUBITS for load in groups):
        methods.append("statevector")
    return min(methods, key=lambda method: max(load.seconds(method, shots) for load in groups))


def _bond(student: StudentCircuit, qubits: Sequence[int], items: Sequence[CircuitInstruction]) -> int:
    """Return a bound on the bond dimension. Every two-qubit gate across a cut of the ordered qubits doubles it."""
    place = {qubit: i for i, qubit in enumerate(qubits)}
    crossings = [0] * max(1, len(qubits) - 1)
    for item in items:
        on = [place[student.circuit.find_bit(qubit).index] for qubit in item.qubits]
        for cut in range(min(on), max(on)):
            crossings[cut] += 1
    return max(2 ** min(count, cut + 1, len(qubits) - 1 - cut) for cut, count in enumerate(crossings))


@dataclass(frozen=True)
class Engine:
    """Estimator of a student's circuit with its gradient.

    Attributes:
        kind: The engine's name in ``--engine``.
        estimator: A V2 estimator that also compiles to differentiable programs.
        shots: The shots per expectation value, or None without sampling.
        device: The torch device.
        reason: A description with the reason of the choice.
    """

    kind: str
    estimator: EngineEstimator
    shots: int | None
    device: torch.device
    reason: str

    @cached_property
    def gradient(self) -> EngineGradient:
        """The gradient of its values."""
        return EngineGradient(self.estimator)

    def describe(self) -> str:
        """Return one line with the engine, the reason of its choice and its accuracy."""
        note = self.estimator.note()
        return f"{self.reason}; {note}" if note else self.reason


@public
def make_engine(spec: EngineSpec, student: StudentCircuit, noise: NoiseLike = None, rows: int = ROWS) -> Engine:
    """Return the training engine for a circuit.

    Args:
        noise: The noise model on the circuit's qubits; None is an ideal device.
        rows: The batch size, B, which the choice of ``auto`` depends on.

    Raises:
        QkdError: The torch device does not exist, or the engine does not support the circuit or the noise.
    """
    device = torch_device(spec.torch_device)
    under = "ideal" if noise is None else "under the device's noise"
    kind, why = (spec.engine, "as asked") if spec.engine != "auto" else choose(student, noise, spec.accuracy, rows)
    if kind == "aer":
        estimator = AerEstimator(noise, shots=spec.shots, seed=spec.engine_seed, gradient=spec.gradient)
        reason = f"aer engine ({why}), {spec.shots:,} shots, {under}, gradients by {spec.gradient}"
        return Engine("aer", estimator, spec.shots, torch.device("cpu"), reason)
    single = spec.precision == "single"
    if kind == "statevector":
        if noise is not None:
            raise ConfigError("the statevector engine has no noise; use --engine auto, lightcone or density")
        dtype = "complex64" if single else "complex128"
        plain = StatevectorEstimator(dtype=dtype, device=str(device))
        plain.threads = 1 if student.num_qubits < THREADED else None
        return Engine(kind, plain, None, device, f"statevector engine ({why}), exact, ideal, {dtype} on {device}")
    dtype = "float32" if single else "float64"
    made, exact = _noisy(kind, spec, noise, dtype, str(device))
    return Engine(kind, made, None, device, f"{kind} engine ({why}), {exact}, {under}, {dtype} on {device}")


def _noisy(kind: str, spec: EngineSpec, noise: NoiseLike, dtype: str, device: str) -> tuple[EngineEstimator, str]:
    """Return an engine with noise and a description of its accuracy."""
    if kind == "lightcone":
        cut = f"exact, to {spec.accuracy:g} in wide light cones" if spec.accuracy else "exact"
        if spec.truncation:
            cut = f"Pauli strings below {spec.truncation:g} left out"
        return LightConeEstimator(
            noise, dtype=dtype, device=device, accuracy=spec.accuracy, truncation=spec.truncation
        ), cut
    if kind == "density":
        return DensityMatrixEstimator(noise, dtype=dtype, device=device), "exact"
    sampled = f"{spec.trajectories} trajectories"
    return TrajectoryEstimator(
        noise, dtype=dtype, device=device, trajectories=spec.trajectories, seed=spec.engine_seed
    ), sampled


def make_sampler(spec: EngineSpec, student: StudentCircuit, noise: NoiseLike, trainer: Engine) -> Engine:
    """Return the engine that measures a student with shots after training.

    AerSimulator measures if it is fast enough. Otherwise shot noise is added to the values of the training engine.
    """
    under = "without noise" if noise is None else "with the device's noise"
    seconds = 0.0
    if noise is not None:
        whole = loads(student, noisy=True)
        method = cheapest(whole, spec.shots)
        seconds = sum(load.seconds(method, spec.shots) for load in whole)
    if seconds <= MAX_AER_SECONDS or trainer.kind == "aer":
        estimator = AerEstimator(noise, shots=spec.shots, seed=spec.engine_seed)
        reason = f"AerSimulator {under}, {spec.shots:,} shots"
        return Engine("aer", estimator, spec.shots, torch.device("cpu"), reason)
    sampler = ShotEstimator(trainer.estimator, shots=spec.shots, seed=spec.engine_seed)
    reason = (
        f"{trainer.kind} engine {under}, {spec.shots:,} shots drawn from its values (AerSimulator would need about "
        f"{seconds:.0f} s per text)"
    )
    return Engine(trainer.kind, sampler, spec.shots, trainer.device, reason)


def torch_device(name: str) -> torch.device:
    """Return the torch device called ``name``; ``auto`` is CUDA if available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--torch-device {name}: not available ({str(error).splitlines()[0]})") from None
