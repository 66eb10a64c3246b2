"""Test verdicts on synthetic data with labels from a circuit, and with labels from a linear function.

Embeddings are random numbers. Labels are the sign of a function: a circuit of the student's family with random weights
and a random head, or a linear function. On the first data a student with that circuit must win, on the second it must
not. Run it: python benchmarks/synthetic.py
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec, make_config
from qkd.core.workers import parallel_map
from qkd.experiments.candidates import Candidate, make_candidates
from qkd.experiments.summary import verdict_on
from qkd.experiments.trial import run_trial
from qkd.results.study import Verdict
from qkd.simulation.factory import make_engine
from qkd.student.cores import QuantumCore
from qkd.student.data import TrainingData

LOGITS_PER_DEVIATION = 8.0
"""Logits of the teacher per standard deviation of the labeling function."""
STUDENT = {"circuit": "hardware", "qubits": 3, "layers": 1, "dropout": 0.0}
TRAIN = {"lr": 0.03, "epochs": 60, "patience": 15, "weight_decay": 0.0}


def synthetic_data(
    kind: Literal["circuit", "linear"], circuit: StudentCircuit, train: int = 800, test: int = 500, seed: int = 0
) -> TrainingData:
    """Return training data with known labels.

    Args:
        kind: the labeling function.
        circuit: the circuit of the labeling function. Its A inputs are angles ``x``, uniform in (-2.9, 2.9), and the
            embeddings (N,A) are ``atanh(x / pi)``, so a student's angle map can restore them.
        train: number of training examples; a quarter as many validate.
        test: number of test examples.
        seed: the seed of all random numbers.
    """
    rng = np.random.default_rng([seed, kind == "circuit"])
    count = train + train // 4 + test
    angles = rng.uniform(-2.9, 2.9, (count, len(circuit.inputs)))
    embeddings = np.arctanh(angles / math.pi).astype(np.float32)
    if kind == "linear":
        values = embeddings @ rng.normal(size=embeddings.shape[1])
    else:
        engine = make_engine(EngineSpec(precision="double", torch_device="cpu"), circuit)
        core = QuantumCore(circuit, engine).double()
        with torch.no_grad():
            core.weights.copy_(torch.tensor(rng.uniform(-math.pi, math.pi, len(circuit.weights))))
            values = core(torch.tensor(angles)).numpy() @ rng.normal(size=len(circuit.observables))
    margin = (values - np.median(values)) / values.std()
    logits = (LOGITS_PER_DEVIATION / 2 * np.stack([-margin, margin], axis=1)).astype(np.float32)
    targets = (margin > 0).astype(int)
    learned, validated, tested = np.split(np.arange(count), [train, train + train // 4])
    return TrainingData(("low", "high"), embeddings, logits, targets, learned, validated, tested)


def synthetic_verdict(
    students: Sequence[Candidate], data: TrainingData, seeds: int, processes: int | None = None
) -> tuple[Verdict, dict[str, float]]:
    """Return the verdict on the first student and the accuracy of each.

    Args:
        students: the first is compared with the others.
        data: the training data.
        seeds: number of trainings of each student.
        processes: number of worker processes; one for each core if None.
    """
    tasks = [(student, data, seed) for student in students for seed in range(1 if student.is_logreg else seeds)]
    targets = data.targets[data.test]
    hits: dict[str, list[np.ndarray]] = {student.name: [] for student in students}
    for (student, _, _), result in zip(tasks, parallel_map(run_trial, tasks, processes), strict=True):
        hits[student.name].append(np.array(result.logits).argmax(axis=1) == targets)
    rows = {name: np.array(right, dtype=float) for name, right in hits.items()}
    return verdict_on(students, rows), {name: float(right.mean()) for name, right in rows.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--students", default="hardware,linear,mlp,logreg")
    arguments = parser.parse_args()
    students = make_candidates(arguments.students.split(","), make_config({"student": STUDENT, "train": TRAIN}))
    for kind in ("circuit", "linear"):
        verdict, accuracy = synthetic_verdict(students, synthetic_data(kind, students[0].circuit()), arguments.seeds)
        print(json.dumps({"labels": kind, "accuracy": accuracy, "conclusion": verdict.conclusion}), flush=True)
        print("\n".join(difference.sentence for difference in verdict.differences.values()), flush=True)
