"""At the initial angles, expectation values respond linearly to the data, or a warning names those that do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd import QkdError
from qkd.circuits import library
from qkd.circuits.cone import cut
from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.simulation.diagnostics import check_circuit
from qkd.simulation.factory import make_engine
from qkd.simulation.start import BLIND, linear_response, with_start


@pytest.mark.parametrize("name", ["hardware", "product", "qdllm", "reupload"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_linear_rule_explains_what_a_started_circuit_does_and_not_what_one_at_zero_does(name, layers):
    student = library.load_circuit(name, qubits=4, layers=layers)
    shares = [linear_share(replace(student, start=(0.0,) * 4)), linear_share(with_start(student))]
    assert shares[0] < 0.5 and shares[1] > 0.9


def linear_share(student, spread=0.15):
    """The share of the expectation values' variance that a linear function of the inputs has, around the start."""
    rng = np.random.default_rng(7)
    shifts = rng.normal(0, spread, (400, len(student.inputs)))
    engine = make_engine(EngineSpec(precision="double", torch_device="cpu"), student)
    program = engine.estimator.compile(student.circuit, student.observables, student.inputs, student.weights)
    evs = program(torch.tensor(np.array(student.start) + shifts), torch.zeros(len(student.weights)).double()).numpy()
    evs = evs - evs.mean(axis=0)
    rest = evs - shifts @ np.linalg.lstsq(shifts, evs, rcond=None)[0]
    return 1 - rest.var() / evs.var()


def test_the_slope_of_a_cosine_is_its_sine():
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    for angle in (0.0, 0.3, 1.2):
        student = StudentCircuit(circuit, [x], [], [SparsePauliOp("Z")], start=(angle,))
        assert linear_response(student).slope == pytest.approx((np.sin(angle),), abs=1e-9)
    assert with_start(replace(student, start=())).start == pytest.approx((np.pi / 2,))


def test_inputs_that_need_different_starts_get_them():
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(2)
    circuit.ry(a, 0)
    circuit.ry(b, 1)
    student = StudentCircuit(circuit, [a, b], [], [SparsePauliOp("IZ"), SparsePauliOp("XI")])  # cosine and sine
    response = linear_response(student)
    assert not response.blind and abs(np.cos(response.angles[0])) < 0.8 and abs(np.sin(response.angles[1])) < 0.8


def test_a_blind_start_is_not_called_healthy():
    student = library.load_circuit("hardware", qubits=3)
    assert check_circuit(student).healthy and "linear response" in check_circuit(student).render()
    blind = check_circuit(replace(student, start=(0.0, np.pi / 2, 0.0)))
    assert not blind.healthy and blind.blind_inputs == ("x0", "x2")
    assert max(blind.response.shares[0], blind.response.shares[2]) < BLIND < blind.response.shares[1]
    assert "blind" in blind.render() and "x0 x2" in blind.render()
    # no gate turns this phase into an amplitude before training has changed the weights
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.rz(x, 0)
    circuit.ry(w, 0)
    report = check_circuit(StudentCircuit(circuit, [x], [w], [SparsePauliOp("Z")]))
    assert not report.dead_inputs


def test_a_start_travels_with_the_circuit():
    student = replace(library.load_circuit("hardware", qubits=3), start=(0.1, 0.2, 1 / 3))
    assert from_qasm(to_qasm(student)).start == student.start
    assert cut(library.load_circuit("hardware", qubits=5, layers=1), [0]).start == ()
    piece = cut(replace(library.load_circuit("product", qubits=3), start=(0.1, 0.2, 0.3)), [1])
    assert piece.start == (0.2,)
    assert "qkd.start" not in to_qasm(replace(student, start=()))
    assert with_start(student) is student


def test_starts_that_do_not_fit_are_named():
    student = library.load_circuit("hardware", qubits=3)
    with pytest.raises(QkdError, match="3 inputs but 2 start values"):
        replace(student, start=(0.1, 0.2))
    text = to_qasm(replace(student, start=(0.1, 0.2, 0.3)))
    with pytest.raises(QkdError, match=r"qkd.start: 0.1 much 0.3' must give a number for each input"):
        from_qasm(text.replace("0.1 0.2 0.3", "0.1 much 0.3"))
