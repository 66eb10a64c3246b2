"""Unusual calls of an estimator: nothing, too little, other calls in between, everything in one call."""

import threading
import time

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import XGate
from qiskit.quantum_info import Kraus, SparsePauliOp
from qiskit_aer.noise import NoiseModel, QuantumError, ReadoutError

from qkd.core.errors import EngineError
from qkd.engines import (
    AerEstimator,
    DensityMatrixEstimator,
    EngineGradient,
    LightConeEstimator,
    StatevectorEstimator,
    gates,
)

ALL_PAULIS = (StatevectorEstimator, LightConeEstimator, DensityMatrixEstimator, AerEstimator)
EXACT = ALL_PAULIS[:3]
NOISY = ALL_PAULIS[1:]
A, B = Parameter("a"), Parameter("b")


def made(kind, *args, **options):
    return kind(*args, **options) if kind is AerEstimator else kind(*args, device="cpu", **options)


def value(engine, circuit, observable="Z", values=()):
    return float(engine.run([(circuit, observable, list(values))]).result()[0].data.evs)


@pytest.fixture
def pair():
    circuit = QuantumCircuit(2)
    circuit.rx(A, 0)
    circuit.cx(0, 1)
    circuit.ry(B, 1)
    return circuit


@pytest.mark.parametrize("kind", ALL_PAULIS)
def test_a_program_answers_no_rows_with_no_values(kind, pair):
    program = made(kind).compile(pair, [SparsePauliOp("ZZ"), SparsePauliOp("IX")], [A], [B])
    rows, weights = torch.zeros(0, 1, requires_grad=True), torch.ones(1, requires_grad=True)
    evs = program(rows, weights)
    assert evs.shape == (0, 2)
    by_rows, by_weights = torch.autograd.grad(evs.sum(), (rows, weights))
    assert by_rows.shape == (0, 1)
    assert by_weights.tolist() == [0]
    assert made(kind).run([(pair, "ZZ", np.zeros((3, 0, 2)))]).result()[0].data.evs.shape == (3, 0)


@pytest.mark.parametrize("kind", ALL_PAULIS)
@pytest.mark.parametrize("shapes", [((3, 2), (0,)), ((3, 0), (2,)), ((3,), (1,)), ((3, 1), (1, 1))], ids=str)
def test_a_program_refuses_values_of_another_shape(kind, shapes, pair):
    program = made(kind).compile(pair, [SparsePauliOp("ZZ")], [A], [B])
    with pytest.raises(EngineError, match=r"\(B,1\)"):
        program(*(torch.ones(shape, dtype=torch.float64) for shape in shapes))


@pytest.mark.parametrize("kind", ALL_PAULIS)
def test_a_circuit_may_have_no_gates_but_not_no_qubits(kind):
    assert value(made(kind), QuantumCircuit(2), "IZ") == pytest.approx(1)
    with pytest.raises(EngineError, match="no qubits"):
        value(made(kind), QuantumCircuit(0), SparsePauliOp(""))


@pytest.mark.parametrize("kind", EXACT)
def test_observables_of_any_scale_are_measured(kind, pair):
    small = SparsePauliOp(["ZZ", "IZ"], [1e-12, 3e-12])
    program = made(kind).compile(pair, [small, small * 1e12], [A], [B])
    tiny, plain = program(torch.tensor([[0.3]]).double(), torch.tensor([0.4]).double())[0].tolist()
    assert tiny * 1e12 == pytest.approx(plain)
    assert plain != 0


@pytest.mark.parametrize("angle", [A.sign(), 2**A], ids=str)
def test_angles_without_a_derivative_are_refused_in_a_sentence(angle):
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    with pytest.raises(EngineError, match="cannot be differentiated"):
        value(StatevectorEstimator(device="cpu"), circuit, "Z", [0.5])


