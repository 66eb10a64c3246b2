"""Deferral: the risk among answered texts keeps its guarantee over many splits, and thresholds follow the texts."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from qkd.core.errors import ConfigError, DataError
from qkd.student.about import About, Validation
from qkd.student.bundle import Student
from qkd.student.deferral import choose_threshold, clopper_pearson, find_deferral, risk_coverage


def synthetic(rng, n):
    """Confidences and hits of a classifier that is overconfident where it is unsure."""
    confidences = rng.beta(3, 1, n)
    return confidences, rng.random(n) < 0.45 + 0.54 * confidences


def test_the_risk_exceeds_its_bound_in_few_of_many_splits():
    rng = np.random.default_rng(0)
    population, truth = synthetic(rng, 200_000)
    exceeded = coverage = 0
    for _ in range(200):
        confidences, correct = synthetic(rng, 800)
        deferral = choose_threshold(confidences, correct, risk=0.1)
        answered = deferral.answered(population[:, None])
        coverage += answered.mean() / 200
        exceeded += bool(answered.any() and (~truth[answered]).mean() > 0.1)
    assert exceeded <= 10 and coverage > 0.4


@pytest.mark.parametrize("risk", [0.1, None], ids=["number", "teacher"])
def test_a_students_risk_on_real_texts_exceeds_the_stated_one_in_few_resampled_splits(hashing_student, risk):
    """200 validation sets are drawn from one pool of texts, on all of which the risk is then known exactly."""
    pages = [path.read_text("utf-8") for path in sorted((Path(__file__).parents[2] / "docs").glob("[a-z]*/*.md"))]
    texts = [text for page in pages for text in re.split(r"(?<=[.!?:|])\s+", page) if len(text) > 30]
    rng = np.random.default_rng(2)
    confidences = hashing_student.predict_proba(texts[:1500]).max(axis=1)
    rank = confidences.argsort().argsort() / len(confidences)
    correct = rng.random(len(rank)) < 0.5 + 0.5 * rank**0.5
    exceeded = answers = 0
    for _ in range(200):
        rows = rng.integers(0, len(rank), 600)
        known = Validation(
            confidences=tuple(confidences[rows].tolist()), correct=tuple(correct[rows].tolist()), teacher_accuracy=0.88
        )
        student = Student(hashing_student.model, hashing_student.encoder, About(validation=known))
        deferral = find_deferral(student, risk)
        assert deferral.risk == pytest.approx(0.12 if risk is None else risk)
        answered = deferral.answered(confidences[:, None])
        answers += answered.any()
        exceeded += bool(answered.any() and (~correct[answered]).mean() > deferral.risk)
    assert exceeded <= binom.ppf(0.99, 200, 0.05) and answers > 100


def test_a_student_answers_as_accurately_as_its_teacher(hashing_student, some_texts):
    top = np.sort(hashing_student.predict_proba(some_texts).max(axis=1)).repeat(20)
    correct = tuple((np.arange(len(top)) >= len(top) // 4).tolist())
    known = Validation(confidences=tuple(top.tolist()), correct=correct, teacher_accuracy=0.9)
    student = Student(hashing_student.model, hashing_student.encoder, About(validation=known))
    answers = student.defer(some_texts)
    share = answers.deferral.coverage
    assert 0.75 < share < 0.9 and answers.deferral.error <= 0.1
    assert f"answers {100 * share:.0f} % of texts at the teacher's accuracy" in answers.deferral.describe()
    assert f"asked {100 - round(100 * share)} % of the time" in answers.deferral.describe()
    for accuracy, expected in ((1.0, 0), (0.0, 1), (None, None)):
        about = About(validation=known.model_copy(update={"teacher_accuracy": accuracy}))
        other = Student(hashing_student.model, hashing_student.encoder, about)
        if expected is None:
            with pytest.raises(DataError, match="accuracy of this student's teacher is unknown"):
                other.defer(some_texts)
        else:
            assert other.defer(some_texts).answered.mean() == expected


def test_deferred_texts_get_the_teachers_labels(hashing_student, some_texts):
    rows = hashing_student.predict_proba(some_texts)
    order = rows.max(axis=1).argsort()
    validation = [some_texts[i] for i in order] * 20
    labels = [hashing_student.classes[(rows[i].argmax() + (rank <= 20)) % 3] for rank, i in enumerate(order)] * 20
    asked = []

    def ask(texts):
        asked.extend(texts)
        logits = np.tile(np.float32([0, 0, 3]), (len(texts), 1))
        logits[0] = 0  # no answer
        return logits

    answers = hashing_student.defer(some_texts, 0.02, validation=(validation, labels), ask=ask)
    deferred = [text for text, own in zip(some_texts, answers.answered, strict=True) if not own]
    assert asked == deferred and 20 <= len(deferred) < 40
    sources = {
        text: (by, label) for text, by, label in zip(some_texts, answers.answered_by, answers.labels, strict=True)
    }
    assert sources[deferred[0]] == (None, None)
    assert {sources[text] for text in deferred[1:]} == {("teacher", hashing_student.classes[2])}
    for i, text in enumerate(some_texts):
        if text not in deferred:
            assert sources[text] == ("student", hashing_student.classes[rows[i].argmax()])


def test_a_sure_student_answers_everything_and_a_guessing_one_nothing():
    n = 400
    everything = choose_threshold(np.linspace(0.5, 1, n), np.full(n, True))
    assert everything.coverage == 1 and everything.threshold == 0.5
    nothing = choose_threshold(np.linspace(0.5, 1, n), np.arange(n) % 2 == 0)
    assert nothing.coverage == 0 and nothing.threshold is None and not nothing.answered(np.ones((3, 2))).any()
    assert "every text is deferred" in nothing.describe()


def test_bounds_are_clopper_pearsons():
    for errors, number in ((0, 20), (3, 50), (50, 50)):
        interval = binomtest(errors, number).proportion_ci(0.9, method="exact")
        low, high = clopper_pearson(np.array([errors]), np.array([number]), 0.05)
        assert (low[0], high[0]) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_curve_ends_at_the_error_rate_of_all_texts():
    confidences, correct = synthetic(np.random.default_rng(1), 300)
    curve = risk_coverage(confidences, correct)
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx((~correct).mean())
    for low, risk, high in zip(curve.low, curve.risk, curve.high, strict=True):
        assert low <= risk <= high
    short = risk_coverage(confidences, correct, points=10)
    assert short.coverage == pytest.approx(np.linspace(0.1, 1, 10))
    assert short.risk == pytest.approx(curve.risk[29::30]) and short.high == pytest.approx(curve.high[29::30])


def test_a_student_defers_texts_below_its_threshold(hashing_student, some_texts):
    rows = hashing_student.predict_proba(some_texts)
    top = np.sort(rows.max(axis=1))
    validation = Validation(
        confidences=tuple(np.repeat(top, 20).tolist()), correct=tuple(np.repeat(top > top[10], 20).tolist())
    )
    student = Student(hashing_student.model, hashing_student.encoder, About(validation=validation))
    answers = student.defer(some_texts, risk=0.02)
    assert answers.deferral.threshold > top[0]
    for label, answered, row in zip(answers.labels, answers.answered, rows, strict=True):
        assert answered == (row.max() >= answers.deferral.threshold)
        assert label == (student.classes[row.argmax()] if answered else None)
    labels = [student.classes[i] for i in rows.argmax(axis=1)]
    own = hashing_student.defer(some_texts, 0.2, validation=(some_texts * 9, labels * 9))
    assert own.answered.all()


def test_what_cannot_be_deferred_is_refused(hashing_student, some_texts):
    with pytest.raises(DataError, match="no validation texts"):
        hashing_student.defer(some_texts)
    with pytest.raises(ConfigError, match="risk of a deferral is between 0 and 1, not 5"):
        choose_threshold(np.ones(10), np.ones(10), risk=5)
    with pytest.raises(DataError, match="there are none"):
        choose_threshold(np.ones(0), np.ones(0))
