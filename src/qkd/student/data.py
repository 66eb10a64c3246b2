"""The training data of every student of a run, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qkd.student.losses import UNLABELED

if TYPE_CHECKING:
    from qkd.encoders.protocol import Encoder


@dataclass(frozen=True)
class TrainingData:
    """N texts with their embeddings, labels and teacher logits. It can be pickled.

    Attributes:
        classes: The C class names.
        embeddings: Embeddings (N,D).
        teacher_logits: The teacher's logits (N,C).
        targets: Class indices (N,); ``UNLABELED`` for a text that only the teacher has labeled.
        train: Row numbers of the training texts, unlabeled ones included.
        valid: Row numbers of the validation texts.
        test: Row numbers of the test texts.
        texts: The N texts, needed only where the encoder trains with the student.
        encoder: The encoder of the embeddings, needed only where it trains with the student.
    """

    classes: tuple[str, ...]
    embeddings: np.ndarray
    teacher_logits: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    texts: tuple[str, ...] = ()
    encoder: Encoder | None = None

    @property
    def labeled_train(self) -> np.ndarray:
        """Row numbers of the training texts that have a label."""
        return self.train[self.targets[self.train] != UNLABELED]

    def with_labeled_only(self) -> TrainingData:
        """Return the data without unlabeled texts in the training split."""
        return replace(self, train=self.labeled_train)

    def subset(self, count: int, seed: int) -> TrainingData:
        """Return the data with ``count`` training texts, drawn by ``seed`` with every class in its proportion."""
        if count >= len(self.train):
            return self
        rng = np.random.default_rng([seed, count])
        shuffled = rng.permutation(self.train)
        # The k-th of m texts of a class gets the place (k + 1/2) / m, so every prefix has all classes in proportion.
        place = np.empty(len(shuffled))
        for target in np.unique(self.targets[shuffled]):
            rows = np.flatnonzero(self.targets[shuffled] == target)
            place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        return replace(self, train=np.sort(shuffled[np.argsort(place, kind="stable")[:count]]))
