"""Encoders with options, side by side, and without any transformer at all."""

import subprocess
import sys

import numpy as np
import pytest

from qkd.core.errors import QkdError
from qkd.encoders.hidden_states import choose_layers
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from tests.models.conftest import TEXTS, alone


@pytest.mark.parametrize(("pooling", "layer"), [("first", 2), ("last", 1), ("max", 2), ("mean", 0)])
def test_layers_and_poolings_are_those_of_the_text_alone(model, pooling, layer):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    encoder = make_encoder(f"{model}?layer={layer}&pooling={pooling}")
    found = encoder.encode(TEXTS)
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    for row in (0, 13):
        ids = AutoTokenizer.from_pretrained(model)(TEXTS[row], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            states = network(ids, output_hidden_states=True).hidden_states[layer][0].numpy()
        expected = {"first": states[0], "last": states[-1], "max": states.max(axis=0), "mean": states.mean(axis=0)}
        wanted = expected[pooling] / np.linalg.norm(expected[pooling])
        np.testing.assert_allclose(found[row], wanted, atol=2e-6)
    assert make_encoder(encoder.name).key == encoder.key != make_encoder(str(model)).key


def test_several_layers_are_read_in_one_pass_and_any_choice_of_them_costs_nothing(model, monkeypatch):
    one, two = (embed_texts(make_encoder(f"{model}?layers={n}"), TEXTS) for n in (1, 2))
    monkeypatch.setattr("qkd.core.cache.Store._save", lambda *_: pytest.fail("something was computed again"))
    both = make_encoder(f"{model}?layers=2,1")
    np.testing.assert_array_equal(embed_texts(both, TEXTS), np.hstack([one, two]))
    np.testing.assert_allclose(both.encode(TEXTS), np.hstack([one, two]), atol=1e-6)
    assert both.dim == 64 and both.key == make_encoder(f"{model}?layers=1,2").key


def test_a_transformer_is_cut_above_the_last_layer_that_is_read(model):
    from qkd.models.backbone import Backbone

    whole, cut = Backbone(str(model)), Backbone(str(model), depth=1)
    np.testing.assert_array_equal(cut.pooled(TEXTS, [0, 1]), whole.pooled(TEXTS, [0, 1]))
    assert cut.num_parameters < whole.num_parameters
    assert make_encoder(f"{model}?layer=1").num_parameters == cut.num_parameters


def test_layers_are_chosen_by_what_a_probe_makes_of_them(model, monkeypatch):
    encoder = make_encoder(f"hashing:8+{model}?layers=auto&tokens=9")
    y = np.arange(len(TEXTS)) % 2
    states = np.random.default_rng(2).normal(size=(len(TEXTS), 3, 8))
    states[:, 1, 0] += 6 * y  # layer 1 alone knows the answer

    def told(self, texts):
        return states[[TEXTS.index(text) for text in texts]][:, self.layers].reshape(len(texts), -1)

    monkeypatch.setattr("qkd.encoders.hidden_states.TransformerEncoder.encode_cached", told)
    found, tried = choose_layers(encoder, TEXTS, y)
    assert [row.layers for row in tried] == [(2,), (1,), (1, 2)]
    assert tried[1].accuracy > 0.8 > tried[0].accuracy
    assert found.name == f"hashing:8+{model}?layers=1&tokens=9"
    assert make_encoder(found.name).key == found.key


@pytest.mark.parametrize(("far", "read"), [(0.06, "1,2"), (0.04, "2")])
def test_an_encoder_that_trains_reads_one_layer_that_is_nearly_as_good(model, monkeypatch, far, read):
    errors = iter([0.3 * (1 + far), 0.6, 0.3] * 2)  # of layer 2, layer 1 and both
    monkeypatch.setattr("qkd.encoders.hidden_states.squared_errors", lambda *_: np.array([next(errors)]))
    y = np.arange(len(TEXTS)) % 2
    for trains, layers in ((True, read), (False, "1,2")):
        found, _ = choose_layers(make_encoder(f"{model}?layers=auto"), TEXTS, y, trains)
        assert found.name == f"{model}?layers={layers}"


def test_tokens_cut_a_text(model):
    found = make_encoder(f"{model}?tokens=3").encode([TEXTS[-1]])
    expected = alone(model, " ".join(TEXTS[-1].split()[:3]), 2)
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=2e-6)


def test_joined_encoders_stand_side_by_side_and_share_the_cache(model, monkeypatch):
    both = make_encoder(f"{model}?layer=1+hashing:64")
    found = embed_texts(both, TEXTS)
    assert found.shape == (len(TEXTS), both.dim) == (len(TEXTS), 32 + 64)
    monkeypatch.setattr("qkd.core.cache.Store._save", lambda *_: pytest.fail("something was computed again"))
    np.testing.assert_array_equal(found[:, :32], embed_texts(make_encoder(f"{model}?layer=1"), TEXTS))
    np.testing.assert_array_equal(found[:, 32:], embed_texts(make_encoder("hashing:64"), TEXTS))
    np.testing.assert_allclose(both.encode(TEXTS), found, atol=1e-6)
    assert make_encoder(both.name).key == both.key


def test_a_static_encoder_needs_its_table_alone(model, tmp_path):
    from safetensors.numpy import save_file

    encoder = make_encoder(f"static:{model}?dim=16")
    found = encoder.encode([*TEXTS, ""])
    assert found.shape == (len(TEXTS) + 1, 16) and encoder.num_parameters == encoder.arrays["table"].size
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1] * len(TEXTS) + [0], atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["cat the mat"]), encoder.encode(["mat cat the"]), atol=1e-6)
    save_file({name: np.ascontiguousarray(value) for name, value in encoder.arrays.items()}, tmp_path / "a.safetensors")
    np.save(tmp_path / "expected.npy", found[:4])
    script = (
        "import sys, numpy as np\n"
        "from safetensors.numpy import load_file\n"
        "from qkd.encoders.registry import make_encoder\n"
        "encoder = make_encoder('static:nobody/has-this?dim=16', arrays=load_file('a.safetensors'))\n"
        f"np.testing.assert_array_equal(encoder.encode({TEXTS[:4]!r}), np.load('expected.npy'))\n"
        "assert not {'transformers', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{}?layer=9", r"there is no layer 9, the last one is 2"),
        ("{}?pooling=men", r"there is no pooling 'men'; did you mean 'mean'"),
        ("{}?layers=1,9", r"there is no layer 9, the last one is 2"),
        ("{}?layres=1", r"there is no option 'layres'; did you mean 'layers'"),
        ("{}?layer=top", r"layers=top is no number"),
        ("{}?tokens=0", r"tokens=0 is no number from 1 on"),
        ("static:{}?dim=0", r"dim=0 is no number from 1 on"),
        ("hashing:8+", r"something is missing beside a '\+'"),
    ],
)
def test_options_that_do_not_fit(model, name, words):
    with pytest.raises(QkdError, match=words):
        make_encoder(name.format(model)).encode(TEXTS)


@pytest.mark.models
def test_padding_is_read_only_where_it_is_asked_for():
    """The state of a padding token depends on the text little; that of the last real token does not on the padding."""
    texts = ["A short one.", "A somewhat longer sentence than the one before it."]
    states = {name: make_encoder(f"minilm?pooling={name}&tokens=60").encode(texts) for name in ("last", "padding")}
    alone = make_encoder("minilm?pooling=last&tokens=60").encode(texts[:1])
    assert np.allclose(alone[0], states["last"][0], atol=1e-5)
    assert not np.allclose(states["last"], states["padding"], atol=0.1)
