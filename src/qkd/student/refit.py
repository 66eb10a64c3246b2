"""The cheapest answer to a device's noise: a trained student whose head alone is fitted to noisy expectation values."""

from __future__ import annotations

import torch

from qkd.core.config import LossSpec
from qkd.student.losses import LOSSES
from qkd.student.model import StudentModel
from qkd.student.trainer import Examples

STEPS = 100
"""Iterations of L-BFGS; the loss is convex in the head, or nearly so."""


def refit_head(student: StudentModel, train: Examples, loss: LossSpec, weight_decay: float) -> StudentModel:
    """Return a copy of a student whose head has the least loss on what its engine, noise included, says of the texts.

    Args:
        student: on the engine of the noisy device.
        train: what it was trained on.
        loss: what it was trained with.
        weight_decay: the strength of the head's ridge.
    """
    refitted = student.with_engine(student.circuit, student.engine)
    refitted.eval()
    with torch.no_grad():
        features = torch.cat([refitted.core(refitted.angles(part)) for part in train.embeddings.split(512)])
    optimizer = torch.optim.LBFGS(refitted.head.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        terms = LOSSES[loss.loss](
            refitted.head(features), train.teacher, train.targets, temperature=loss.temperature, alpha=loss.alpha
        )
        total = terms["loss"] + weight_decay * refitted.head.weight.square().sum() / 2
        total.backward()
        return total

    optimizer.step(closure)
    return refitted
