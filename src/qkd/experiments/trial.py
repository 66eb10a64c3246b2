"""One student trained once: what a worker process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qkd.core.config import Config
from qkd.core.console import suppressed_output
from qkd.core.errors import QkdError
from qkd.encoders.trainable import make_trainable
from qkd.engines.machine import threads
from qkd.experiments.candidates import Candidate
from qkd.experiments.conditions import EXACT, Conditions
from qkd.results import Parameters
from qkd.results.study import TrialResult, ValidationResult
from qkd.simulation.factory import torch_device
from qkd.student import logreg
from qkd.student.cores.quantum import QuantumCore
from qkd.student.lesson import Lesson, make_trainer, make_tuner
from qkd.student.trainer import Trainer


@suppressed_output()  # the driver tells how far all of them are
@threads(1)
def run_trial(candidate: Candidate, lesson: Lesson, seed: int, conditions: Conditions = EXACT) -> TrialResult:
    """Train one student once and return what it answers.

    Args:
        candidate: the student.
        lesson: what it learns from, and is tested on.
        seed: of its initial weights, batches and dropout.
        conditions: what a circuit is trained for, and under what it answers.
    """
    started = time.perf_counter()
    if candidate.is_logreg:
        logits, count = logreg.fit_logreg(lesson)
        seconds = time.perf_counter() - started
        return _answers(logits, None, Parameters(classical=count, quantum=0), seconds, 0, 0.0)
    trainer = _trained(candidate, lesson, seed, conditions=conditions)
    seconds, epochs = trainer.progress.seconds, trainer.progress.epoch
    if candidate.tune:
        tuner, lesson = _tuned(candidate, trainer, lesson, seed)
        seconds, epochs = seconds + tuner.progress.seconds, epochs + tuner.progress.epoch
    student, test = trainer.student, lesson.embeddings[lesson.test]
    besides, curves = None, {}
    begun = time.perf_counter()
    if candidate.is_quantum:
        circuit = candidate.circuit()
        ideal = circuit, candidate.engine(circuit)
        begun = time.perf_counter()
        logits = conditions.logits(conditions.sims[0], student, ideal, test, seed)
    else:
        logits = student.logits(test)
    each = 1000 * (time.perf_counter() - begun) / max(len(test), 1)
    if candidate.is_quantum:
        if len(conditions.sims) > 1:
            besides = conditions.logits(conditions.sims[1], student, ideal, test, seed)
        curves = conditions.curves(student, ideal, test, seed)
    return _answers(logits, besides, student.parameter_counts(), seconds, epochs, each, curves)


@suppressed_output()
@threads(1)
def run_validation(
    candidate: Candidate, lesson: Lesson, seed: int, on_epoch: Callable[[dict[str, float]], None] | None = None
) -> ValidationResult:
    """Train one student once and return what validation texts say of it; test texts are not looked at.

    Args:
        candidate: the student, with a core of its own.
        lesson: what it learns from.
        seed: of its initial weights, batches and dropout.
        on_epoch: called with every epoch's history row; what it raises ends the training.
    """
    trainer = _trained(candidate, lesson, seed, on_epoch)
    stages = [trainer.progress]
    if candidate.tune:
        stages.append(_tuned(candidate, trainer, lesson, seed)[0].progress)
    best = [stage for stage in stages if stage.best_epoch][-1]
    return ValidationResult(
        valid_loss=best.best_loss,
        valid_accuracy=best.history[best.best_epoch - 1]["valid_accuracy"],
        epochs=sum(stage.epoch for stage in stages),
        seconds=round(sum(stage.seconds for stage in stages), 3),
        parameters=trainer.student.parameter_counts(),
    )


def _trained(
    candidate: Candidate,
    lesson: Lesson,
    seed: int,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    conditions: Conditions = EXACT,
) -> Trainer:
    """Return the trainer of one student, done."""
    config = _seeded(candidate, seed)
    noisy = conditions.trainer() if candidate.is_quantum else None
    core = (
        QuantumCore(*noisy, config.train.train_shots)
        if noisy
        else candidate.core(candidate.circuit(), len(lesson.classes))
    )
    trainer = make_trainer(config, core, lesson, torch_device(config.engine.torch_device), None)
    if not trainer.run(on_epoch):
        raise KeyboardInterrupt
    return trainer


def _tuned(candidate: Candidate, trainer: Trainer, lesson: Lesson, seed: int) -> tuple[Trainer, Lesson]:
    """Train a trained student on with its encoder's last layers; return the trainer, and the lesson as it became."""
    if lesson.encoder is None:
        raise QkdError(f"the lesson of '{candidate.name}' has no encoder to train")
    front = make_trainable(lesson.encoder, lesson.texts, candidate.tune)
    tuner = make_tuner(_seeded(candidate, seed), trainer, lesson, front, None)
    if not tuner.run():
        raise KeyboardInterrupt
    return tuner, replace(lesson, embeddings=front.embeddings())


def _seeded(candidate: Candidate, seed: int) -> Config:
    train = candidate.config.train.model_copy(update={"seed": seed})
    return candidate.config.model_copy(update={"train": train})


@suppressed_output()
@threads(1)
def repetitions(candidate: Candidate, lesson: Lesson, count: int) -> list[TrialResult]:
    """Train one model ``count`` times over, each time on from where it stands, and return what it answers after each.

    That is what a loop over repetitions does that makes its model before the loop: a slip, kept to see what it does.
    """
    config, circuit = candidate.config, candidate.circuit()
    core = candidate.core(circuit, len(lesson.classes))
    trainer = make_trainer(config, core, lesson, torch_device(config.engine.torch_device), None)
    answers = []
    for number in range(count):
        if number:
            trainer = Trainer(trainer.student, trainer.train_set, trainer.valid_set, config.loss, config.train)
        if not trainer.run():
            raise KeyboardInterrupt
        logits, progress = trainer.student.logits(lesson.embeddings[lesson.test]), trainer.progress
        parameters = trainer.student.parameter_counts()
        answers.append(_answers(logits, None, parameters, progress.seconds, progress.epoch, 0.0))
    return answers


def _answers(
    logits: np.ndarray,
    measured: np.ndarray | None,
    parameters: Parameters,
    seconds: float,
    epochs: int,
    each: float,
    curves: dict[str, dict[str, tuple[int, ...]]] | None = None,
) -> TrialResult:
    if not np.isfinite(logits).all():
        raise QkdError("a student answered with numbers that are not finite; lower --lr")
    return TrialResult(
        logits=np.round(logits.astype(float), 6).tolist(),
        measured=None if measured is None else np.round(measured.astype(float), 6).tolist(),
        curves=curves or {},
        parameters=parameters,
        seconds=round(seconds, 3),
        epochs=epochs,
        ms_per_text=round(each, 4),
    )
