"""The classical form equals the engine for every kind of core, and says where it does not exist."""

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.core.errors import ModelError
from qkd.simulation.factory import make_engine
from qkd.student.classical import classical_form
from qkd.student.contraction import ContractedCircuit
from qkd.student.cores import QuantumCore, make_control
from qkd.student.gatelist import GateList
from qkd.student.model import StudentModel

CPU = EngineSpec(precision="double", torch_device="cpu")


def student(circuit, noise=None, angle_map="tanh", seed=0):
    """A student with random parameters on a circuit."""
    torch.manual_seed(seed)
    model = StudentModel(
        QuantumCore(circuit, make_engine(CPU, circuit, noise)), 6, ("a", "b", "c"), angle_map, fresh=False
    )
    return randomized(model)


def randomized(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.standardize(torch.randn(50, 6) * 3 + 1)
    return model.double()


def embeddings(rows=40, seed=1):
    return np.random.default_rng(seed).normal(1.0, 3.0, (rows, 6))


def assert_equal(form, model):
    x = embeddings()
    assert np.abs(form.logits(x) - model.logits(x)).max() < 2e-6  # the engine's logits are float32
    exact = torch.softmax(torch.as_tensor(model.logits(x)).double(), 1).numpy()
    assert np.abs(form.predict_proba(x) - exact).max() < 1e-6


@pytest.mark.parametrize("angle_map", ["tanh", "minmax"])
@pytest.mark.parametrize(
    ("name", "qubits", "layers"), [("hardware", 7, 2), ("product", 5, 1), ("qdllm", 5, 1), ("reupload", 3, 2)]
)
def test_a_contracted_circuit_equals_the_engine(name, qubits, layers, angle_map):
    model = student(library.load_circuit(name, qubits=qubits, layers=layers), angle_map=angle_map)
    form = classical_form(model)
    assert isinstance(form.core, ContractedCircuit) and form.bounds.max() < 1e-12
    assert_equal(form, model)


def test_a_wide_shallow_circuit_has_a_small_form():
    model = student(library.load_circuit("hardware", qubits=30, layers=1))
    form = classical_form(model)
    assert form.core.num_numbers < 30 * 2 * 9 * 4
    assert_equal(form, model)


def test_a_noisy_student_keeps_its_noise():
    from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.05, 2), ["cz"])
    noise.add_all_qubit_quantum_error(depolarizing_error(0.02, 1), ["ry", "rz"])
    noise.add_readout_error(ReadoutError([[0.95, 0.05], [0.1, 0.9]]), [1])
    circuit = library.load_circuit("hardware", qubits=4, layers=2)
    noisy, ideal = student(circuit, noise), student(circuit)
    assert_equal(classical_form(noisy), noisy)
    assert np.abs(classical_form(noisy).logits(embeddings()) - ideal.logits(embeddings())).max() > 0.05


@pytest.mark.parametrize("control", ["linear", "mlp", "fourier", "product"])
def test_controls_have_a_classical_form(control):
    circuit = library.load_circuit("hardware", qubits=4, layers=1)
    torch.manual_seed(3)
    model = randomized(StudentModel(make_control(control, circuit, 3, CPU), 6, ("a", "b", "c")))
    assert_equal(classical_form(model), model)


def test_reuploading_falls_back_to_a_statevector():
    model = student(library.load_circuit("reupload", qubits=9, layers=3))
    form = classical_form(model)
    assert isinstance(form.core, GateList)
    assert_equal(form, model)


def own_circuit(angle, observables=("XY", "ZI", "YY")):
    """Two qubits, an input in a controlled rotation, and observables other than Z."""
    x, y, w = Parameter("x"), Parameter("y"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.rx(0.3, 1)
    circuit.crx(angle(y), 0, 1)
    circuit.u(w, 0.2, 0.4, 1)
    circuit.h(0)
    circuit.cx(1, 0)
    return StudentCircuit(circuit, (x, y), (w,), tuple(SparsePauliOp(label) for label in observables))


def test_half_frequencies_fall_back_to_a_statevector_with_any_observable():
    model = student(own_circuit(lambda y: y))  # a controlled rotation has the frequencies 0, 1/2 and 1
    form = classical_form(model)
    assert isinstance(form.core, GateList)
    assert_equal(form, model)


def test_a_truncated_form_stays_within_its_bound():
    model = student(library.load_circuit("qdllm", qubits=7, layers=2))
    exact, x = classical_form(model), embeddings(200)
    short = classical_form(model, tolerance=0.3)
    error = np.abs(short.values(x) - exact.values(x)).max(axis=0)
    assert short.core.num_numbers < exact.core.num_numbers
    assert (error <= short.bounds + 1e-9).all() and error.max() > 1e-6 and short.bounds.max() <= 0.3


def test_what_has_no_form_is_refused_with_the_reason():
    wide = student(library.load_circuit("reupload", qubits=16, layers=3))
    with pytest.raises(ModelError, match=r"light cone of .* 16 qubits and a statevector form takes at most 14"):
        classical_form(wide)
    squared = student(own_circuit(lambda y: y * y))
    with pytest.raises(ModelError, match="no linear function of the inputs"):
        classical_form(squared)
