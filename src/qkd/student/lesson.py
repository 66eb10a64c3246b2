"""What every student of a run learns from, as plain arrays, and a trainer over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from qkd.core.config import Config
from qkd.student.cores.base import StudentCore
from qkd.student.model import StudentModel
from qkd.student.trainer import Examples, Trainer

if TYPE_CHECKING:
    from qkd.encoders.protocol import Encoder
    from qkd.encoders.trainable import TrainableLayers, TrainableTable


CAREFUL = 0.1
"""Of the learning rate: with so much a trained student goes on while layers of its encoder train too."""


@dataclass(frozen=True)
class Lesson:
    """Texts as students see them; it can be pickled and needs no teacher, and an encoder where that trains too.

    classes: the C class names.
    embeddings: (N,D).
    teacher: the teacher's logits (N,C).
    targets: class indices (N,); -1 for a text that only the teacher has labelled.
    train, valid, test: row numbers.
    encoder, texts: what made the embeddings of which N texts, for a student whose encoder trains with it.
    """

    classes: tuple[str, ...]
    embeddings: np.ndarray
    teacher: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    encoder: Encoder | None = None
    texts: tuple[str, ...] = ()

    def fewer(self, count: int, seed: int) -> Lesson:
        """Return the lesson with ``count`` of its training texts, each class in its share, drawn by ``seed``."""
        if count >= len(self.train):
            return self
        rng = np.random.default_rng([seed, count])
        shuffled = rng.permutation(self.train)
        # the k-th text of a class of m comes at (k + 1/2) / m of the way: every beginning has every class in its share
        place = np.empty(len(shuffled))
        for target in np.unique(self.targets[shuffled]):
            rows = np.flatnonzero(self.targets[shuffled] == target)
            place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        return replace(self, train=np.sort(shuffled[np.argsort(place, kind="stable")[:count]]))


def make_trainer(
    config: Config, core: StudentCore, lesson: Lesson, device: torch.device, checkpoint: Path | None
) -> Trainer:
    """Return a trainer over a freshly initialised student with this core.

    Args:
        config: student, loss and training.
        core: what stands between projection and head.
        lesson: what is learned from.
        device: where torch computes.
        checkpoint: the folder of the checkpoint; None keeps none.
    """
    spec = config.student
    torch.manual_seed(config.train.seed)
    dim = lesson.embeddings.shape[1]
    model = StudentModel(core, dim, lesson.classes, spec.angle_map, spec.dropout).to(device)
    train, valid = (
        Examples.from_arrays(lesson.embeddings[rows], lesson.teacher[rows], lesson.targets[rows], device)
        for rows in (lesson.train, lesson.valid)
    )
    if spec.standardize:
        model.standardize(train.embeddings)
    return Trainer(model, train, valid, config.loss, config.train, checkpoint)


def make_tuner(
    config: Config, trained: Trainer, lesson: Lesson, front: TrainableLayers | TrainableTable, checkpoint: Path | None
) -> Trainer:
    """Return a trainer that goes on with a trained student, together with the encoder's layers in front of it.

    Args:
        config: student, loss and training.
        trained: the student's trainer, done; the same student is trained on.
        lesson: what it learned from; ``front`` takes its row numbers.
        front: those layers.
        checkpoint: the folder of the checkpoint; None keeps none.
    """
    torch.manual_seed(config.train.seed)
    train = trained.train_set.numbered(lesson.train)
    valid = trained.valid_set.numbered(lesson.valid)
    encoder = config.encoder
    spec = config.train.model_copy(
        update={
            "epochs": encoder.tune_epochs,
            "patience": encoder.tune_patience,
            "batch_size": encoder.tune_batch_size,
            "lr": CAREFUL * config.train.lr,
        }
    )
    return Trainer(trained.student, train, valid, config.loss, spec, checkpoint, front, encoder.tune_lr or front.lr)
