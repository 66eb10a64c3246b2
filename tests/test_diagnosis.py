"""A diagnosis names the cause that was built into the data."""

from dataclasses import replace

import numpy as np
import pytest

from qkd.pipeline.diagnosis import diagnose, looked_at, sentences
from qkd.student.lesson import Lesson


def lesson(kind, n=900, seed=0):
    """Embeddings of which the class is a linear rule, a curved one, or unknown; a teacher that is right."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = {"linear": x[:, 0] > 0, "curved": x[:, 0] ** 2 + x[:, 1] ** 2 > 1.4, "unknown": rng.random(n) > 0.5}[kind]
    rows = np.arange(n)
    return Lesson(("no", "yes"), x, np.eye(2)[y.astype(int)] * 4, y.astype(int), rows[:500], rows[500:600], rows[600:])


def student(found, share, rows, seed=1):
    """Logits that are right on this share of the rows."""
    right = np.random.default_rng(seed).random(len(rows)) < share
    return np.eye(2)[np.where(right, found.targets[rows], 1 - found.targets[rows])]


def diagnosis(kind, on_test, on_train, **more):
    found = lesson(kind)
    rows = looked_at(found)
    return diagnose(found, student(found, on_test, found.test), student(found, on_train, rows), rows, **more)


def test_embeddings_that_do_not_know_are_named():
    found = diagnosis("unknown", 0.5, 0.55)
    assert found.sentences[0].startswith("Encoder:") and found.teacher == 1 and found.linear < 0.62


def test_what_a_student_makes_of_good_embeddings_is_its_own_fault():
    weak = diagnosis("linear", 0.7, 0.7)
    assert weak.sentences[0].startswith("Capacity or optimisation:") and weak.linear > 0.9
    overfitted = diagnosis("linear", 0.7, 1.0)
    assert overfitted.sentences[0].startswith("Generalisation:")
    assert "kernel probe" in diagnosis("curved", 0.6, 0.6).sentences[0]
    assert diagnosis("curved", 0.6, 0.6).kernel > 0.9 > diagnosis("curved", 0.6, 0.6).linear


def test_a_student_that_keeps_its_teacher_is_told_so_and_seeds_are_compared():
    found = diagnosis("linear", 1.0, 1.0, seeds=(0.9, 0.8))
    assert found.sentences[0].startswith("No shortfall") and found.shortfall.value == 0
    assert found.sentences[-1] == "Optimisation: 2 seeds lie 7.1 points (standard deviation) apart."
    assert found.to_json()["sentences"] == list(found.sentences)


def test_more_texts_are_asked_for_where_they_help():
    update = {"texts": (100, 200, 400), "curve": (0.6, 0.7, 0.75)}
    numbers = diagnosis("linear", 1.0, 1.0).model_copy(update=update)
    assert numbers.doubling == pytest.approx(0.05) and "from 200 to 400 training texts" in sentences(numbers)[1]


def test_unlabelled_texts_are_not_looked_at():
    found = lesson("linear")
    targets = found.targets.copy()
    targets[found.train[::3]] = -1
    rows = looked_at(replace(found, targets=targets))
    assert len(rows) == 333 and (targets[rows] >= 0).all()
    seen = diagnose(replace(found, targets=targets), student(found, 1, found.test), student(found, 1, rows), rows)
    assert seen.texts == (83, 166, 333)
