"""One student trained once: what a worker process does."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from qkd.comparison.conditions import EXACT, Conditions
from qkd.comparison.contestants import Contestant
from qkd.console import hushed
from qkd.engines.machine import threads
from qkd.errors import QkdError
from qkd.results import Parameters, TrialAnswers, Validated
from qkd.simulation.make import torch_device
from qkd.student import logreg
from qkd.student.lesson import Lesson, make_trainer
from qkd.student.middles.quantum import QuantumMiddle
from qkd.student.trainer import Trainer


@hushed()  # the driver tells how far all of them are
@threads(1)
def run_trial(contestant: Contestant, lesson: Lesson, seed: int, conditions: Conditions = EXACT) -> TrialAnswers:
    """Train one student once and return what it answers.

    Args:
        contestant: the student.
        lesson: what it learns from, and is tested on.
        seed: of its initial weights, batches and dropout.
        conditions: what a circuit is trained for, and under what it answers.
    """
    started = time.perf_counter()
    if contestant.is_logreg:
        logits, count = logreg.fit_logreg(lesson)
        seconds = time.perf_counter() - started
        return _answers(logits, None, Parameters(classical=count, quantum=0), seconds, 0, 0.0)
    trainer = _trained(contestant, lesson, seed, conditions=conditions)
    student, test = trainer.student, lesson.embeddings[lesson.test]
    besides, curves = None, {}
    begun = time.perf_counter()
    if contestant.is_quantum:
        circuit = contestant.circuit()
        ideal = circuit, contestant.engine(circuit)
        begun = time.perf_counter()
        logits = conditions.logits(conditions.sims[0], student, ideal, test, seed)
    else:
        logits = student.logits(test)
    each = 1000 * (time.perf_counter() - begun) / max(len(test), 1)
    if contestant.is_quantum:
        if len(conditions.sims) > 1:
            besides = conditions.logits(conditions.sims[1], student, ideal, test, seed)
        curves = conditions.curves(student, ideal, test, seed)
    progress = trainer.progress
    return _answers(logits, besides, student.parameter_counts(), progress.seconds, progress.epoch, each, curves)


@hushed()
@threads(1)
def run_validation(
    contestant: Contestant, lesson: Lesson, seed: int, on_epoch: Callable[[dict[str, float]], None] | None = None
) -> Validated:
    """Train one student once and return what validation texts say of it; test texts are not looked at.

    Args:
        contestant: the student, with a middle of its own.
        lesson: what it learns from.
        seed: of its initial weights, batches and dropout.
        on_epoch: called with every epoch's history row; what it raises ends the training.
    """
    trainer = _trained(contestant, lesson, seed, on_epoch)
    progress = trainer.progress
    return Validated(
        valid_loss=progress.best_loss,
        valid_accuracy=progress.history[progress.best_epoch - 1]["valid_accuracy"],
        epochs=progress.epoch,
        seconds=round(progress.seconds, 3),
        parameters=trainer.student.parameter_counts(),
    )


def _trained(
    contestant: Contestant,
    lesson: Lesson,
    seed: int,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    conditions: Conditions = EXACT,
) -> Trainer:
    """Return the trainer of one student, done."""
    config = contestant.config
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    noisy = conditions.trainer() if contestant.is_quantum else None
    middle = QuantumMiddle(*noisy) if noisy else contestant.middle(contestant.circuit(), len(lesson.classes))
    trainer = make_trainer(config, middle, lesson, torch_device(config.engine.torch_device), None)
    if not trainer.run(on_epoch):
        raise KeyboardInterrupt
    return trainer


@hushed()
@threads(1)
def repetitions(contestant: Contestant, lesson: Lesson, count: int) -> list[TrialAnswers]:
    """Train one model ``count`` times over, each time on from where it stands, and return what it answers after each.

    That is what a loop over repetitions does that makes its model before the loop: a slip, kept to see what it does.
    """
    config, circuit = contestant.config, contestant.circuit()
    middle = contestant.middle(circuit, len(lesson.classes))
    trainer = make_trainer(config, middle, lesson, torch_device(config.engine.torch_device), None)
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
) -> TrialAnswers:
    if not np.isfinite(logits).all():
        raise QkdError("a student answered with numbers that are not finite; lower --lr")
    return TrialAnswers(
        logits=np.round(logits.astype(float), 6).tolist(),
        measured=None if measured is None else np.round(measured.astype(float), 6).tolist(),
        curves=curves or {},
        parameters=parameters,
        seconds=round(seconds, 3),
        epochs=epochs,
        ms_per_text=round(each, 4),
    )
