"""Metrics against scikit-learn and published numbers."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from qkd.student import metrics


def _example(name, n=300, c=4):
    rng = np.random.default_rng(sum(map(ord, name)))
    return rng.normal(size=(n, c)), rng.integers(0, c, n)


def test_wilson_interval_of_newcombe_1998():
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263
    estimate = metrics.proportion(np.arange(263) < 81)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert metrics.proportion(np.zeros(29, bool)).high == pytest.approx(0.1170, abs=1e-4)


def test_macro_f1_is_scikit_learns():
    logits, targets = _example("macro")
    expected = f1_score(targets, logits.argmax(axis=1), average="macro")
    assert metrics.macro_f1(logits.argmax(axis=1), targets, 4) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_a_known_case():
    # ten answers at confidence 0.8, of which five are right: the gap is 0.3
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert metrics.calibration_error(probabilities, np.repeat([0, 1], 5)) == pytest.approx(0.3)


def test_intervals_hold_their_value_and_shrink_with_more_texts():
    for n in (60, 2400):
        logits, targets = _example("holds", n)
        for _, number in metrics.score(logits, targets, logits).items():
            assert number.low <= number.value <= number.high
    few, many = (metrics.score(*_example("width", n)).accuracy for n in (60, 2400))
    assert many.high - many.low < few.high - few.low


def test_teacher_agrees_with_itself():
    logits, targets = _example("self")
    assert metrics.score(logits, targets, logits).agreement.value == 1.0


def test_gain_is_paired():
    logits, targets = _example("gain")
    same = metrics.accuracy_gain(logits, logits, targets)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain = metrics.accuracy_gain(np.eye(4)[targets], logits, targets)
    assert gain.value == pytest.approx(1 - (logits.argmax(axis=1) == targets).mean())
    assert gain.low > 0


def test_majority_knows_only_the_frequencies():
    rows = metrics.majority_logits(np.array([0, 1, 1, 2, 1]), 7, 3)
    assert rows.shape == (7, 3) and (rows.argmax(axis=1) == 1).all()
    assert metrics.softmax(rows)[0] == pytest.approx([0.2, 0.6, 0.2])
