"""PennyLane: ``lightning.qubit`` with adjoint gradients, or ``default.qubit`` with backprop on JAX.

With ``device_vjp`` lightning computes one vector-Jacobian product in a single backward sweep. Otherwise it makes the
Jacobian of every observable and contracts it afterwards.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
from contender import measure, task

given = task()
n, method = given["n"], sys.argv[2]
GATES = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "rzz": qml.IsingZZ, "cx": qml.CNOT, "cz": qml.CZ, "h": qml.Hadamard}


def circuit(inputs, weights):
    values = {"input": inputs, "weight": weights}
    for name, qubits, parameter in given["gates"]:
        gate = GATES[name]
        gate(wires=qubits) if parameter is None else gate(values[parameter[0]][..., parameter[1]], wires=qubits)
    return [qml.expval(qml.PauliZ(q)) for q in range(n)]


if method == "lightning":
    node = qml.QNode(circuit, qml.device("lightning.qubit", wires=n), diff_method="adjoint", device_vjp=True)

    def total(inputs, weights):
        values = qml.math.stack(node(inputs, weights))
        return values.sum()

    gradient = qml.grad(total, argnums=(0, 1))
    shown: list[np.ndarray] = []  # values of two texts, for the comparison; they are not timed twice

    def step(inputs, weights):
        rows, weight_sum = [], np.zeros(len(weights))
        for row in inputs:
            x = qml.numpy.array(row, requires_grad=True)
            w = qml.numpy.array(weights, requires_grad=True)
            by_input, by_weight = gradient(x, w)
            if len(shown) < 2:
                shown.append(np.stack(node(x, w)))
            rows.append(by_input)
            weight_sum += by_weight
        return np.stack(shown), np.stack(rows), weight_sum
else:
    node = qml.QNode(circuit, qml.device("default.qubit", wires=n), interface="jax", diff_method="backprop")

    def one(inputs, weights):
        return jnp.stack(node(inputs, weights))

    def total(inputs, weights):
        values = jax.vmap(one, in_axes=(0, None))(inputs, weights)
        return values.sum(), values

    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))

    def step(inputs, weights):
        (_, values), gradients = compiled(jnp.asarray(inputs, jnp.float32), jnp.asarray(weights, jnp.float32))
        return jax.block_until_ready((values, *gradients))


measure(step, given, ("pennylane", "pennylane-lightning", "jax"))
