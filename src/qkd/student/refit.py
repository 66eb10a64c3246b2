"""The cheapest adaptation to a device's noise: a trained model whose head alone is fitted to noisy values."""

from __future__ import annotations

import torch

from qkd.core.config import LossSpec
from qkd.student.model import StudentModel
from qkd.student.trainer import Split

LBFGS_ITERATIONS = 100
"""Maximum number of L-BFGS iterations; the loss is convex in the head, or nearly so."""


def refit_head(model: StudentModel, train: Split, loss: LossSpec, weight_decay: float) -> StudentModel:
    """Return a copy of a model whose head minimizes the loss on the values of its engine, noise included.

    Args:
        model: the model on the engine of the noisy device.
        weight_decay: the strength of the head's ridge penalty.
    """
    refitted = model.with_engine(model.circuit, model.engine)
    refitted.eval()
    with torch.no_grad():
        features = torch.cat([refitted.core(refitted.angles(part)) for part in train.inputs.split(512)])
    optimizer = torch.optim.LBFGS(refitted.head.parameters(), max_iter=LBFGS_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = train.loss_terms(refitted.head(features), loss)["loss"]
        total = total + weight_decay * refitted.head.weight.square().sum() / 2
        total.backward()
        return total

    optimizer.step(closure)
    return refitted
