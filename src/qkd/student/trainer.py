"""Training: mini-batches, Adam, early stopping, and a checkpoint after every epoch from which training resumes exactly.

transformers' ``Trainer`` is no alternative: its checkpoints are pickles, which qkd neither writes nor reads.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from qkd.core import checkpoint
from qkd.core.config import Config, LossSpec, TrainSpec
from qkd.core.errors import QkdError
from qkd.engines.base import keep_freed_memory, threads
from qkd.student.cores import StudentCore
from qkd.student.data import TrainingData
from qkd.student.losses import Terms, find_loss
from qkd.student.model import StudentModel

if TYPE_CHECKING:
    from qkd.encoders.trainable import TrainableLayers, TrainableTable

FINE_TUNE_LR_FACTOR = 0.1
"""Learning-rate factor of a trained student while encoder layers are fine-tuned."""
FINE_TUNE_WEIGHT_DECAY = 0.01
"""Weight decay of encoder layers, the usual value for transformers."""
REFERENCE_WIDTH = 16
"""Embedding width above which the projection's learning rate decreases in inverse proportion."""
WARMUP_EPOCHS = 0.4
"""Number of epochs in which the learning rate of encoder layers rises."""
LR_DECAY_PER_EPOCH = 2.0
"""Factor by which each epoch divides the learning rate of encoder layers."""
POOL_BATCHES = 16
"""Number of batches that are drawn together and then sorted by text length."""
CONTROL_EPOCHS = 5
"""Limit of a control's epochs over the student's: a control is cheap, and early stopping ends its training."""
VALID_BATCH = 512
"""Validation texts per forward pass; an eighth of them behind encoder layers."""


@dataclass(frozen=True)
class Split:
    """One split of the training data as tensors.

    Attributes:
        inputs: Embeddings (N,D), or row numbers (N,) where encoder layers compute the embeddings.
        teacher_logits: Teacher logits (N,C).
        targets: Class indices (N,).
    """

    inputs: torch.Tensor
    teacher_logits: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def from_data(cls, data: TrainingData, rows: np.ndarray, device: torch.device, by_number: bool = False) -> Split:
        """Return the texts at ``rows`` as tensors on ``device``."""
        inputs = torch.as_tensor(rows) if by_number else torch.as_tensor(data.embeddings[rows], dtype=torch.float32)
        return cls(
            inputs.to(device),
            torch.as_tensor(data.teacher_logits[rows], dtype=torch.float32, device=device),
            torch.as_tensor(data.targets[rows], dtype=torch.long, device=device),
        )

    def __len__(self) -> int:
        return len(self.targets)

    def loss_terms(self, logits: torch.Tensor, spec: LossSpec, index: torch.Tensor | slice = slice(None)) -> Terms:
        """Return the loss terms of student logits (B,C) for the texts at ``index``."""
        return find_loss(spec.loss)(
            logits, self.teacher_logits[index], self.targets[index], temperature=spec.temperature, alpha=spec.alpha
        )


