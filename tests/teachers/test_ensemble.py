"""Several teachers as one."""

import numpy as np
import pytest
from scipy.special import softmax

from qkd.core.config import make_config
from qkd.data import loading as data
from qkd.teachers.ensemble import average, fit_weights
from qkd.teachers.heads import mean_cross_entropy
from qkd.teachers.registry import make_teacher


@pytest.fixture
def members(request):
    """Logits (3,400,3): a good teacher, one that is good elsewhere, and noise; and the targets."""
    rng = np.random.default_rng(sum(map(ord, request.node.name)))
    y = rng.integers(0, 3, 400)
    truth = 4.0 * np.eye(3)[y]
    half = np.arange(400)[:, None] % 2
    noise = rng.normal(size=(3, 400, 3))
    return np.stack([truth * half + noise[0], truth * (1 - half) + noise[1], 2 * noise[2]]), y


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_weights_go_to_those_that_know_and_the_average_beats_each(members, space):
    logits, y = members
    weights = fit_weights(logits, y, space)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights[2] < 0.15 and weights[:2].min() > 0.3
    together = mean_cross_entropy(average(logits, weights, space), y)
    assert together < min(mean_cross_entropy(one, y) for one in logits)


def test_what_is_averaged_is_what_it_says(members):
    logits, _ = members
    weights = np.array([0.2, 0.3, 0.5])
    expected = np.einsum("m,mnc->nc", weights, softmax(logits, axis=2))
    np.testing.assert_allclose(np.exp(average(logits, weights, "probability")), expected, atol=1e-12)
    np.testing.assert_allclose(average(logits, weights, "logit"), 0.2 * logits[0] + 0.3 * logits[1] + 0.5 * logits[2])


def test_an_ensemble_of_files(members, tmp_path):
    logits, y = members
    texts = tuple(f"text number {n}" for n in range(400))
    dataset = data.Dataset(texts, tuple("abc"[n] for n in y))
    names = []
    for number, rows in enumerate(logits):
        loud = rows * 10**number  # it has to be calmed
        np.savez(tmp_path / f"{number}.npz", logits=loud, texts=np.array(texts))
        names.append(f"logits:{tmp_path / str(number)}.npz")
    teacher = make_teacher(names, config=make_config({"teacher": {"ensemble": "probability"}}))
    splits = data.split_dataset(dataset)
    teacher.fit(dataset, splits)
    right = teacher.logits(texts).argmax(axis=1) == y
    singles = [(rows.argmax(axis=1) == y)[splits.test].mean() for rows in logits]
    assert right[splits.test].mean() > max(singles) + 0.05
    told = teacher.describe()
    assert told.weights[2] < 0.15 and len(told.members) == 3
