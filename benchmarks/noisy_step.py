"""Under noise: a training step of the light-cone engine beside Aer's noisy forward pass, and its cost against width.

Prints one JSON object. ``hardware``, 11 qubits, 2 layers, is transpiled onto a line of fake_brisbane and keeps that
device's noise. Wider students have depolarizing noise behind every gate and readout error, on the logical circuit.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
from qiskit import transpile
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
from qiskit_aer.primitives import EstimatorV2
from qiskit_ibm_runtime.fake_provider import FakeBrisbane

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit
from qkd.engines import LightConeEstimator
from qkd.engines.base import threads

BATCH, LINE = 64, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def seconds(student: StudentCircuit, noise: NoiseModel | None, repeats: int, batch: int = BATCH) -> float:
    """Return the median time of forward and backward over a batch, in float32."""
    engine = LightConeEstimator(noise_model=noise, dtype="float32")
    program = engine.compile(student.circuit, student.observables, student.inputs, student.weights)
    x = torch.randn(batch, len(student.inputs), requires_grad=True)
    w = torch.randn(len(student.weights), requires_grad=True)
    found = []
    with threads(engine.threads):
        for _ in range(repeats + 1):
            started = time.perf_counter()
            program(x, w).sum().backward()
            found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def transpiled(student: StudentCircuit, backend: FakeBrisbane) -> StudentCircuit:
    """Return the student on ``LINE``."""
    isa = transpile(student.circuit, backend, initial_layout=LINE, optimization_level=1, seed_transpiler=0)
    by_name = {parameter.name: parameter for parameter in isa.parameters}
    return replace(
        student,
        circuit=isa,
        inputs=tuple(by_name[p.name] for p in student.inputs),
        weights=tuple(by_name[p.name] for p in student.weights),
        observables=tuple(observable.apply_layout(isa.layout) for observable in student.observables),
    )


backend = FakeBrisbane()
device = transpiled(library.load_circuit("hardware"), backend)
noise = NoiseModel.from_backend(backend)
result: dict[str, object] = {"noisy_s": seconds(device, noise, 15), "ideal_s": seconds(device, None, 15)}

values = np.random.default_rng(0).uniform(-np.pi, np.pi, len(device.circuit.parameters))
estimator = EstimatorV2.from_backend(backend)
started = time.perf_counter()
estimator.run([(device.circuit, [[observable] for observable in device.observables], values)], precision=0.03).result()
result["aer_forward_s"] = time.perf_counter() - started

generic = NoiseModel()
generic.add_all_qubit_quantum_error(depolarizing_error(3e-4, 1), ["ry", "rz"])
generic.add_all_qubit_quantum_error(depolarizing_error(8e-3, 2), ["cz"])
generic.add_all_qubit_readout_error(ReadoutError([[0.985, 0.015], [0.02, 0.98]]))
result["wide"] = [
    {"qubits": n, "layers": layers, "seconds": seconds(library.load_circuit("hardware", n, layers), generic, 5)}
    for layers in (1, 2)
    for n in (11, 25, 50, 75, 100, 127)
]
result["layers"] = [
    {"layers": layers, "seconds": seconds(library.load_circuit("hardware", 25, layers), generic, 5)}
    for layers in (1, 2, 3)
]
result["batch"] = [
    {"batch": batch, "seconds": seconds(library.load_circuit("hardware", 25, 2), generic, 5, batch)}
    for batch in (8, 32, 64, 128, 256, 512)
]
result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
result["versions"] = {name: version(name) for name in ("qkd-llm", "torch", "qiskit", "qiskit-aer")}
print(json.dumps(result))
