"""One distillation: a function for each stage with typed input and output.

Results of a stage are cached or checkpointed, so a killed run resumes where it was interrupted.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from qkd.circuits import library
from qkd.circuits.qasm import to_qasm
from qkd.core.callbacks import notify
from qkd.core.config import Config, make_config, to_toml
from qkd.core.console import log
from qkd.core.files import write_json, write_lines, write_text
from qkd.core.runs import RunFolder
from qkd.data.hashes import split_hashes
from qkd.devices.snapshot import load_snapshot, write_snapshot
from qkd.engines import AerEstimator
from qkd.pipeline.continuation import compare_with_before
from qkd.pipeline.diagnosis import diagnose_run
from qkd.pipeline.evaluation import Evaluation, evaluate, make_metrics, table_lines
from qkd.pipeline.inputs import Clock, Inputs, prepare_inputs
from qkd.pipeline.settings import command
from qkd.pipeline.training import Trainings, run_trainings
from qkd.reports.report import write_report
from qkd.reports.run import LINEAR, circuit_conclusion
from qkd.results import Metrics, TeacherCard, TestPrediction
from qkd.results.cascade import Cascade
from qkd.simulation.aer_check import Agreement, compare_with_aer
from qkd.simulation.diagnostics import check_saved
from qkd.simulation.estimate import check_time, simulation_cost
from qkd.simulation.setup import DeviceCircuit, SimulationSetup, make_setup
from qkd.simulation.start import with_start
from qkd.student.about import About, Validation
from qkd.student.bundle import Student
from qkd.student.data import TrainingData
from qkd.student.deferral import make_cascade
from qkd.student.metrics import softmax
from qkd.student.model import StudentModel
from qkd.teachers.labeling import load_corpus

CHECK_TEXTS = 2
"""Number of test texts on which the engine is compared with AerSimulator after training."""


def run_pipeline(config: Config, folder: RunFolder, resume: bool) -> None:
    """Run the distillation that ``config`` describes.

    Args:
        config: the configuration.
        folder: the run's folder; the caller holds its lock.
        resume: whether to continue from the folder's checkpoint, if it has one.

    Raises:
        QkdError: something in the configuration, the data, the teacher or the folder does not fit.
        KeyboardInterrupt: training was interrupted; the folder has a valid student of the completed epochs.
    """
    clock = Clock()
    spec = config.student
    circuit = library.load_circuit(spec.circuit, spec.qubits, spec.layers, spec.inputs)
    cost = simulation_cost(config, circuit)
    check_time(config, cost)  # before anything slow
    stored = folder.device / "snapshot.json"
    stored_snapshot = stored if resume and stored.is_file() else None
    if config.engine.sim == "aer-noisy":
        load_snapshot(stored_snapshot or config.device.device)  # refuses an unknown device before anything slow
    with clock.stage("data"):
        corpus = load_corpus(config)  # refuses unsuitable texts before the search for a start
    circuit = with_start(circuit)
    check_saved(circuit)
    setting = make_setup(config, circuit, stored_snapshot)
    checks = [] if setting.noisy is None else check_device(setting, setting.noisy, folder)
    inputs = prepare_inputs(config, folder, resume, clock, corpus)
    config = pin_source(config, inputs.teacher.describe(), folder)
    check_time(config, cost, len(inputs.data.train))
    trainings = run_trainings(config, setting, inputs, folder, resume, clock)
    with clock.stage("evaluation"):
        evaluation = evaluate(config, setting, inputs, trainings)
        if checks and setting.noisy is not None:  # once more, because a truncation depends on the weights
            data = trainings.data
            values = trainings.student.model.values(data.embeddings[data.test[:CHECK_TEXTS]])
            checks += _compare_with_aer(setting, setting.noisy, values)
        lines = table_lines(inputs, trainings, evaluation)
        diagnosis = diagnose_run(trainings, evaluation) if config.student.diagnose and trainings.finished else None
    metrics = make_metrics(setting, inputs, trainings, evaluation, lines, checks, diagnosis)
    continued = compare_with_before(config, inputs, evaluation, Student(evaluation.model, trainings.encoder))
    seconds = {stage: round(value, 3) for stage, value in clock.seconds.items()}
    known = validation_answers(evaluation.model, trainings.data)
    about = {"seconds": seconds, "continued": continued, "cascade": _cascade(known, trainings.data, evaluation)}
    save_run(config, folder, metrics.model_copy(update=about), known, inputs, trainings, evaluation)
    scores = {re.sub(r"\W+", "_", name): line.numbers.accuracy.value for name, line in metrics.lines.items()}
    notify("on_stage", "test", {f"accuracy_{name}": value for name, value in scores.items()})
    if not trainings.finished:
        raise KeyboardInterrupt


def pin_source(config: Config, teacher: TeacherCard, folder: RunFolder) -> Config:
    """Store where an ``api:`` teacher's probabilities come from, so that a repeated run does not choose again."""
    if config.api.api_source != "auto" or teacher.endpoint is None:
        return config
    values = config.model_dump()
    values["api"]["api_source"] = teacher.endpoint.source
    config = make_config(values)
    write_text(folder.config, to_toml(config))
    return config


