"""One student trained once: what a worker process does."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from qkd.comparison.contestants import Contestant
from qkd.config import EngineSpec
from qkd.console import hushed
from qkd.engines.gradient import EngineGradient
from qkd.engines.machine import threads
from qkd.engines.shots import ShotEstimator
from qkd.errors import QkdError
from qkd.evaluation import measured
from qkd.simulation.make import Engine, make_engine, torch_device
from qkd.simulation.setting import Noisy
from qkd.student import logreg
from qkd.student.lesson import Lesson, make_trainer
from qkd.student.model import StudentModel
from qkd.student.trainer import Trainer


@hushed()  # the driver tells how far all of them are
@threads(1)
def run(
    contestant: Contestant, lesson: Lesson, seed: int, shots: EngineSpec | None = None, noisy: Noisy | None = None
) -> dict[str, Any]:
    """Train one student once and return what it answers.

    Args:
        contestant: the student.
        lesson: what it learns from, and is tested on.
        seed: of its initial weights, batches and dropout.
        shots: how a circuit is measured with shots too, ideal or under noise; None leaves that out.
        noisy: the circuit where it stands on a device; None is an ideal device.

    Returns:
        ``{"logits", "measured", "parameters", "seconds", "epochs", "ms_per_text"}``: logits (N_test,C) with exact
        values, and those measured, or None.
    """
    started = time.perf_counter()
    if contestant.is_logreg:
        logits, count = logreg.fit(lesson)
        seconds = time.perf_counter() - started
        return _result(logits, None, {"classical": count, "quantum": 0}, seconds, 0, 0.0)
    config = contestant.config
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    circuit = contestant.circuit()
    middle = contestant.middle(circuit, len(lesson.classes))
    trainer = make_trainer(config, middle, lesson, torch_device(config.engine.torch_device), None)
    if not trainer.run():
        raise KeyboardInterrupt
    student, test = trainer.student, lesson.embeddings[lesson.test]
    begun = time.perf_counter()
    logits = student.logits(test)
    each = 1000 * (time.perf_counter() - begun) / max(len(test), 1)
    found = None
    if shots is not None and contestant.is_quantum:
        found = _with_shots(student, shots, noisy, test, seed)
    progress = trainer.progress
    return _result(logits, found, student.parameter_counts().to_json(), progress.seconds, progress.epoch, each)


@hushed()
@threads(1)
def repetitions(contestant: Contestant, lesson: Lesson, count: int) -> list[dict[str, Any]]:
    """Train one model ``count`` times over, each time on from where it stands, and return what it answers after each.

    That is what a loop over repetitions does that makes its model before the loop: a slip, kept to see what it does.
    """
    config, circuit = contestant.config, contestant.circuit()
    middle = contestant.middle(circuit, len(lesson.classes))
    trainer = make_trainer(config, middle, lesson, torch_device(config.engine.torch_device), None)
    found = []
    for number in range(count):
        if number:
            trainer = Trainer(trainer.student, trainer.train_set, trainer.valid_set, config.loss, config.train)
        if not trainer.run():
            raise KeyboardInterrupt
        logits, progress = trainer.student.logits(lesson.embeddings[lesson.test]), trainer.progress
        parameters = trainer.student.parameter_counts().to_json()
        found.append(_result(logits, None, parameters, progress.seconds, progress.epoch, 0.0))
    return found


def _with_shots(
    student: StudentModel, spec: EngineSpec, noisy: Noisy | None, embeddings: np.ndarray, seed: int
) -> np.ndarray:
    """Return logits (N,C) from expectation values with shot noise, of the ideal or the noisy circuit."""
    circuit = student.circuit if noisy is None else noisy.circuit
    engine = make_engine(spec, circuit, None if noisy is None else noisy.model)
    sampler = ShotEstimator(engine.estimator, shots=spec.shots, seed=spec.seed + seed)
    told = Engine(engine.kind, sampler, EngineGradient(sampler), spec.shots, engine.device, engine.reason)
    return measured(student.moved(circuit, told), embeddings, "")


def _result(
    logits: np.ndarray,
    found: np.ndarray | None,
    parameters: dict[str, int],
    seconds: float,
    epochs: int,
    each: float,
) -> dict[str, Any]:
    if not np.isfinite(logits).all():
        raise QkdError("a student answered with numbers that are not finite; lower --lr")
    return {
        "logits": np.round(logits.astype(float), 6).tolist(),
        "measured": None if found is None else np.round(found.astype(float), 6).tolist(),
        "parameters": parameters,
        "seconds": round(seconds, 3),
        "epochs": epochs,
        "ms_per_text": round(each, 4),
    }
