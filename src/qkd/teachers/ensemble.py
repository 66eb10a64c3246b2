"""Several teachers as one: a weighted average, with weights fitted on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from qkd.results import TeacherCard
from qkd.teachers.heads import calibrated_temperature, mean_cross_entropy
from qkd.teachers.protocol import SavableTeacher, Teacher, not_fitted

if TYPE_CHECKING:
    from qkd.data.dataset import Splits
    from qkd.data.loading import Dataset


class EnsembleTeacher:
    """A weighted average of teachers.

    The logits of each member are first calibrated on the validation split, so that an overconfident one does not
    dominate.
    """

    def __init__(self, members: Sequence[Teacher], space: Literal["probability", "logit"]) -> None:
        self.members, self.space = tuple(members), space
        self.name = " + ".join(member.name for member in members)
        self._temperatures = np.ones(len(self.members))
        self._weights = np.zeros(0)
        self._scores: dict[str, float] = {}

    @property
    def cross_fitted(self) -> bool:
        """True if every member is cross-fitted."""
        return all(member.cross_fitted for member in self.members)

    @property
    def num_parameters(self) -> int:
        """Number of weights of all members."""
        return sum(member.num_parameters for member in self.members)

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Fit every member, then the weights with the smallest validation cross-entropy."""
        for member in self.members:
            member.fit(dataset, splits)
        texts, y = [dataset.texts[row] for row in splits.valid], dataset.targets[splits.valid]
        by_member = [member.logits(texts) for member in self.members]
        self._temperatures = np.array([calibrated_temperature(logits, y) for logits in by_member])
        self._weights = fit_weights(self._calibrated(by_member), y, self.space)
        joint = self._average(by_member)
        self._scores = {
            "valid_loss": mean_cross_entropy(joint, y),
            "valid_accuracy": float(np.mean(joint.argmax(axis=1) == y)),
        }

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; those of the members are cached."""
        return self._average([member.logits(texts) for member in self.members])

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        return self._average([member.predict_logits(texts) for member in self.members])

    def describe(self) -> TeacherCard:
        """Return space, weights, validation scores, and the members."""
        return TeacherCard(
            name=self.name,
            kind="ensemble",
            space=self.space,
            weights=tuple(self._weights.tolist()),
            members=tuple(member.describe() for member in self.members),
        ).model_copy(update=self._scores)

    def save(self, folder: Path) -> None:
        """Save every member that can be saved, in a folder with its number."""
        for number, member in enumerate(self.members, start=1):
            if isinstance(member, SavableTeacher):
                member.save(folder / str(number))

    def _average(self, by_member: Sequence[np.ndarray]) -> np.ndarray:
        if not len(self._weights):
            raise not_fitted(self.name)
        return average(self._calibrated(by_member), self._weights, self.space).astype(np.float32)

    def _calibrated(self, by_member: Sequence[np.ndarray]) -> np.ndarray:
        """Return the members' logits ``(members,N,C)``, each divided by its temperature."""
        return np.stack([logits / t for logits, t in zip(by_member, self._temperatures, strict=True)])


def average(logits: np.ndarray, weights: np.ndarray, space: str) -> np.ndarray:
    """Return the average ``(N,C)`` of ``logits (M,N,C)`` with ``weights (M,)``: of logits, or of probabilities."""
    from scipy.special import log_softmax, logsumexp

    if space == "logit":
        return np.einsum("m,mnc->nc", weights, logits)
    return logsumexp(log_softmax(logits, axis=2), b=weights[:, None, None], axis=0)


def fit_weights(logits: np.ndarray, targets: np.ndarray, space: str) -> np.ndarray:
    """Return the nonnegative weights (M,) with sum 1 and the smallest cross-entropy of the average.

    Args:
        logits: logits ``(M,N,C)`` of M members.
        targets: class numbers (N,).
        space: ``probability`` or ``logit``.
    """
    from scipy.optimize import minimize
    from scipy.special import softmax

    def loss(free: np.ndarray) -> float:
        return mean_cross_entropy(average(logits, softmax(free), space), targets)

    return np.asarray(softmax(minimize(loss, np.zeros(len(logits)), method="Nelder-Mead").x))
