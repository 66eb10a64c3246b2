"""Training: mini-batches, Adam, early stopping, and a checkpoint after every epoch from which it goes on exactly.

Not transformers' ``Trainer``: its checkpoints are pickles, which qkd neither writes nor reads.
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
from qkd.core.config import LossSpec, TrainSpec
from qkd.core.errors import QkdError
from qkd.engines.machine import keep_freed_memory, threads
from qkd.student.losses import LOSSES, Terms
from qkd.student.model import StudentModel

if TYPE_CHECKING:
    from qkd.encoders.trainable import TrainableLayers, TrainableTable

FRONT_DECAY = 0.01
"""Weight decay of a front, as transformers are usually fine-tuned with."""
WIDTH = 16
"""Embedding width above which the projection's learning rate falls with it."""
WARM, HALVED = 0.4, 2.0
"""Epochs in which a front's learning rate rises, and what each epoch divides it by."""
POOL = 16
"""So many batches' texts are drawn at once, and texts of like length put into one batch."""


@dataclass(frozen=True)
class Examples:
    """What is learned from: embeddings (N,D), teacher logits (N,C), targets (N,)."""

    embeddings: torch.Tensor
    teacher: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def from_arrays(
        cls, embeddings: np.ndarray, teacher: np.ndarray, targets: np.ndarray, device: torch.device | str = "cpu"
    ) -> Examples:
        """Return the same three arrays as tensors on ``device``."""
        return cls(
            torch.as_tensor(embeddings, dtype=torch.float32, device=device),
            torch.as_tensor(teacher, dtype=torch.float32, device=device),
            torch.as_tensor(targets, dtype=torch.long, device=device),
        )

    def numbered(self, rows: np.ndarray) -> Examples:
        """Return the same examples with the texts' numbers (N,) in place of their embeddings."""
        return Examples(torch.as_tensor(rows, device=self.targets.device), self.teacher, self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, index: torch.Tensor) -> Examples:
        """Return the examples at ``index``."""
        return Examples(self.embeddings[index], self.teacher[index], self.targets[index])


