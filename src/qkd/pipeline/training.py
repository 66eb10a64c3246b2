"""All trainings of one run: the student, its fine-tuned encoder, ablations, classical controls and more seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from qkd.circuits.student import StudentCircuit, count
from qkd.core.callbacks import notify
from qkd.core.config import Config
from qkd.core.console import log, progress
from qkd.core.files import write_lines
from qkd.core.runs import RunFolder
from qkd.encoders.protocol import Encoder
from qkd.pipeline.inputs import Clock, Inputs
from qkd.reports.run import IDEAL_TRAINING, LABELED_ONLY, LINEAR, LOGREG
from qkd.results import Parameters
from qkd.simulation.factory import Engine, torch_device
from qkd.simulation.setup import SimulationSetup
from qkd.student import logreg
from qkd.student.cores import QuantumCore, make_control
from qkd.student.data import TrainingData
from qkd.student.model import StudentModel
from qkd.student.trainer import Trainer, for_control, make_fine_tuner, make_trainer


@dataclass(frozen=True)
class Control:
    """A classical control.

    Attributes:
        logits: Logits (N_test,C) of the test texts.
        parameters: Its size.
        model: The control as a student without a circuit, where it is one.
    """

    logits: np.ndarray
    parameters: Parameters
    model: StudentModel | None = None


@dataclass
class Trainings:
    """The trainings of a run. An interrupted run has the first of them.

    Attributes:
        student: The student's trainer; with fine-tuning, that of the second training.
        data: The training data with the embeddings that the student reads.
        encoder: The encoder of these embeddings.
        stalled: Whether the validation loss stopped improving before the last epoch.
        frozen_logits: Test logits (N_test,C) of the student before its encoder was fine-tuned.
        ablations: The same student without one ingredient, by name.
        controls: Classical controls by name.
        spread: Test accuracies of the student with other seeds.
        tuned_layers: Number of encoder layers that were fine-tuned.
        seconds: Wall time of student, fine-tuning and ablations, resumed parts included.
        finished: Whether all trainings were completed.
    """

    student: Trainer
    data: TrainingData
    encoder: Encoder
    stalled: bool = False
    frozen_logits: np.ndarray | None = None
    ablations: dict[str, Trainer] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)
    spread: list[float] = field(default_factory=list)
    tuned_layers: int = 0
    seconds: float = 0.0
    finished: bool = False


def run_trainings(
    config: Config, setting: SimulationSetup, inputs: Inputs, folder: RunFolder, resume: bool, clock: Clock
) -> Trainings:
    """Do all trainings of a run, each from its checkpoint if ``resume``.

    Ctrl-C ends them; the result then has ``finished = False``.
    """
    start = None if inputs.before is None else inputs.before.model.state_dict()
    runner = _Runner(config, setting, folder, resume, start)
    trainer = runner.quantum(setting.circuit, setting.trainer, inputs.data, folder.checkpoint)
    circuit = setting.logical
    size = f"{circuit.name}, {count(circuit).size()}; {trainer.model.num_parameters:,} parameters"
    log.info(f"student: {size}; {setting.trainer.describe()}")
    trainings = Trainings(trainer, inputs.data, inputs.encoder)
    try:
        runner.train(trainer, "training", trainings, folder.history)
        trainings.stalled = trainer.progress.epoch < config.train.epochs
        if config.encoder.tune_encoder:
            _fine_tune(runner, trainings, inputs)
        for name, ablation in _ablations(runner, trainings, inputs):
            trainings.ablations[name] = ablation
            runner.train(ablation, name, trainings)
        if config.student.controls:
            with clock.stage("controls"):
                _train_controls(runner, trainings)
        if config.student.diagnose:
            with clock.stage("diagnosis"):
                _train_more_seeds(runner, trainings)
        trainings.finished = True
    except KeyboardInterrupt:
        pass  # everything trained so far is evaluated and kept
    clock.seconds["training"] = trainings.seconds
    notify("on_stage", "training", {"seconds": trainings.seconds})
    return trainings


@dataclass(frozen=True)
class _Runner:
    """Configuration, engines, folder and initial weights of all trainings of a run."""

    config: Config
    setting: SimulationSetup
    folder: RunFolder
    resume: bool
    start: dict[str, torch.Tensor] | None = None

    def quantum(self, circuit: StudentCircuit, engine: Engine, data: TrainingData, folder: Path) -> Trainer:
        """Return the trainer of a student with a circuit, new or with the weights of the student before."""
        core = QuantumCore(circuit, engine, self.config.train.train_shots)
        trainer = make_trainer(self.config, core, data, engine.device, folder)
        if self.start is not None:
            trainer.start_from(self.start)
        return trainer

    def train(
        self, trainer: Trainer, name: str, trainings: Trainings | None = None, history: Path | None = None
    ) -> None:
        """Train to the end, and add the time to ``trainings``.

        Raises:
            KeyboardInterrupt: the training was interrupted; the trainer has the best weights so far.
        """
        if self.resume and trainer.resume():
            log.info(f"{name}: resumed after epoch {trainer.progress.epoch}")
        with progress(name, trainer.spec.epochs, "epochs", trainer.progress.epoch) as bar:

            def on_epoch(row: dict[str, float]) -> None:
                if history is not None:
                    write_lines(history, trainer.progress.history)
                notify("on_epoch", name, int(row["epoch"]), {key: row[key] for key in row if key != "epoch"})
                bar.advance(1, f"validation loss {row['valid_loss']:.3f}, accuracy {row['valid_accuracy']:.3f}")

            finished = trainer.run(on_epoch)
        if trainings is not None:
            trainings.seconds += trainer.progress.seconds
        if not finished:
            raise KeyboardInterrupt
        if trainer.progress.best_epoch == trainer.spec.epochs:
            log.warning(f"{name}: the last epoch has the smallest validation loss; raise --epochs for fair comparisons")


def _fine_tune(runner: _Runner, trainings: Trainings, inputs: Inputs) -> None:
    """Train the encoder's last layers together with the trained student."""
    from qkd.encoders.trainable import make_trainable

    config, setting, data = runner.config, runner.setting, trainings.data
    model = trainings.student.model
    trainings.tuned_layers = config.encoder.tune_encoder
    exact = model.with_engine(setting.logical, setting.exact)
    trainings.frozen_logits = exact.logits(data.embeddings[data.test])
    layers = make_trainable(inputs.encoder, inputs.corpus.texts, config.encoder.tune_encoder)
    trainings.student = make_fine_tuner(config, model, data, layers, runner.folder.checkpoint / "tuned")
    try:
        runner.train(trainings.student, "tuning the encoder", trainings, runner.folder.history)
    finally:  # an interrupted tuning has changed the encoder, too
        trainings.encoder = layers.tuned()
        trainings.data = replace(data, embeddings=trainings.encoder.encode(inputs.corpus.texts))


