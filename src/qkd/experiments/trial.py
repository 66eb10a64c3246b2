"""One student trained once, as a worker process does it, and the tuning that gives every student as many trials.

All students that are tuned draw the same numbers: a factor of their own learning rate, a weight decay and a dropout.
The first setting is the student's own. The smallest validation loss chooses (random search: Bergstra and Bengio, JMLR
13:281, 2012).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import log, progress, suppressed_output
from qkd.core.errors import QkdError
from qkd.core.files import write_json
from qkd.core.records import read_record
from qkd.core.workers import parallel_map
from qkd.encoders.trainable import make_trainable
from qkd.engines.base import threads
from qkd.experiments.candidates import Candidate
from qkd.experiments.conditions import EXACT, Conditions
from qkd.pipeline.settings import Overrides, merged
from qkd.results import Parameters
from qkd.results.base import Result
from qkd.results.study import TrialResult, TuningResult, ValidationResult
from qkd.simulation.factory import torch_device
from qkd.student import logreg
from qkd.student.cores import QuantumCore
from qkd.student.data import TrainingData
from qkd.student.trainer import Trainer, make_fine_tuner, make_trainer

REMEDY = "delete it, and the trial is run again"
LR_FACTOR = 10.0
"""Tuning draws the learning rate between its own value divided and multiplied by this factor."""
WEIGHT_DECAYS = (0.001, 1.0)
"""Range of tuned weight decays, on a logarithmic scale."""
DROPOUTS = (0.0, 0.7)
"""Range of tuned dropouts."""


@suppressed_output()  # the driver reports the progress of all trials
@threads(1)
def run_trial(student: Candidate, data: TrainingData, seed: int, conditions: Conditions = EXACT) -> TrialResult:
    """Train one student once and return its logits on the test texts.

    Args:
        seed: the seed of initial weights, batches and dropout.
        conditions: the simulator that a circuit is trained for, and those that evaluate it.
    """
    started = time.perf_counter()
    if student.is_logreg:
        logits, count = logreg.fit_logreg(data)
        return _answers(logits, Parameters(classical=count, quantum=0), time.perf_counter() - started)
    trainer = _train(student, data, seed, conditions=conditions)
    seconds, epochs = trainer.progress.seconds, trainer.progress.epoch
    if student.tune:
        tuner, data = _fine_tune(student, trainer, data, seed)
        seconds, epochs = seconds + tuner.progress.seconds, epochs + tuner.progress.epoch
    model, test = trainer.model, data.embeddings[data.test]
    measured, curves = None, {}
    if student.is_quantum:
        circuit = student.circuit()
        ideal = circuit, student.engine(circuit)
        started = time.perf_counter()
        logits = conditions.logits(conditions.sims[0], model, ideal, test, seed)
        elapsed = time.perf_counter() - started
        if len(conditions.sims) > 1:
            measured = conditions.logits(conditions.sims[1], model, ideal, test, seed)
        curves = conditions.curves(model, ideal, test, seed)
    else:
        started = time.perf_counter()
        logits = model.logits(test)
        elapsed = time.perf_counter() - started
    answers = _answers(logits, model.parameter_counts(), seconds, epochs, 1000 * elapsed / max(len(test), 1))
    return answers.model_copy(update={"measured": None if measured is None else _rows(measured), "curves": curves})


@suppressed_output()
@threads(1)
def run_validation(
    student: Candidate, data: TrainingData, seed: int, on_epoch: Callable[[dict[str, float]], None] | None = None
) -> ValidationResult:
    """Train one student once and return its scores on the validation texts; the test texts are not used.

    Args:
        student: the student, with a core of its own.
        seed: the seed of initial weights, batches and dropout.
        on_epoch: called with every epoch's history row; an exception of it ends the training.
    """
    trainer = _train(student, data, seed, on_epoch)
    stages = [trainer.progress]
    if student.tune:
        stages.append(_fine_tune(student, trainer, data, seed)[0].progress)
    best = [stage for stage in stages if stage.best_epoch][-1]
    return ValidationResult(
        valid_loss=best.best_loss,
        valid_accuracy=best.history[best.best_epoch - 1]["valid_accuracy"],
        epochs=sum(stage.epoch for stage in stages),
        seconds=round(sum(stage.seconds for stage in stages), 3),
        parameters=trainer.model.parameter_counts(),
    )


@suppressed_output()
@threads(1)
def run_repetitions(student: Candidate, data: TrainingData, count: int) -> list[TrialResult]:
    """Train one model ``count`` times in succession and return its logits after each training.

    A loop over repetitions does so if it creates its model before the loop, as the paper's public code does.
    """
    trainer = _make_trainer(student, data, student.config, EXACT)
    answers = []
    for number in range(count):
        if number:
            trainer = Trainer(trainer.model, data, student.config.loss, student.config.train)
        if not trainer.run():
            raise KeyboardInterrupt
        logits, progress = trainer.model.logits(data.embeddings[data.test]), trainer.progress
        answers.append(_answers(logits, trainer.model.parameter_counts(), progress.seconds, progress.epoch))
    return answers


def run_missing(
    work: str,
    paths: Sequence[Path],
    run: Callable[..., Result],
    arguments: Callable[[int], tuple[Any, ...]],
    names: Sequence[str],
) -> None:
    """Run the trials whose files are missing in parallel processes, and write each result as it finishes."""
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    if len(missing) < len(paths):
        log.info(f"{work}: {len(paths) - len(missing)} of {len(paths)} trials are finished already")
    with progress(work, len(missing), "trials") as bar:
        for number, result in zip(missing, parallel_map(run, [arguments(n) for n in missing]), strict=True):
            write_json(paths[number], result.to_dict())
            bar.advance(1, names[number])


def _train(
    student: Candidate,
    data: TrainingData,
    seed: int,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    conditions: Conditions = EXACT,
) -> Trainer:
    """Train one student to the end and return its trainer."""
    trainer = _make_trainer(student, data, _seeded(student, seed), conditions)
    if not trainer.run(on_epoch):
        raise KeyboardInterrupt
    return trainer


def _make_trainer(student: Candidate, data: TrainingData, config: Config, conditions: Conditions) -> Trainer:
    noisy = conditions.trainer() if student.is_quantum else None
    if noisy is None:
        core = student.core(student.circuit(), len(data.classes))
    else:
        core = QuantumCore(*noisy, config.train.train_shots)
    return make_trainer(config, core, data, torch_device(config.engine.torch_device), None)


def _fine_tune(student: Candidate, trainer: Trainer, data: TrainingData, seed: int) -> tuple[Trainer, TrainingData]:
    """Train a trained student together with its encoder's last layers; return the trainer and the new data."""
    if data.encoder is None:
        raise QkdError(f"the training data of '{student.name}' have no encoder to train")
    layers = make_trainable(data.encoder, data.texts, student.tune)
    tuner = make_fine_tuner(_seeded(student, seed), trainer.model, data, layers, None)
    if not tuner.run():
        raise KeyboardInterrupt
    return tuner, replace(data, embeddings=layers.embeddings())


