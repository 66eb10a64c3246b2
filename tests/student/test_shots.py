"""Shot noise in training, and the head refitted under noise."""

import numpy as np
import pytest
import torch
from qiskit.quantum_info import SparsePauliOp

from qkd import QkdError
from qkd.circuits import library
from qkd.core.config import EngineSpec, LossSpec
from qkd.simulation.factory import make_engine
from qkd.student.cores import QuantumCore
from qkd.student.data import TrainingData
from qkd.student.model import StudentModel
from qkd.student.refit import refit_head
from qkd.student.trainer import Split


def model(circuit=None, precision="double", shots=0):
    torch.manual_seed(0)
    circuit = circuit or library.load_circuit("hardware", qubits=3, layers=1)
    engine = make_engine(EngineSpec(precision=precision, engine="lightcone"), circuit)
    return StudentModel(QuantumCore(circuit, engine, shots), 5, ("a", "b"))


def test_training_sees_the_variance_of_shots_and_evaluation_none():
    student = model(shots=50).eval()
    exact = student.core(student.angles(torch.ones(1, 5))).detach()
    rows = torch.ones(20_000, 5)
    student.train()
    drawn = student.core(student.angles(rows)).detach()
    assert torch.allclose(drawn.mean(dim=0), exact[0], atol=5e-3)
    assert torch.allclose(drawn.var(dim=0), (1 - exact[0].square()) / 50, rtol=0.05, atol=1e-6)
    student.eval()
    assert torch.equal(student.core(student.angles(torch.ones(1, 5))), exact)


def test_gradients_go_through_the_noise_exactly():
    student = model(shots=10).double()
    student.train()
    rows, weights = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, 5), student.core.weights

    def loss():
        torch.manual_seed(7)
        return student(rows).square().sum()

    gradient = torch.autograd.grad(loss(), weights)[0]
    for i in (0, 4):
        with torch.no_grad():
            weights[i] += 1e-3
            up = loss()
            weights[i] -= 2e-3
            down = loss()
            weights[i] += 1e-3
        assert gradient[i].item() == pytest.approx((up - down).item() / 2e-3, rel=2e-2, abs=2e-3)


def test_observables_of_several_strings_are_refused():
    circuit = library.load_circuit("hardware", qubits=2, layers=1)
    mixed = circuit.with_circuit(circuit.circuit, [SparsePauliOp(["ZI", "XX"])])
    with pytest.raises(QkdError, match="one Pauli string each"):
        model(mixed, shots=16)


def test_a_refitted_head_has_the_least_loss_and_leaves_the_rest():
    student = model(precision="single")
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 5))
    targets = (rows[:, 0] > 0).astype(int)
    logits = np.stack([-3 * rows[:, 0], 3 * rows[:, 0]], axis=1)
    numbers = np.arange(200)
    data = TrainingData(("a", "b"), rows, logits, targets, numbers, numbers, numbers)
    train, spec = Split.from_data(data, numbers, torch.device("cpu")), LossSpec()
    found = refit_head(student, train, spec, 1e-3)

    def loss(one):
        one.eval()
        with torch.no_grad():
            return train.loss_terms(one(train.inputs), spec)["loss"].item()

    assert loss(found) < loss(student)
    assert torch.equal(found.projection.weight, student.projection.weight)
    again = refit_head(found, train, spec, 1e-3)
    assert loss(again) == pytest.approx(loss(found), abs=1e-3)