def _ablations(runner: _Runner, trainings: Trainings, inputs: Inputs) -> Iterator[tuple[str, Trainer]]:
    """Yield the student without noise in training, and without unlabeled texts, where it has them."""
    setting, data, folder = runner.setting, trainings.data, runner.folder.checkpoint
    if setting.noisy is not None:
        yield IDEAL_TRAINING, runner.quantum(setting.logical, setting.exact, data, folder / "ideal")
    if inputs.corpus.unlabeled:
        labeled = data.with_labeled_only()
        yield LABELED_ONLY, runner.quantum(setting.circuit, setting.trainer, labeled, folder / "labeled")


def _train_controls(runner: _Runner, trainings: Trainings) -> None:
    """Train the controls that every run has: a linear student of the same size and a logistic regression."""
    config, data = runner.config, trainings.data
    core = make_control(LINEAR, runner.setting.logical, len(data.classes), config.engine)
    device = torch_device(config.engine.torch_device)
    trainer = make_trainer(for_control(config), core, data, device, runner.folder.checkpoint / LINEAR)
    runner.train(trainer, LINEAR)
    test = data.embeddings[data.test]
    trainings.controls[LINEAR] = Control(trainer.model.logits(test), trainer.model.parameter_counts(), trainer.model)
    logits, count = logreg.fit_logreg(data)
    trainings.controls[LOGREG] = Control(logits, Parameters(classical=count, quantum=0))


def _train_more_seeds(runner: _Runner, trainings: Trainings) -> None:
    """Train the student with ``--spread-seeds`` more seeds, without noise."""
    config, setting, data = runner.config, runner.setting, trainings.data
    for seed in range(config.train.seed + 1, config.train.seed + 1 + config.student.spread_seeds):
        train = config.train.model_copy(update={"seed": seed})
        seeded = replace(runner, config=config.model_copy(update={"train": train}))
        trainer = seeded.quantum(setting.logical, setting.exact, data, runner.folder.checkpoint / f"seed-{seed}")
        seeded.train(trainer, f"seed {seed}")
        predicted = trainer.model.logits(data.embeddings[data.test]).argmax(axis=1)
        trainings.spread.append(float((predicted == data.targets[data.test]).mean()))
