"""The light-cone engine against the statevector engine without noise and AerSimulator's density matrix with it."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.quantum_info import DensityMatrix, SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError, amplitude_damping_error, depolarizing_error
from qiskit_ibm_runtime import fake_provider

from qkd import QkdError
from qkd.circuits import library
from qkd.core.config import EngineSpec
from qkd.engines import EngineGradient, LightConeEstimator, StatevectorEstimator
from qkd.engines.paulis.channels import embed, ptm
from qkd.engines.paulis.events import channels
from qkd.simulation.factory import make_engine

LINES = {  # four qubits in a row, on a device of each family
    "FakeBrisbane": (0, 1, 2, 3),
    "FakeTorino": (0, 1, 2, 3),
    "FakeNighthawk": (0, 1, 2, 3),
}


def values(student, rows, seed):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.uniform(-3, 3, (rows, len(student.inputs))), requires_grad=True)
    return x, torch.tensor(rng.uniform(-3, 3, len(student.weights)), requires_grad=True)


def results(engine, student, x, w):
    """Expectation values and the gradient of a fixed combination of them."""
    evs = engine.compile(student.circuit, student.observables, student.inputs, student.weights)(x, w)
    mix = torch.linspace(-1, 2, evs.numel(), dtype=evs.dtype).view_as(evs)
    return evs.detach(), *torch.autograd.grad((evs * mix).sum(), (x, w))


@pytest.mark.parametrize("name", sorted(library.paths()))
@pytest.mark.parametrize(("qubits", "layers"), [(4, 1), (6, 2)])
def test_without_noise_it_is_the_statevector_engine(name, qubits, layers):
    student = library.load_circuit(name, qubits, layers)
    x, w = values(student, 3, 1)
    cones, states = (results(engine, student, x, w) for engine in (LightConeEstimator(), StatevectorEstimator()))
    for cone, state in zip(cones, states, strict=True):
        assert torch.allclose(cone, state, atol=1e-9)


def test_any_observable_and_any_gate():
    a, b, c = (Parameter(name) for name in "abc")
    circuit = QuantumCircuit(4)
    circuit.h(0)
    circuit.u(a, 2 * b + 1, 0.3, 1)
    circuit.crx(a * b, 1, 2)
    circuit.rzx(c, 3, 0)
    circuit.swap(0, 2)
    circuit.cp(b / 3, 2, 3)
    circuit.iswap(1, 0)
    circuit.cry(c.sin(), 0, 3)
    circuit.t(2)
    circuit.rxx(a, 0, 1)
    student = library.load_circuit("product", 4)
    observables = (
        SparsePauliOp.from_sparse_list([("XY", [0, 3], 0.5), ("ZZ", [1, 2], -1.0), ("", [], 0.3)], 4),
        SparsePauliOp("XIYZ"),
        SparsePauliOp("IIII", 2.0),
    )
    student = replace(student, circuit=circuit, inputs=(b,), weights=(a, c), observables=observables)
    x, w = values(student, 5, 2)
    cones, states = (results(engine, student, x, w) for engine in (LightConeEstimator(), StatevectorEstimator()))
    for cone, state in zip(cones, states, strict=True):
        assert torch.allclose(cone, state, atol=1e-9)


@lru_cache
def device_and_noise(name):
    backend = getattr(fake_provider, name)()
    return backend, NoiseModel.from_backend(backend)


def on_device(student, device, line):
    """The student transpiled onto ``line``, on the whole device and on the line alone with the noise of that line."""
    backend, noise = device_and_noise(device)
    isa = transpile(student.circuit, backend, initial_layout=list(line), optimization_level=1, seed_transpiler=1)
    by_name = {parameter.name: parameter for parameter in isa.parameters}
    wide = replace(
        student,
        circuit=isa,
        inputs=tuple(by_name[p.name] for p in student.inputs),
        weights=tuple(by_name[p.name] for p in student.weights),
        observables=tuple(o.apply_layout(isa.layout) for o in student.observables),
    )
    place = {q: i for i, q in enumerate(line)}
    local = NoiseModel(basis_gates=noise.basis_gates)
    for name, errors in noise._local_quantum_errors.items():
        for qubits, error in errors.items():
            if set(qubits) <= set(line):
                local.add_quantum_error(error, name, [place[q] for q in qubits], warnings=False)
    narrow = QuantumCircuit(len(line))
    for item in isa.data:
        narrow.append(item.operation, [place[isa.find_bit(q).index] for q in item.qubits])
    return wide, narrow, noise, local


def measured(circuit, noise, probabilities):
    """<Z> of each qubit from AerSimulator's density matrix, through the readout's assignment probabilities."""
    circuit = circuit.copy()
    circuit.save_density_matrix()
    simulator = AerSimulator(method="density_matrix", noise_model=noise)
    state = DensityMatrix(np.asarray(simulator.run(circuit).result().data(0)["density_matrix"]))
    found = []
    for q, assignment in enumerate(probabilities):
        ideal = state.probabilities([q])
        found.append(ideal @ np.asarray(assignment) @ [1, -1])
    return found


@pytest.mark.filterwarnings("ignore:Properties of")
@pytest.mark.parametrize("device", sorted(LINES))
@pytest.mark.parametrize("name", sorted(library.paths()))
def test_under_a_devices_noise_it_is_aer(device, name):
    line = LINES[device]
    student = library.load_circuit(name, 4, 1)
    wide, narrow, noise, local = on_device(student, device, line)
    # routing may have moved a logical qubit: the observable knows to where
    moved = [line.index(int(np.flatnonzero(o.paulis.z[0])[0])) for o in wide.observables]
    x, w = values(student, 2, 3)
    engine = LightConeEstimator(noise_model=noise)
    evs = engine.compile(wide.circuit, wide.observables, wide.inputs, wide.weights)(x, w).detach().numpy()
    names = [p.name for p in student.parameters]
    assignments = [noise._local_readout_errors[(q,)].probabilities for q in line]
    for row in range(2):
        bound = dict(zip(names, [*x[row].tolist(), *w.tolist()], strict=True))
        circuit = narrow.assign_parameters({p: bound[p.name] for p in narrow.parameters})
        assert np.allclose(evs[row], np.array(measured(circuit, local, assignments))[moved], atol=1e-6)
    # qubits outside the light cone have no effect, so a region of the device equals the whole
    from_region = LightConeEstimator(noise_model=local)
    order = {p.name: p for p in narrow.parameters}
    observables = [student.observables[i] for i in moved]
    region = from_region.compile(
        narrow, observables, [order[p.name] for p in student.inputs], [order[p.name] for p in student.weights]
    )(x, w)
    gains = np.array([[p[0][0] + p[1][1] - 1, p[0][0] - p[1][1]] for p in assignments])[moved]
    assert np.allclose(evs, region.detach().numpy() * gains[:, 0] + gains[:, 1], atol=1e-9)


@pytest.fixture
def noise():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(amplitude_damping_error(0.03), ["rz", "ry"])
    model.add_all_qubit_quantum_error(depolarizing_error(0.02, 2), ["cz"])
    model.add_quantum_error(depolarizing_error(0.2, 2), ["cz"], [1, 2], warnings=False)
    model.add_readout_error(ReadoutError([[0.9, 0.1], [0.05, 0.95]]), [0])
    return model


@pytest.mark.parametrize("name", ["hardware", "reupload"])
def test_gradients_under_noise_equal_parameter_shift(name, noise):
    student = library.load_circuit(name, 4, 2)
    program = LightConeEstimator(noise).compile(student.circuit, student.observables, student.inputs, student.weights)
    x, w = values(student, 2, 4)
    by_input, by_weight = torch.autograd.grad(program(x, w).sum(), (x, w))
    with torch.no_grad():
        for i in range(0, len(w), 3):
            shifted = [program(x, w + sign * np.pi / 2 * torch.eye(len(w))[i]).sum() for sign in (1, -1)]
            assert by_weight[i].item() == pytest.approx((shifted[0] - shifted[1]).item() / 2, abs=1e-9)
        step = 1e-5 * torch.eye(len(student.inputs))[1]  # an input that enters twice has no two-term shift rule
        difference = (program(x + step, w) - program(x - step, w)).sum(dim=1) / 2e-5
    assert torch.allclose(by_input[:, 1], difference, atol=1e-7)


def test_single_precision_gradients_are_within_1e_4_of_double(noise):
    student = library.load_circuit("hardware", 7, 2)
    x, w = values(student, 8, 5)
    double, single = (results(LightConeEstimator(noise, dtype=d), student, x, w) for d in ("float64", "float32"))
    for a, b in zip(double, single, strict=True):
        assert (a - b.double()).norm() <= 1e-4 * a.norm()


def test_cost_does_not_depend_on_width_and_wide_students_train(noise):
    student = library.load_circuit("hardware", 60, 1)
    engine = make_engine(EngineSpec(torch_device="cpu"), student)
    assert "lightcone" in engine.describe()
    program = engine.estimator.compile(student.circuit, student.observables, student.inputs, student.weights)
    assert max(program.widths) <= 4
    x, w = values(student, 4, 6)
    evs = program(x, w)
    evs.sum().backward()
    middle = library.load_circuit("hardware", 60, 1)
    narrow = replace(middle, observables=middle.observables[30:31])
    alone = LightConeEstimator().compile(narrow.circuit, narrow.observables, narrow.inputs, narrow.weights)(x, w)
    assert torch.allclose(alone[:, 0], evs[:, 30].double(), atol=1e-5)
    assert w.grad.abs().min() > 0


def test_as_a_v2_primitive_with_gradient(noise):
    student = library.load_circuit("hardware", 3, 1)
    engine = LightConeEstimator(noise)
    x, w = values(student, 2, 7)
    order = {p: i for i, p in enumerate(student.circuit.parameters)}
    rows = np.concatenate([x.detach().numpy(), np.tile(w.detach().numpy(), (2, 1))], axis=1)
    rows = rows[:, np.argsort([order[p] for p in student.parameters])]
    observables = [[o] for o in student.observables]
    result = engine.run([(student.circuit, observables, rows)], precision=0.5).result()[0]
    program = engine.compile(student.circuit, student.observables, student.inputs, student.weights)
    assert np.allclose(result.data.evs.T, program(x, w).detach().numpy(), atol=1e-12) and not result.data.stds.any()
    gradient = EngineGradient(engine).run([student.circuit], [student.observables[1]], rows[:1]).result().gradients[0]
    (expected,) = torch.autograd.grad(program(x, w)[0, 1], w)
    assert np.allclose([gradient[order[p]] for p in student.weights], expected.numpy(), atol=1e-9)


@pytest.mark.parametrize(("name", "qubits", "layers"), [("qdllm", 10, 1), ("qdllm", 14, 1), ("hardware", 11, 3)])
def test_wide_cones_as_lists_of_strings_are_exact(name, qubits, layers):
    student = library.load_circuit(name, qubits, layers)
    x, w = values(student, 3, 8)
    engine = LightConeEstimator()
    program = engine.compile(student.circuit, student.observables, student.inputs, student.weights)
    assert program._lists and program.bounded(x, w)[1].max() == 0
    cones, states = (results(one, student, x, w) for one in (engine, StatevectorEstimator()))
    for cone, state in zip(cones, states, strict=True):
        assert torch.allclose(cone, state, atol=1e-9)


def test_an_observable_that_stays_one_string_costs_one_string():
    circuit, a = QuantumCircuit(25), Parameter("a")
    circuit.ry(a, 0)
    circuit.h(1)
    for layer in range(8):
        for q in range(layer % 2, 24, 2):
            circuit.cx(q, q + 1)
    observable = SparsePauliOp.from_sparse_list([("ZZ", [0, 11], 1.0)], 25)
    program = LightConeEstimator().compile(circuit, [observable], [a], [])
    x = torch.tensor([[0.3], [1.2]])
    assert len(program._lists) == 1 and program._lists[0].groups <= 400  # one or two a block
    expected = StatevectorEstimator().compile(circuit, [observable], [a], [])(x, torch.zeros(0))
    assert torch.allclose(program(x, torch.zeros(0)), expected.double(), atol=1e-6)
    nothing = SparsePauliOp.from_sparse_list([("ZZ", [8, 16], 1.0)], 25)  # is 0: no string is left
    program = LightConeEstimator().compile(circuit, [nothing], [a], [])
    x.requires_grad_()
    assert not program(x, torch.zeros(0)).any()
    assert not torch.autograd.grad(program(x, torch.zeros(0)).sum(), x)[0].any()


def test_what_it_cannot_do_is_said(noise):
    student = library.load_circuit("qdllm", 13)
    with pytest.raises(QkdError, match="has 13 qubits"):
        LightConeEstimator().compile(student.circuit, student.observables, student.inputs, student.weights)
    circuit = QuantumCircuit(3)
    circuit.ccx(0, 1, 2)
    damped = amplitude_damping_error(0.1)
    noise.add_all_qubit_quantum_error(damped.tensor(damped).tensor(damped), "ccx")
    with pytest.raises(QkdError, match="acts on 3 qubits"):
        LightConeEstimator(noise).compile(circuit, [SparsePauliOp("ZZZ")], [], [])
    with pytest.raises(QkdError, match="float16"):
        LightConeEstimator(dtype="float16")


def test_transfer_matrices_are_those_of_qiskit():
    from qiskit.quantum_info import PTM, Pauli, SuperOp

    error = SuperOp(depolarizing_error(0.1, 2).compose(amplitude_damping_error(0.2).tensor(depolarizing_error(0.3, 1))))
    ours, theirs = ptm(error.data), PTM(error).data.real
    digits = [(a, b) for a in "IXYZ" for b in "IXYZ"]  # ours: qubit 0 is the first digit, Qiskit's: the last
    swap = [digits.index((b, a)) for a, b in digits]
    assert np.allclose(ours, theirs[np.ix_(swap, swap)], atol=1e-12)
    assert np.allclose(ours[0], np.eye(16)[0])  # trace preserving
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    (cx,) = channels(circuit, None)
    wide = embed(cx.terms, cx.qubits, (1, 0))[0]
    labels = [a + b for a in "IXYZ" for b in "IXYZ"]
    for j, label in enumerate(labels):  # (1, 0): the first digit is qubit 1, as Qiskit writes labels
        image = Pauli(label).evolve(circuit, frame="s")
        i = labels.index(image.to_label().lstrip("-"))
        assert wide[i, j] == pytest.approx(-1 if image.to_label().startswith("-") else 1)
