"""These engines on the same gate list: ``statevector``, or ``lightcone`` without noise."""

from __future__ import annotations

import sys
import time

import torch
from contender import measure, task
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.engines import LightConeEstimator, StatevectorEstimator
from qkd.engines.base import keep_freed_memory, threads

keep_freed_memory()  # as the trainer does
given = task()
n = given["n"]
started = time.perf_counter()
vectors = {"input": ParameterVector("x", given["num_inputs"]), "weight": ParameterVector("w", given["num_weights"])}
circuit = QuantumCircuit(n)
for name, qubits, parameter in given["gates"]:
    values = [] if parameter is None else [vectors[parameter[0]][parameter[1]]]
    getattr(circuit, name)(*values, *qubits)
estimator = {
    "statevector": lambda: StatevectorEstimator(dtype="complex64"),
    "lightcone": lambda: LightConeEstimator(dtype="float32"),
}[sys.argv[2]]()
observables = [SparsePauliOp.from_sparse_list([("Z", [q], 1)], n) for q in range(n)]
program = estimator.compile(circuit, observables, batched=list(vectors["input"]), shared=list(vectors["weight"]))
prepared = time.perf_counter() - started


def step(inputs, weights):
    x = torch.tensor(inputs, dtype=torch.float32, requires_grad=True)
    w = torch.tensor(weights, dtype=torch.float32, requires_grad=True)
    evs = program(x, w)
    evs.sum().backward()
    return evs.detach().numpy(), x.grad.numpy(), w.grad.numpy()


with threads(1):  # as make_engine sets it for circuits this small
    measure(step, given, ("qkd", "torch", "qiskit"), prepared)
