"""Whether an engine says what AerSimulator says, asked on a few points before anything is trained on it."""

from __future__ import annotations

import numpy as np
import torch
from qiskit_aer.noise import NoiseModel

from qkd.circuits.student import StudentCircuit
from qkd.engines.aer import AerEstimator, AerProgram
from qkd.engines.program import Question
from qkd.errors import QkdError
from qkd.simulation.make import Engine

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
SIGMAS = 6
"""Standard errors by which an engine that samples may be off."""


def agree(engine: Engine, student: StudentCircuit, noise: NoiseModel, rows: int = 2, seed: int = 0) -> float:
    """Return the largest difference between an engine's expectation values and Aer's density matrices.

    Args:
        engine: what is to be trained with, under ``noise``.
        student: the circuit.
        noise: Aer's noise model on the circuit's qubits.
        rows: how many random points are compared.
        seed: of the points.

    Raises:
        QkdError: they disagree, or a light cone is too wide for Aer.
    """
    values = np.random.default_rng(seed).uniform(-np.pi, np.pi, (rows, len(student.inputs)))
    weights = np.random.default_rng([seed, 1]).uniform(-np.pi, np.pi, len(student.weights))
    aer = AerProgram(
        Question(student.circuit, student.observables, student.inputs, student.weights), AerEstimator(noise)
    )
    x, w = torch.from_numpy(values), torch.from_numpy(weights)
    expected = aer.exact(aer.angles(x, w).numpy())
    order = [student.parameters.index(parameter) for parameter in student.circuit.parameters]
    bound = np.concatenate([values, np.tile(weights, (rows, 1))], axis=1)[:, order]
    pub = (student.circuit, [[observable] for observable in student.observables], bound)
    data = engine.estimator.run([pub]).result()[0].data
    difference = np.abs(data.evs.T - expected)
    allowed = TOLERANCE[torch.float64 if getattr(engine.estimator, "dtype", None) == torch.float64 else torch.float32]
    if (difference > allowed + SIGMAS * data.stds.T).any():
        raise QkdError(
            f"the {engine.describe().split(' ')[0]} engine and AerSimulator disagree by {difference.max():.1e} on "
            f"circuit '{student.name}' under this noise; train with --engine aer, and please report it with the "
            "circuit and the device"
        )
    return float(difference.max())
