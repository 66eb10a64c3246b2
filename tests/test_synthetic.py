"""Where a circuit made the labels the verdict says that it helps, where a line made them it does not."""

import numpy as np
import pytest

from qkd.core.config import make_config
from qkd.experiments.candidates import make_candidates
from qkd.experiments.geometry import gaussian_kernel, geometric_difference, geometry_of, linear_kernel
from qkd.experiments.planted import planted, planted_verdict

SETTINGS = {
    "student": {"circuit": "hardware", "qubits": 2, "layers": 1, "dropout": 0.0},
    "train": {"lr": 0.05, "epochs": 25, "patience": 25, "weight_decay": 0.0},
}


@pytest.mark.parametrize("kind", ["circuit", "linear"])
def test_the_verdict_goes_both_ways(kind):
    students = make_candidates(("hardware", "linear", "logreg"), make_config(SETTINGS))
    found = planted_verdict(students, planted(kind, students[0].circuit(), 400, 400, seed=1), 3, processes=1)
    if kind == "circuit":
        assert found["conclusion"].startswith("A benefit of the circuit"), found
        assert found["accuracy"]["hardware"] > 0.85
    else:
        assert found["conclusion"].startswith("No benefit"), found
        assert found["accuracy"]["linear"] > 0.95  # labels of a line: the line has them


def test_planted_labels_are_balanced_and_the_teacher_agrees_with_them():
    circuit = make_candidates(("hardware", "linear"), make_config(SETTINGS))[0].circuit()
    for kind in ("circuit", "linear"):
        lesson = planted(kind, circuit, 80, 100)
        assert lesson.targets.mean() == pytest.approx(0.5, abs=0.01)
        assert (lesson.teacher.argmax(axis=1) == lesson.targets).all()
        assert len(set(lesson.train) | set(lesson.valid) | set(lesson.test)) == 200


def test_geometric_difference_of_a_kernel_to_itself_is_one_and_small_to_a_richer_one():
    x = np.random.default_rng(0).normal(size=(60, 4))
    line, bell = linear_kernel(x), gaussian_kernel(x)
    assert geometric_difference(bell, bell, ridge=0.0) == pytest.approx(1, abs=1e-6)
    assert geometric_difference(3 * bell, bell, ridge=0.0) == pytest.approx(1, abs=1e-6)  # a scale is no difference
    fresh = linear_kernel(np.random.default_rng(1).normal(size=(60, 40)))  # knows nothing of x
    # a kernel of functions that the other one hardly has leaves room, its own functions do not
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
    lesson = planted("circuit", circuit.circuit(), 300, 20)
    angles = np.pi * np.tanh(lesson.embeddings[lesson.train])
    import torch

    core = circuit.core(circuit.circuit(), 2)
    with torch.no_grad():
        features = core(torch.tensor(angles, dtype=torch.float32)).double().numpy()
    own = np.concatenate([features, np.random.default_rng(4).normal(size=features.shape)], axis=1)
    limit = len(angles) ** 0.5
    assert geometric_difference(linear_kernel(features), linear_kernel(own)) < 3  # every function of it is in there
    assert geometric_difference(linear_kernel(features), linear_kernel(lesson.embeddings[lesson.train])) > limit


def test_the_room_that_a_circuit_has_is_said_beforehand():
    students = make_candidates(("hardware", "linear"), make_config(SETTINGS))
    told = geometry_of(students[0], planted("circuit", students[0].circuit(), 200, 20))
    assert told["texts"] == 200 and set(told["differences"]) == set(told["range"]) == {"linear", "rbf"}
    assert min(told["differences"].values()) < 3  # untrained it is little else than linear
    assert min(told["range"].values()) > 0.5 * told["sqrt"] and told["possible"]  # where labels are planted, and found
    assert f"{told['sqrt']:.1f}" in told["sentence"] and "possible, not promised" in told["sentence"]
