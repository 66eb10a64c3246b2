"""Encoders and the probe teacher, on a random LM with the real code: padding, order and caches change no number."""

import numpy as np
import pytest
import torch

from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from qkd.models.backbone import Backbone, FeatureExtractor
from qkd.models.batching import TokenBudget
from qkd.models.transformer import Loading
from qkd.teachers.registry import make_teacher
from tests.models.conftest import SENTENCES, TEXTS, alone, animals, save_model


def test_padding_and_batching_change_nothing(model):
    found = Backbone(str(model)).pooled(TEXTS, [1, 2])
    assert found.shape == (len(TEXTS), 2, 32)
    for row in (0, 7, 23):
        for place, layer in enumerate((1, 2)):
            expected = alone(model, TEXTS[row], layer)
            np.testing.assert_allclose(found[row, place], expected, atol=2e-6)


def test_an_empty_text_and_no_text_have_numbers_too(model):
    backbone = Backbone(str(model))
    assert np.isfinite(backbone.pooled(["", SENTENCES[0]], [2])).all()
    assert backbone.pooled([], [2]).shape == (0, 1, 32)


def test_long_texts_are_cut_and_counted(model, capsys):
    backbone = Backbone(str(model), Loading(max_tokens=4))
    found = backbone.pooled(SENTENCES, [2])
    short = backbone.pooled([" ".join(sentence.split()[:4]) for sentence in SENTENCES], [2])
    np.testing.assert_allclose(found, short, atol=1e-6)
    backbone.report(8)
    assert "4 of 8 texts are longer than 4 tokens" in capsys.readouterr().err
    assert Backbone(str(model)).max_tokens == 64  # the limit of the model


def test_batches_hold_every_row_once_within_the_budget():
    lengths = np.random.default_rng(3).integers(1, 90, size=200).tolist()
    found = [rows for rows, _ in TokenBudget(256, "a model").run(lengths, np.array)]
    assert sorted(row for rows in found for row in rows) == list(range(200))
    assert all(len(rows) * max(lengths[row] for row in rows) <= 256 for rows in found)
    assert [rows for rows, _ in TokenBudget(256, "a model").run([500], np.array)] == [[0]]


def test_the_encoder_averages_the_last_layer_and_scales_to_length_one(model):
    encoder = make_encoder(str(model))
    found = encoder.encode(TEXTS)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), encoder.dim)
    expected = alone(model, TEXTS[5], 2)
    np.testing.assert_allclose(found[5], expected / np.linalg.norm(expected), atol=2e-6)
    weights = sum(part.numel() for part in torch.nn.ModuleList([encoder._backbone.network]).parameters())
    assert encoder.num_parameters == weights


def test_embeddings_are_cached_by_model_content(model, tmp_path, monkeypatch):
    first = embed_texts(make_encoder(str(model)), TEXTS)
    monkeypatch.setattr(FeatureExtractor, "features", lambda *_, **__: pytest.fail("the model was called again"))
    np.testing.assert_array_equal(embed_texts(make_encoder(str(model)), TEXTS[::-1]), first[::-1])
    monkeypatch.undo()
    other = embed_texts(make_encoder(str(save_model(tmp_path / "other", seed=1))), TEXTS)
    assert np.abs(other - first).max() > 1e-3


@pytest.mark.parametrize(("name", "dim"), [("hashing", 512), ("hashing:64", 64), ("hashing:65", 65)])
def test_hashing_needs_no_weights_and_tells_texts_apart(name, dim):
    encoder = make_encoder(name)
    found = encoder.encode([*SENTENCES, "", SENTENCES[0] + "!"])
    assert found.shape == (6, dim) and found.dtype == np.float32 and encoder.num_parameters == 0
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 1, 0, 1], atol=1e-6)
    likeness = found @ found[0]
    assert likeness[5] == max(likeness[1:]) > 0.8 > max(likeness[1:5])
    assert make_encoder(encoder.name).key == encoder.key
    assert encoder.encode([]).shape == (0, dim)


