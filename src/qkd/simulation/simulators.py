"""An engine for a student: which estimator, on which torch device, and what a person should know about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.core.errors import ConfigError
from qkd.engines.aer import AerEstimator
from qkd.engines.base import EngineEstimator
from qkd.engines.density import DensityMatrixEstimator
from qkd.engines.gradient import EngineGradient
from qkd.engines.lightcone import LightConeEstimator
from qkd.engines.noise import NoiseLike
from qkd.engines.shots import ShotEstimator
from qkd.engines.statevector import StatevectorEstimator
from qkd.engines.trajectories import TrajectoryEstimator
from qkd.simulation.choice import ROWS, choose
from qkd.simulation.cost import cheapest, loads

THREADED = 14
"""Qubits from which a statevector's operations are worth more than one thread."""

MAX_SECONDS_PER_STEP = 1.0
"""Seconds a text up to which AerSimulator measures a student itself."""


@dataclass(frozen=True)
class Engine:
    """What answers a student's PUBs.

    kind: its name, as ``--engine`` takes it.
    estimator: a V2 estimator that also compiles to differentiable programs.
    gradient: gradients of its values.
    shots: per expectation value, or None where values are not sampled by shots.
    device: where its torch arithmetic happens.
    reason: what it is and why it was picked.
    """

    kind: str
    estimator: EngineEstimator
    gradient: EngineGradient
    shots: int | None
    device: torch.device
    reason: str

    def describe(self) -> str:
        """Return what computes, and why, in one line."""
        note = self.estimator.note()
        return f"{self.reason}; {note}" if note else self.reason


def make_engine(spec: EngineSpec, student: StudentCircuit, noise: NoiseLike = None, rows: int = ROWS) -> Engine:
    """Return the engine that ``spec`` asks to train with, for this circuit.

    Args:
        spec: the engine and its precision.
        student: the circuit that it will run.
        noise: the noise model on the circuit's qubits; None is an ideal device.
        rows: of the batches that it will see, by which ``auto`` chooses.

    Raises:
        QkdError: the torch device does not exist, or the engine cannot take the circuit or its noise.
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
            raise ConfigError("the statevector engine knows no noise; take --engine auto, lightcone or density")
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
    """Return one of the engines that know noise, and how exact it is, in words."""
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
    """Return what measures, with shots, what a student trained for ``--sim aer`` or ``aer-noisy`` does.

    That is AerSimulator, or where it would take too long for each text, the trainer's values with shot noise.

    Args:
        spec: how many shots.
        student: the circuit that is measured.
        noise: the noise model on the circuit's qubits; None is an ideal device.
        trainer: what it was trained with.
    """
    under = "without noise" if noise is None else "with the device's noise"
    seconds = 0.0
    if noise is not None:
        whole = loads(student, noisy=True)
        method = cheapest(whole, spec.shots)
        seconds = sum(load.seconds(method, spec.shots) for load in whole)
    if seconds <= MAX_SECONDS_PER_STEP or trainer.kind == "aer":
        estimator = AerEstimator(noise, shots=spec.shots, seed=spec.engine_seed)
        reason = f"AerSimulator {under}, {spec.shots:,} shots"
        return Engine("aer", estimator, EngineGradient(estimator), spec.shots, torch.device("cpu"), reason)
    sampler = ShotEstimator(trainer.estimator, shots=spec.shots, seed=spec.engine_seed)
    reason = (
        f"{trainer.kind} engine {under}, {spec.shots:,} shots drawn from its values (AerSimulator would take about "
        f"{seconds:.0f} s a text, and checks some)"
    )
    return Engine(trainer.kind, sampler, EngineGradient(sampler), spec.shots, trainer.device, reason)


def torch_device(name: str) -> torch.device:
    """Return the torch device called ``name``; ``auto`` is CUDA when there is one.

    Raises:
        QkdError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--torch-device {name}: not to be had here ({str(error).splitlines()[0]})") from None
