"""Engines for training and measurement, made from settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.config import EngineSpec
from qkd.core.errors import ConfigError
from qkd.engines.aer import AerEstimator, ShotEstimator
from qkd.engines.base import EngineEstimator
from qkd.engines.density import DensityMatrixEstimator
from qkd.engines.gradient import EngineGradient
from qkd.engines.lightcone import LightConeEstimator
from qkd.engines.noise import NoiseLike
from qkd.engines.statevector import StatevectorEstimator
from qkd.engines.trajectories import TrajectoryEstimator
from qkd.simulation.aer_cost import cheapest, loads
from qkd.simulation.choice import ROWS, choose

THREADED = 14
"""Width from which statevector operations profit from several threads."""

MAX_AER_SECONDS = 0.2
"""Estimated seconds per text up to which AerSimulator measures a student."""


@dataclass(frozen=True)
class Engine:
    """Estimator of a student's circuit with its gradient.

    Attributes:
        kind: The engine's name in ``--engine``.
        estimator: A V2 estimator that also compiles to differentiable programs.
        gradient: The gradient of its values.
        shots: The shots per expectation value, or None without sampling.
        device: The torch device.
        reason: A description with the reason of the choice.
    """

    kind: str
    estimator: EngineEstimator
    gradient: EngineGradient
    shots: int | None
    device: torch.device
    reason: str

    def describe(self) -> str:
        """Return one line with the engine, the reason of its choice and its accuracy."""
        note = self.estimator.note()
        return f"{self.reason}; {note}" if note else self.reason


@public
def make_engine(spec: EngineSpec, student: StudentCircuit, noise: NoiseLike = None, rows: int = ROWS) -> Engine:
    """Return the training engine for a circuit.

    Args:
        spec: The engine and its precision.
        student: The circuit.
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
        return Engine("aer", estimator, EngineGradient(estimator), spec.shots, torch.device("cpu"), reason)
    single = spec.precision == "single"
    if kind == "statevector":
        if noise is not None:
            raise ConfigError("the statevector engine has no noise; use --engine auto, lightcone or density")
        dtype = "complex64" if single else "complex128"
        plain = StatevectorEstimator(dtype=dtype, device=str(device))
        plain.threads = 1 if student.num_qubits < THREADED else None
        return Engine(
            kind,
            plain,
            EngineGradient(plain),
            None,
            device,
            f"statevector engine ({why}), exact, ideal, {dtype} on {device}",
        )
    dtype = "float32" if single else "float64"
    made, exact = _noisy(kind, spec, noise, dtype, str(device))
    return Engine(
        kind, made, EngineGradient(made), None, device, f"{kind} engine ({why}), {exact}, {under}, {dtype} on {device}"
    )


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

    Args:
        spec: The number of shots.
        student: The circuit.
        noise: The noise model on the circuit's qubits; None is an ideal device.
        trainer: The training engine.
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
        return Engine("aer", estimator, EngineGradient(estimator), spec.shots, torch.device("cpu"), reason)
    sampler = ShotEstimator(trainer.estimator, shots=spec.shots, seed=spec.engine_seed)
    reason = (
        f"{trainer.kind} engine {under}, {spec.shots:,} shots drawn from its values (AerSimulator would need about "
        f"{seconds:.0f} s per text)"
    )
    return Engine(trainer.kind, sampler, EngineGradient(sampler), spec.shots, trainer.device, reason)


def torch_device(name: str) -> torch.device:
    """Return the torch device called ``name``; ``auto`` is CUDA if available.

    Raises:
        ConfigError: The device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--torch-device {name}: not available ({str(error).splitlines()[0]})") from None
