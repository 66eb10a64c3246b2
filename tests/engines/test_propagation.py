"""Wide light cones as lists of Pauli strings that are as long as an accuracy asks for."""

import numpy as np
import pytest
import torch
from pauli_prop import evolve_through_cliffords, propagate_through_circuit
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import (
    NoiseModel,
    PauliLindbladError,
    ReadoutError,
    amplitude_damping_error,
    depolarizing_error,
)

from qkd import QkdError
from qkd.circuits import library
from qkd.engines import DensityMatrixEstimator, LightConeEstimator

NONE = torch.zeros(0, dtype=torch.float64)


@pytest.fixture
def noise():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(amplitude_damping_error(0.004), ["rz", "ry", "rx"])
    model.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), ["cz", "cx", "rzz"])
    model.add_all_qubit_readout_error(ReadoutError([[0.98, 0.02], [0.03, 0.97]]))
    return model


def values(student, rows, seed, spread=2.0):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.uniform(-3, 3, (rows, len(student.inputs))), requires_grad=True)
    return x, torch.tensor(rng.normal(0, spread, len(student.weights)), requires_grad=True)


def results(engine, student, x, w, chosen=slice(None)):
    evs = engine.compile(student.circuit, student.observables[chosen], student.inputs, student.weights)(x, w)
    mix = torch.linspace(-1, 2, evs.numel(), dtype=evs.dtype).view_as(evs)
    return evs.detach(), *torch.autograd.grad((evs * mix).sum(), (x, w))


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4])
@pytest.mark.parametrize("spread", [0.05, 2.0])  # near the identity coefficients vanish where derivatives do not
def test_an_accuracy_is_kept_by_values_and_ten_times_it_by_gradients(noise, accuracy, spread):
    student, chosen = library.load_circuit("hardware", 14, 4), slice(6, 8)
    x, w = values(student, 6, 3, spread)
    mine = results(LightConeEstimator(noise, accuracy=accuracy), student, x, w, chosen)
    tight = results(LightConeEstimator(noise, truncation=1e-9, max_terms=2**20), student, x, w, chosen)
    assert 0 < (mine[0] - tight[0]).abs().max() < accuracy
    for gradient, reference in zip(mine[1:], tight[1:], strict=True):
        assert (gradient - reference).norm() < 10 * accuracy * reference.norm()


def test_data_may_enter_anywhere(noise):
    student = library.load_circuit("reupload", 9, 3)
    x, w = values(student, 3, 4)
    mine = results(LightConeEstimator(noise, accuracy=1e-4), student, x, w)
    exact = results(DensityMatrixEstimator(noise), student, x, w)
    assert 0 < (mine[0] - exact[0]).abs().max() < 1e-4
    for gradient, reference in zip(mine[1:], exact[1:], strict=True):
        assert (gradient - reference).norm() < 1e-3 * reference.norm()


def test_bounds_hold_and_estimates_are_of_the_errors_size(noise):
    student = library.load_circuit("hardware", 11, 3)
    rng = np.random.default_rng(9)
    rows = np.tile(rng.uniform(-3, 3, len(student.parameters)), (4, 1))
    by_name = {p: i for i, p in enumerate(student.circuit.parameters)}
    rows[:, [by_name[p] for p in student.inputs]] = rng.uniform(-3, 3, (4, len(student.inputs)))
    pub = (student.circuit, [[o] for o in student.observables[4:6]], rows)
    exact = LightConeEstimator(noise).run([pub]).result()[0]
    assert "error_bounds" not in exact.metadata
    for threshold in (1e-2, 1e-3, 1e-4):
        cut = LightConeEstimator(noise, truncation=threshold).run([pub]).result()[0]
        error = np.abs(exact.data.evs - cut.data.evs)
        bounds, estimates = cut.metadata["error_bounds"], cut.metadata["error_estimates"]
        assert bounds.shape == estimates.shape == error.shape and error.max() > 0
        assert (error <= bounds).all() and error.max() < 3 * estimates.max() < 30 * error.max()


def test_the_largest_terms_are_kept_where_there_are_too_many(noise):
    student = library.load_circuit("hardware", 14, 4)
    x, w = values(student, 4, 5)
    tight = results(LightConeEstimator(noise, truncation=1e-9, max_terms=2**20), student, x, w, slice(6, 7))[0]
    errors = []
    for limit in (100, 1000, 10000):
        engine = LightConeEstimator(noise, accuracy=1e-5, max_terms=limit)
        evs = results(engine, student, x, w, slice(6, 7))[0]
        assert all(len(carrier._places) <= limit for carrier in engine.latest.carriers)
        errors.append(float((evs - tight).abs().max()))
        assert errors[-1] < 10 * engine.latest.error
    assert errors[0] > errors[1] > errors[2]