def _seeded(student: Candidate, seed: int) -> Config:
    return student.config.model_copy(update={"train": student.config.train.model_copy(update={"seed": seed})})


def _answers(
    logits: np.ndarray, parameters: Parameters, seconds: float, epochs: int = 0, ms_per_text: float = 0.0
) -> TrialResult:
    if not np.isfinite(logits).all():
        raise QkdError("a student's logits are not finite; lower --lr")
    return TrialResult(
        logits=_rows(logits),
        measured=None,
        curves={},
        parameters=parameters,
        seconds=round(seconds, 3),
        epochs=epochs,
        ms_per_text=round(ms_per_text, 4),
    )


def _rows(logits: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.round(logits.astype(float), 6).tolist()))


def tuning_candidates(student: Candidate, count: int) -> list[Candidate]:
    """Return a student with ``count`` training settings, first its own; all students draw the same numbers."""
    rng = np.random.default_rng(0)
    versions = [student]
    while len(versions) < count:
        factor = float(LR_FACTOR ** rng.uniform(-1, 1))
        decay = float(np.exp(rng.uniform(*np.log(WEIGHT_DECAYS))))
        dropout = float(rng.uniform(*DROPOUTS))
        values: Overrides = {
            ("train", "lr"): float(f"{student.config.train.lr * factor:.3g}"),
            ("train", "weight_decay"): float(f"{decay:.3g}"),
            ("student", "dropout"): float(f"{dropout:.3g}"),
        }
        versions.append(replace(student, config=merged(student.config, values)))
    return versions


def tune_students(
    students: Sequence[Candidate],
    data: Mapping[str, TrainingData],
    fingerprints: Mapping[str, str],
    count: int,
    folder: Path,
) -> tuple[list[Candidate], dict[str, TuningResult]]:
    """Return the students with the settings that the validation texts chose, and these settings by name.

    Args:
        students: the students. The logistic regression chooses its regularization itself, and students that are
            ``fixed`` or ``carried`` keep their settings.
        data: the training data of each student, by name.
    """
    tries = [
        (student, candidate)
        for student in students
        if not (student.is_logreg or student.fixed or student.carried)
        for candidate in tuning_candidates(student, count)
    ]
    paths = [
        folder / f"{cache.digest({'tried': candidate.key(), 'data': fingerprints[student.name]})[:24]}.json"
        for student, candidate in tries
    ]
    names = [student.name for student, _ in tries]
    run_missing("tuning", paths, _validate, lambda number: (tries[number][1], data[names[number]], 0), names)
    results: dict[str, list[tuple[float, int, Candidate]]] = {}
    for number, ((student, candidate), path) in enumerate(zip(tries, paths, strict=True)):
        loss = read_record(path, ValidationResult, REMEDY).valid_loss
        results.setdefault(student.name, []).append((np.inf if loss is None else loss, number, candidate))
    best = {name: min(rows)[2] for name, rows in results.items()}
    tuning = {name: TuningResult(trials=count, settings=_settings(student.config)) for name, student in best.items()}
    return [best.get(student.name, student) for student in students], tuning


def _validate(student: Candidate, data: TrainingData, seed: int) -> ValidationResult:
    """Return the validation scores of a student, or the reason why it could not be trained."""
    try:
        return run_validation(student, data, seed)
    except QkdError as error:
        return ValidationResult(valid_loss=None, error=str(error))


def _settings(config: Config) -> dict[str, float]:
    return {"lr": config.train.lr, "weight-decay": config.train.weight_decay, "dropout": config.student.dropout}
