"""Faults of the kind that give a wrong number without a word, each through the interface that users have."""

import copy
import pickle

import numpy as np
import pytest
import torch
from qiskit.circuit import Gate, Parameter, QuantumCircuit
from qiskit.circuit.library import HamiltonianGate, MCPhaseGate
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.neural_networks import EstimatorQNN

from qkd.core.errors import EngineError
from qkd.engines import (
    AerEstimator,
    DensityMatrixEstimator,
    EngineGradient,
    LightConeEstimator,
    StatevectorEstimator,
)
from qkd.engines.aer import ShotEstimator

EXACT = [StatevectorEstimator, LightConeEstimator, DensityMatrixEstimator]
SAMPLING = [
    lambda: AerEstimator(shots=400, seed=3),
    lambda: ShotEstimator(StatevectorEstimator(), shots=400, seed=3),
]
ALL = [*EXACT, *SAMPLING]


def rotated():
    """A circuit of one input and one weight on two qubits."""
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.cx(0, 1)
    circuit.rx(w, 1)
    return circuit, x, w


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("name", ["rzz", "ecr", "cx", "kraus", "unitary", "delay", "id"])
def test_a_gate_is_its_definition_and_not_its_name(make, name):
    x = Parameter("x")
    inside = QuantumCircuit(2)
    inside.h(0)
    inside.ry(x + 0.4, 1)
    inside.cz(0, 1)
    gate = Gate(name, 2, [x])
    gate.definition = inside
    circuit = QuantumCircuit(2)
    circuit.ry(0.3, 0)
    circuit.append(gate, [0, 1])
    state = Statevector(circuit.decompose().assign_parameters([0.7]))
    observables = [SparsePauliOp("ZX"), SparsePauliOp("XI")]
    data = make().run([(circuit, [[o] for o in observables], [[0.7]])]).result()[0].data
    for k, observable in enumerate(observables):
        expected = state.expectation_value(observable).real
        assert abs(data.evs[k, 0] - expected) <= 1e-9 + 4.5 * data.stds[k, 0]


@pytest.mark.parametrize("make", SAMPLING)
def test_standard_errors_count_the_coefficients(make):
    circuit, _, _ = rotated()
    observable = SparsePauliOp.from_list([("IZ", 5.0), ("XX", 0.5), ("ZZ", -2.0)])
    points = np.random.default_rng(1).uniform(-1.2, 1.2, (150, 2))
    exact = StatevectorEstimator().run([(circuit, observable, points)]).result()[0].data.evs
    for precision in (None, 0.2):
        data = make().run([(circuit, observable, points)], precision=precision).result()[0].data
        z = np.abs(data.evs - exact) / data.stds
        assert 0.9 < (z < 1.96).mean() <= 1.0 and z.max() < 5
        if precision is not None:
            assert data.stds.max() <= precision and data.stds.max() > precision / 4


@pytest.mark.parametrize("make", SAMPLING)
def test_equal_requests_have_draws_of_their_own(make):
    circuit, _, _ = rotated()
    engine = make()
    pub = (circuit, [["ZZ"], ["XI"]], [[0.9, 0.4]] * 6)
    results = engine.run([pub, pub]).result()
    for k in range(2):
        values = np.concatenate([result.data.evs[k] for result in results])
        assert len(np.unique(values)) > 3  # 12 draws of few hundred shots each
    one = StatevectorEstimator().run([pub]).result()[0].data.evs
    assert (one == one[:, :1]).all()


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_engines_and_networks_are_copied_after_use(make, copied):
    circuit, x, w = rotated()
    engine = make()
    engine.run([(circuit, "ZZ", [[0.3, 0.2]])]).result()
    network = EstimatorQNN(
        circuit=circuit,
        observables=SparsePauliOp("ZZ"),
        input_params=[x],
        weight_params=[w],
        estimator=engine,
        gradient=EngineGradient(engine),
    )
    network.forward([[0.3]], [0.2])
    twin = copied(network)
    assert np.shape(twin.forward([[0.3]], [0.2])) == (1, 1)
    assert twin.backward([[0.3]], [0.2])[1].shape == (1, 1, 1)
    program = engine.compile(circuit, [SparsePauliOp("ZZ")], [x], [w])
    values = copied(program)(torch.tensor([[0.3]]), torch.tensor([0.2]))
    assert values.shape == (1, 1)


@pytest.mark.parametrize("make", ALL)
def test_gates_without_a_matrix_run_or_are_refused_in_a_sentence(make):
    circuit = QuantumCircuit(3)
    circuit.h([0, 1, 2])
    circuit.append(MCPhaseGate(0.8, 2), [0, 1, 2])
    circuit.h(0)
    data = make().run([(circuit, "IIZ")]).result()[0].data
    expected = Statevector(circuit).expectation_value(SparsePauliOp("IIZ")).real
    assert abs(data.evs - expected) <= 1e-9 + 4.5 * data.stds
    circuit = QuantumCircuit(1)
    circuit.append(HamiltonianGate(np.diag([1.0, -1.0]), Parameter("t")), [0])
    with pytest.raises(EngineError, match=r"hamiltonian.*decompose"):
        make().run([(circuit, "Z", [0.3])]).result()


@pytest.mark.parametrize("make", EXACT)
def test_programs_first_called_under_inference_mode_still_train(make):
    circuit, x, w = rotated()
    with torch.inference_mode():
        program = make().compile(circuit, [SparsePauliOp("ZI")], [x], [w])
        program(torch.full((3, 1), 0.4), torch.full((1,), 0.1))
    rows, weights = torch.full((3, 1), 0.4, requires_grad=True), torch.full((1,), 0.1, requires_grad=True)
    program(rows, weights).sum().backward()
    assert rows.grad.abs().min() > 0.01 and weights.grad.isfinite().all()
    with torch.no_grad():
        assert program(rows, weights).shape == (3, 1)


def test_a_search_that_starts_again_under_inference_mode_finds_its_strings():
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    from qkd.circuits import library

    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.02, 2), "cz")
    student = library.load_circuit("hardware", qubits=14, layers=4)
    engine = LightConeEstimator(noise, accuracy=3e-2)
    program = engine.compile(student.circuit, student.observables[7:8], student.inputs, student.weights)
    rows = torch.full((4, 14), 1.5, dtype=torch.float64)
    weights = torch.zeros(len(student.weights), dtype=torch.float64)
    with torch.inference_mode():
        before = program(rows, weights)
        after = program(rows, weights + 0.2)  # beyond the distance at which strings are looked for again
    trained = (weights + 0.2).requires_grad_()
    values = program(rows, trained)
    values.sum().backward()
    assert torch.allclose(values.detach(), after, atol=1e-9) and not torch.allclose(before, after, atol=1e-3)
    assert trained.grad.abs().max() > 1e-3


@pytest.mark.parametrize("make", EXACT)
def test_powers_and_quotients_of_parameters_have_qiskits_values(make):
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(1)
    circuit.ry(a ** (b - 2), 0)
    circuit.rx(a / (b * b) - 3 * a**2, 0)
    circuit.ry(a * b - b * a, 0)
    points = np.random.default_rng(0).uniform(0.3, 1.5, (4, 2))
    evs = make().run([(circuit, "Z", points)]).result()[0].data.evs
    bound = [
        Statevector(circuit.assign_parameters(point)).expectation_value(SparsePauliOp("Z")).real for point in points
    ]
    np.testing.assert_allclose(evs, bound, atol=1e-9)