def check_device(setting: SimulationSetup, noisy: DeviceCircuit, folder: RunFolder) -> list[Agreement]:
    """Store snapshot and compiled circuit, and compare the training engine with AerSimulator at random parameters.

    Raises:
        QkdError: engine and AerSimulator disagree.
    """
    log.info(noisy.describe())
    write_snapshot(noisy.snapshot.calibration, folder.device / "snapshot.json")
    write_text(folder.device / "circuit.qasm", to_qasm(noisy.compiled))
    if isinstance(setting.trainer.estimator, AerEstimator):
        return []
    return _compare_with_aer(setting, noisy, None)


def _compare_with_aer(setting: SimulationSetup, noisy: DeviceCircuit, values: np.ndarray | None) -> list[Agreement]:
    """Compare the engine with AerSimulator at parameter values (R,A+P), or at random ones, and print the result."""
    agreement = compare_with_aer(setting.trainer, noisy.circuit, noisy.model, values)
    if agreement is None:  # AerSimulator would take too long
        return []
    log.info(agreement.describe() + (" (random)" if values is None else " (test texts, trained weights)"))
    return [agreement]


def save_run(
    config: Config,
    folder: RunFolder,
    metrics: Metrics,
    known: Validation,
    inputs: Inputs,
    trainings: Trainings,
    evaluation: Evaluation,
) -> None:
    """Write bundle, predictions and numbers, then the report, whose failure is a warning."""
    labels = inputs.dataset.labels
    about = About(
        teacher=inputs.teacher.name,
        data=inputs.dataset.source,
        metrics=metrics.lines["student"].numbers,
        control_metrics=metrics.lines[LINEAR].numbers if LINEAR in metrics.lines else None,
        examples=dict(sorted(Counter(labels[row] for row in inputs.corpus.splits.train).items())),
        command=command(config),
        finished=metrics.finished,
        controls=tuple(gain.sentence for gain in metrics.controls.values()),
        conclusion=circuit_conclusion(metrics) if metrics.controls else "",
        validation=known,
        cascade=metrics.cascade,
    )
    linear = trainings.controls.get(LINEAR)
    hashes = split_hashes(inputs.dataset, inputs.corpus.splits, inputs.corpus.unlabeled)
    bundle = Student(evaluation.model, trainings.encoder, about, linear.model if linear else None, hashes)
    bundle.save(folder.student, inputs.test_texts, config.run.bundle_encoder)
    teacher, student, control = (
        evaluation.logits["teacher"],
        evaluation.logits["student"],
        evaluation.logits.get(LINEAR),
    )
    predictions = [
        TestPrediction(
            text=text,
            label=labels[row],
            teacher=tuple(teacher[number].tolist()),
            student=tuple(student[number].tolist()),
            control=None if control is None else tuple(control[number].tolist()),
        )
        for number, (text, row) in enumerate(zip(inputs.test_texts, trainings.data.test, strict=True))
    ]
    write_lines(folder.predictions, [row.to_dict() for row in predictions], private=True)
    write_json(folder.metrics, metrics.to_dict())
    write_report(folder)


def validation_answers(model: StudentModel, data: TrainingData) -> Validation:
    """Return a student's predictions on the validation texts."""
    rows, targets = softmax(model.logits(data.embeddings[data.valid])), data.targets[data.valid]
    teacher = data.teacher_logits[data.valid].argmax(axis=1) == targets
    return Validation(
        confidences=tuple(rows.max(axis=1).tolist()),
        correct=tuple((rows.argmax(axis=1) == targets).tolist()),
        teacher_accuracy=float(teacher.mean()) if len(targets) else None,
    )


def _cascade(known: Validation, data: TrainingData, evaluation: Evaluation) -> Cascade | None:
    """Return the student with its teacher behind it, as it would be deployed: with exact simulation."""
    if known.teacher_accuracy is None:
        return None
    logits = evaluation.model.logits(data.embeddings[data.test])
    return make_cascade(known, logits, evaluation.logits["teacher"], evaluation.targets)
