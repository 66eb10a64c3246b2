"""The evaluation of a run: logits, scores and differences on the test split, and ``metrics.json``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config
from qkd.core.console import progress
from qkd.core.version import VERSION
from qkd.core.workers import parallel_map
from qkd.engines.aer import AerEstimator
from qkd.engines.base import EngineEstimator
from qkd.pipeline.inputs import Inputs
from qkd.pipeline.training import Trainings
from qkd.reports.run import (
    BEFORE,
    FROZEN_ENCODER,
    IDEAL_TRAINING,
    LABELED_ONLY,
    LINEAR,
    LOGREG,
    NAMES_IN_SENTENCES,
    REFITTED_HEAD,
)
from qkd.results import Diagnosis, Metrics, ModelResult, PairedDifference, Parameters
from qkd.results.run import EncoderCard, NoiseCard, StudentCard
from qkd.simulation.aer_check import Agreement
from qkd.simulation.setup import DeviceCircuit, SimulationSetup
from qkd.student.bundle import Student
from qkd.student.metrics import majority_logits, score
from qkd.student.model import StudentModel
from qkd.student.refit import refit_head
from qkd.student.trainer import Trainer
from qkd.student.verdicts import compare_accuracies

TIMED_TEXTS = 64
"""Number of texts over which milliseconds per text are averaged."""
MEASURED_BATCH = 32
"""Number of texts that are measured together."""


@dataclass(frozen=True)
class Evaluation:
    """All classifiers of a run on its N test texts.

    Attributes:
        model: The student on exact, ideal simulation.
        logits: Logits (N,C) by the classifier's name.
        targets: Class indices (N,).
        margin: Points of accuracy within which two classifiers are equivalent.
    """

    model: StudentModel
    logits: dict[str, np.ndarray]
    targets: np.ndarray
    margin: float

    def differences(self, others: Sequence[str], subject: str = "student") -> dict[str, PairedDifference]:
        """Return the accuracy of ``subject`` minus that of each other classifier that took part."""
        hits = {name: (rows.argmax(axis=1) == self.targets).astype(float)[None] for name, rows in self.logits.items()}
        rivals = {name: hits[name] for name in others if name in hits}
        return compare_accuracies(f"the {subject}", hits[subject], rivals, self.margin / 100, NAMES_IN_SENTENCES)

    def difference(self, other: str, subject: str = "student") -> PairedDifference | None:
        """Return the accuracy of ``subject`` minus that of one other classifier, if that took part."""
        return self.differences([other], subject).get(other)


def evaluate(config: Config, setting: SimulationSetup, inputs: Inputs, trainings: Trainings) -> Evaluation:
    """Return the logits of teacher, student, ablations, controls and majority class on the test split."""
    data = trainings.data
    test, classes = data.embeddings[data.test], len(data.classes)
    models = {"student": trainings.student.model}
    models |= {name: trainer.model for name, trainer in trainings.ablations.items()}
    if ideal := trainings.ablations.get(IDEAL_TRAINING):
        noisy = ideal.model.with_engine(setting.circuit, setting.trainer)
        models[REFITTED_HEAD] = refit_head(noisy, ideal.train_set, config.loss, config.train.weight_decay)
    logits = {"teacher": data.teacher_logits[data.test]}
    for name, model in models.items():
        exact = model.with_engine(setting.logical, setting.exact).logits(test)
        if setting.measure is setting.exact:
            logits[name] = exact
        else:
            logits[name] = measured_logits(model.with_engine(setting.circuit, setting.measure), test, name)
            logits[f"{name}, {'ideal device' if setting.noisy else 'no shot noise'}"] = exact
    if trainings.frozen_logits is not None:
        logits[FROZEN_ENCODER] = trainings.frozen_logits
    if inputs.before is not None:
        logits[BEFORE] = inputs.before.logits(inputs.test_texts)
    logits |= {name: control.logits for name, control in trainings.controls.items()}
    labels = inputs.dataset.targets[inputs.corpus.splits.train]
    logits["majority"] = majority_logits(labels, len(data.test), classes)
    model = trainings.student.model.with_engine(setting.logical, setting.exact)
    return Evaluation(model, logits, data.targets[data.test], config.student.margin)


def measured_logits(model: StudentModel, embeddings: np.ndarray, name: str) -> np.ndarray:
    """Return logits (N,C) of embeddings (N,D), measured with shots."""
    values = model.values(embeddings)
    estimator = model.engine.estimator
    starts = range(0, len(values), MEASURED_BATCH)
    tasks = [(estimator, model.circuit, values[i : i + MEASURED_BATCH], i) for i in starts]
    parts = []
    with progress(f"measuring: {name}", len(values), "texts") as bar:
        # engines other than Aer have compiled their program in this process and use its cores
        for evs in parallel_map(_measure, tasks, None if isinstance(estimator, AerEstimator) else 1):
            parts.append(evs)
            bar.advance(len(evs))
    return model.logits_of(np.concatenate(parts))


def _measure(estimator: EngineEstimator, circuit: StudentCircuit, values: np.ndarray, stream: int) -> np.ndarray:
    """Return expectation values (B,K) at parameter values (B,A+P), from the random stream ``stream``."""
    estimator.reseed(stream)
    pub = (circuit.circuit, [[observable] for observable in circuit.observables], {tuple(circuit.parameters): values})
    evs: np.ndarray = estimator.run([pub]).result()[0].data.evs
    return evs.T


def table_lines(inputs: Inputs, trainings: Trainings, evaluation: Evaluation) -> dict[str, ModelResult]:
    """Return scores, size and speed of each classifier."""
    texts, teacher, encoder = inputs.test_texts[:TIMED_TEXTS], inputs.teacher, trainings.encoder
    size = evaluation.model.parameter_counts().model_copy(update={"encoder": encoder.num_parameters})
    sizes = {name: control.parameters for name, control in trainings.controls.items()}
    sizes |= {"student": size, FROZEN_ENCODER: size}
    if teacher.num_parameters:
        sizes["teacher"] = Parameters(classical=teacher.num_parameters, quantum=0)
    speeds = {
        "teacher": ms_per_text(teacher.predict_logits, texts),
        "student": ms_per_text(Student(evaluation.model, encoder).logits, texts),
    }
    return {
        name: ModelResult(
            numbers=score(rows, evaluation.targets, None if name == "teacher" else evaluation.logits["teacher"]),
            parameters=sizes.get(name),
            ms_per_text=speeds.get(name),
        )
        for name, rows in evaluation.logits.items()
    }


def make_metrics(
    setting: SimulationSetup,
    inputs: Inputs,
    trainings: Trainings,
    evaluation: Evaluation,
    lines: dict[str, ModelResult],
    checks: Sequence[Agreement],
    diagnosis: Diagnosis | None,
) -> Metrics:
    """Return the content of ``metrics.json`` without times.

    Args:
        setting: circuit, engines and device.
        inputs: texts, teacher and encoder.
        trainings: all trainings of the run.
        evaluation: all classifiers on the test split.
        lines: their scores.
        checks: comparisons of the engine with AerSimulator.
        diagnosis: the causes of a shortfall.
    """
    dataset, splits, over = inputs.dataset, inputs.corpus.splits, evaluation.difference
    frozen, without = over(FROZEN_ENCODER), over(LABELED_ONLY)
    return Metrics(
        qkd=VERSION,
        data=dataset.source,
        classes=tuple(dataset.classes),
        texts={part: len(getattr(splits, part)) for part in ("train", "valid", "test")},
        notes=tuple(dataset.notes),
        given_splits=dataset.own,
        teacher=inputs.teacher.describe(),
        encoder=EncoderCard(name=trainings.encoder.name, dim=evaluation.model.dim, trials=tuple(inputs.candidates)),
        student=_student_card(setting, trainings.student),
        lines=lines,
        finished=trainings.finished,
        gain=evaluation.differences(["teacher"])["teacher"],
        controls=evaluation.differences([LINEAR, LOGREG]),
        teacher_gain=over(LOGREG, "teacher"),
        diagnosis=diagnosis,
        noise=_noise_card(setting.noisy, checks, evaluation) if setting.noisy else None,
        tuned_layers=trainings.tuned_layers if frozen else 0,
        tuned_gain=frozen,
        unlabeled_texts=len(inputs.corpus.unlabeled) if without else 0,
        unlabeled_gain=without,
        seconds={},
    )


def _student_card(setting: SimulationSetup, trainer: Trainer) -> StudentCard:
    circuit, done = setting.logical, trainer.progress
    return StudentCard(
        circuit=circuit.name,
        qubits=circuit.num_qubits,
        inputs=len(circuit.inputs),
        weights=len(circuit.weights),
        observables=len(circuit.observables),
        engine=setting.trainer.describe(),
        measured=setting.measure.describe(),
        epochs=done.epoch,
        best_epoch=done.best_epoch,
        best_valid_loss=done.best_loss,
    )


def _noise_card(noisy: DeviceCircuit, checks: Sequence[Agreement], evaluation: Evaluation) -> NoiseCard:
    return NoiseCard(
        device=noisy.snapshot.name,
        calibrated=noisy.snapshot.calibration.date,
        qubits=tuple(noisy.region.qubits),
        checks=tuple(check.model_copy(update={"sentence": check.describe()}) for check in checks),
        gain=evaluation.difference(IDEAL_TRAINING),
        gain_over_refitted=evaluation.difference(REFITTED_HEAD),
    )


def ms_per_text(answer: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return milliseconds per text of one call with ``texts``, after one warm-up text."""
    answer(texts[:1])
    started = time.perf_counter()
    answer(texts)
    return 1000 * (time.perf_counter() - started) / len(texts)