def test_encoders_that_do_not_exist():
    with pytest.raises(QkdError, match=r"'many' is no embedding width"):
        make_encoder("hashing:many")
    with pytest.raises(QkdError, match=r"did you mean 'minilm'"):
        make_encoder("miniLM")


def test_a_damaged_model_folder_is_one_sentence(tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(QkdError, match=r"model: no model can be loaded from this folder") as caught:
        make_encoder(str(folder)).encode(SENTENCES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probe_learns_and_its_logits_do_not_depend_on_the_cache(model, classes):
    dataset = animals(classes)
    splits = data.split_dataset(dataset)
    teacher = make_teacher(f"probe:{model}")
    with pytest.raises(QkdError, match=r"has not been fitted"):
        teacher.logits(dataset.texts)
    teacher.fit(dataset, splits)
    logits = teacher.logits(dataset.texts)
    assert logits.shape == (len(dataset.texts), classes) and logits.dtype == np.float32
    right = logits.argmax(axis=1) == dataset.targets
    assert right[splits.test].mean() > 1.5 / classes
    others = np.concatenate([splits.valid, splits.test])
    np.testing.assert_allclose(teacher.predict_logits(dataset.texts)[others], logits[others], atol=0.02)
    np.testing.assert_array_equal(teacher.logits(dataset.texts[3:1:-1]), logits[3:1:-1])
    facts = teacher.describe()
    assert set(facts.read) <= {1, 2} and facts.temperature > 0
    assert facts.valid_accuracy == pytest.approx(right[splits.valid].mean())


def test_a_second_probe_calls_neither_model_nor_solver(model, monkeypatch):
    dataset = animals(3)
    splits = data.split_dataset(dataset)
    first = make_teacher(f"probe:{model}")
    first.fit(dataset, splits)
    monkeypatch.setattr(FeatureExtractor, "features", lambda *_, **__: pytest.fail("the model was called again"))
    monkeypatch.setattr("qkd.teachers.probe.fit_head", lambda *_, **__: pytest.fail("the head was fitted again"))
    second = make_teacher(f"probe:{model}")
    second.fit(dataset, splits)
    np.testing.assert_array_equal(second.logits(dataset.texts), first.logits(dataset.texts))
    assert second.describe() == first.describe()


def test_a_labelling_that_was_killed_ends_with_the_same_logits(model, monkeypatch, tmp_path):
    dataset = animals(3, count=300)
    splits = data.split_dataset(dataset)
    real, calls = FeatureExtractor.features, []

    def dies(self, texts):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, texts)

    def logits():
        teacher = make_teacher(f"probe:{model}")
        teacher.fit(dataset, splits)
        return teacher.logits(dataset.texts)

    whole = logits()
    monkeypatch.setenv("QKD_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(FeatureExtractor, "features", dies)
    with pytest.raises(KeyboardInterrupt):
        logits()
    resumed = logits()
    assert sum(calls) == len(dataset.texts) + calls[1]  # only the chunk that was lost came twice
    np.testing.assert_array_equal(resumed, whole)


def test_linear_maps_give_what_torch_gives_and_have_gradients():
    from qkd.models.batching import faster

    torch.manual_seed(1)
    plain = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.GELU(), torch.nn.Linear(32, 5, bias=False))
    x = torch.randn(3, 7, 48)
    expected = plain(x)
    gradient = torch.autograd.grad(expected.sum(), plain[0].weight)[0]
    names = list(plain.state_dict())
    faster(plain)
    with torch.inference_mode():
        np.testing.assert_allclose(plain(x).numpy(), expected.detach().numpy(), atol=1e-5)
        assert plain(x[:0]).shape == (0, 7, 5)
    torch.testing.assert_close(torch.autograd.grad(plain(x).sum(), plain[0].weight)[0], gradient)
    assert list(plain.state_dict()) == names
