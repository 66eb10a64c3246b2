"""What a circuit can learn: weights that nothing sees, directions that do the same, and how far observables look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qkd.circuits.draw import counts
from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.engines import make_engine

TOLERANCE = 1e-8
"""Gradients and singular values below this share of the largest count as 0; the arithmetic is double."""


@dataclass(frozen=True)
class CircuitReport:
    """The findings of ``check``.

    dead_weights: names of weights whose gradient is 0 wherever it was looked at.
    dead_inputs: likewise for inputs.
    rank: of the Jacobian (rows x K, P) at a random point; P less rank directions change nothing.
    num_weights: P.
    cone_widths: for each observable the qubits in its past light cone.
    counts: the circuit in one line.
    """

    dead_weights: tuple[str, ...]
    dead_inputs: tuple[str, ...]
    rank: int
    num_weights: int
    cone_widths: tuple[int, ...]
    counts: str

    def render(self) -> str:
        """Return the findings as lines of text."""
        dead = f"{len(self.dead_weights)} of {self.num_weights} weights have no gradient anywhere"
        redundant = self.num_weights - len(self.dead_weights) - self.rank
        lines = [
            self.counts,
            dead + (f": {' '.join(self.dead_weights)}" if self.dead_weights else ""),
            f"the Jacobian's rank is {self.rank} of {self.num_weights}"
            + (f": beside dead weights, {redundant} directions repeat others" if redundant > 0 else ""),
            f"light cones hold {min(self.cone_widths)} to {max(self.cone_widths)} qubits",
        ]
        if self.dead_inputs:
            lines.insert(2, f"{len(self.dead_inputs)} inputs reach no observable: {' '.join(self.dead_inputs)}")
        return "\n".join(lines)


def check(student: StudentCircuit, points: int = 2, seed: int = 0) -> CircuitReport:
    """Measure what of a circuit can be trained.

    Args:
        student: the circuit.
        points: how many random weight vectors are tried; the largest rank counts.
        seed: of the points.

    Raises:
        QkdError: the circuit is too wide for either exact engine.
    """
    a, p, k = len(student.inputs), len(student.weights), len(student.observables)
    engine = make_engine(EngineSpec(precision="double", torch_device="cpu"), student)
    program = engine.estimator.compile(student.circuit, student.observables, student.inputs, student.weights)
    rng = np.random.default_rng(seed)
    # rows x K equations must outnumber P unknowns for the rank to be the circuit's and not the sample's
    rows = max(4, -(-3 * p // (2 * k)) + 2)
    input_size, weight_size, rank = np.zeros(a), np.zeros(p), 0
    for _ in range(points):
        x = torch.tensor(rng.uniform(-np.pi, np.pi, (rows, a)))
        w = torch.tensor(rng.uniform(-np.pi, np.pi, p))
        jacobian = np.zeros((rows, k, p))
        for row in range(rows):
            one, weights = x[row : row + 1].clone().requires_grad_(), w.clone().requires_grad_()
            evs = program(one, weights)[0]
            for j in range(k):
                by_input, by_weight = torch.autograd.grad(
                    evs[j], (one, weights), retain_graph=j + 1 < k, allow_unused=True, materialize_grads=True
                )
                jacobian[row, j] = by_weight.numpy()
                input_size = np.maximum(input_size, np.abs(by_input[0].numpy()))
        weight_size = np.maximum(weight_size, np.abs(jacobian).max(axis=(0, 1), initial=0))
        singular = np.linalg.svd(jacobian.reshape(rows * k, p), compute_uv=False) if p else np.zeros(0)
        rank = max(rank, int((singular > TOLERANCE * max(singular.max(initial=0), 1e-300)).sum()))
    return CircuitReport(
        dead_weights=tuple(w.name for w, size in zip(student.weights, weight_size, strict=True) if size < TOLERANCE),
        dead_inputs=tuple(x.name for x, size in zip(student.inputs, input_size, strict=True) if size < TOLERANCE),
        rank=rank,
        num_weights=p,
        cone_widths=tuple(cone_width(student, j) for j in range(k)),
        counts=counts(student),
    )


def cone_width(student: StudentCircuit, observable: int) -> int:
    """Return how many qubits lie in the past light cone of an observable."""
    paulis = student.observables[observable].paulis
    cone = set(np.flatnonzero((paulis.x | paulis.z).any(axis=0)).tolist())
    for item in reversed(student.circuit.data):
        qubits = {student.circuit.find_bit(qubit).index for qubit in item.qubits}
        if qubits & cone and item.operation.name != "barrier":
            cone |= qubits
    return len(cone)
