"""MindQuantum, the engine of the paper's authors: expectation with the full Jacobian, double and single precision."""

from __future__ import annotations

import sys

import numpy as np
from contender import measure, task
from mindquantum import RX, RY, RZ, Circuit, H, Hamiltonian, QubitOperator, Rzz, Simulator, X, Z

given = task()
n = given["n"]
ROTATIONS = {"rx": RX, "ry": RY, "rz": RZ, "rzz": Rzz}
encoder, ansatz = Circuit(), Circuit()
for name, qubits, parameter in given["gates"]:
    if parameter is None:
        part = ansatz if len(ansatz) else encoder
        part += {"h": H, "cx": X, "cz": Z}[name].on(qubits[-1], qubits[:-1] or None)
    elif parameter[0] == "input":
        encoder += ROTATIONS[name](f"x{parameter[1]}").on(qubits)
    else:
        ansatz += ROTATIONS[name](f"w{parameter[1]}").on(qubits)
whole = encoder.as_encoder() + ansatz.as_ansatz()
observables = [Hamiltonian(QubitOperator(f"Z{q}")) for q in range(n)]
simulator = Simulator("mqvector", n) if len(sys.argv) < 3 else Simulator("mqvector", n, dtype=sys.argv[2])
operator = simulator.get_expectation_with_grad(observables, whole, parallel_worker=2)
columns = [int(name[1:]) for name in whole.ansatz_params_name]
rows = [int(name[1:]) for name in whole.encoder_params_name]


def step(inputs, weights):
    evs, by_input, by_weight = operator(inputs[:, rows], weights[columns])
    input_gradients, weight_gradients = np.zeros(inputs.shape), np.zeros(weights.shape)
    input_gradients[:, rows] = by_input.real.sum(axis=1)
    weight_gradients[columns] = by_weight.real.sum(axis=(0, 1))
    return evs.real, input_gradients, weight_gradients


measure(step, given, ("mindquantum",))
