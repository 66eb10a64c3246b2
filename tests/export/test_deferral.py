"""Deferral: the risk among answered texts keeps its guarantee over many splits, and thresholds follow the texts."""

import numpy as np
import pytest
from scipy.stats import binomtest

from qkd.core.errors import ConfigError, DataError
from qkd.student.bundle import About, Student, Validation
from qkd.student.deferral import choose_threshold, clopper_pearson, risk_coverage


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
        answered = population >= deferral.threshold
        coverage += answered.mean() / 200
        exceeded += bool(answered.any() and (~truth[answered]).mean() > 0.1)
    assert exceeded <= 10 and coverage > 0.4


def test_a_sure_student_answers_everything_and_a_guessing_one_nothing():
    n = 400
    everything = choose_threshold(np.linspace(0.5, 1, n), np.full(n, True))
    assert everything.coverage == 1 and everything.threshold == 0.5
    nothing = choose_threshold(np.linspace(0.5, 1, n), np.arange(n) % 2 == 0)
    assert nothing.coverage == 0 and nothing.threshold == np.inf and "every text is deferred" in nothing.describe()


def test_bounds_are_clopper_pearsons():
    for errors, number in ((0, 20), (3, 50), (50, 50)):
        interval = binomtest(errors, number).proportion_ci(0.9, method="exact")
        assert clopper_pearson(errors, number, 0.05) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_curve_ends_at_the_error_rate_of_all_texts():
    confidences, correct = synthetic(np.random.default_rng(1), 300)
    curve = risk_coverage(confidences, correct)
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx((~correct).mean())
    assert (curve.low <= curve.risk).all() and (curve.risk <= curve.high).all()


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
