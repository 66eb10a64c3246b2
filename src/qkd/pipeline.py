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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qkd.circuits import draw, library
from qkd.circuits.student import StudentCircuit
from qkd.config import Config
from qkd.console import progress, say
from qkd.engines import Engine, make_engine, torch_device
from qkd.errors import QkdError
from qkd.reports.report import render
from qkd.runs import RunFolder, read_json, write_json, write_lines, write_text
from qkd.student import metrics as numbers
from qkd.student.bundle import Student
from qkd.student.losses import UNLABELED
from qkd.student.model import StudentModel
from qkd.student.trainer import Examples, Trainer
from qkd.text.encoders import Encoder, embed, make_encoder, whitened
from qkd.text.labelling import Corpus, load_corpus
from qkd.text.teachers import Kept, Teacher, make_teacher

if TYPE_CHECKING:
    from qkd.text.data import Dataset, Splits

WITHOUT = "labelled only"
"""The line of a student that did without the unlabelled texts."""

TIMED_TEXTS = 64
"""Texts over which milliseconds per text are taken."""


@dataclass(frozen=True)
class Sources:
    """Everything left of the trainer: N texts with embeddings (N,D), teacher logits (N,C), and where they come from.

    Behind the rows of the data set come those of the unlabelled texts, if there are any.
    """

    dataset: Dataset
    splits: Splits
    encoder: Encoder
    embeddings: np.ndarray
    teacher: Teacher
    logits: np.ndarray

    @property
    def unlabeled(self) -> int:
        """How many unlabelled texts there are."""
        return len(self.embeddings) - len(self.dataset.texts)


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
    # first, so that a mistake in it is not found after minutes of labelling
    circuit = library.load(config.student.circuit, qubits=config.student.qubits, layers=config.student.layers)
    engine = make_engine(config.engine, circuit)
    sources = _gather(config, folder, resume, clock)
    with clock.stage("training"):
        trainer = _trainer(config, circuit, engine, sources, folder.checkpoint)
        if resume and trainer.resume():
            say(f"resumed after epoch {trainer.progress.epoch}")
        finished = _train(trainer, config, folder)
    clock.seconds["training"] = trainer.progress.seconds  # of all its parts, where it was resumed
    without = None
    if finished and sources.unlabeled:
        with clock.stage("comparison"):
            without = _without(config, circuit, engine, sources)
    with clock.stage("evaluation"):
        answers = _answers(sources, trainer.student, without)
        lines = _lines(sources, trainer.student, answers)
    metrics = _metrics(sources, trainer, lines) | {
        "finished": finished,
        "gain": numbers.accuracy_gain(
            answers["student"], answers["teacher"], sources.dataset.targets[sources.splits.test]
        ),
        "seconds": {stage: round(value, 3) for stage, value in clock.seconds.items()},
    }
    if without is not None:
        targets = sources.dataset.targets[sources.splits.test]
        gain = numbers.accuracy_gain(answers["student"], answers[WITHOUT], targets)
        metrics["unlabeled"] = {"texts": sources.unlabeled, "gain": gain}
    _keep(folder, metrics, sources, trainer, answers)
    if not finished:
        raise KeyboardInterrupt


def _gather(config: Config, folder: RunFolder, resume: bool, clock: _Clock) -> Sources:
    """Load the texts and have them embedded and labelled, from the cache where it knows them."""
    with clock.stage("data"):
        corpus = load_corpus(config)
    dataset, splits = corpus.dataset, corpus.splits
    device = str(torch_device(config.engine.torch_device))
    encoder = make_encoder(config.encoder.name, device, config.models.trust_remote_code)
    teacher = make_teacher(config.teacher.spec, device, config)
    _pin_texts(corpus, folder, resume)
    with clock.stage("encoder"):
        if config.encoder.whiten:
            encoder = whitened(encoder, [dataset.texts[row] for row in splits.train], config.encoder.whiten)
        embeddings = embed(encoder, corpus.texts)
    with clock.stage("teacher"):
        teacher.fit(dataset, splits)
        logits = teacher.logits(corpus.texts)
    if isinstance(teacher, Kept):
        teacher.save(folder.teacher)
    return Sources(dataset, splits, encoder, embeddings, teacher, logits)


def _pin_texts(corpus: Corpus, folder: RunFolder, resume: bool) -> None:
    """Note which texts a run has, and make sure that a resumed one has the very same."""
    dataset = corpus.dataset
    content = [dataset.texts, dataset.labels, *([corpus.unlabeled] if corpus.unlabeled else ())]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if resume and folder.data.is_file() and read_json(folder.data)["sha256"] != digest:
        raise QkdError(f"{dataset.source}: the texts have changed since {folder.path} was started; start a new run")
    write_json(folder.data, {"sha256": digest, "texts": len(dataset.texts), "classes": list(dataset.classes)})


