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
from qkd.circuits.qasm import to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.config import Config
from qkd.console import progress, say
from qkd.devices.snapshot import write as write_calibration
from qkd.engines import AerEstimator, Engine, torch_device
from qkd.engines.agree import agree
from qkd.engines.setting import Noisy, Setting, make_setting
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
MEASURED_TEXTS = 32
"""Texts that AerSimulator is given at once."""
PLAIN = "ideal training"
"""What the student is called that was trained without the device's noise."""


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
    kept = folder.device / "snapshot.json"
    setting = make_setting(config, circuit, kept if resume and kept.is_file() else None)
    if setting.noisy is not None:
        _place(setting, setting.noisy, folder)
    sources = _gather(config, folder, resume, clock)
    with clock.stage("training"):
        trainer = _trainer(config, setting.circuit, setting.trainer, sources, folder.checkpoint)
        shape = f"{circuit.name}, {draw.size(circuit)}; {trainer.student.num_parameters:,} parameters"
        say(f"student: {shape}; {setting.trainer.describe()}")
        finished = _train(trainer, config, resume, "training", folder.history)
        others: dict[str, Trainer] = {}  # the same student without one thing, to see what that thing bought
        if finished and setting.noisy is not None:
            others[PLAIN] = _trainer(config, circuit, setting.exact, sources, folder.checkpoint / "ideal")
        if finished and sources.unlabeled:
            where = folder.checkpoint / "labelled"
            others[WITHOUT] = _trainer(config, setting.circuit, setting.trainer, sources, where, unlabeled=False)
        for name, other in others.items():
            finished = finished and _train(other, config, resume, name, None)
    clock.seconds["training"] = sum(one.progress.seconds for one in (trainer, *others.values()))  # resumed parts too
    with clock.stage("evaluation"):
        students = {"student": trainer.student, **{name: other.student for name, other in others.items()}}
        answers = _answers(sources, setting, students)
        student = trainer.student.moved(circuit, setting.exact)
        lines = _lines(sources, student, answers)
    metrics = _metrics(sources, setting, trainer, lines) | {
        "finished": finished,
        "gain": _gain(sources, answers, "student", "teacher"),
        "seconds": {stage: round(value, 3) for stage, value in clock.seconds.items()},
    }
    if PLAIN in others:
        metrics["noise"]["gain"] = _gain(sources, answers, "student", PLAIN)
    if WITHOUT in others:
        metrics["unlabeled"] = {"texts": sources.unlabeled, "gain": _gain(sources, answers, "student", WITHOUT)}
    _keep(folder, metrics, sources, trainer, student, answers)
    if not finished:
        raise KeyboardInterrupt


def _place(setting: Setting, noisy: Noisy, folder: RunFolder) -> None:
    """Keep what the run is simulated on, and make sure that the engine says what AerSimulator says of it.

    Raises:
        QkdError: they disagree.
    """
    say(noisy.describe())
    write_calibration(noisy.snapshot.calibration, folder.device / "snapshot.json")
    write_text(folder.device / "circuit.qasm", to_qasm(noisy.compiled))
    if not isinstance(setting.trainer.estimator, AerEstimator):
        difference = agree(setting.trainer, noisy.circuit, noisy.model)
        say(f"the engine and AerSimulator's density matrix agree to {difference:.0e} on two random points")


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
    checkpoint: Path,
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


def _answers(sources: Sources, setting: Setting, students: dict[str, StudentModel]) -> dict[str, np.ndarray]:
    """Return the logits on the test split, (N,C) each, of teacher, students and the commonest class."""
    dataset, test = sources.dataset, sources.splits.test
    embeddings = sources.embeddings[test]
    found = {"teacher": sources.logits[test]}
    for name, model in students.items():
        exact = model.moved(setting.logical, setting.exact).logits(embeddings)
        if setting.measure is setting.exact:
            found[name] = exact
        else:
            found[name] = _measured(model.moved(setting.circuit, setting.measure), embeddings, name)
            found[f"{name}, {'ideal device' if setting.noisy else 'no shot noise'}"] = exact
    found["majority"] = numbers.majority_logits(
        dataset.targets[sources.splits.train], len(test), len(dataset.classes)
    )
    return found


def _measured(model: StudentModel, embeddings: np.ndarray, name: str) -> np.ndarray:
    """Return logits (N,C) of embeddings (N,D) from an engine that takes its time."""
    parts = []
    with progress(f"measuring: {name}", len(embeddings), "texts") as bar:
        for start in range(0, len(embeddings), MEASURED_TEXTS):
            parts.append(model.logits(embeddings[start : start + MEASURED_TEXTS]))
            bar.advance(len(parts[-1]))
    return np.concatenate(parts)


def _gain(sources: Sources, answers: dict[str, np.ndarray], who: str, other: str) -> dict[str, float]:
    """Return by how much one is more accurate than another on the test split, with its paired interval."""
    return numbers.accuracy_gain(answers[who], answers[other], sources.dataset.targets[sources.splits.test])


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


def _metrics(
    sources: Sources, setting: Setting, trainer: Trainer, lines: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the parts and of the lines."""
    dataset, splits, circuit, noisy = sources.dataset, sources.splits, setting.logical, setting.noisy
    found: dict[str, Any] = {
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
            "engine": setting.trainer.describe(),
            "measured": setting.measure.describe(),
        },
        "training": {
            "epochs": trainer.progress.epoch,
            "best_epoch": trainer.progress.best_epoch,
            "best_valid_loss": trainer.progress.best_loss,
        },
        "lines": lines,
    }
    if noisy is not None:
        found["noise"] = {
            "device": noisy.snapshot.name,
            "calibrated": noisy.snapshot.calibration.date,
            "qubits": list(noisy.region.qubits),
        }
    return found


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
    write_text(folder.report, page)
    write_json(folder.metrics, metrics)


def _ms(answer: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return milliseconds per text of one call over ``texts``, after one warm-up text."""
    answer(texts[:1])
    started = time.perf_counter()
    answer(texts)
    return 1000 * (time.perf_counter() - started) / len(texts)
