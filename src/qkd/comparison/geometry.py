"""Whether a circuit's features could beat a classical kernel on these texts at all, before anything is trained.

The geometric difference g of two kernels bounds, for every labelling of the same N texts, how much better the first can
generalise than the second: where g is far below sqrt(N) the classical kernel does as well whatever the labels are,
where it is near, an advantage is possible, not promised (Huang et al., Power of data in quantum machine learning,
Nature Communications 12:2631, 2021, eq. 5; the classical kernel has white noise added, so that it has full rank).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qkd.comparison.contestants import Contestant
from qkd.student.lesson import Lesson
from qkd.student.model import StudentModel

TEXTS = 300
"""Training texts of which kernels are made."""
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


def looked_at(contestant: Contestant, lesson: Lesson) -> dict[str, Any]:
    """Return the geometric differences of a circuit's features, untrained, to classical kernels, as JSON values.

    Args:
        contestant: a student with a circuit.
        lesson: its texts.
    """
    torch.manual_seed(contestant.config.train.seed)
    circuit, spec = contestant.circuit(), contestant.config.student
    middle = contestant.middle(circuit, len(lesson.classes))
    model = StudentModel(middle, lesson.embeddings.shape[1], lesson.classes, spec.angle_map)
    if spec.standardise:
        model.standardise(torch.as_tensor(lesson.embeddings[lesson.train], dtype=torch.float32))
    step = -(-len(lesson.train) // TEXTS)
    rows = torch.as_tensor(lesson.embeddings[lesson.train[::step]], dtype=torch.float32)
    with torch.no_grad():
        angles = model.angles(rows)
        evs, inputs = middle(angles).double().cpu().numpy(), rows.double().numpy()
    count = len(inputs)
    kernels = {"linear": linear_kernel(inputs), "rbf": gaussian_kernel(inputs)}
    found = {name: geometric_difference(linear_kernel(evs), kernel) for name, kernel in kernels.items()}
    smallest, limit = min(found.values()), float(np.sqrt(count))
    possible = smallest >= SMALL * limit
    sentence = (
        f"The geometric difference of the circuit's features to classical kernels is {smallest:.1f} on {count} texts, "
        f"sqrt(N) is {limit:.1f}: "
        + ("an advantage on these data is possible, not promised." if possible else "little room for an advantage.")
    )
    return {"texts": count, "sqrt": limit, "differences": found, "possible": possible, "sentence": sentence}


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