def test_lists_are_used_again_until_weights_have_moved(noise):
    student = library.load_circuit("hardware", 12, 3)
    x, w = values(student, 4, 6)
    engine = LightConeEstimator(noise, accuracy=1e-3)
    program = engine.compile(student.circuit, student.observables[5:7], student.inputs, student.weights)
    with torch.no_grad():
        program(x, w)
        first = engine.latest
        near = program(x, w + 0.05)
        assert engine.latest is first
        tight = LightConeEstimator(noise, truncation=1e-9)
        tight = tight.compile(student.circuit, student.observables[5:7], student.inputs, student.weights)
        assert (near - tight(x, w + 0.05)).abs().max() < 1e-3
        program(x, w + 0.3)
        assert engine.latest is not first
        moved = program(x, w + 0.25)
        engine.reseed(7)  # as at the start of an epoch: earlier calls have no effect
        fresh = program(x, w + 0.25)
        again = LightConeEstimator(noise, accuracy=1e-3)
        again = again.compile(student.circuit, student.observables[5:7], student.inputs, student.weights)
        assert not torch.equal(moved, fresh) and torch.equal(again(x, w + 0.25), fresh)


def test_strings_wider_than_64_qubits_are_those_of_aer():
    n = 90
    circuit, angles = QuantumCircuit(n), [Parameter(f"a{i}") for i in range(n)]
    weights = [Parameter(f"w{i}") for i in range(n)]
    for q, angle in enumerate(angles):
        circuit.ry(angle, q)
    for q in range(0, n - 1, 10):
        circuit.rxx(weights[q], q, q + 1)
        circuit.ry(weights[q + 1], q + 1)
    for q in range(n - 1):
        circuit.cx(q, q + 1)
    used = [w for w in weights if w in circuit.parameters]
    observables = [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], n) for q in (70, n - 1)]
    rng = np.random.default_rng(2)
    x, w = rng.uniform(-0.2, 0.2, (1, n)), rng.uniform(-0.3, 0.3, len(used))  # so that the products are not tiny
    engine = LightConeEstimator(accuracy=1e-4)
    program = engine.compile(circuit, observables, angles, used)
    assert program.widths == (71 + 1, n)
    with torch.no_grad():
        evs = program(torch.tensor(x), torch.tensor(w))[0].numpy()
    bound = circuit.assign_parameters(dict(zip([*angles, *used], [*x[0], *w], strict=True)))
    for k, observable in enumerate(observables):
        bound.save_expectation_value(observable, list(range(n)), label=str(k))
    data = AerSimulator(method="matrix_product_state").run(bound).result().data(0)
    expected = np.array([data[str(k)] for k in range(2)])
    assert np.abs(expected).min() > 0.05
    assert np.abs(evs - expected).max() < 1e-4


def by_pauli_prop(circuit, observable, probability, atol):
    """The expectation value in |0...0> under depolarizing noise behind every cz, by IBM's Rust propagation."""
    paulis = [a + b for a in "IXYZ" for b in "IXYZ"][1:]
    rate = -np.log(1 - probability) / 16  # a Pauli anticommutes with 8 of the 15
    noisy = QuantumCircuit(circuit.num_qubits)
    for item in circuit.data:
        qubits = [circuit.find_bit(qubit).index for qubit in item.qubits]
        noisy.append(item.operation, qubits)
        if item.operation.name == "cz":
            noisy.append(PauliLindbladError(PauliList(paulis), [rate] * 15), qubits)
    clifford, rest = evolve_through_cliffords(noisy)
    evolved, _ = propagate_through_circuit(observable, rest, max_terms=10**6, atol=atol, frame="h")
    evolved = SparsePauliOp(evolved.paulis.evolve(clifford, frame="h"), evolved.coeffs)
    return float(evolved.coeffs[~evolved.paulis.x.any(axis=1)].real.sum())


def test_a_hundred_noisy_qubits_are_those_of_pauli_prop():
    student = library.load_circuit("hardware", 100, 3)
    rng = np.random.default_rng(8)
    x, w = rng.uniform(-3, 3, (2, 100)), rng.normal(0, 0.6, len(student.weights))
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), ["cz"])
    chosen = [50, 99]
    engine = LightConeEstimator(model, accuracy=1e-4)
    with torch.no_grad():
        program = engine.compile(
            student.circuit, [student.observables[k] for k in chosen], student.inputs, student.weights
        )
        evs = program(torch.tensor(x), torch.tensor(w)).numpy()
    for row in range(2):
        bound = student.circuit.assign_parameters(dict(zip(student.parameters, [*x[row], *w], strict=True)))
        for k, value in zip(chosen, evs[row], strict=True):
            assert abs(value - by_pauli_prop(bound, student.observables[k], 0.01, 1e-6)) < 2e-4


def test_what_makes_no_sense_is_refused():
    for words in ({"accuracy": -0.1}, {"truncation": 1.0}, {"max_terms": 0}):
        with pytest.raises(QkdError, match=next(iter(words))):
            LightConeEstimator(**words)
