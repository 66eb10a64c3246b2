from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.primitives import StatevectorEstimator as Reference
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient
from qiskit_machine_learning.neural_networks import EstimatorQNN

from qkd.core.errors import QkdError
from qkd.engines import gates
from qkd.engines.gradient import EngineGradient
from qkd.engines.statevector import StatevectorEstimator
from tests.engines.conftest import random_circuit, random_observables

seeds = st.integers(0, 2**32 - 1)


def classifier_circuit(n: int = 4):
    """A circuit with inputs (one re-uploaded inside an expression) and weights."""
    x, w = ParameterVector("x", n), ParameterVector("w", 3 * n)
    circuit = QuantumCircuit(n)
    for q in range(n):
        circuit.ry(x[q], q)
        circuit.rz(w[q], q)
    for q in range(n - 1):
        circuit.cz(q, q + 1)
    circuit.rx(2 * x[0] + w[0], 0)
    circuit.rzz(x[1] * x[2], 1, 2)
    for q in range(n):
        circuit.ry(w[n + q], q)
        circuit.crx(w[2 * n + q], q, (q + 1) % n)
    return circuit, list(x), list(w)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_equals_finite_differences(seed):
    rng = np.random.default_rng(seed)
    circuit = random_circuit(seed, size=20)
    parameters = list(circuit.parameters)
    order = rng.permutation(len(parameters))
    cut = len(order) // 2
    assume(cut)
    program = StatevectorEstimator().compile(
        circuit,
        random_observables(seed, 4, 2),
        [parameters[i] for i in order[:cut]],
        [parameters[i] for i in order[cut:]],
    )
    x = torch.tensor(rng.uniform(-3, 3, (2, cut)), requires_grad=True)
    w = torch.tensor(rng.uniform(-3, 3, len(order) - cut), requires_grad=True)
    assert torch.autograd.gradcheck(program, (x, w), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3])
def test_equals_parameter_shift(rows, rng):
    circuit, _, _ = classifier_circuit(3)
    observables = random_observables(4, 3, 2)
    values = rng.uniform(-3, 3, (rows, circuit.num_parameters))
    arguments = (
        [circuit] * 2 * rows,
        [o for o in observables for _ in range(rows)],
        np.tile(values, (2, 1)),
    )
    mine = EngineGradient(StatevectorEstimator()).run(*arguments).result()
    theirs = ParamShiftEstimatorGradient(Reference()).run(*arguments).result()
    np.testing.assert_allclose(np.array(mine.gradients), np.array(theirs.gradients), atol=1e-9)
    assert [m["parameters"] for m in mine.metadata] == [list(m["parameters"]) for m in theirs.metadata]


def test_any_subset_of_parameters_in_any_order(rng):
    one, other = random_circuit(21, size=15), random_circuit(22, size=15)
    circuits = [one, other, one]
    observables = random_observables(6, 4, 3)
    values = [rng.uniform(-3, 3, circuit.num_parameters) for circuit in circuits]
    wanted = [list(one.parameters)[::-2], [other.parameters[1]], None]
    gradient = EngineGradient(StatevectorEstimator())
    some = gradient.run(circuits, observables, values, wanted).result().gradients
    for circuit, observable, row, chosen, found in zip(circuits, observables, values, wanted, some, strict=True):
        whole = gradient.run([circuit], [observable], [row]).result().gradients[0]
        order = list(circuit.parameters)
        np.testing.assert_allclose(found, whole[[order.index(p) for p in chosen or order]], atol=1e-12)


def stock(estimator, gradient):
    circuit, inputs, weights = classifier_circuit()
    return EstimatorQNN(
        circuit=circuit,
        observables=random_observables(9, 4, 3),
        input_params=inputs,
        weight_params=weights,
        estimator=estimator,
        gradient=gradient,
        input_gradients=True,
        default_precision=0.0,
    )


@pytest.mark.parametrize("samples", [1, 4])
def test_a_stock_estimator_qnn_gives_the_same_numbers(samples, rng):
    estimator = StatevectorEstimator()
    mine = stock(estimator, EngineGradient(estimator))
    theirs = stock(Reference(), ParamShiftEstimatorGradient(Reference()))
    x, w = rng.uniform(-2, 2, (samples, 4)), rng.uniform(-2, 2, 12)
    np.testing.assert_allclose(mine.forward(x, w), theirs.forward(x, w), atol=1e-9)
    for one, other in zip(mine.backward(x, w), theirs.backward(x, w), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_weights_alone(rng):
    estimator = StatevectorEstimator()
    mine = stock(estimator, EngineGradient(estimator))
    x, w = rng.uniform(-2, 2, (3, 4)), rng.uniform(-2, 2, 12)
    _, whole = mine.backward(x, w)
    mine.input_gradients = False
    none, weights = mine.backward(x, w)
    assert none is None
    np.testing.assert_allclose(weights, whole, atol=1e-12)


def test_a_projection_in_front_of_torch_connector_trains(rng):
    estimator = StatevectorEstimator()
    qnn = stock(estimator, EngineGradient(estimator))
    weights = rng.uniform(-1, 1, 12)
    projection = torch.nn.Linear(6, 4).double()
    texts = torch.tensor(rng.normal(size=(5, 6)))
    layer = TorchConnector(qnn, initial_weights=weights).double()
    layer(projection(texts)).square().sum().backward()

    circuit, inputs, shared = classifier_circuit()
    program = estimator.compile(circuit, random_observables(9, 4, 3), inputs, shared)
    by_connector = projection.weight.grad.clone()
    projection.zero_grad()
    common = torch.tensor(weights, requires_grad=True)
    program(projection(texts), common).square().sum().backward()
    assert by_connector.abs().max() > 1e-3
    torch.testing.assert_close(by_connector, projection.weight.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.weight.grad.double(), common.grad, rtol=1e-5, atol=1e-6)


def test_only_exact_engines_are_differentiated():
    with pytest.raises(QkdError, match="ParamShiftEstimatorGradient"):
        EngineGradient(Reference())


def test_what_was_asked_without_gradients_first_serves_them_afterwards():
    gates.sines.cache_clear()
    with torch.inference_mode():
        values = gates.harmonics(torch.tensor([0.3], dtype=torch.float64))
    angles = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    harmonics = gates.harmonics(angles)
    assert torch.equal(harmonics, values)
    harmonics[0, 2].backward()  # sin(t/2)
    assert angles.grad.item() == pytest.approx(math.cos(0.15) / 2)
