"""Wide noisy light cones: a training step to an accuracy, its errors, and the same for pauli-prop.

    python benchmarks/wide_step.py [--reference] [--cases 0 1 ...]

Batch 64, float32, forward and gradient, weights drawn from N(0,1). Generic noise is depolarizing behind every gate
with readout errors; ``qdllm`` of 11 qubits has the noise of fake_brisbane. pauli-prop (values alone) computes one
text and one observable under the same depolarizing noise, with 1e-6 as its threshold. qkd does the same with the same
threshold, once with the search for strings and once, as in training, without. With ``--reference`` values and
gradients are compared with lists of 1e-7 in double precision. Seconds are those of a core (CPU time) on one thread.
Prints one JSON line a case.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp
from qiskit_aer.noise import NoiseModel, PauliLindbladError, ReadoutError, depolarizing_error

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit
from qkd.core.config import make_config
from qkd.engines import LightConeEstimator
from qkd.engines.base import threads
from qkd.simulation.setup import place

BATCH, REPEATS = 64, 5
ONE, TWO = 3e-4, 8e-3
THRESHOLD = 1e-6
CASES = (
    ("hardware", 16, 4),
    ("hardware", 30, 4),
    ("hardware", 30, 6),
    ("hardware", 100, 4),
    ("qdllm", 11, 2),
    ("qdllm", 127, 2),
)


def generic() -> NoiseModel:
    """Return depolarizing noise behind every gate and readout errors."""
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(ONE, 1), ["rx", "ry", "rz"])
    model.add_all_qubit_quantum_error(depolarizing_error(TWO, 2), ["cz", "cx", "rzz"])
    model.add_all_qubit_readout_error(ReadoutError([[0.985, 0.015], [0.02, 0.98]]))
    return model


def case(name: str, n: int, layers: int) -> tuple[StudentCircuit, NoiseModel]:
    """Return a student and its noise."""
    student = library.load_circuit(name, n, layers)
    if (name, n) != ("qdllm", 11):
        return student, generic()
    noisy = place(make_config({"engine": {"sim": "aer-noisy"}, "device": {"device": "fake_brisbane"}}), student)
    return noisy.circuit, noisy.model


def step(engine: LightConeEstimator, student: StudentCircuit, repeats: int) -> tuple[list[float], list[torch.Tensor]]:
    """Return the seconds of the first and the later steps, and values and gradients of a random sum of them."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-np.pi, np.pi, (BATCH, len(student.inputs))), dtype=engine.dtype, requires_grad=True)
    w = torch.tensor(rng.normal(0, 1, len(student.weights)), dtype=engine.dtype, requires_grad=True)
    signs = torch.tensor(rng.choice([-1.0, 1.0], (BATCH, len(student.observables))), dtype=engine.dtype)
    program = engine.compile(student.circuit, student.observables, student.inputs, student.weights)
    seconds = []
    with threads(engine.threads):
        for _ in range(1 + repeats):
            started = time.process_time()
            evs = program(x, w)
            gradients = torch.autograd.grad((evs * signs).sum(), (x, w))
            seconds.append(time.process_time() - started)
    return seconds, [evs.detach().double(), *(one.double() for one in gradients)]


def one_value(student: StudentCircuit, noise: NoiseModel, observable: SparsePauliOp) -> tuple[float, float]:
    """Return our seconds for one value of one text at ``THRESHOLD``: of the first call, and of one more."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-np.pi, np.pi, (1, len(student.inputs))))
    w = torch.tensor(rng.normal(0, 1, len(student.weights)))
    engine = LightConeEstimator(noise, truncation=THRESHOLD, max_terms=2**20)
    seconds = []
    with threads(1), torch.no_grad():
        program = engine.compile(student.circuit, [observable], student.inputs, student.weights)
        for _ in range(2):
            started = time.process_time()
            program(x, w)
            seconds.append(time.process_time() - started)
    return seconds[0], seconds[1]


def pauli_prop(student: StudentCircuit, observable: SparsePauliOp) -> float:
    """Return the seconds that pauli-prop takes for one expectation value of one text at ``THRESHOLD``."""
    from pauli_prop import evolve_through_cliffords, propagate_through_circuit

    rng = np.random.default_rng(0)
    x, w = rng.uniform(-np.pi, np.pi, len(student.inputs)), rng.normal(0, 1, len(student.weights))
    bound = student.circuit.assign_parameters(dict(zip(student.parameters, [*x, *w], strict=True)))
    errors = {
        1: PauliLindbladError(PauliList(["X", "Y", "Z"]), [-np.log(1 - ONE) / 4] * 3),
        2: PauliLindbladError(PauliList([a + b for a in "IXYZ" for b in "IXYZ"][1:]), [-np.log(1 - TWO) / 16] * 15),
    }
    noisy = QuantumCircuit(bound.num_qubits)
    for item in bound.data:
        qubits = [bound.find_bit(qubit).index for qubit in item.qubits]
        noisy.append(item.operation, qubits)
        noisy.append(errors[len(qubits)], qubits)
    started = time.process_time()
    _, rest = evolve_through_cliffords(noisy)
    propagate_through_circuit(observable, rest, max_terms=10**6, atol=THRESHOLD, frame="h")
    return time.process_time() - started


def main(numbers: list[int], reference: bool) -> None:
    """Print a line for each of the cases."""
    for name, n, layers in (CASES[number] for number in numbers):
        student, noise = case(name, n, layers)
        engine = LightConeEstimator(noise, dtype="float32", accuracy=1e-3)
        seconds, found = step(engine, student, REPEATS)
        row = {"circuit": name, "qubits": n, "layers": layers, "first_s": seconds[0], "step_s": sorted(seconds[1:])}
        row |= {"note": engine.note()}
        if name != "qdllm" and n <= 30:
            row["ours_one_value_s"] = one_value(student, noise, student.observables[n // 2])
            row["pauli_prop_one_value_s"] = pauli_prop(student, student.observables[n // 2])
        print(json.dumps(row), flush=True)
        if reference:
            tight = LightConeEstimator(noise, truncation=1e-7, max_terms=2**20)
            _, other = step(tight, student, 0)
            errors = [float((mine - its).norm() / its.norm()) for mine, its in zip(found[1:], other[1:], strict=True)]
            row = {"value_error": float((found[0] - other[0]).abs().max()), "gradient_errors": errors}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    options = parser.parse_args()
    main(options.cases, options.reference)
