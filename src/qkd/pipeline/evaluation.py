"""What a run is worth: everything that is compared on the test split, in numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.console import progress
from qkd.core.version import VERSION
from qkd.core.workers import parallel_map
from qkd.engines.aer import AerEstimator
from qkd.engines.base import EngineEstimator
from qkd.pipeline.sources import Sources
from qkd.reports.run import NAMES_IN_SENTENCES
from qkd.results import Diagnosis, Metrics, ModelResult, PairedDifference, Parameters
from qkd.results.run import EncoderCard, NoiseCard, StudentCard
from qkd.simulation.aer_check import Agreement
from qkd.simulation.setup import SimulationSetup
from qkd.student.bundle import Student
from qkd.student.metrics import majority_logits, score
from qkd.student.model import StudentModel
from qkd.student.trainer import Trainer
from qkd.student.verdicts import compare_accuracies

TIMED_TEXTS = 64
"""Texts over which milliseconds per text are taken."""
MEASURED_TEXTS = 32
"""Texts that are measured at once."""
PLAIN = "ideal training"
"""What the student is called that was trained without the device's noise."""
REFITTED = "ideal training, head refitted"
"""The same with its head fitted anew to noisy values: the control of noise-aware training."""
WITHOUT = "labelled only"
"""What the student is called that did without the unlabelled texts."""
FROZEN = "encoder as it was"
"""What the student is called whose encoder was not trained with it."""
LINEAR, LOGREG = "linear", "logreg"
"""What the controls of every run are called: the student without a circuit, and a logistic regression."""


