"""The probe teacher: hidden states, their selection, and heads that have not seen the text they classify."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from qkd.data import loading as data
from qkd.models.backbone import FeatureExtractor
from qkd.models.linear_probes import leave_one_out, squared_errors
from qkd.teachers.heads import calibrated_temperature, fit_head, mean_cross_entropy, out_of_fold
from qkd.teachers.probe import choose_blocks
from qkd.teachers.registry import make_teacher
from tests.models.conftest import SENTENCES, animals

TEXTS = [" ".join(sentence.split()[: 1 + n]) for n in range(6) for sentence in SENTENCES]


def read_by_hand(model, text, layers):
    """Everything that is read of one text, with transformers and scipy alone."""
    from scipy.stats import rankdata
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        found = AutoModelForCausalLM.from_pretrained(model).eval()(ids, output_hidden_states=True)
    parts = []
    for layer in layers:
        states = found.hidden_states[layer][0].numpy()
        states = states / np.sqrt((states**2).mean(axis=1, keepdims=True))
        parts += [states.mean(axis=0), states[-1], states.max(axis=0)]
    chances = found.logits[0].double().softmax(dim=1).numpy()[:-1]
    own = np.array([row[token] for row, token in zip(chances, ids[0, 1:], strict=True)])
    ranks = [rankdata(-row)[token] - 1 for row, token in zip(chances, ids[0, 1:], strict=True)]
    if len(own):
        entropy = np.mean([-(row * np.log(row)).sum() for row in chances])
        told = [np.log(own).mean(), np.log(own).std(), np.log(own).min(), entropy, np.log1p(ranks).mean()]
        told += [np.mean(np.array(ranks) < k) for k in (1, 10)] + [np.log(len(own)), np.log(own).sum()]
    else:
        told = [0.0] * 9
    return np.concatenate([*parts, told])


def test_a_row_is_what_transformers_says_text_by_text(model):
    reader = FeatureExtractor(str(model), None, [1, 2], likelihoods=True)
    rows = reader.features(TEXTS)
    assert rows.shape == (len(TEXTS), sum(reader.widths)) and rows.dtype == np.float16
    for row in (0, 1, 6, 11, 23):
        np.testing.assert_allclose(rows[row], read_by_hand(model, TEXTS[row], [1, 2]), atol=4e-3, rtol=2e-3)


def test_an_lm_is_run_as_far_as_it_is_read(model):
    whole, cut = (FeatureExtractor(str(model), None, layers, False) for layers in ([1, 2], [1]))
    np.testing.assert_allclose(cut.features(TEXTS), whole.features(TEXTS)[:, : cut.widths[0]], atol=1e-3)
    layer = sum(weight.numel() for weight in whole.network.layers[1].parameters())
    assert cut.num_parameters == whole.num_parameters - layer


def test_leave_one_out_is_what_leaving_out_gives():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 60)), np.arange(40) % 3
    x[:, :3] += np.eye(3)[y]
    kernel, targets = x @ x.T, np.eye(3)[y]
    centred = x - x.mean(axis=0)
    found = squared_errors(leave_one_out(kernel, y), y)
    matches = []
    for ridge in 10.0 ** np.arange(-4, 1.1, 0.5):
        alpha, errors = ridge * np.square(centred).sum(), np.empty(40)
        for row in range(40):
            rest = np.arange(40) != row
            model = Ridge(alpha=alpha).fit(x[rest], targets[rest])
            errors[row] = np.square(model.predict(x[row : row + 1])[0] - targets[row]).sum()
        matches.append((errors.mean(), np.abs(errors - found).max()))
    best, difference = min(matches)
    assert difference < 1e-8 and found.mean() == pytest.approx(best)


def test_layers_that_know_are_read_and_no_more_than_needed():
    rng = np.random.default_rng(8)
    y, widths = np.arange(300) % 2, [6] * 4 + [2]
    blocks = [rng.normal(size=(300, width)) for width in widths]
    blocks[1][:, 0] += 2 * y
    blocks[3] = blocks[1] @ rng.normal(size=(6, 6))  # knows the same, higher up
    assert choose_blocks(np.hstack(blocks).astype(np.float32), widths, y) == ((1,), False)
    blocks[4][:, 0] += 3 * y
    places, likelihoods = choose_blocks(np.hstack(blocks).astype(np.float32), widths, y)
    assert likelihoods and 1 in places


def test_logits_of_training_texts_come_from_heads_that_have_not_seen_them():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(200, 500)), rng.integers(0, 2, 200)  # labels that nothing explains
    head = fit_head(x[:150], y[:150], x[150:], y[150:])
    assert 0.35 < head.unseen_accuracy < 0.65 and head.unseen_loss > 0.67
    assert (head(x[:150]).argmax(axis=1) == y[:150]).mean() > 0.9  # the finished head remembers them
    one = np.flatnonzero(y[:150])[0]
    without = np.delete(np.arange(150), one)
    rare = np.where(np.arange(150) == one, 2, y[:150])
    assert np.isfinite(out_of_fold(x[:150], rare, 1.0)).all()  # a class with one text
    assert out_of_fold(x[without], y[without], 1.0).shape == (149, 2)


def test_a_student_learns_from_logits_out_of_fold(model):
    dataset = animals(3, count=120)
    rng = np.random.default_rng(3)
    dataset = data.Dataset(dataset.texts, tuple(rng.permutation(dataset.labels)))
    splits = data.split_dataset(dataset)
    teacher = make_teacher(f"probe:{model}")
    teacher.fit(dataset, splits)
    assert teacher.cross_fitted
    y = dataset.targets[splits.train]
    texts = [dataset.texts[row] for row in splits.train]
    learned, told = teacher.logits(texts), teacher.predict_logits(texts)
    assert mean_cross_entropy(told, y) < mean_cross_entropy(learned, y) - 0.05
    assert teacher.describe().unseen_loss == pytest.approx(mean_cross_entropy(learned, y), abs=1e-5)
    shuffled = rng.permutation(len(texts))
    np.testing.assert_array_equal(teacher.logits([texts[row] for row in shuffled]), learned[shuffled])


def test_the_head_is_calibrated_and_a_binary_one_is_symmetric():
    rng = np.random.default_rng(5)
    y = np.arange(600) % 2
    x = rng.normal(size=(600, 4)) + 0.7 * y[:, None]
    head = fit_head(x[:300], y[:300], x[300:], y[300:])
    logits = head(x[300:])
    np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-5)
    assert calibrated_temperature(logits, y[300:]) == pytest.approx(1, abs=0.02)
    assert calibrated_temperature(head.unseen, y[:300]) == pytest.approx(1, abs=0.02)
    assert head.valid_loss == pytest.approx(mean_cross_entropy(logits, y[300:]), abs=1e-4)
    probability = 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0])))
    assert probability.mean() == pytest.approx(y[300:].mean(), abs=0.05)


def test_a_temperature_is_found_again():
    rng = np.random.default_rng(9)
    logits = rng.normal(size=(20000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (chances.cumsum(axis=1) < rng.random((20000, 1))).sum(axis=1)
    assert calibrated_temperature(5 * logits, targets) == pytest.approx(5, rel=0.03)
    assert mean_cross_entropy(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == pytest.approx(np.log(3))
