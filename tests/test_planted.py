"""Where a circuit made the labels the verdict says that it helps, where a line made them it does not."""

import numpy as np
import pytest

from qkd.comparison.contestants import contestants
from qkd.comparison.geometry import gaussian_kernel, geometric_difference, linear_kernel, looked_at
from qkd.comparison.planted import planted, verdict
from qkd.config import make

SETTINGS = {
    "student": {"circuit": "hardware", "qubits": 2, "layers": 1, "dropout": 0.0},
    "train": {"lr": 0.05, "epochs": 25, "patience": 25, "weight_decay": 0.0},
}


@pytest.mark.parametrize("kind", ["circuit", "linear"])
def test_the_verdict_goes_both_ways(kind):
    students = contestants(("hardware", "linear", "logreg"), make(SETTINGS))
    found = verdict(students, planted(kind, students[0].circuit(), 400, 400, seed=1), 3, processes=1)
    if kind == "circuit":
        assert found["conclusion"].startswith("A benefit of the circuit"), found
        assert found["accuracy"]["hardware"] > 0.85
    else:
        assert found["conclusion"].startswith("No benefit"), found
        assert found["accuracy"]["linear"] > 0.95  # labels of a line: the line has them


def test_planted_labels_are_balanced_and_the_teacher_agrees_with_them():
    circuit = contestants(("hardware", "linear"), make(SETTINGS))[0].circuit()
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


def test_the_room_that_a_circuit_has_is_said_beforehand():
    students = contestants(("hardware", "linear"), make(SETTINGS))
    told = looked_at(students[0], planted("linear", students[0].circuit(), 200, 20))
    assert told["texts"] == 200 and set(told["differences"]) == {"linear", "rbf"}
    assert told["possible"] == (min(told["differences"].values()) >= 0.5 * told["sqrt"])
    assert f"{told['sqrt']:.1f}" in told["sentence"]