def answers_on_test(
    sources: Sources, setting: SimulationSetup, students: dict[str, StudentModel], controls: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the logits on the test split, (N,C) each, of teacher, students, controls and the commonest class."""
    dataset, test = sources.dataset, sources.splits.test
    embeddings = sources.embeddings[test]
    answers = {"teacher": sources.logits[test]}
    for name, model in students.items():
        exact = model.with_engine(setting.logical, setting.exact).logits(embeddings)
        if setting.measure is setting.exact:
            answers[name] = exact
        else:
            answers[name] = measured(model.with_engine(setting.circuit, setting.measure), embeddings, name)
            answers[f"{name}, {'ideal device' if setting.noisy else 'no shot noise'}"] = exact
    answers |= controls
    answers["majority"] = majority_logits(dataset.targets[sources.splits.train], len(test), len(dataset.classes))
    return answers


def measured(model: StudentModel, embeddings: np.ndarray, name: str) -> np.ndarray:
    """Return logits (N,C) of embeddings (N,D) from shots."""
    values = model.values(embeddings)
    starts = range(0, len(values), MEASURED_TEXTS)
    tasks = [(model.engine.estimator, model.circuit, values[i : i + MEASURED_TEXTS], i) for i in starts]
    parts = []
    with progress(f"measuring: {name}", len(values), "texts") as bar:
        # what is not Aer has compiled its program here, and takes the cores it needs
        for evs in parallel_map(_shots, tasks, None if isinstance(model.engine.estimator, AerEstimator) else 1):
            parts.append(evs)
            bar.advance(len(evs))
    return model.logits_of(np.concatenate(parts))


def _shots(estimator: EngineEstimator, student: StudentCircuit, values: np.ndarray, stream: int) -> np.ndarray:
    """Return expectation values (B,K) at parameter values (B,A+P), from a stream of shots of their own."""
    estimator.reseed(stream)
    by_parameter = {tuple(student.parameters): values}
    pub = (student.circuit, [[observable] for observable in student.observables], by_parameter)
    evs: np.ndarray = estimator.run([pub]).result()[0].data.evs
    return evs.T


def differences(
    sources: Sources, answers: dict[str, np.ndarray], margin: float, others: Sequence[str], subject: str = "student"
) -> dict[str, PairedDifference]:
    """Return the accuracy of one classifier minus that of each other that took part, on the test split.

    Args:
        sources: texts and labels.
        answers: logits on the test split (N,C) by name.
        margin: points of accuracy within which two classifiers are equivalent.
        others: the others by name; their p-values are corrected for their number.
        subject: the name of the one.
    """
    targets = sources.dataset.targets[sources.splits.test]
    hits = {name: (rows.argmax(axis=1) == targets).astype(float)[None] for name, rows in answers.items()}
    rivals = {name: hits[name] for name in others if name in hits}
    return compare_accuracies(f"the {subject}", hits[subject], rivals, margin / 100, NAMES_IN_SENTENCES)


def table_lines(
    sources: Sources, model: StudentModel, answers: dict[str, np.ndarray], sizes: dict[str, Parameters]
) -> dict[str, ModelResult]:
    """Return numbers, size and speed of each line of the final table; ``sizes`` are those of others than the two."""
    dataset, test = sources.dataset, sources.splits.test
    sample = [dataset.texts[i] for i in test[:TIMED_TEXTS]]
    teacher, encoder = sources.teacher, sources.encoder
    student_size = model.parameter_counts().model_copy(update={"encoder": encoder.num_parameters})
    teacher_size = Parameters(classical=teacher.num_parameters, quantum=0) if teacher.num_parameters else None
    parameters = {**sizes, "student": student_size, "teacher": teacher_size, FROZEN: student_size}
    speed = {
        "teacher": ms_per_text(teacher.predict_logits, sample),
        "student": ms_per_text(Student(model, encoder).logits, sample),
    }
    return {
        name: ModelResult(
            numbers=score(rows, dataset.targets[test], None if name == "teacher" else answers["teacher"]),
            parameters=parameters.get(name),
            ms_per_text=speed.get(name),
        )
        for name, rows in answers.items()
    }


def metrics(
    sources: Sources,
    setting: SimulationSetup,
    trainer: Trainer,
    lines: dict[str, ModelResult],
    answers: dict[str, np.ndarray],
    finished: bool,
    seconds: dict[str, float],
    checks: Sequence[Agreement] = (),
    diagnosis: Diagnosis | None = None,
    tuned_layers: int = 0,
    margin: float = 1.0,
) -> Metrics:
    """Return the content of ``metrics.json``.

    Args:
        sources: texts, teacher and encoder.
        setting: what the student was trained and measured on.
        trainer: how training went.
        lines: the final table.
        answers: logits on the test split (N,C); who is among them was trained, and is compared with the student.
        finished: whether training came to its end.
        seconds: wall time of each stage.
        checks: how near the engine was to AerSimulator.
        diagnosis: why the student falls short.
        tuned_layers: how many layers of the encoder were trained with it.
        margin: points of accuracy within which two classifiers are equivalent.
    """
    dataset, splits, circuit = sources.dataset, sources.splits, setting.logical

    def over(other: str, subject: str = "student") -> PairedDifference | None:
        return differences(sources, answers, margin, [other], subject).get(other)

    noise = None
    if setting.noisy is not None:
        snapshot, region = setting.noisy.snapshot, setting.noisy.region
        noise = NoiseCard(
            device=snapshot.name,
            calibrated=snapshot.calibration.date,
            qubits=tuple(region.qubits),
            checks=tuple(check.model_copy(update={"sentence": check.describe()}) for check in checks),
            gain=over(PLAIN),
            gain_over_refitted=over(REFITTED),
        )
    frozen, without = over(FROZEN), over(WITHOUT)
    return Metrics(
        qkd=VERSION,
        data=dataset.source,
        classes=tuple(dataset.classes),
        texts={part: len(getattr(splits, part)) for part in ("train", "valid", "test")},
        notes=tuple(dataset.notes),
        given_splits=dataset.own,
        teacher=sources.teacher.describe(),
        encoder=EncoderCard(name=sources.encoder.name, dim=trainer.student.dim, trials=tuple(sources.tried)),
        student=StudentCard(
            circuit=circuit.name,
            qubits=circuit.num_qubits,
            inputs=len(circuit.inputs),
            weights=len(circuit.weights),
            observables=len(circuit.observables),
            engine=setting.trainer.describe(),
            measured=setting.measure.describe(),
            epochs=trainer.progress.epoch,
            best_epoch=trainer.progress.best_epoch,
            best_valid_loss=trainer.progress.best_loss,
        ),
        lines=lines,
        finished=finished,
        gain=differences(sources, answers, margin, ["teacher"])["teacher"],
        controls=differences(sources, answers, margin, [LINEAR, LOGREG]),
        teacher_gain=over(LOGREG, "teacher"),
        diagnosis=diagnosis,
        noise=noise,
        tuned_layers=tuned_layers if frozen else 0,
        tuned_gain=frozen,
        unlabeled_texts=sources.unlabeled if without else 0,
        unlabeled_gain=without,
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
    )


def ms_per_text(answer: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return milliseconds per text of one call over ``texts``, after one warm-up text."""
    answer(texts[:1])
    started = time.perf_counter()
    answer(texts)
    return 1000 * (time.perf_counter() - started) / len(texts)