@dataclass
class Progress:
    """The progress of a training; a checkpoint contains it.

    Attributes:
        epoch: Number of completed epochs.
        best_epoch: The epoch with the smallest validation loss.
        best_loss: That loss.
        seconds: Wall time of all epochs.
        finished: Whether training was completed.
        history: One row for each epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One training of a model.

    Args:
        model: trained in place, from the weights that it has.
        data: the training data; the validation loss decides when to stop and which epoch is kept.
        spec: epochs, batch size, optimizer options and the seed of the batches.
        folder: the checkpoint's folder; None keeps none.
        encoder_layers: trainable layers that turn row numbers (B,) of ``data`` into embeddings (B,D). The model is
            trained already, and only epochs with a smaller loss replace it.
        encoder_lr: the learning rate of these layers.
    """

    def __init__(
        self,
        model: StudentModel,
        data: TrainingData,
        loss: LossSpec,
        spec: TrainSpec,
        folder: Path | None = None,
        encoder_layers: TrainableLayers | TrainableTable | None = None,
        encoder_lr: float = 0.0,
    ) -> None:
        self.model, self.data, self.loss, self.spec, self.folder = model, data, loss, spec, folder
        self.encoder_layers = layers = encoder_layers
        device, by_number = model.projection.weight.device, layers is not None
        self.train_set = Split.from_data(data, data.train, device, by_number)
        self.valid_set = Split.from_data(data, data.valid, device, by_number)
        self.learner: nn.Module = model
        groups = _groups(model, spec)
        if layers is not None:
            self.learner = nn.Sequential(OrderedDict(front=layers, student=model))
            groups.append(
                {"params": list(layers.parameters()), "lr": encoder_lr, "weight_decay": FINE_TUNE_WEIGHT_DECAY}
            )
        self.optimizer = torch.optim.AdamW(groups, lr=spec.lr)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.order = torch.Generator().manual_seed(spec.seed)
        self.progress = Progress()
        self.best = _copy(self.learner.state_dict())

    def run(self, on_epoch: Callable[[dict[str, float]], None] | None = None) -> bool:
        """Train until the last epoch or until ``patience`` is exhausted, then load the best epoch's weights.

        Ctrl-C stops the training after the last completed epoch.

        Returns:
            Whether training was completed (False: it was interrupted).
        """
        state = self.progress
        keep_freed_memory()
        try:
            if self.encoder_layers is not None and not state.epoch:
                state.best_loss = self.validate()["valid_loss"]
            while not state.finished:
                started = time.monotonic()
                with threads(self.model.core.threads if self.encoder_layers is None else None):
                    row = self._epoch()
                state.seconds += time.monotonic() - started
                state.history.append(row)
                if row["valid_loss"] < state.best_loss:
                    state.best_loss, state.best_epoch = row["valid_loss"], state.epoch
                    self.best = _copy(self.learner.state_dict())
                state.finished = self._is_finished()
                self.save()
                if on_epoch:
                    on_epoch(row)
        except KeyboardInterrupt:
            pass
        self.learner.load_state_dict(self.best)
        return state.finished

    def _is_finished(self) -> bool:
        state = self.progress
        return state.epoch - state.best_epoch >= self.spec.patience or state.epoch >= self.spec.epochs

    def _epoch(self) -> dict[str, float]:
        self.learner.train()
        self.model.core.reseed(self.progress.epoch)  # a resumed epoch draws the same random numbers
        if not self.spec.shuffle:
            self.order.manual_seed(self.spec.seed)
        order = torch.randperm(len(self.train_set), generator=self.order).to(self.train_set.targets.device)
        sums: dict[str, float] = {}
        batches = self._batches(order)
        for number, index in enumerate(batches):
            if self.encoder_layers is not None:
                self._set_learning_rates(self.progress.epoch + (number + 0.5) / len(batches))
            terms = self.train_set.loss_terms(self.learner(self.train_set.inputs[index]), self.loss, index)
            self.optimizer.zero_grad()
            terms["loss"].backward()
            self.optimizer.step()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(index)
        row = {"epoch": self.progress.epoch + 1} | {name: total / len(order) for name, total in sums.items()}
        if not np.isfinite(row["loss"]):
            raise QkdError(
                f"the loss is {row['loss']} in epoch {row['epoch']:.0f}; lower --lr (now {self.spec.lr}) and continue "
                "with --resume"
            )
        row |= self.validate()
        self.progress.epoch += 1
        return row

    def _batches(self, order: torch.Tensor) -> list[torch.Tensor]:
        """Return the batches of an epoch; behind encoder layers, texts of similar length share one to avoid padding."""
        size = self.spec.batch_size
        if self.encoder_layers is None:
            return list(order.split(size))
        lengths = self.encoder_layers.lengths.to(order.device)[self.train_set.inputs[order]]
        pools = zip(order.split(POOL_BATCHES * size), lengths.split(POOL_BATCHES * size), strict=True)
        batches = [part for rows, lengths in pools for part in rows[lengths.argsort(stable=True)].split(size)]
        return [batches[number] for number in torch.randperm(len(batches), generator=self.order).tolist()]

    def _set_learning_rates(self, epochs: float) -> None:
        """Set the learning rates of encoder layers and model after so many epochs.

        Adam's first steps move every weight by the learning rate, whatever its gradient. At the full rate, the weights
        of a transformer layer together destroy a trained student, so the rate rises slowly. Later steps shrink to
        preserve the result. They depend on no last epoch, so training can continue.
        """
        share = min(epochs / WARMUP_EPOCHS, 1.0) * LR_DECAY_PER_EPOCH**-epochs
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = share * rate

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return loss and accuracy on the validation texts."""
        self.learner.eval()
        batch = VALID_BATCH if self.encoder_layers is None else VALID_BATCH // 8
        logits = torch.cat([self.learner(part) for part in self.valid_set.inputs.split(batch)])
        loss = self.valid_set.loss_terms(logits, self.loss)["loss"]
        accuracy = (logits.argmax(dim=1) == self.valid_set.targets).float().mean()
        return {"valid_loss": loss.item(), "valid_accuracy": accuracy.item()}

    def save(self) -> None:
        """Write the checkpoint, if it has a folder."""
        if self.folder is None:
            return
        tensors = checkpoint.grouped(
            student=self.learner.state_dict(),
            best=self.best,
            optimizer=checkpoint.of_optimizer(self.optimizer),
            rng={"order": self.order.get_state()},
        )
        checkpoint.write_checkpoint(self.folder, f"{self.progress.epoch:06d}", self.progress, tensors)

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with the weights of a trained model instead of random ones."""
        self.model.load_state_dict(weights)
        self.best = _copy(self.model.state_dict())

    def resume(self) -> bool:
        """Restore the checkpoint; every later step is the same as without the interruption.

        Returns:
            Whether there was a checkpoint.

        Raises:
            QkdError: the checkpoint is damaged, of a newer format, or of another model.
        """
        saved = checkpoint.read_checkpoint(self.folder, Progress) if self.folder is not None else None
        if self.folder is None or saved is None:
            return False
        progress, tensors = saved
        try:
            self.learner.load_state_dict(checkpoint.under(tensors, "student"))
            self.best = checkpoint.under(tensors, "best")
            checkpoint.to_optimizer(self.optimizer, checkpoint.under(tensors, "optimizer"))
            self.order.set_state(tensors["rng.order"])
            checkpoint.to_streams(tensors)
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise checkpoint.damaged(self.folder, error) from None
        self.progress = progress
        self.progress.finished = self._is_finished()  # --epochs or --patience may have been raised
        return True


