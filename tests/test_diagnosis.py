"""A diagnosis names the cause that was built into the data."""

from dataclasses import replace

import numpy as np
import pytest

from qkd.pipeline.diagnosis import Remedies, diagnose, probe_rows, sentences
from qkd.results import PairedDifference
from qkd.student.data import TrainingData


def data(kind, n=900, seed=0):
    """Embeddings of which the class is a linear rule, a curved one, or unknown; a teacher that is right."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = {"linear": x[:, 0] > 0, "curved": x[:, 0] ** 2 + x[:, 1] ** 2 > 1.4, "unknown": rng.random(n) > 0.5}[kind]
    rows = np.arange(n)
    splits = rows[:500], rows[500:600], rows[600:]
    return TrainingData(("no", "yes"), x, np.eye(2)[y.astype(int)] * 4, y.astype(int), *splits)


def student(found, share, rows, seed=1):
    """Logits that are right on this share of the rows."""
    right = np.random.default_rng(seed).random(len(rows)) < share
    return np.eye(2)[np.where(right, found.targets[rows], 1 - found.targets[rows])]


def gain(verdict):
    return PairedDifference(value=-0.1, low=-0.2, high=0.0, p=0.0, p_holm=0.0, verdict=verdict)


def diagnosis(kind, on_test, on_train, verdict="worse", **more):
    found = data(kind)
    rows = probe_rows(found)
    answers = student(found, on_test, found.test), student(found, on_train, rows)
    return diagnose(found, *answers, gain(verdict), **more)


def test_embeddings_that_do_not_know_are_named():
    found = diagnosis("unknown", 0.5, 0.55)
    assert found.sentences[0].startswith("Encoder:") and found.teacher == 1 and found.linear < 0.62
    assert "--tune-encoder" in found.sentences[0]
    tuned = diagnosis("unknown", 0.5, 0.55, tried=Remedies(tuned=gain("worse")))
    assert "--tune-encoder" not in tuned.sentences[0]  # this run has tried it


def test_what_a_student_makes_of_good_embeddings_is_its_own_fault():
    weak = diagnosis("linear", 0.7, 0.7)
    assert weak.sentences[0].startswith("Capacity or optimization:") and weak.linear > 0.9
    assert "--epochs" in weak.sentences[0]
    assert "--epochs" not in diagnosis("linear", 0.7, 0.7, tried=Remedies(stalled=True)).sentences[0]
    overfitted = diagnosis("linear", 0.7, 1.0)
    assert overfitted.sentences[0].startswith("Generalization:")
    assert "kernel probe" in diagnosis("curved", 0.6, 0.6).sentences[0]
    assert diagnosis("curved", 0.6, 0.6).kernel > 0.9 > diagnosis("curved", 0.6, 0.6).linear


def test_a_diagnosis_does_not_contradict_the_verdict_and_seeds_are_compared():
    found = diagnosis("linear", 1.0, 1.0, "equivalent", seeds=(0.9, 0.8))
    assert found.sentences[0].startswith("The student is not worse than its teacher")
    assert "do not decide" in diagnosis("linear", 1.0, 1.0, "undecided").sentences[0]
    assert found.sentences[-1] == "Optimization: 2 seeds have a standard deviation of 7.1 points."
    assert found.to_dict()["sentences"] == list(found.sentences)


def test_more_texts_are_advised_where_they_help_and_unlabeled_ones_unless_they_did_not():
    update = {"texts": (100, 200, 400), "curve": (0.6, 0.7, 0.75)}
    numbers = diagnosis("linear", 1.0, 1.0).model_copy(update=update)
    assert numbers.doubling == pytest.approx(0.05)
    said = sentences(numbers)[1]
    assert "from 200 to 400 training texts" in said and "--unlabeled" in said
    for verdict in ("worse", "undecided", "equivalent"):
        said = sentences(numbers, Remedies(unlabeled=gain(verdict)))[1]
        assert "more labeled texts should help" in said and "--unlabeled" not in said
    assert "as the unlabeled ones did" in sentences(numbers, Remedies(unlabeled=gain("better")))[1]


def test_unlabelled_texts_are_not_probe_rows():
    found = data("linear")
    targets = found.targets.copy()
    targets[found.train[::3]] = -1
    rows = probe_rows(replace(found, targets=targets))
    assert len(rows) == 333 and (targets[rows] >= 0).all()
    answers = student(found, 1, found.test), student(found, 1, rows)
    seen = diagnose(replace(found, targets=targets), *answers, gain("equivalent"))
    assert seen.texts == (83, 166, 333)
