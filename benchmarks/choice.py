"""Compare the engine that ``--engine auto`` picks with the fastest one, over circuits, batches and noise.

    python benchmarks/choice.py FILE [--seconds 600]

Measures a step (forward and gradient, single precision, one thread, least CPU time of several) of every engine
that is exact for a case. Each case is one JSON line of FILE. Cases in FILE are not measured again. Then it prints
the constants of ``qkd.simulation.factory`` that fit all cases best, and a table of how much slower the pick is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from qiskit_aer.noise import NoiseModel
from scipy.optimize import least_squares
from wide_step import generic

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit
from qkd.engines import DensityMatrixEstimator, EngineEstimator, LightConeEstimator, StatevectorEstimator
from qkd.engines.base import keep_freed_memory, threads
from qkd.simulation.factory import COSTS, Work, cost, work

CIRCUITS = (
    *(("hardware", n, layers) for n, layers in ((4, 2), (4, 6), (6, 3), (8, 3), (11, 1), (11, 2), (11, 3), (11, 4))),
    *(("hardware", n, layers) for n, layers in ((16, 2), (16, 3), (20, 2), (25, 2))),
    *(("qdllm", n, layers) for n, layers in ((4, 2), (6, 2), (8, 2), (11, 2))),
    *(("reupload", n, layers) for n, layers in ((4, 3), (5, 6), (6, 2), (8, 1), (11, 2))),
    ("product", 11, 1),
)
BATCHES = (1, 8, 32, 64, 256)
LONGEST = 2.0
"""Seconds of a step, by the costs in use, beyond which an engine is not measured."""


def engine(kind: str, noise: NoiseModel | None) -> EngineEstimator:
    """Return an engine as training makes it."""
    if kind == "statevector":
        return StatevectorEstimator(dtype="complex64", device="cpu")
    return {"lightcone": LightConeEstimator, "density": DensityMatrixEstimator}[kind](
        noise, dtype="float32", device="cpu"
    )


def seconds(made: EngineEstimator, student: StudentCircuit, rows: int) -> float:
    """Return the least CPU time of a step."""
    program = made.compile(student.circuit, student.observables, student.inputs, student.weights)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-3, 3, (rows, len(student.inputs))), dtype=torch.float32, requires_grad=True)
    w = torch.tensor(rng.normal(0, 1, len(student.weights)), dtype=torch.float32, requires_grad=True)
    found: list[float] = []
    with threads(1):
        while len(found) < 4 or (len(found) < 12 and sum(found) < 0.5):
            started = time.process_time()
            torch.autograd.grad(program(x, w).sum(), (x, w))
            found.append(time.process_time() - started)
    return min(found[1:])


def cases() -> Iterator[tuple[tuple[str, int, int, bool, int], StudentCircuit, NoiseModel | None, dict[str, Work]]]:
    """Yield every case: its key, the student, its noise, and the work of each engine."""
    for name, n, layers in CIRCUITS:
        student = library.load_circuit(name, n, layers)
        for noise in (None, generic()):
            for rows in BATCHES:
                yield (name, n, layers, noise is not None, rows), student, noise, work(student, noise, rows)[0]


def fitted(measured: list[tuple[str, Work, float]]) -> dict[str, np.ndarray]:
    """Return the microseconds of each amount that fit the logarithms of measured seconds best."""
    found = {}
    for kind, start in COSTS.items():
        amounts = np.array([one.amounts for each, one, _ in measured if each == kind])
        truth = np.array([seconds for each, _, seconds in measured if each == kind])

        def errors(logs: np.ndarray, amounts: np.ndarray = amounts, truth: np.ndarray = truth) -> np.ndarray:
            return np.log(amounts @ np.exp(logs) * 1e-6 / truth)

        found[kind] = np.exp(least_squares(errors, np.log(start), loss="soft_l1").x)
    return found


def main(file: Path, budget: float) -> None:
    """Measure what is missing, then print constants and the table."""
    keep_freed_memory()
    known = {tuple(row["key"]): row["seconds"] for row in map(json.loads, file.read_text().split("\n")[:-1])}
    started, rows, measured = time.process_time(), [], []
    for key, student, noise, works in cases():
        if key not in known:
            if time.process_time() - started > budget:
                break
            known[key] = {
                kind: seconds(engine(kind, noise), student, key[-1])
                for kind, one in works.items()
                if cost(kind, one) < LONGEST
            }
            with file.open("a") as out:
                out.write(json.dumps({"key": key, "seconds": known[key]}) + "\n")
        measured += [(kind, works[kind], took) for kind, took in known[key].items()]
        pick = min(known[key], key=lambda kind: cost(kind, works[kind]), default="")
        if len(known[key]) > 1:
            rows.append((known[key][pick] / min(known[key].values()), key, pick, known[key]))
    print({kind: [float(f"{each:.2g}") for each in own] for kind, own in fitted(measured).items()})
    ratios = np.array([ratio for ratio, *_ in rows])
    print(f"{len(rows)} cases with a choice: {np.mean(ratios <= 1.1):.0%} within 1.1, {np.sum(ratios > 1.3)} over 1.3")
    for ratio, key, pick, took in sorted(rows, key=lambda row: -row[0])[:12]:
        print(f"{ratio:.2f} {key} {pick}", {kind: round(1000 * each, 2) for kind, each in took.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    options.file.touch()
    main(options.file, options.seconds)
