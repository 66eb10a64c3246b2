"""One distillation, stage by stage: data, encoder, teacher, training, evaluation.

Each stage is one function; what it computes is cached or checkpointed, so a killed run goes on from where it was.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from qkd.circuits import draw, library
from qkd.circuits.qasm import to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config
from qkd.core.console import progress, say, warn
from qkd.core.files import write_json, write_lines, write_text
from qkd.core.runs import RunFolder
from qkd.devices.snapshot import write_snapshot
from qkd.engines import AerEstimator
from qkd.pipeline.diagnosis import Tried, diagnose, looked_at
from qkd.pipeline.evaluation import (
    FROZEN,
    LINEAR,
    LOGREG,
    PLAIN,
    REFITTED,
    WITHOUT,
    answers_on_test,
    differences,
    metrics,
    table_lines,
)
from qkd.pipeline.sources import Clock, Sources, gather_sources
from qkd.reports.report import write_report
from qkd.reports.run import circuit_conclusion, teacher_conclusion
from qkd.results import Metrics, PairedDifference, Parameters, TestPrediction
from qkd.simulation.aer_check import Agreement, agree
from qkd.simulation.estimate import check_time, simulation_cost
from qkd.simulation.factory import Engine, torch_device
from qkd.simulation.saved import check_saved
from qkd.simulation.setup import Noisy, Setting, make_setup
from qkd.simulation.start import started
from qkd.student import logreg
from qkd.student.bundle import About, Student, Validation
from qkd.student.cores.factory import make_control
from qkd.student.cores.quantum import QuantumCore
from qkd.student.lesson import Lesson, make_trainer, make_tuner
from qkd.student.metrics import softmax
from qkd.student.model import StudentModel
from qkd.student.refit import refit_head
from qkd.student.trainer import Trainer

CHECKED_TEXTS = 2
"""Test texts on which the engine is compared with AerSimulator after training."""


def run_pipeline(config: Config, folder: RunFolder, resume: bool) -> None:
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
    circuit = library.load_circuit(config.student.circuit, config.student.qubits, config.student.layers)
    cost = simulation_cost(config, circuit)
    check_time(config, cost)
    circuit = started(circuit)
    check_saved(circuit)
    snapshot = folder.device / "snapshot.json"
    setting = make_setup(config, circuit, snapshot if resume and snapshot.is_file() else None)
    checks = [] if setting.noisy is None else _place(setting, setting.noisy, folder)
    sources = gather_sources(config, folder, resume, clock)
    lesson = sources.lesson()
    check_time(config, cost, len(lesson.train))
    with clock.stage("training"):
        trainer = _quantum(config, setting.circuit, setting.trainer, lesson, folder.checkpoint)
        shape = f"{circuit.name}, {draw.count(circuit).size()}; {trainer.student.num_parameters:,} parameters"
        say(f"student: {shape}; {setting.trainer.describe()}")
        finished = _train(trainer, config, resume, "training", folder.history)
        trainers, frozen = [trainer], {}
        if finished and config.encoder.tune_encoder:
            student = trainer.student.with_engine(circuit, setting.exact)
            frozen[FROZEN] = student.logits(sources.embeddings[sources.splits.test])
            trainer, sources, finished = _tune(config, trainer, sources, folder, resume)
            trainers.append(trainer)
            lesson = sources.lesson()
        others: dict[str, Trainer] = {}  # the same student without one thing, to see what that thing bought
        if finished and setting.noisy is not None:
            others[PLAIN] = _quantum(config, circuit, setting.exact, lesson, folder.checkpoint / "ideal")
        if finished and sources.unlabeled:
            few, where = sources.lesson(unlabeled=False), folder.checkpoint / "labelled"
            others[WITHOUT] = _quantum(config, setting.circuit, setting.trainer, few, where)
        for name, other in others.items():
            finished = finished and _train(other, config, resume, name, None)
    clock.seconds["training"] = sum(
        trained.progress.seconds for trained in (*trainers, *others.values())
    )  # resumed parts too
    with clock.stage("controls"):
        controls: dict[str, tuple[np.ndarray, Parameters]] = {}
        try:
            if finished and config.student.controls:
                controls = _controls(config, circuit, lesson, folder, resume)
        except KeyboardInterrupt:  # the student is trained, and kept
            finished = False
    with clock.stage("evaluation"):
        students = {"student": trainer.student, **{name: other.student for name, other in others.items()}}
        if PLAIN in others:
            plain = others[PLAIN].student.with_engine(setting.circuit, setting.trainer)
            students[REFITTED] = refit_head(plain, others[PLAIN].train_set, config.loss, config.train.weight_decay)
        answers = answers_on_test(
            sources, setting, students, frozen | {name: rows for name, (rows, _) in controls.items()}
        )
        if checks and setting.noisy is not None:  # again where it matters: a truncation depends on the weights
            rows = trainer.student.values(sources.embeddings[sources.splits.test[:CHECKED_TEXTS]])
            checks += _checked(setting, setting.noisy, rows)
        student = trainer.student.with_engine(circuit, setting.exact)
        sizes = {name: parameters for name, (_, parameters) in controls.items()}
        lines = table_lines(sources, student, answers, sizes)
        diagnosis = None
        if finished and config.student.diagnose:
            rows = looked_at(lesson)
            scores = _spread(config, circuit, setting.exact, lesson, folder, resume)
            on_test, on_train = (student.logits(lesson.embeddings[part]) for part in (lesson.test, rows))
            over: dict[str, PairedDifference] = {}
            for name in ("teacher", WITHOUT, FROZEN):
                over |= differences(sources, answers, config.student.margin, [name])
            stalled = trainers[0].progress.epoch < config.train.epochs
            tried = Tried(over.get(WITHOUT), over.get(FROZEN), stalled)
            diagnosis = diagnose(lesson, on_test, on_train, rows, over["teacher"], scores, tried)
    result = metrics(
        sources,
        setting,
        trainer,
        lines,
        answers,
        finished,
        clock.seconds,
        checks,
        diagnosis,
        config.encoder.tune_encoder,
        config.student.margin,
    )
    if result.teacher_gain and teacher_conclusion(result) != result.teacher_gain.sentence:
        warn(teacher_conclusion(result))
    _keep(folder, result, sources, trainer, student, answers)
    if not finished:
        raise KeyboardInterrupt


def _place(setting: Setting, noisy: Noisy, folder: RunFolder) -> list[Agreement]:
    """Keep what the run is simulated on, and make sure that the engine says what AerSimulator says of it.

    Raises:
        QkdError: they disagree.
    """
    say(noisy.describe())
    write_snapshot(noisy.snapshot.calibration, folder.device / "snapshot.json")
    write_text(folder.device / "circuit.qasm", to_qasm(noisy.compiled))
    if not isinstance(setting.trainer.estimator, AerEstimator):
        return _checked(setting, noisy, None)
    return []


def _checked(setting: Setting, noisy: Noisy, values: np.ndarray | None) -> list[Agreement]:
    """Compare the engine with AerSimulator at parameter values (R,A+P), or at random ones, and say what came of it."""
    agreement = agree(setting.trainer, noisy.circuit, noisy.model, values)
    if agreement is None:
        return []
    say(agreement.describe() + (" (random)" if values is None else " (test texts, trained weights)"))
    return [agreement]


def _quantum(config: Config, circuit: StudentCircuit, engine: Engine, lesson: Lesson, checkpoint: Path) -> Trainer:
    """Return a trainer over a freshly initialised student with a circuit."""
    return make_trainer(
        config, QuantumCore(circuit, engine, config.train.train_shots), lesson, engine.device, checkpoint
    )


def _tune(
    config: Config, trained: Trainer, sources: Sources, folder: RunFolder, resume: bool
) -> tuple[Trainer, Sources, bool]:
    """Train the encoder's last layers together with a trained student.

    Returns:
        The trainer, the sources with the encoder and its embeddings as they became, and whether it came to its end.
    """
    from qkd.encoders.trainable import make_trainable

    front = make_trainable(sources.encoder, sources.texts, config.encoder.tune_encoder)
    trainer = make_tuner(config, trained, sources.lesson(), front, folder.checkpoint / "tuned")
    finished = _train(trainer, config, resume, "tuning the encoder", folder.history)
    encoder = front.tuned()
    return trainer, replace(sources, encoder=encoder, embeddings=encoder.encode(sources.texts)), finished


def _spread(
    config: Config, circuit: StudentCircuit, engine: Engine, lesson: Lesson, folder: RunFolder, resume: bool
) -> list[float]:
    """Train the student with more seeds, as many as are asked for; return the test accuracy of each."""
    accuracies = []
    for seed in range(config.train.seed + 1, config.train.seed + 1 + config.student.spread_seeds):
        spec = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        trainer = _quantum(spec, circuit, engine, lesson, folder.checkpoint / f"seed-{seed}")
        if not _train(trainer, spec, resume, f"seed {seed}", None):
            raise KeyboardInterrupt
        answers = trainer.student.logits(lesson.embeddings[lesson.test]).argmax(axis=1)
        accuracies.append(float((answers == lesson.targets[lesson.test]).mean()))
    return accuracies


def _controls(
    config: Config, circuit: StudentCircuit, lesson: Lesson, folder: RunFolder, resume: bool
) -> dict[str, tuple[np.ndarray, Parameters]]:
    """Train the classical controls; return the logits (N_test,C) and the parameters of each."""
    core = make_control(LINEAR, circuit, len(lesson.classes), config.engine)
    device = torch_device(config.engine.torch_device)
    trainer = make_trainer(config, core, lesson, device, folder.checkpoint / LINEAR)
    if not _train(trainer, config, resume, "linear control", None):
        raise KeyboardInterrupt
    logits, count = logreg.fit_logreg(lesson)
    return {
        LINEAR: (trainer.student.logits(lesson.embeddings[lesson.test]), trainer.student.parameter_counts()),
        LOGREG: (logits, Parameters(classical=count, quantum=0)),
    }


def _train(trainer: Trainer, config: Config, resume: bool, what: str, history: Path | None) -> bool:
    """Run the trainer, keeping the ``history`` file up to date; return whether it came to its end."""
    if resume and trainer.resume():
        say(f"{what}: resumed after epoch {trainer.progress.epoch}")
    with progress(what, trainer.spec.epochs, "epochs", trainer.progress.epoch) as bar:

        def on_epoch(row: dict[str, float]) -> None:
            if history is not None:
                write_lines(history, trainer.progress.history)
            bar.advance(1, f"validation loss {row['valid_loss']:.3f}, accuracy {row['valid_accuracy']:.3f}")

        return trainer.run(on_epoch)


def _keep(
    folder: RunFolder,
    result: Metrics,
    sources: Sources,
    trainer: Trainer,
    student: StudentModel,
    answers: dict[str, np.ndarray],
) -> None:
    """Write bundle, predictions and numbers, then the report; a folder with a ``metrics.json`` has the first three."""
    dataset = sources.dataset
    about = About(
        teacher=sources.teacher.name,
        data=dataset.source,
        metrics=result.lines["student"].numbers,
        finished=result.finished,
        controls=tuple(gain.sentence for gain in result.controls.values()),
        conclusion=circuit_conclusion(result) if result.controls else "",
        validation=_validation(sources, student),
    )
    texts = [dataset.texts[i] for i in sources.splits.test]
    Student(student, sources.encoder, about).save(folder.student, texts)
    predictions = [
        TestPrediction(
            text=dataset.texts[i],
            label=dataset.labels[i],
            teacher=tuple(answers["teacher"][row].tolist()),
            student=tuple(answers["student"][row].tolist()),
            control=tuple(answers[LINEAR][row].tolist()) if LINEAR in answers else None,
        )
        for row, i in enumerate(sources.splits.test)
    ]
    write_lines(folder.predictions, [row.to_dict() for row in predictions])
    write_json(folder.metrics, result.to_dict())
    write_report(folder)


def _validation(sources: Sources, student: StudentModel) -> Validation:
    """Return the student's answers to the validation texts."""
    rows = softmax(student.logits(sources.embeddings[sources.splits.valid]))
    correct = rows.argmax(axis=1) == sources.dataset.targets[sources.splits.valid]
    return Validation(confidences=tuple(rows.max(axis=1).tolist()), correct=tuple(correct.tolist()))
