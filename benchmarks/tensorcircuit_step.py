"""TensorCircuit-NG on JAX: vmap over the batch, value and gradient, jit; complex64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import tensorcircuit as tc
from contender import measure, task

tc.set_backend("jax")
tc.set_dtype("complex64")
given = task()
n = given["n"]


def evs(inputs, weights):
    circuit = tc.Circuit(n)
    values = {"input": inputs, "weight": weights}
    for name, qubits, parameter in given["gates"]:
        gate = getattr(circuit, name)
        gate(*qubits) if parameter is None else gate(*qubits, theta=values[parameter[0]][parameter[1]])
    return jnp.stack([jnp.real(circuit.expectation_ps(z=[q])) for q in range(n)])


def total(inputs, weights):
    values = jax.vmap(evs, in_axes=(0, None))(inputs, weights)
    return values.sum(), values


compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))


def step(inputs, weights):
    (_, values), gradients = compiled(jnp.asarray(inputs, jnp.float32), jnp.asarray(weights, jnp.float32))
    return jax.block_until_ready((values, *gradients))


measure(step, given, ("tensorcircuit-ng", "jax"))
