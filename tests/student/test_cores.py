"""A control has the size of the circuit, trains, and computes the function of its name."""

import numpy as np
import pytest
import torch

from qkd import QkdError
from qkd.circuits import library
from qkd.core.config import EngineSpec
from qkd.simulation.factory import make_engine
from qkd.student.cores import CLASSICAL, QuantumCore, make_control, without_entanglers
from qkd.student.model import StudentModel

ENGINE = EngineSpec(precision="double", torch_device="cpu")
CONTROLS = (*CLASSICAL, "product")


def student(name, circuit, classes=3, dim=7):
    torch.manual_seed(5)
    return StudentModel(make_control(name, circuit, classes, ENGINE), dim, [str(c) for c in range(classes)]).double()


def quantum(circuit, classes=3, dim=7):
    return StudentModel(QuantumCore(circuit, make_engine(ENGINE, circuit)), dim, [str(c) for c in range(classes)])


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("circuit", ["hardware", "reupload"])
def test_every_parameter_of_a_control_has_its_gradient(name, circuit):
    model = student(name, library.load_circuit(circuit, qubits=4))
    x = torch.randn(6, 7, generator=torch.Generator().manual_seed(1)).double()
    model(x).square().sum().backward()
    for parameter, value in model.named_parameters():
        if name == "product" and parameter == "core.weights":
            continue  # its last rotations about z, or none, may be invisible to a readout of z
        assert value.grad.abs().max() > 0, parameter


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", ["mlp", "fourier"])
def test_controls_have_the_circuits_size(name, classes):
    circuit = library.load_circuit("hardware", qubits=11, layers=2)
    ours, theirs = student(name, circuit, classes).num_parameters, quantum(circuit, classes).num_parameters
    assert abs(ours - theirs) <= 2 * 11 + 1  # a hidden unit more or less


def test_linear_is_linear_and_mlp_is_not():
    circuit = library.load_circuit("hardware", qubits=4)
    a, b = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(2)).double()

    def bend(model):
        with torch.no_grad():
            return (model((a + b) / 2) - (model(a) + model(b)) / 2).abs().max().item()

    assert bend(student("linear", circuit)) < 1e-12
    assert bend(student("mlp", circuit)) > 1e-3


def test_fourier_features_span_what_the_circuit_computes():
    """A linear head on every frequency of a small encoding reproduces the circuit exactly."""
    circuit = library.load_circuit("reupload", qubits=1, layers=2)  # one angle, entering twice: frequencies -2 ... 2
    torch.manual_seed(0)
    core = QuantumCore(circuit, make_engine(ENGINE, circuit)).double()
    torch.nn.init.normal_(core.weights)
    control = make_control("fourier", circuit, 1, ENGINE).double()
    linear = torch.nn.Linear(1, 1)
    for _ in range(20):  # until the draw has both frequencies, with two phases each
        control.start(linear, linear)
        drawn = control.frequencies.abs().flatten().tolist()
        if drawn.count(1) >= 2 and drawn.count(2) >= 2 and 0 in drawn:
            break
    angles = torch.linspace(-3, 3, 40).double()[:, None]
    with torch.no_grad():
        features, values = control(angles).numpy(), core(angles).numpy()
    fitted = features @ np.linalg.lstsq(features, values, rcond=None)[0]
    assert np.abs(fitted - values).max() < 1e-9
    assert set(drawn) <= {0, 1, 2}


def test_product_keeps_everything_but_the_entanglers():
    circuit = library.load_circuit("qdllm", qubits=4)
    alone = without_entanglers(circuit)
    assert all(len(item.qubits) == 1 for item in alone.circuit.data)
    assert alone.inputs == circuit.inputs and set(alone.weights) < set(circuit.weights)
    assert list(alone.weights) == [weight for weight in circuit.weights if weight in set(alone.weights)]
    assert len(alone.circuit.data) == sum(len(item.qubits) == 1 for item in circuit.circuit.data)


def test_the_same_seed_gives_every_student_the_same_projection():
    circuit = library.load_circuit("hardware", qubits=4)
    drawn = (student(name, circuit).projection.weight for name in CONTROLS)
    first, *others = (rows / rows.norm() for rows in drawn)  # circuits scale it to where they respond linearly
    assert all(torch.allclose(first, other) for other in others)


def test_a_control_has_no_circuit_and_an_unknown_one_is_named():
    circuit = library.load_circuit("hardware", qubits=2)
    with pytest.raises(QkdError, match="has no circuit"):
        _ = student("linear", circuit).circuit
    with pytest.raises(QkdError, match="linear"):
        make_control("linaer", circuit, 2, ENGINE)
