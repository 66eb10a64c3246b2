"""Whether a circuit's features could beat a classical kernel on these texts at all, before anything is trained.

The geometric difference g of two kernels bounds, for every labelling of the same N texts, how much better the first can
generalise than the second: where g is far below sqrt(N) the classical kernel does as well whatever the labels are,
where it is near, an advantage is possible, not promised (Huang et al., Power of data in quantum machine learning,
Nature Communications 12:2631, 2021, eq. 5; the classical kernel has white noise added, so that it has full rank).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from qkd.experiments.candidates import Candidate
from qkd.results import Geometry
from qkd.student.lesson import Lesson
from qkd.student.model import StudentModel

TEXTS = 300
"""Training texts of which kernels are made."""
DRAWS = 3
"""Random circuits of the family, over which a median is taken."""
RIDGE = 0.01
"""Added to the eigenvalues of the classical kernel, whose mean is 1."""
SMALL = 0.5
"""Of sqrt(N): a difference below leaves little room."""


def geometric_difference(quantum: np.ndarray, classical: np.ndarray, ridge: float = RIDGE) -> float:
    """Return g of two kernels (N,N): how much larger a function's norm can be in the classical one's space.

    Args:
        quantum: symmetric, positive semidefinite.
        classical: the same.
        ridge: the regularisation of the classical kernel; 0 needs one of full rank.
    """
    root = _root(_scaled(quantum))
    values, vectors = np.linalg.eigh(_scaled(classical))
    inner = root @ (vectors / (values.clip(0) + ridge)) @ vectors.T @ root
    return float(np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2)[-1].clip(0)))


def geometry_of(candidate: Candidate, lesson: Lesson) -> Geometry:
    """Return the geometric differences of a circuit's features to classical kernels.

    A student starts where its circuit responds linearly, so that untrained its features are little else than linear
    ones; training may take it anywhere. Both are looked at: the untrained student (``differences``), and random
    weights behind random projections that fill the range of angles (``range``, the median of some draws).

    Args:
        candidate: a student with a circuit.
        lesson: its texts.
    """
    torch.manual_seed(candidate.config.train.seed)
    circuit, spec = candidate.circuit(), candidate.config.student
    core = candidate.core(circuit, len(lesson.classes))
    model = StudentModel(core, lesson.embeddings.shape[1], lesson.classes, spec.angle_map)
    if spec.standardize:
        model.standardize(torch.as_tensor(lesson.embeddings[lesson.train], dtype=torch.float32))
    step = -(-len(lesson.train) // TEXTS)
    rows = torch.as_tensor(lesson.embeddings[lesson.train[::step]], dtype=torch.float32)
    inputs = rows.double().numpy()
    kernels = {"linear": linear_kernel(inputs), "rbf": gaussian_kernel(inputs)}

    def differences(angles: torch.Tensor) -> dict[str, float]:
        with torch.no_grad():
            evs = core(angles.to(rows.dtype)).double().cpu().numpy()
        return {name: geometric_difference(linear_kernel(evs), kernel) for name, kernel in kernels.items()}

    with torch.no_grad():
        untrained = differences(model.angles(rows))
    rng, drawn = np.random.default_rng(candidate.config.train.seed), []
    for _ in range(DRAWS):
        z = inputs @ rng.normal(size=(inputs.shape[1], len(circuit.inputs)))
        angles = math.pi * np.tanh((z - z.mean(axis=0)) / z.std(axis=0).clip(1e-9))
        with torch.no_grad():
            for weights in core.parameters():
                weights.copy_(torch.as_tensor(rng.uniform(-math.pi, math.pi, weights.shape)))
        drawn.append(differences(torch.as_tensor(angles)))
    anywhere = {name: float(np.median([draw[name] for draw in drawn])) for name in kernels}
    smallest, largest, limit = min(untrained.values()), min(anywhere.values()), math.sqrt(len(inputs))
    possible = largest >= SMALL * limit
    sentence = (
        f"The geometric difference of the circuit's features to the nearer of two classical kernels is {smallest:.1f} "
        f"untrained and {largest:.1f} over its whole range on {len(inputs)} texts, sqrt(N) is {limit:.1f}: "
        + ("an advantage on these data is possible, not promised." if possible else "little room for an advantage.")
    )
    return Geometry(
        texts=len(inputs),
        sqrt=limit,
        differences=untrained,
        range=anywhere,
        possible=possible,
        sentence=sentence,
    )


def linear_kernel(features: np.ndarray) -> np.ndarray:
    """Return the kernel (N,N) of a linear model with an intercept on features (N,F)."""
    return features @ features.T + 1.0


def gaussian_kernel(features: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel (N,N) of features (N,F), as wide as their median distance."""
    squares = (features**2).sum(axis=1)
    distances = (squares[:, None] + squares - 2 * features @ features.T).clip(0)
    return np.exp(-distances / np.median(distances[~np.eye(len(distances), dtype=bool)]))


def _scaled(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel with trace N."""
    return kernel * len(kernel) / np.trace(kernel)


def _root(kernel: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(kernel)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
