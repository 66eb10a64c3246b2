"""One distillation, stage by stage: data, encoder, teacher, training, evaluation.

Each stage is one function; what it computes is cached or checkpointed, so a killed run goes on from where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from qkd.circuits import draw, library
from qkd.circuits.qasm import to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.config import Config
from qkd.console import progress, say
from qkd.devices.snapshot import write as write_calibration
from qkd.engines import AerEstimator
from qkd.evaluation import compare, describe, gain, table_lines
from qkd.reports.report import render
from qkd.runs import RunFolder, write_json, write_lines, write_text
from qkd.simulation.agree import Agreement, agree
from qkd.simulation.make import Engine
from qkd.simulation.response import started
from qkd.simulation.setting import Noisy, Setting, make_setting
from qkd.sources import Clock, Sources, gather
from qkd.student.bundle import Student
from qkd.student.losses import UNLABELED
from qkd.student.middles.quantum import QuantumMiddle
from qkd.student.model import StudentModel
from qkd.student.trainer import Examples, Trainer

CHECKED_TEXTS = 2
"""Test texts on which the engine is compared with AerSimulator after training."""
PLAIN = "ideal training"
"""What the student is called that was trained without the device's noise."""
WITHOUT = "labelled only"
"""What the student is called that did without the unlabelled texts."""


def run(config: Config, folder: RunFolder, resume: bool) -> None:
    """Do the distillation that ``config`` describes, in ``folder``.

    Args:
        config: what to do.
        folder: where everything is written; the caller holds its lock.
        resume: go on from the folder's checkpoint, if it has one.

    Raises:
        QkdError: something in the configuration, the data, the teacher or the folder does not fit.
        KeyboardInterrupt: training was interrupted; the folder holds a valid student of the epochs done.
    """
    clock = Clock()
    # first, so that a mistake in it is not found after minutes of labelling
    circuit = started(library.load(config.student.circuit, config.student.qubits, config.student.layers))
    kept = folder.device / "snapshot.json"
    setting = make_setting(config, circuit, kept if resume and kept.is_file() else None)
    checks = [] if setting.noisy is None else _place(setting, setting.noisy, folder)
    sources = gather(config, folder, resume, clock)
    with clock.stage("training"):
        trainer = make_trainer(config, setting.circuit, setting.trainer, sources, folder.checkpoint)
        shape = f"{circuit.name}, {draw.size(circuit)}; {trainer.student.num_parameters:,} parameters"
        say(f"student: {shape}; {setting.trainer.describe()}")
        finished = _train(trainer, config, resume, "training", folder.history)
        others: dict[str, Trainer] = {}  # the same student without one thing, to see what that thing bought
        if finished and setting.noisy is not None:
            others[PLAIN] = make_trainer(config, circuit, setting.exact, sources, folder.checkpoint / "ideal")
        if finished and sources.unlabeled:
            where = folder.checkpoint / "labelled"
            others[WITHOUT] = make_trainer(config, setting.circuit, setting.trainer, sources, where, unlabeled=False)
        for name, other in others.items():
            finished = finished and _train(other, config, resume, name, None)
    clock.seconds["training"] = sum(one.progress.seconds for one in (trainer, *others.values()))  # resumed parts too
    with clock.stage("evaluation"):
        students = {"student": trainer.student, **{name: other.student for name, other in others.items()}}
        answers = compare(sources, setting, students)
        if checks and setting.noisy is not None:  # again where it matters: a truncation depends on the weights
            rows = trainer.student.values(sources.embeddings[sources.splits.test[:CHECKED_TEXTS]])
            checks.append(_checked(setting, setting.noisy, rows))
        student = trainer.student.moved(circuit, setting.exact)
        lines = table_lines(sources, student, answers)
    metrics = describe(sources, setting, trainer, lines) | {
        "finished": finished,
        "gain": gain(sources, answers, "student", "teacher"),
        "seconds": {stage: round(value, 3) for stage, value in clock.seconds.items()},
    }
    if checks:
        metrics["noise"]["checked"] = [check.to_json() | {"said": check.describe()} for check in checks]
    if PLAIN in others:
        metrics["noise"]["gain"] = gain(sources, answers, "student", PLAIN)
    if WITHOUT in others:
        metrics["unlabeled"] = {"texts": sources.unlabeled, "gain": gain(sources, answers, "student", WITHOUT)}
    _keep(folder, metrics, sources, trainer, student, answers)
    if not finished:
        raise KeyboardInterrupt


