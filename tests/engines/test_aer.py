"""The engine that samples with AerSimulator: unbiased values, standard errors, gradients by either rule."""

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel, ReadoutError, amplitude_damping_error, depolarizing_error

from qkd import QkdError
from qkd.circuits import library
from qkd.core.config import EngineSpec
from qkd.engines import AerEstimator, LightConeEstimator
from qkd.engines.noise.aer import restricted
from qkd.simulation.factory import make_engine, make_sampler


@pytest.fixture
def noise():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(amplitude_damping_error(0.05), ["rz", "ry", "h", "sdg"])
    model.add_all_qubit_quantum_error(depolarizing_error(0.03, 2), ["cz"])
    model.add_quantum_error(depolarizing_error(0.3, 2), ["cz"], [3, 4], warnings=False)
    model.add_readout_error(ReadoutError([[0.9, 0.1], [0.05, 0.95]]), [1])
    return model


def values(student, rows, seed):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.uniform(-3, 3, (rows, len(student.inputs))), requires_grad=True)
    return x, torch.tensor(rng.uniform(-3, 3, len(student.weights)), requires_grad=True)


def compiled(engine, student):
    return engine.compile(student.circuit, student.observables, student.inputs, student.weights)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("shots", [500, 20_000])
def test_values_are_unbiased_and_know_their_error(noise, noisy, shots):
    circuit = library.load_circuit("hardware", 6, 1).circuit
    names = ["Z0", "Z3 Z4", "X1 Y2", "0.5 X5 + 2 Z5 - 1 Z0 Z1"]
    from qkd.circuits.build import parse_observables

    observables = parse_observables(names, 6)
    rows = np.random.default_rng(1).uniform(-3, 3, (5, circuit.num_parameters))
    pub = (circuit, [[o] for o in observables], rows)
    exact = LightConeEstimator(noise if noisy else None).run([pub]).result()[0].data.evs
    data = AerEstimator(noise if noisy else None, shots=shots, seed=2).run([pub]).result()[0].data
    z = (data.evs - exact) / data.stds
    assert np.abs(z).max() < 4.5 and 0.6 < z.std() < 1.5  # 20 values
    assert data.stds.max() <= 3.5 * shots**-0.5
    assert len(np.unique(data.evs)) > 15  # no two rows share their shots


def test_precision_is_kept():
    student = library.load_circuit("product", 2)
    pub = (student.circuit, [[o] for o in student.observables], np.zeros((1, 6)) + 1.5)
    results = AerEstimator(shots=100).run([(*pub, 0.01), (*pub, 0.05), pub]).result()
    for result, precision in zip(results, (0.01, 0.05, 0.1), strict=True):
        assert result.metadata["target_precision"] == precision
        assert result.data.stds.max() <= precision


def test_parameter_shift_is_the_gradient(noise):
    student = library.load_circuit("hardware", 4, 1)
    x, w = values(student, 2, 3)
    expected = torch.autograd.grad(compiled(LightConeEstimator(noise), student)(x, w).sum(), (x, w))
    engine = AerEstimator(noise, shots=20_000, seed=4, gradient="parameter-shift")
    found = torch.autograd.grad(compiled(engine, student)(x, w).sum(), (x, w))
    for mine, other in zip(found, expected, strict=True):
        assert (mine - other).abs().max() < 0.12  # 4 observables, standard error of a difference of two: 0.02


def test_spsa_is_the_gradient_on_average():
    student = library.load_circuit("product", 2)
    x, w = values(student, 1, 5)
    exact = compiled(LightConeEstimator(), student)(x, w)
    expected = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(exact.sum(), (x, w))])
    program = compiled(AerEstimator(shots=2000, seed=6), student)
    many = x.detach().repeat(600, 1).requires_grad_()
    by_input, by_weight = torch.autograd.grad(program(many, w).sum(), (many, w))
    found = torch.cat([by_input.mean(dim=0), by_weight / 600])
    assert (found - expected).abs().max() < 0.15 and torch.cosine_similarity(found, expected, dim=0) > 0.98


def test_shared_parameters_expressions_and_controlled_rotations():
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(3)
    circuit.ry(a, 0)
    circuit.crx(2 * b + a, 0, 1)
    circuit.cp(b, 1, 2)
    circuit.barrier()
    circuit.ry(a * b, 2)
    circuit.iswap(0, 2)
    observables = [SparsePauliOp("ZIZ"), SparsePauliOp("IXI")]
    x, w = torch.tensor([[0.4], [-1.1]], requires_grad=True), torch.tensor([0.7], requires_grad=True)
    found = []
    for engine in (LightConeEstimator(), AerEstimator(shots=40_000, seed=7, gradient="parameter-shift")):
        evs = engine.compile(circuit, observables, [a], [b])(x, w)
        found.append(torch.cat([g.flatten().double() for g in torch.autograd.grad(evs.sum(), (x, w))]))
    assert torch.allclose(*found, atol=0.12)


def test_a_noise_model_can_be_cut(noise):
    student = library.load_circuit("hardware", 6, 1)
    small = restricted(noise, (4, 3, 1))
    assert set(small._local_quantum_errors["cz"]) == {(1, 0)} and set(small._local_readout_errors) == {(2,)}
    # a student on qubits 2, 3, 4 of six has the values it has on three with the noise cut out
    circuit = QuantumCircuit(6)
    inner = library.load_circuit("hardware", 3, 1)
    circuit.compose(inner.circuit, [1, 3, 4], inplace=True)
    x, w = values(inner, 2, 8)
    wide = [SparsePauliOp.from_sparse_list([("Z", [q], 1)], 6) for q in (1, 3, 4)]
    one = LightConeEstimator(noise).compile(circuit, wide, inner.inputs, inner.weights)(x, w)
    two = LightConeEstimator(restricted(noise, (1, 3, 4))).compile(
        inner.circuit, inner.observables, inner.inputs, inner.weights
    )(x, w)
    assert torch.allclose(one, two, atol=1e-12) and student.num_qubits == 6


def test_a_student_trains_on_shots():
    student = library.load_circuit("product", 2)
    spec = EngineSpec(engine="aer", shots=500)
    engine = make_engine(spec, student)
    assert "500 shots" in engine.describe() and "spsa" in engine.describe()
    x, w = values(student, 8, 9)
    w = torch.zeros_like(w).requires_grad_()
    program = compiled(engine.estimator, student)
    target = -torch.sign(x[:, 0]).detach()
    optimizer = torch.optim.Adam([w], lr=0.1)
    losses = []
    for _ in range(30):
        loss = ((program(torch.sign(x.detach()) * 1.2, w)[:, 0] - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    assert "AerSimulator without noise" in make_sampler(spec, student, None, engine).describe()


def test_what_it_cannot_do_is_said():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    with pytest.raises(QkdError, match="measures qubits"):
        AerEstimator().compile(circuit, [SparsePauliOp("Z")], [], [])
    with pytest.raises(QkdError, match="at least 1 shot"):
        AerEstimator(shots=0)
