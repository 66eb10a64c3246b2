"""TensorCircuit-NG on JAX: the state once, every <Z> from its probabilities, vmap, value and gradient, jit; complex64.

Asking for the expectation values one by one contracts the circuit again for each. That the state is made once and read
many times is the pattern of its own templates, whose measurements take a state.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import tensorcircuit as tc
from contender import measure, task

tc.set_backend("jax")
tc.set_dtype("complex64")
given = task()
n = given["n"]
basis = np.arange(2**n)
SIGNS = jnp.asarray(np.stack([1 - 2 * ((basis >> (n - 1 - q)) & 1) for q in range(n)]), jnp.float32)


def evs(inputs, weights):
    circuit = tc.Circuit(n)
    values = {"input": inputs, "weight": weights}
    for name, qubits, parameter in given["gates"]:
        gate = getattr(circuit, name)
        gate(*qubits) if parameter is None else gate(*qubits, theta=values[parameter[0]][parameter[1]])
    state = circuit.state()
    return SIGNS @ (jnp.real(state) ** 2 + jnp.imag(state) ** 2)


def total(inputs, weights):
    values = jax.vmap(evs, in_axes=(0, None))(inputs, weights)
    return values.sum(), values


compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))


def step(inputs, weights):
    (_, values), gradients = compiled(jnp.asarray(inputs, jnp.float32), jnp.asarray(weights, jnp.float32))
    return jax.block_until_ready((values, *gradients))


measure(step, given, ("tensorcircuit-ng", "jax"))
