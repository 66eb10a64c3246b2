"""Test before any training if a circuit's features can beat a classical kernel on given texts.

The geometric difference g of two kernels bounds, for every labeling of the same N texts, how much better the first
generalizes than the second. If g is far below sqrt(N), the classical kernel does as well for all labels. Near sqrt(N)
an advantage is possible, not promised (Huang et al., Power of data in quantum machine learning, Nature Communications
12:2631, 2021, eq. 5; the classical kernel has white noise added, so it has full rank).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from qkd.experiments.candidates import Candidate
from qkd.student.data import TrainingData
from qkd.student.model import StudentModel

KERNEL_TEXTS = 300
"""Number of training texts in a kernel."""
DRAWS = 3
"""Number of random circuits of the family, for the median."""
RIDGE = 0.01
"""Addition to the eigenvalues of the classical kernel, whose mean is 1."""


def geometric_difference(quantum: np.ndarray, classical: np.ndarray, ridge: float = RIDGE) -> float:
    """Return g of two kernels (N,N): the largest ratio of a function's norms in the spaces of the two.

    Args:
        quantum: symmetric, positive semidefinite.
        classical: symmetric, positive semidefinite.
        ridge: the regularization of the classical kernel; 0 needs one of full rank.
    """
    root = _root(_scaled(quantum))
    values, vectors = np.linalg.eigh(_scaled(classical))
    inner = root @ (vectors / (values.clip(0) + ridge)) @ vectors.T @ root
    return float(np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2)[-1].clip(0)))


def circuit_differences(student: Candidate, data: TrainingData) -> dict[str, dict[str, float]]:
    """Return the geometric differences of a circuit's features to a linear and a Gaussian kernel, and sqrt(N).

    A student starts where its circuit responds linearly, so untrained features are nearly linear, and training may move
    them anywhere. ``untrained`` is the initial student; ``range`` is the median over random weights behind random
    projections that fill the range of angles.

    Args:
        student: a student with a circuit.
        data: its training data.
    """
    torch.manual_seed(student.config.train.seed)
    circuit, spec = student.circuit(), student.config.student
    core = student.core(circuit, len(data.classes))
    model = StudentModel(core, data.embeddings.shape[1], data.classes, spec.angle_map)
    if spec.standardize:
        model.standardize(torch.as_tensor(data.embeddings[data.train], dtype=torch.float32))
    step = -(-len(data.train) // KERNEL_TEXTS)
    rows = torch.as_tensor(data.embeddings[data.train[::step]], dtype=torch.float32)
    inputs = rows.double().numpy()
    kernels = {"linear": linear_kernel(inputs), "rbf": gaussian_kernel(inputs)}

    def differences(angles: torch.Tensor) -> dict[str, float]:
        with torch.no_grad():
            evs = core(angles.to(rows.dtype)).double().cpu().numpy()
        return {name: geometric_difference(linear_kernel(evs), kernel) for name, kernel in kernels.items()}

    with torch.no_grad():
        untrained = differences(model.angles(rows))
    rng, drawn = np.random.default_rng(student.config.train.seed), []
    for _ in range(DRAWS):
        z = inputs @ rng.normal(size=(inputs.shape[1], len(circuit.inputs)))
        angles = math.pi * np.tanh((z - z.mean(axis=0)) / z.std(axis=0).clip(1e-9))
        with torch.no_grad():
            for weights in core.parameters():
                weights.copy_(torch.as_tensor(rng.uniform(-math.pi, math.pi, weights.shape)))
        drawn.append(differences(torch.as_tensor(angles)))
    anywhere = {name: float(np.median([draw[name] for draw in drawn])) for name in kernels}
    return {"untrained": untrained, "range": anywhere, "limit": {"sqrt": math.sqrt(len(inputs))}}


def linear_kernel(features: np.ndarray) -> np.ndarray:
    """Return the kernel (N,N) of a linear model with an intercept on features (N,F)."""
    return features @ features.T + 1.0


def gaussian_kernel(features: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel (N,N) of features (N,F) with their median distance as its width."""
    squares = (features**2).sum(axis=1)
    distances = (squares[:, None] + squares - 2 * features @ features.T).clip(0)
    return np.exp(-distances / np.median(distances[~np.eye(len(distances), dtype=bool)]))


def _scaled(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel with trace N."""
    return kernel * len(kernel) / np.trace(kernel)


def _root(kernel: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(kernel)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
