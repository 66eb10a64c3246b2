"""One distillation, stage by stage: data, encoder, teacher, training, evaluation.

Each stage is one function; what it computes is cached or checkpointed, so a killed run goes on from where it was.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.circuits import draw, library
from qkd.config import Config
from qkd.console import progress, say
from qkd.engines import make_engine, torch_device
from qkd.errors import QkdError
from qkd.reports.report import render
from qkd.runs import RunFolder, read_json, write_json, write_lines, write_text
from qkd.student import metrics as numbers
from qkd.student.bundle import Student
from qkd.student.model import StudentModel
from qkd.student.trainer import Examples, Trainer
from qkd.text import data
from qkd.text.encoders import Encoder, embed, make_encoder
from qkd.text.teachers import Teacher, make_teacher

if TYPE_CHECKING:
    from qkd.text.data import Dataset, Splits

TIMED_TEXTS = 64
"""Texts over which milliseconds per text are taken."""


class _Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


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
    clock = _Clock()
    with clock.stage("data"):
        dataset, splits = _data(config, folder, resume)
    with clock.stage("encoder"):
        device = str(torch_device(config.engine.torch_device))
        encoder = make_encoder(config.encoder.name, torch_device=device)
        embeddings = embed(encoder, dataset.texts)
    with clock.stage("teacher"):
        teacher = make_teacher(config.teacher.spec, torch_device=device)
        teacher.fit(dataset, splits)
        logits = teacher.logits(dataset.texts)
    with clock.stage("training"):
        trainer = _trainer(config, dataset, splits, embeddings, logits, folder)
        if resume and trainer.resume():
            say(f"resumed after epoch {trainer.progress.epoch}")
        finished = _train(trainer, config, folder)
    with clock.stage("evaluation"):
        _conclude(config, folder, clock, dataset, splits, encoder, teacher, trainer, embeddings, logits, finished)
    if not finished:
        raise KeyboardInterrupt


def _data(config: Config, folder: RunFolder, resume: bool) -> tuple[Dataset, Splits]:
    """Load and split, and make sure that a resumed run has the very same texts."""
    spec = config.data
    dataset = data.load(spec.source, spec.text_column, spec.label_column, spec.limit, spec.split_seed)
    splits = data.split(dataset, spec.valid, spec.test, spec.split_seed)
    for line in dataset.dropped:
        say(line)
    say(
        f"{len(dataset.texts):,} texts of {len(dataset.classes)} classes ({', '.join(dataset.classes)}): "
        f"{len(splits.train):,} train, {len(splits.valid):,} validation, {len(splits.test):,} test"
    )
    digest = hashlib.sha256(json.dumps([dataset.texts, dataset.labels]).encode()).hexdigest()
    record = folder.path / "data.json"
    if resume and record.is_file() and read_json(record)["sha256"] != digest:
        raise QkdError(f"{spec.source}: the texts have changed since {folder.path} was started; start a new run")
    write_json(record, {"sha256": digest, "texts": len(dataset.texts), "classes": list(dataset.classes)})
    return dataset, splits


def _trainer(
    config: Config, dataset: Dataset, splits: Splits, embeddings: np.ndarray, logits: np.ndarray, folder: RunFolder
) -> Trainer:
    """Return a trainer over a freshly initialised student."""
    import torch

    spec = config.student
    circuit = library.load(spec.circuit, qubits=spec.qubits, layers=spec.layers)
    engine = make_engine(config.engine, circuit)
    torch.manual_seed(config.train.seed)
    model = StudentModel(
        circuit, engine, embeddings.shape[1], dataset.classes, spec.angle_map, spec.dropout
    ).to(engine.device)
    train, valid = (
        Examples.from_arrays(embeddings[rows], logits[rows], dataset.targets[rows], engine.device)
        for rows in (splits.train, splits.valid)
    )
    model.standardise(train.embeddings)
    say(f"student: {circuit.name}, {circuit.num_qubits} qubits, {model.num_parameters:,} parameters; {engine.describe()}")
    return Trainer(model, train, valid, config.loss, config.train, folder.checkpoint)


def _train(trainer: Trainer, config: Config, folder: RunFolder) -> bool:
    """Run the trainer, keeping ``history.jsonl`` up to date; return whether it came to its end."""
    with progress("training", config.train.epochs, "epochs") as bar:
        bar.advance(trainer.progress.epoch)

        def on_epoch(row: dict[str, float]) -> None:
            write_lines(folder.history, trainer.progress.history)
            bar.advance(1, f"validation loss {row['valid_loss']:.3f}, accuracy {row['valid_accuracy']:.3f}")

        return trainer.run(on_epoch)


def _conclude(
    config: Config,
    folder: RunFolder,
    clock: _Clock,
    dataset: Dataset,
    splits: Splits,
    encoder: Encoder,
    teacher: Teacher,
    trainer: Trainer,
    embeddings: np.ndarray,
    logits: np.ndarray,
    finished: bool,
) -> None:
    """Measure on the test split and write bundle, predictions, numbers and report."""
    model, test = trainer.student, splits.test
    targets, num_classes = dataset.targets[test], len(dataset.classes)
    answers = {
        "teacher": logits[test],
        "student": model.logits(embeddings[test]),
        "majority": numbers.majority_logits(dataset.targets[splits.train], len(test), num_classes),
    }
    lines: dict[str, dict[str, Any]] = {
        who: {"numbers": numbers.score(rows, targets, None if who == "teacher" else logits[test])}
        for who, rows in answers.items()
    }
    student = Student(
        model,
        encoder,
        {"teacher": teacher.name, "data": dataset.source, "metrics": lines["student"]["numbers"], "finished": finished},
    )
    sample = [dataset.texts[i] for i in test[:TIMED_TEXTS]]
    lines["teacher"] |= {"parameters": teacher.num_parameters, "ms_per_text": _ms(teacher.answer, sample)}
    lines["student"] |= {
        "parameters": model.num_parameters,
        "parameters_with_encoder": model.num_parameters + encoder.num_parameters,
        "ms_per_text": _ms(student.logits, sample),
    }
    clock.seconds["training"] = max(trainer.progress.seconds, clock.seconds["training"])
    circuit = model.circuit
    metrics = {
        "qkd": importlib.metadata.version("qkd"),
        "finished": finished,
        "data": dataset.source,
        "classes": list(dataset.classes),
        "texts": {"train": len(splits.train), "valid": len(splits.valid), "test": len(test)},
        "dropped": list(dataset.dropped),
        "teacher": teacher.describe(),
        "encoder": {"name": encoder.name, "dim": model.dim},
        "student": {
            "circuit": circuit.name,
            "qubits": circuit.num_qubits,
            "inputs": len(circuit.inputs),
            "weights": len(circuit.weights),
            "observables": len(circuit.observables),
            "engine": model.engine.describe(),
        },
        "training": {
            "epochs": trainer.progress.epoch,
            "best_epoch": trainer.progress.best_epoch,
            "best_valid_loss": trainer.progress.best_loss,
        },
        "lines": lines,
        "gap": numbers.accuracy_gap(answers["teacher"], answers["student"], targets),
        "seconds": {stage: round(value, 3) for stage, value in clock.seconds.items()},
    }
    predictions = [
        {
            "text": dataset.texts[i],
            "label": dataset.labels[i],
            "teacher": logits[i].tolist(),
            "student": answers["student"][row].tolist(),
        }
        for row, i in enumerate(test)
    ]
    student.save(folder.student)
    write_lines(folder.predictions, predictions)
    page = render(
        folder.name,
        metrics,
        trainer.progress.history,
        predictions,
        draw.text(circuit),
        folder.config.read_text(encoding="utf-8"),
    )
    write_text(folder.report, page)
    write_json(folder.metrics, metrics)


def _ms(answer: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return milliseconds per text of one call over ``texts``, after one warm-up text."""
    answer(texts[:1])
    started = time.perf_counter()
    answer(texts)
    return 1000 * (time.perf_counter() - started) / len(texts)
