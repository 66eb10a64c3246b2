"""The training step of Qiskit users: a stock ``EstimatorQNN`` with its own estimator and parameter shift."""

from __future__ import annotations

import numpy as np
from contender import measure, task
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.neural_networks import EstimatorQNN

given = task()
n = given["n"]
vectors = {"input": ParameterVector("x", given["num_inputs"]), "weight": ParameterVector("w", given["num_weights"])}
circuit = QuantumCircuit(n)
for name, qubits, parameter in given["gates"]:
    values = [] if parameter is None else [vectors[parameter[0]][parameter[1]]]
    getattr(circuit, name)(*values, *qubits)
qnn = EstimatorQNN(
    circuit=circuit,
    estimator=StatevectorEstimator(),
    observables=[SparsePauliOp.from_sparse_list([("Z", [q], 1)], n) for q in range(n)],
    input_params=list(vectors["input"]),
    weight_params=list(vectors["weight"]),
    input_gradients=True,
    default_precision=0.0,
)


def step(inputs, weights):
    by_input, by_weight = qnn.backward(inputs, weights)
    return np.asarray(qnn.forward(inputs, weights)), by_input.sum(axis=1), by_weight.sum(axis=(0, 1))


measure(step, given, ("qiskit", "qiskit-machine-learning"))