@pytest.mark.parametrize("kind", EXACT)
def test_what_was_asked_without_gradients_first_has_them_afterwards(kind, pair):
    for kept in vars(gates).values():  # as in a process that has only predicted so far
        getattr(kept, "cache_clear", int)()
    rows, weights = torch.tensor([[0.3]]).double(), torch.tensor([0.4]).double().requires_grad_()
    with torch.inference_mode():
        before = made(kind).compile(pair, [SparsePauliOp("ZZ")], [A], [B])(rows, weights)
    evs = made(kind).compile(pair, [SparsePauliOp("ZZ")], [A], [B])(rows, weights)
    assert torch.equal(evs, before)
    assert torch.autograd.grad(evs.sum(), weights)[0].abs() > 0.1


def flips(chance):
    """Return Kraus operators of a bit flip."""
    return [np.sqrt(1 - chance) * np.eye(2, dtype=complex), np.sqrt(chance) * np.array([[0, 1], [1, 0]], dtype=complex)]


def in_a_matrix(model, error):
    for matrix, other in zip(error.circuits[0].data[0].operation.params, flips(0.5), strict=True):
        matrix[:] = other


def in_a_circuit(model, error):
    error.circuits[0].append(XGate(), [0])


def in_a_model(model, error):
    model.add_quantum_error(QuantumError(Kraus(flips(0.4))), "x", [0], warnings=False)


def in_the_readout(model, error):
    model.add_readout_error(ReadoutError([[0.7, 0.3], [0.2, 0.8]]), [0])


@pytest.mark.parametrize("change", [in_a_matrix, in_a_circuit, in_a_model, in_the_readout])
@pytest.mark.parametrize("kind", NOISY)
def test_noise_that_was_changed_in_place_is_seen(kind, change):
    circuit = QuantumCircuit(1)
    circuit.x(0)
    error, model = QuantumError(Kraus(flips(0.1))), NoiseModel()
    model.add_all_qubit_quantum_error(error, "x")
    engine = made(kind, model)
    before = value(engine, circuit)
    change(model, error)
    after, fresh = value(engine, circuit), value(made(kind, model), circuit)
    assert abs(after - before) > 0.1
    assert after == pytest.approx(fresh, abs=0.7 if kind is AerEstimator else 1e-12)


def test_wide_cones_with_other_weights_in_their_rows_get_strings_of_their_own():
    n, layers = 12, 6
    weights = ParameterVector("w", n * layers)
    circuit, angles = QuantumCircuit(n), iter(weights)
    for layer in range(layers):
        for q in range(n):
            circuit.ry(next(angles), q)
        for q in range(layer % 2, n - 1, 2):
            circuit.cz(q, q + 1)
    rng, observable = np.random.default_rng(1), SparsePauliOp.from_sparse_list([("Z", [n // 2], 1.0)], n)
    near, far = rng.normal(0, 0.02, (3, len(weights))), rng.uniform(-3, 3, (3, len(weights)))
    engine, exact = LightConeEstimator(accuracy=1e-2, device="cpu"), StatevectorEstimator(device="cpu")
    for values in (near, far):
        pub = (circuit, observable, values)
        found, expected = (one.run([pub]).result()[0] for one in (engine, exact))
        assert "error_estimates" in found.metadata  # otherwise the test compares nothing
        np.testing.assert_allclose(found.data.evs, expected.data.evs, atol=1e-2)
        slopes = [
            EngineGradient(one).run([circuit] * 3, [observable] * 3, values).result().gradients
            for one in (engine, exact)
        ]
        assert np.linalg.norm(np.subtract(*slopes)) < 0.1 * np.linalg.norm(slopes[1])


def test_jobs_of_an_engine_take_turns(pair):
    busy = threading.Lock()

    class Slow(StatevectorEstimator):
        def _estimates(self, *args):
            assert busy.acquire(blocking=False), "two jobs at once"
            time.sleep(0.05)
            busy.release()
            return super()._estimates(*args)

    engine = Slow(device="cpu")
    jobs = [engine.run([(pair, "ZZ", [angle, 0.1])]) for angle in (0.1, 0.2, 0.3)]
    assert [float(job.result()[0].data.evs) for job in jobs] == pytest.approx(
        [value(StatevectorEstimator(device="cpu"), pair, "ZZ", [angle, 0.1]) for angle in (0.1, 0.2, 0.3)]
    )
