"""Under what a trained student answers the test texts: exact values, shots, a device's noise, more or less of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.cache import Key
from qkd.core.config import Config, EngineSpec
from qkd.core.console import say
from qkd.core.errors import QkdError
from qkd.engines import AerEstimator
from qkd.engines.gradient import EngineGradient
from qkd.engines.noise import Noise, NoiseLike
from qkd.engines.shots import ShotEstimator
from qkd.experiments.specs import CompareSpec
from qkd.pipeline.evaluation import measured
from qkd.simulation.aer_check import compare_with_aer
from qkd.simulation.factory import Engine, make_engine
from qkd.simulation.setup import DeviceCircuit, place
from qkd.student.model import StudentModel

NOISY = "aer-noisy"


@dataclass(frozen=True)
class Conditions:
    """What a trained circuit is asked.

    sims: the first is what it is trained for and judged by, a second what it is measured with besides.
    spec: shots and the engine of noisy values.
    noisy: the circuit where it stands on a device; None where none is asked for.
    shots: numbers of shots of a curve, measured on the last of ``sims`` that samples.
    noise: factors of the device's gate errors of a curve, values without shot noise.
    """

    sims: tuple[str, ...] = ("exact",)
    spec: EngineSpec = field(default_factory=EngineSpec)
    noisy: DeviceCircuit | None = None
    shots: tuple[int, ...] = ()
    noise: tuple[float, ...] = ()

    @property
    def trains_noisy(self) -> bool:
        """Whether the device's noise is there while the student is trained."""
        return self.sims[0] == NOISY

    def key(self) -> Key:
        """Return everything that determines it, as JSON values."""
        key: dict[str, object] = {"sims": list(self.sims), "spec": self.spec.model_dump(mode="json")}
        key |= {"shots": list(self.shots), "noise": list(self.noise)}
        if self.noisy is not None:
            key |= {"device": self.noisy.snapshot.name, "date": str(self.noisy.snapshot.calibration.date)}
            key |= {"qubits": list(self.noisy.region.qubits)}
        return key

    def first(self) -> Conditions:
        """Return what circuits are judged by alone, nothing besides and no curves of shots or noise."""
        noisy = self.noisy if self.trains_noisy else None
        return replace(self, sims=self.sims[:1], noisy=noisy, shots=(), noise=())

    def trainer(self) -> tuple[StudentCircuit, Engine] | None:
        """Return circuit and engine of training under noise, None where it is trained ideally."""
        if not self.trains_noisy or self.noisy is None:
            return None
        return self.noisy.circuit, make_engine(self._noisy_spec, self.noisy.circuit, self.noisy.model)

    def logits(
        self, sim: str, student: StudentModel, ideal: tuple[StudentCircuit, Engine], x: np.ndarray, seed: int
    ) -> np.ndarray:
        """Return logits (N,C) of embeddings x (N,D) under one of ``sims``.

        Args:
            sim: which.
            student: trained, wherever its circuit stands.
            ideal: the logical circuit and an engine of exact values.
            x: embeddings.
            seed: of the shots.
        """
        if sim == "exact":
            return student.with_engine(*ideal).logits(x)
        return self._sampled(student, *self._stage(sim == NOISY, ideal), self.spec.shots, x, seed)

    def curves(
        self, student: StudentModel, ideal: tuple[StudentCircuit, Engine], x: np.ndarray, seed: int
    ) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the classes (N,) of embeddings x (N,D) for each number of shots and for each strength of noise."""
        classes: dict[str, dict[str, tuple[int, ...]]] = {"shots": {}, "noise": {}}
        if self.shots:
            stage = self._stage(self.noisy is not None, ideal)
            for shots in self.shots:
                logits = self._sampled(student, *stage, shots, x, seed)
                classes["shots"][str(shots)] = tuple(logits.argmax(axis=1).tolist())
        for factor in self.noise:
            logits = student.with_engine(*self._stage(True, ideal, factor)).logits(x)
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
        model: NoiseLike = self.noisy.model
        if factor != 1.0:
            model = Noise.from_model(model).scaled(factor)
        return self.noisy.circuit, make_engine(self._noisy_spec, self.noisy.circuit, model)

    def _sampled(
        self, student: StudentModel, circuit: StudentCircuit, engine: Engine, shots: int, x: np.ndarray, seed: int
    ) -> np.ndarray:
        sampler = ShotEstimator(engine.estimator, shots=shots, seed=self.spec.engine_seed + seed)
        sampling_engine = Engine(engine.kind, sampler, EngineGradient(sampler), shots, engine.device, engine.reason)
        return measured(student.with_engine(circuit, sampling_engine), x, "")


EXACT = Conditions()
"""Exact values, and nothing besides."""


def conditions_of(config: Config, spec: CompareSpec, circuit: StudentCircuit, name: str) -> Conditions:
    """Return what ``spec`` asks of a student's circuit, its noisy values checked against AerSimulator.

    Args:
        config: engine and device.
        spec: simulators and curves.
        circuit: the student's.
        name: the student's.

    Raises:
        QkdError: the circuit does not fit the device, or the engine and AerSimulator disagree.
    """
    noisy = None
    if NOISY in spec.sims:
        noisy = place(config, circuit)
        say(f"{name}: {noisy.describe()}")
        engine = make_engine(config.engine.model_copy(update={"sim": NOISY}), noisy.circuit, noisy.model)
        if not isinstance(engine.estimator, AerEstimator):
            agreement = compare_with_aer(engine, noisy.circuit, noisy.model)
            say(agreement.describe() if agreement else f"{name}: not compared with AerSimulator")
    return Conditions(spec.sims, config.engine, noisy, spec.shot_counts, spec.noise_scales)


def check_conditions(spec: CompareSpec) -> None:
    """Refuse simulators and curves that do not go together.

    Raises:
        QkdError: they do not.
    """
    if len(spec.sims) > 2 or len(set(spec.sims)) < len(spec.sims) or not spec.sims:
        raise QkdError("--sims takes one, or two that differ, such as exact,aer-noisy; compare twice for more")
    if spec.noise_scales and NOISY not in spec.sims:
        raise QkdError(
            "--noise-scales scales a device's noise: add aer-noisy to --sims, such as --sims exact,aer-noisy"
        )