def _place(setting: Setting, noisy: Noisy, folder: RunFolder) -> list[Agreement]:
    """Keep what the run is simulated on, and make sure that the engine says what AerSimulator says of it.

    Raises:
        QkdError: they disagree.
    """
    say(noisy.describe())
    write_calibration(noisy.snapshot.calibration, folder.device / "snapshot.json")
    write_text(folder.device / "circuit.qasm", to_qasm(noisy.compiled))
    if not isinstance(setting.trainer.estimator, AerEstimator):
        return [_checked(setting, noisy, None)]
    return []


def _checked(setting: Setting, noisy: Noisy, values: np.ndarray | None) -> Agreement:
    """Compare the engine with AerSimulator at parameter values (R,A+P), or at random ones, and say what came of it."""
    found = agree(setting.trainer, noisy.circuit, noisy.model, values)
    say(found.describe() + (" (random)" if values is None else " (test texts, trained weights)"))
    return found


def make_trainer(
    config: Config,
    circuit: StudentCircuit,
    engine: Engine,
    sources: Sources,
    checkpoint: Path,
    unlabeled: bool = True,
) -> Trainer:
    """Return a trainer over a freshly initialised student, of the unlabelled texts too or of the labelled alone."""
    spec = config.student
    torch.manual_seed(config.train.seed)
    dim, classes = sources.embeddings.shape[1], sources.dataset.classes
    model = StudentModel(QuantumMiddle(circuit, engine), dim, classes, spec.angle_map, spec.dropout).to(engine.device)
    count = len(sources.dataset.texts)
    more = np.arange(count, count + (sources.unlabeled if unlabeled else 0))
    targets = np.concatenate([sources.dataset.targets, np.full(sources.unlabeled, UNLABELED)])
    train, valid = (
        Examples.from_arrays(sources.embeddings[rows], sources.logits[rows], targets[rows], engine.device)
        for rows in (np.concatenate([sources.splits.train, more]), sources.splits.valid)
    )
    model.standardise(train.embeddings)
    return Trainer(model, train, valid, config.loss, config.train, checkpoint)


def _train(trainer: Trainer, config: Config, resume: bool, what: str, history: Path | None) -> bool:
    """Run the trainer, keeping the ``history`` file up to date; return whether it came to its end."""
    if resume and trainer.resume():
        say(f"{what}: resumed after epoch {trainer.progress.epoch}")
    with progress(what, config.train.epochs, "epochs", trainer.progress.epoch) as bar:

        def on_epoch(row: dict[str, float]) -> None:
            if history is not None:
                write_lines(history, trainer.progress.history)
            bar.advance(1, f"validation loss {row['valid_loss']:.3f}, accuracy {row['valid_accuracy']:.3f}")

        return trainer.run(on_epoch)


def _keep(
    folder: RunFolder,
    metrics: dict[str, Any],
    sources: Sources,
    trainer: Trainer,
    student: StudentModel,
    answers: dict[str, np.ndarray],
) -> None:
    """Write bundle, predictions, report and numbers; a folder with a ``metrics.json`` has them all."""
    dataset = sources.dataset
    about = {
        "teacher": sources.teacher.name,
        "data": dataset.source,
        "metrics": metrics["lines"]["student"]["numbers"],
        "finished": metrics["finished"],
    }
    Student(student, sources.encoder, about).save(folder.student)
    predictions = [
        {
            "text": dataset.texts[i],
            "label": dataset.labels[i],
            "teacher": answers["teacher"][row].tolist(),
            "student": answers["student"][row].tolist(),
        }
        for row, i in enumerate(sources.splits.test)
    ]
    write_lines(folder.predictions, predictions)
    settings = folder.config.read_text(encoding="utf-8")
    drawing = draw.text(student.circuit)
    page = render(folder.name, metrics, trainer.progress.history, predictions, drawing, settings)
    write_text(folder.report, page, private=True)
    write_json(folder.metrics, metrics)