def _trainer(
    config: Config,
    circuit: StudentCircuit,
    engine: Engine,
    sources: Sources,
    checkpoint: Path | None,
    unlabeled: bool = True,
) -> Trainer:
    """Return a trainer over a freshly initialised student, of the unlabelled texts too or of the labelled alone."""
    spec = config.student
    torch.manual_seed(config.train.seed)
    dim, classes = sources.embeddings.shape[1], sources.dataset.classes
    model = StudentModel(circuit, engine, dim, classes, spec.angle_map, spec.dropout).to(engine.device)
    count = len(sources.dataset.texts)
    more = np.arange(count, count + (sources.unlabeled if unlabeled else 0))
    targets = np.concatenate([sources.dataset.targets, np.full(sources.unlabeled, UNLABELED)])
    train, valid = (
        Examples.from_arrays(sources.embeddings[rows], sources.logits[rows], targets[rows], engine.device)
        for rows in (np.concatenate([sources.splits.train, more]), sources.splits.valid)
    )
    model.standardise(train.embeddings)
    say(f"student: {circuit.name}, {draw.size(circuit)}; {model.num_parameters:,} parameters; {engine.describe()}")
    return Trainer(model, train, valid, config.loss, config.train, checkpoint)


def _without(config: Config, circuit: StudentCircuit, engine: Engine, sources: Sources) -> StudentModel:
    """Return the student that the labelled texts alone make, for comparison."""
    trainer = _trainer(config, circuit, engine, sources, None, unlabeled=False)
    with progress("training without the unlabelled texts", config.train.epochs, "epochs") as bar:
        if not trainer.run(lambda row: bar.advance(1)):
            raise KeyboardInterrupt
    return trainer.student


def _train(trainer: Trainer, config: Config, folder: RunFolder) -> bool:
    """Run the trainer, keeping ``history.jsonl`` up to date; return whether it came to its end."""
    with progress("training", config.train.epochs, "epochs", trainer.progress.epoch) as bar:

        def on_epoch(row: dict[str, float]) -> None:
            write_lines(folder.history, trainer.progress.history)
            bar.advance(1, f"validation loss {row['valid_loss']:.3f}, accuracy {row['valid_accuracy']:.3f}")

        return trainer.run(on_epoch)


def _answers(sources: Sources, model: StudentModel, without: StudentModel | None) -> dict[str, np.ndarray]:
    """Return the logits on the test split, (N,C) each, of everything that is compared."""
    dataset, test = sources.dataset, sources.splits.test
    train_targets = dataset.targets[sources.splits.train]
    more = {} if without is None else {WITHOUT: without.logits(sources.embeddings[test])}
    return {
        "teacher": sources.logits[test],
        "student": model.logits(sources.embeddings[test]),
        **more,
        "majority": numbers.majority_logits(train_targets, len(test), len(dataset.classes)),
    }


def _lines(sources: Sources, model: StudentModel, answers: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return numbers, size and speed of each line of the final table."""
    dataset, test = sources.dataset, sources.splits.test
    lines: dict[str, dict[str, Any]] = {
        who: {"numbers": numbers.score(rows, dataset.targets[test], None if who == "teacher" else answers["teacher"])}
        for who, rows in answers.items()
    }
    sample = [dataset.texts[i] for i in test[:TIMED_TEXTS]]
    teacher, encoder = sources.teacher, sources.encoder
    lines["teacher"] |= {"parameters": teacher.num_parameters or None, "ms_per_text": _ms(teacher.answer, sample)}
    lines["student"] |= {
        "parameters": model.num_parameters,
        "parameters_with_encoder": model.num_parameters + encoder.num_parameters,
        "ms_per_text": _ms(Student(model, encoder).logits, sample),
    }
    return lines


def _metrics(sources: Sources, trainer: Trainer, lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the parts and of the lines."""
    dataset, splits, circuit = sources.dataset, sources.splits, trainer.student.circuit
    return {
        "qkd": importlib.metadata.version("qkd"),
        "data": dataset.source,
        "classes": list(dataset.classes),
        "texts": {"train": len(splits.train), "valid": len(splits.valid), "test": len(splits.test)},
        "dropped": list(dataset.dropped),
        "teacher": sources.teacher.describe(),
        "encoder": {"name": sources.encoder.name, "dim": trainer.student.dim},
        "student": {
            "circuit": circuit.name,
            "qubits": circuit.num_qubits,
            "inputs": len(circuit.inputs),
            "weights": len(circuit.weights),
            "observables": len(circuit.observables),
            "engine": trainer.student.engine.describe(),
        },
        "training": {
            "epochs": trainer.progress.epoch,
            "best_epoch": trainer.progress.best_epoch,
            "best_valid_loss": trainer.progress.best_loss,
        },
        "lines": lines,
    }


def _keep(
    folder: RunFolder, metrics: dict[str, Any], sources: Sources, trainer: Trainer, answers: dict[str, np.ndarray]
) -> None:
    """Write bundle, predictions, report and numbers; a folder with a ``metrics.json`` has them all."""
    dataset = sources.dataset
    about = {
        "teacher": sources.teacher.name,
        "data": dataset.source,
        "metrics": metrics["lines"]["student"]["numbers"],
        "finished": metrics["finished"],
    }
    Student(trainer.student, sources.encoder, about).save(folder.student)
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
    drawing = draw.text(trainer.student.circuit)
    page = render(folder.name, metrics, trainer.progress.history, predictions, drawing, settings)
    write_text(folder.report, page)
    write_json(folder.metrics, metrics)


def _ms(answer: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return milliseconds per text of one call over ``texts``, after one warm-up text."""
    answer(texts[:1])
    started = time.perf_counter()
    answer(texts)
    return 1000 * (time.perf_counter() - started) / len(texts)
