"""Stand-ins for texts whose labels are known to come from a circuit, or from a line, so that a verdict can be checked.

Embeddings are random numbers. Labels are the sign of what a circuit of the student's family computes of them, with
random weights and a random head, or the sign of a linear function. On the first a student with that circuit must win
and the verdict must say so; on the second it must not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.core.workers import parallel_map
from qkd.experiments.candidates import Candidate
from qkd.experiments.summary import verdict_on
from qkd.experiments.trial import run_trial
from qkd.results.study import Verdict
from qkd.simulation.factory import make_engine
from qkd.student.cores.quantum import QuantumCore
from qkd.student.lesson import Lesson

SHARPNESS = 8.0
"""Logits of the teacher per standard deviation of the labelling function."""


def planted(
    kind: Literal["circuit", "linear"],
    circuit: StudentCircuit,
    train: int = 800,
    test: int = 500,
    seed: int = 0,
) -> Lesson:
    """Return a lesson with known labels.

    Args:
        kind: whose labels they are.
        circuit: of the labelling function; its A inputs are the angles ``x`` themselves, uniform in (-2.9, 2.9), and
            the embeddings (N,A) are ``atanh(x / pi)``, so that a student's angle map can give them back.
        train: training examples; a quarter as many decide when to stop.
        test: test examples.
        seed: of everything that is random.
    """
    rng = np.random.default_rng([seed, kind == "circuit"])
    count = train + train // 4 + test
    angles = rng.uniform(-2.9, 2.9, (count, len(circuit.inputs)))
    embeddings = np.arctanh(angles / math.pi).astype(np.float32)
    if kind == "linear":
        values = embeddings @ rng.normal(size=embeddings.shape[1])
    else:
        core = QuantumCore(circuit, make_engine(EngineSpec(precision="double", torch_device="cpu"), circuit)).double()
        with torch.no_grad():
            core.weights.copy_(torch.tensor(rng.uniform(-math.pi, math.pi, len(circuit.weights))))
            values = core(torch.tensor(angles)).numpy() @ rng.normal(size=len(circuit.observables))
    margin = (values - np.median(values)) / values.std()
    targets = (margin > 0).astype(int)
    logits = (SHARPNESS / 2 * np.stack([-margin, margin], axis=1)).astype(np.float32)
    rows = np.arange(count)
    return Lesson(
        ("low", "high"),
        embeddings,
        logits,
        targets,
        rows[:train],
        rows[train : train + train // 4],
        rows[train + train // 4 :],
    )


class PlantedVerdict(Verdict):
    """A verdict on students whose answers are known, and their accuracies."""

    accuracy: dict[str, float]


def planted_verdict(
    students: Sequence[Candidate], lesson: Lesson, seeds: int, processes: int | None = None
) -> PlantedVerdict:
    """Return what a comparison says of students on a lesson.

    Args:
        students: the others are judged against the first.
        lesson: what they learn from and are tested on.
        seeds: how often each is trained.
        processes: how many work at once; one for each core when left out.
    """
    tasks = [(student, lesson, seed) for student in students for seed in range(1 if student.is_logreg else seeds)]
    targets = lesson.targets[lesson.test]
    hits: dict[str, list[np.ndarray]] = {student.name: [] for student in students}
    for (student, _, _), result in zip(tasks, parallel_map(run_trial, tasks, processes), strict=True):
        hits[student.name].append(np.array(result.logits).argmax(axis=1) == targets)
    rows = {name: np.array(right, dtype=float) for name, right in hits.items()}
    accuracy = {name: float(right.mean()) for name, right in rows.items()}
    return PlantedVerdict(**dict(verdict_on(students, rows)), accuracy=accuracy)
