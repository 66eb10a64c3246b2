"""The verdict favors the circuit if a circuit made the labels, and not if a linear map did."""

import numpy as np
import pytest
from benchmarks.geometric_difference import circuit_differences, gaussian_kernel, geometric_difference, linear_kernel
from benchmarks.synthetic import synthetic_data, synthetic_verdict

from qkd.core.config import make_config
from qkd.experiments.candidates import make_candidates

SETTINGS = {
    "student": {"circuit": "hardware", "qubits": 2, "layers": 1, "dropout": 0.0},
    "train": {"lr": 0.05, "epochs": 25, "patience": 25, "weight_decay": 0.0},
}


@pytest.mark.parametrize("kind", ["circuit", "linear"])
def test_the_verdict_goes_both_ways(kind):
    students = make_candidates(("hardware", "linear", "logreg"), make_config(SETTINGS))
    data = synthetic_data(kind, students[0].circuit(), 400, 400, seed=1)
    verdict, accuracy = synthetic_verdict(students, data, 3, processes=1)
    if kind == "circuit":
        assert verdict.conclusion.startswith("A benefit of the circuit"), verdict
        assert accuracy["hardware"] > 0.85
    else:
        assert verdict.conclusion.startswith("No benefit"), verdict
        assert accuracy["linear"] > 0.95  # labels of a line: the line has them


def test_synthetic_labels_are_balanced_and_the_teacher_agrees_with_them():
    circuit = make_candidates(("hardware", "linear"), make_config(SETTINGS))[0].circuit()
    for kind in ("circuit", "linear"):
        data = synthetic_data(kind, circuit, 80, 100)
        assert data.targets.mean() == pytest.approx(0.5, abs=0.01)
        assert (data.teacher_logits.argmax(axis=1) == data.targets).all()
        assert len(set(data.train) | set(data.valid) | set(data.test)) == 200


def test_geometric_difference_of_a_kernel_to_itself_is_one_and_small_to_a_richer_one():
    x = np.random.default_rng(0).normal(size=(60, 4))
    line, bell = linear_kernel(x), gaussian_kernel(x)
    assert geometric_difference(bell, bell, ridge=0.0) == pytest.approx(1, abs=1e-6)
    assert geometric_difference(3 * bell, bell, ridge=0.0) == pytest.approx(1, abs=1e-6)  # a scale is no difference
    fresh = linear_kernel(np.random.default_rng(1).normal(size=(60, 40)))  # knows nothing of x
    # a kernel of other functions fits better, its own functions do not
    assert geometric_difference(linear_kernel(x[:, :2]), line) < 2
    assert geometric_difference(fresh, line) > 10


def complexity(kernel, labels, ridge=0.0):
    """The squared norm of the smoothest function of a kernel's space that has these labels (Huang et al., eq. 3)."""
    kernel = kernel * len(kernel) / np.trace(kernel)
    return labels @ np.linalg.solve(kernel + ridge * np.eye(len(kernel)), labels)


def test_the_geometric_difference_bounds_every_labelling_and_one_attains_it():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 3))
    classical = gaussian_kernel(x)
    quantum = classical**9  # as narrow a bell as a third of the distances
    g = geometric_difference(quantum, classical, ridge=0.01)
    values, vectors = np.linalg.eigh(quantum)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    inner = root @ np.linalg.solve(classical + 0.01 * np.eye(50), root)
    hardest = root @ np.linalg.eigh(inner)[1][:, -1]  # labels on which the classical kernel is at its worst

    def ratio(labels):
        return (complexity(classical, labels, 0.01) / complexity(quantum, labels)) ** 0.5

    assert ratio(hardest) == pytest.approx(g, rel=1e-6)
    assert all(ratio(root @ rng.normal(size=50)) <= g for _ in range(50))
    assert g > 3


def test_a_kernel_that_holds_the_circuits_functions_leaves_no_room_and_one_that_lacks_them_does():
    circuit = make_candidates(("hardware", "linear"), make_config(SETTINGS))[0]
    data = synthetic_data("circuit", circuit.circuit(), 300, 20)
    angles = np.pi * np.tanh(data.embeddings[data.train])
    import torch

    core = circuit.core(circuit.circuit(), 2)
    with torch.no_grad():
        features = core(torch.tensor(angles, dtype=torch.float32)).double().numpy()
    own = np.concatenate([features, np.random.default_rng(4).normal(size=features.shape)], axis=1)
    limit = len(angles) ** 0.5
    assert geometric_difference(linear_kernel(features), linear_kernel(own)) < 3  # every function of it is in there
    assert geometric_difference(linear_kernel(features), linear_kernel(data.embeddings[data.train])) > limit


def test_the_differences_of_a_circuit_grow_from_its_start_to_its_range():
    students = make_candidates(("hardware", "linear"), make_config(SETTINGS))
    found = circuit_differences(students[0], synthetic_data("circuit", students[0].circuit(), 200, 20))
    assert min(found["untrained"].values()) < 3  # untrained it is nearly linear
    assert min(found["range"].values()) > 0.5 * found["limit"]["sqrt"]
