"""Conditions of an evaluation: exact values, shots, a device's noise, and curves over shots and noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.cache import Key
from qkd.core.config import Config, EngineSpec
from qkd.core.console import log
from qkd.core.errors import QkdError
from qkd.engines import AerEstimator
from qkd.engines.aer import ShotEstimator
from qkd.engines.noise import Noise, NoiseLike
from qkd.experiments.specs import CompareSpec
from qkd.pipeline.evaluation import measured_logits
from qkd.simulation.aer_check import compare_with_aer
from qkd.simulation.factory import Engine, make_engine
from qkd.simulation.setup import DeviceCircuit, place
from qkd.student.model import StudentModel

NOISY = "aer-noisy"


@dataclass(frozen=True)
class Conditions:
    """Conditions under which a circuit is trained and evaluated.

    Attributes:
        sims: The simulator that the circuit is trained for and judged by, and a second one that measures it.
        spec: Shots, and the engine of noisy values.
        noisy: The circuit on a device, or None.
        shots: Numbers of shots of a curve, measured on the last of ``sims`` that samples.
        noise: Factors of the device's gate errors of a curve, without shot noise.
    """

    sims: tuple[str, ...] = ("exact",)
    spec: EngineSpec = field(default_factory=EngineSpec)
    noisy: DeviceCircuit | None = None
    shots: tuple[int, ...] = ()
    noise: tuple[float, ...] = ()

    @property
    def trains_noisy(self) -> bool:
        """True if the student is trained under the device's noise."""
        return self.sims[0] == NOISY

    def key(self) -> Key:
        """Return everything that determines the results, as JSON values."""
        key: dict[str, object] = {"sims": list(self.sims), "spec": self.spec.model_dump(mode="json")}
        key |= {"shots": list(self.shots), "noise": list(self.noise)}
        if self.noisy is not None:
            key |= {"device": self.noisy.snapshot.name, "date": str(self.noisy.snapshot.calibration.date)}
            key |= {"qubits": list(self.noisy.region.qubits)}
        return key

    def first(self) -> Conditions:
        """Return the conditions without a second simulator and curves."""
        noisy = self.noisy if self.trains_noisy else None
        return replace(self, sims=self.sims[:1], noisy=noisy, shots=(), noise=())

    def trainer(self) -> tuple[StudentCircuit, Engine] | None:
        """Return circuit and engine of training under noise, or None for ideal training."""
        if not self.trains_noisy or self.noisy is None:
            return None
        return self.noisy.circuit, make_engine(self._noisy_spec, self.noisy.circuit, self.noisy.model)

    def logits(
        self, sim: str, model: StudentModel, ideal: tuple[StudentCircuit, Engine], x: np.ndarray, seed: int
    ) -> np.ndarray:
        """Return logits (N,C) of embeddings x (N,D) under one of ``sims``.

        Args:
            ideal: the logical circuit and an engine of exact values.
        """
        if sim == "exact":
            return model.with_engine(*ideal).logits(x)
        return self._sampled(model, *self._stage(sim == NOISY, ideal), self.spec.shots, x, seed)

    def curves(
        self, model: StudentModel, ideal: tuple[StudentCircuit, Engine], x: np.ndarray, seed: int
    ) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the classes (N,) of embeddings x (N,D) for each number of shots and for each strength of noise."""
        classes: dict[str, dict[str, tuple[int, ...]]] = {"shots": {}, "noise": {}}
        if self.shots:
            stage = self._stage(self.noisy is not None, ideal)
            for shots in self.shots:
                logits = self._sampled(model, *stage, shots, x, seed)
                classes["shots"][str(shots)] = tuple(logits.argmax(axis=1).tolist())
        for factor in self.noise:
            logits = model.with_engine(*self._stage(True, ideal, factor)).logits(x)
            classes["noise"][str(factor)] = tuple(logits.argmax(axis=1).tolist())
        return classes

    @property
    def _noisy_spec(self) -> EngineSpec:
        return self.spec.model_copy(update={"sim": NOISY})

    def _stage(
        self, noisy: bool, ideal: tuple[StudentCircuit, Engine], factor: float = 1.0
    ) -> tuple[StudentCircuit, Engine]:
        """Return circuit and engine of values without shot noise, on the device or ideal."""
        if not noisy or self.noisy is None:
            return ideal
        noise: NoiseLike = self.noisy.model
        if factor != 1.0:
            noise = Noise.from_model(noise).scaled(factor)
        return self.noisy.circuit, make_engine(self._noisy_spec, self.noisy.circuit, noise)

    def _sampled(
        self, model: StudentModel, circuit: StudentCircuit, engine: Engine, shots: int, x: np.ndarray, seed: int
    ) -> np.ndarray:
        sampler = ShotEstimator(engine.estimator, shots=shots, seed=self.spec.engine_seed + seed)
        sampling_engine = Engine(engine.kind, sampler, shots, engine.device, engine.reason)
        return measured_logits(model.with_engine(circuit, sampling_engine), x, "")


EXACT = Conditions()
"""Exact values alone."""


def make_conditions(config: Config, spec: CompareSpec, circuit: StudentCircuit, name: str) -> Conditions:
    """Return the conditions of a circuit, with its noisy values checked against AerSimulator."""
    noisy = None
    if NOISY in spec.sims:
        noisy = place(config, circuit)
        log.info(f"{name}: {noisy.describe()}")
        engine = make_engine(config.engine.model_copy(update={"sim": NOISY}), noisy.circuit, noisy.model)
        if not isinstance(engine.estimator, AerEstimator):
            agreement = compare_with_aer(engine, noisy.circuit, noisy.model)
            log.info(agreement.describe() if agreement else f"{name}: not compared with AerSimulator")
    return Conditions(spec.sims, config.engine, noisy, spec.shot_counts, spec.noise_scales)


def check_conditions(spec: CompareSpec) -> None:
    """Refuse simulators and curves that do not fit together."""
    if len(spec.sims) > 2 or len(set(spec.sims)) < len(spec.sims) or not spec.sims:
        raise QkdError("--sims takes one, or two that differ, such as exact,aer-noisy; compare twice for more")
    if spec.noise_scales and NOISY not in spec.sims:
        raise QkdError(
            "--noise-scales scales a device's noise: add aer-noisy to --sims, such as --sims exact,aer-noisy"
        )