@dataclass
class Progress:
    """Where training stands; everything here and the tensors beside it are in a checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One training run of a student.

    Args:
        student: trained in place; its initial weights are whatever it has.
        train: the examples that are learned from.
        valid: the examples whose loss decides when to stop and which epoch is kept.
        loss: the loss and its options.
        spec: epochs, batch size, optimizer options, seed of the batches.
        checkpoint: the folder of the checkpoint; None keeps none.
        front: what makes embeddings (B,D) of ``Examples.embeddings``, where they are to train too: text numbers (B,)
            for ``encoders.trainable.TrainableLayers``. The student has then been trained, and its loss is to be beaten.
        front_lr: its learning rate.
    """

    def __init__(
        self,
        student: StudentModel,
        train: Examples,
        valid: Examples,
        loss: LossSpec,
        spec: TrainSpec,
        checkpoint: Path | None = None,
        front: TrainableLayers | TrainableTable | None = None,
        front_lr: float = 0.0,
    ) -> None:
        self.student, self.train_set, self.valid_set = student, train, valid
        self.loss, self.spec, self.folder = loss, spec, checkpoint
        self.front = front
        self.learner = student if front is None else nn.Sequential(OrderedDict(front=front, student=student))
        groups = _groups(student, spec)
        if front is not None:
            groups.append({"params": list(front.parameters()), "lr": front_lr, "weight_decay": FRONT_DECAY})
        self.optimizer = torch.optim.AdamW(groups, lr=spec.lr)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.order = torch.Generator().manual_seed(spec.seed)
        self.progress = Progress()
        self.best = _copy(self.learner.state_dict())

    def run(self, on_epoch: Callable[[dict[str, float]], None] | None = None) -> bool:
        """Train until the last epoch or until ``patience`` runs out, then load the best epoch's weights.

        Ctrl-C ends it after what the last whole epoch reached.

        Args:
            on_epoch: called with every epoch's history row.

        Returns:
            Whether training came to its end (False: it was interrupted).
        """
        state = self.progress
        keep_freed_memory()
        try:
            if self.front is not None and not state.epoch:
                state.best_loss = self._validate()["valid_loss"]
            while not state.finished:
                started = time.monotonic()
                with threads(self.student.core.threads if self.front is None else None):
                    row = self._epoch()
                state.seconds += time.monotonic() - started
                state.history.append(row)
                if row["valid_loss"] < state.best_loss:
                    state.best_loss, state.best_epoch = row["valid_loss"], state.epoch
                    self.best = _copy(self.learner.state_dict())
                stalled = state.epoch - state.best_epoch >= self.spec.patience
                state.finished = stalled or state.epoch >= self.spec.epochs
                self.save()
                if on_epoch:
                    on_epoch(row)
        except KeyboardInterrupt:
            pass
        self.learner.load_state_dict(self.best)
        return state.finished

    def _epoch(self) -> dict[str, float]:
        self.learner.train()
        self.student.core.reseed(self.progress.epoch)  # so that a resumed epoch draws what it would have
        if not self.spec.shuffle:
            self.order.manual_seed(self.spec.seed)
        order = torch.randperm(len(self.train_set), generator=self.order).to(self.train_set.targets.device)
        sums: dict[str, float] = {}
        batches = self._batches(order)
        for number, index in enumerate(batches):
            if self.front is not None:
                self._pace(self.progress.epoch + (number + 0.5) / len(batches))
            terms = self._terms(self.train_set.rows(index))
            self.optimizer.zero_grad()
            terms["loss"].backward()
            self.optimizer.step()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(index)
        row = {"epoch": self.progress.epoch + 1} | {name: total / len(order) for name, total in sums.items()}
        if not np.isfinite(row["loss"]):
            raise QkdError(
                f"the loss is {row['loss']} in epoch {row['epoch']:.0f}; lower --lr (now {self.spec.lr}) and go on "
                "with --resume"
            )
        row |= self._validate()
        self.progress.epoch += 1
        return row

    def _batches(self, order: torch.Tensor) -> list[torch.Tensor]:
        """Return the batches of an epoch; behind a front, texts of like length share one, so that little is padded."""
        size = self.spec.batch_size
        if self.front is None:
            return list(order.split(size))
        lengths = self.front.lengths.to(order.device)[self.train_set.embeddings[order]]
        pools = zip(order.split(POOL * size), lengths.split(POOL * size), strict=True)
        batches = [part for rows, lengths in pools for part in rows[lengths.argsort(stable=True)].split(size)]
        return [batches[number] for number in torch.randperm(len(batches), generator=self.order).tolist()]

    def _pace(self, epochs: float) -> None:
        """Set the learning rates of a front and its student, so many epochs after their beginning.

        Adam's first steps move every weight by the rate, whatever its gradient: at the whole rate, those of a
        transformer's layer together throw the student far from what it has learned. Later, smaller steps keep what was
        found from being trained away; they depend on no last epoch, so that training can go on.
        """
        share = min(epochs / WARM, 1.0) * HALVED**-epochs
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = share * rate

    def _terms(self, examples: Examples) -> Terms:
        logits = self.learner(examples.embeddings)
        return LOSSES[self.loss.loss](
            logits, examples.teacher, examples.targets, temperature=self.loss.temperature, alpha=self.loss.alpha
        )

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.learner.eval()
        logits = torch.cat(
            [self.learner(part) for part in self.valid_set.embeddings.split(512 if self.front is None else 64)]
        )
        terms = LOSSES[self.loss.loss](
            logits,
            self.valid_set.teacher,
            self.valid_set.targets,
            temperature=self.loss.temperature,
            alpha=self.loss.alpha,
        )
        accuracy = (logits.argmax(dim=1) == self.valid_set.targets).float().mean().item()
        return {"valid_loss": terms["loss"].item(), "valid_accuracy": accuracy}

    def save(self) -> None:
        """Write the checkpoint, if there is a folder for it."""
        if self.folder is None:
            return
        tensors = checkpoint.grouped(
            student=self.learner.state_dict(),
            best=self.best,
            optimizer=checkpoint.of_optimizer(self.optimizer),
            rng={"order": self.order.get_state()},
        )
        checkpoint.write_checkpoint(self.folder, f"{self.progress.epoch:06d}", self.progress, tensors)

    def resume(self) -> bool:
        """Go back to the checkpoint, if there is one; every later step is what it would have been.

        Returns:
            Whether there was a checkpoint.

        Raises:
            QkdError: it is damaged, of a newer format, or of another student.
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
        # --epochs or --patience may have been raised since
        stalled = self.progress.epoch - self.progress.best_epoch >= self.spec.patience
        self.progress.finished = stalled or self.progress.epoch >= self.spec.epochs
        return True


def _groups(student: StudentModel, spec: TrainSpec) -> list[dict[str, list[torch.Tensor] | float]]:
    """Return the optimizer's groups of parameters, always in the same order.

    Adam moves every weight by about the learning rate, so that D of them move an angle by about D times that. The
    projection's rate is therefore divided by the width (Yang et al., *Tensor Programs V*, arXiv:2203.03466): a step
    means the same for embeddings of any width.
    """
    projection, core = student.projection, student.core
    return [
        {
            "params": [projection.weight],
            "lr": spec.lr * min(1.0, WIDTH / projection.in_features),
            "weight_decay": spec.weight_decay,
        },
        {"params": [projection.bias, *student.head.parameters()], "weight_decay": spec.weight_decay},
        {"params": list(core.parameters()), "weight_decay": spec.weight_decay if core.decayed else 0.0},
    ]


def _copy(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