def make_trainer(
    config: Config, core: StudentCore, data: TrainingData, device: torch.device, folder: Path | None
) -> Trainer:
    """Return the trainer of a new model with this core."""
    spec = config.student
    torch.manual_seed(config.train.seed)
    model = StudentModel(core, data.embeddings.shape[1], data.classes, spec.angle_map, spec.dropout).to(device)
    trainer = Trainer(model, data, config.loss, config.train, folder)
    if spec.standardize:
        model.standardize(trainer.train_set.inputs)
        trainer.best = _copy(model.state_dict())
    return trainer


def for_control(config: Config) -> Config:
    """Return the configuration with which a classical control trains beside a student."""
    return config.model_copy(
        update={"train": config.train.model_copy(update={"epochs": CONTROL_EPOCHS * config.train.epochs})}
    )


def make_fine_tuner(
    config: Config,
    model: StudentModel,
    data: TrainingData,
    layers: TrainableLayers | TrainableTable,
    folder: Path | None,
) -> Trainer:
    """Return a trainer that continues with a trained model, together with trainable encoder layers."""
    torch.manual_seed(config.train.seed)
    encoder = config.encoder
    spec = config.train.model_copy(
        update={
            "epochs": encoder.tune_epochs,
            "patience": encoder.tune_patience,
            "batch_size": encoder.tune_batch_size,
            "lr": FINE_TUNE_LR_FACTOR * config.train.lr,
        }
    )
    return Trainer(model, data, config.loss, spec, folder, layers, encoder.tune_lr or layers.lr)


def _groups(model: StudentModel, spec: TrainSpec) -> list[dict[str, list[torch.Tensor] | float]]:
    """Return the optimizer's parameter groups, always in the same order.

    Adam moves every weight by about the learning rate, so D weights move an angle by about D times that. The
    projection's rate is therefore divided by the width (Yang et al., *Tensor Programs V*, arXiv:2203.03466): a step
    has the same effect for embeddings of any width.
    """
    projection, core = model.projection, model.core
    return [
        {
            "params": [projection.weight],
            "lr": spec.lr * min(1.0, REFERENCE_WIDTH / projection.in_features),
            "weight_decay": spec.weight_decay,
        },
        {"params": [projection.bias, *model.head.parameters()], "weight_decay": spec.weight_decay},
        {"params": list(core.parameters()), "weight_decay": spec.weight_decay if core.decayed else 0.0},
    ]


def _copy(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
