"""Random models of several families against transformers, one text at a time; broken folders are refused."""

import json

import numpy as np
import pytest

from qkd.core.errors import QkdError
from qkd.encoders.registry import make_encoder
from qkd.teachers.classifier import Classifier
from tests.models.conftest import FAULTS, check_family, save_family

WHOLE = [
    ("bert", "encoder", None, None, "float32"),
    ("roberta", "encoder", "<pad>", None, "float16"),
    ("mpnet", "encoder", None, None, "float32"),
    ("gpt2", "encoder", None, 0, "bfloat16"),
    ("llama", "encoder", "<pad>", None, "float32"),
    ("distilbert", "classifier", None, None, "float32"),
    ("roberta", "classifier", None, None, "float32"),
    ("xlnet", "classifier", None, None, "float32"),  # its head reads the last position, whatever the mask says
    ("gpt2", "classifier", None, None, "float32"),
    ("gpt2", "classifier", None, 0, "float32"),
    ("gpt2", "classifier", "<pad>", 296, "float16"),
    ("llama", "classifier", None, 296, "float32"),
    ("llama", "classifier", "<pad>", None, "float32"),
    ("qwen2", "lm", None, None, "float32"),
    ("gpt2", "lm", "!", 0, "float32"),
]


@pytest.mark.parametrize(("family", "kind", "pad", "config_pad", "dtype"), WHOLE)
def test_numbers_are_those_of_transformers_one_text_at_a_time(tmp_path, family, kind, pad, config_pad, dtype):
    assert check_family(tmp_path / "model", family, kind, pad=pad, config_pad=config_pad, dtype=dtype)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("family", "kind"), [("bert", "classifier"), ("llama", "lm"), ("gpt2", "encoder")])
def test_folders_with_a_fault_are_refused(tmp_path, family, kind, fault):
    if (kind, fault) == ("encoder", "headless"):
        pytest.skip("an encoder has no head")
    assert not check_family(tmp_path / "model", family, kind, fault=fault)


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_layers_that_the_configuration_omits_are_refused(tmp_path):
    folder = save_family(tmp_path / "model", "bert", "classifier")
    change(folder / "config.json", num_hidden_layers=1)
    for use in (Classifier(str(folder)).scores, make_encoder(str(folder)).encode):
        with pytest.raises(
            QkdError, match=r"the file has .*layer\.1\..*, which the network of config.json does not use"
        ):
            use(["the cat"])


def test_tokenizers_that_mark_segments_or_drop_merges(tmp_path):
    folder = save_family(tmp_path / "model", "gpt2", "encoder")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(content))
    texts = ["electrons tunnel through thin barriers"] * 8
    assert np.ptp(make_encoder(str(folder)).encode(texts), axis=0).max() < 1e-5
    folder = save_family(tmp_path / "other", "xlnet", "encoder")
    ends = {"id": "<end>", "ids": [296], "tokens": ["<end>"]}
    parts = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<end>", "type_id": 2}}]
    single = {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": {"<end>": ends}}
    change(folder / "tokenizer.json", post_processor=single)
    change(folder / "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    with pytest.raises(QkdError, match="its tokenizer marks segments"):
        make_encoder(str(folder)).encode(texts)


def test_a_model_without_token_embeddings_is_refused(tmp_path):
    from transformers import CanineConfig, CanineModel

    folder = save_family(tmp_path / "model", "bert", "encoder")
    config = CanineConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    CanineModel(config).save_pretrained(folder)
    with pytest.raises(QkdError, match="canine has no table of token embeddings"):
        make_encoder(str(folder)).encode(["the cat"])


def test_modules_of_sentence_transformers_that_qkd_does_not_run_are_named(tmp_path, capfd):
    folder = save_family(tmp_path / "model", "bert", "encoder")
    (folder / "1_Pooling").mkdir()
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    for config in ({"pooling_mode": "cls"}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
        make_encoder(f"{folder}?pooling=first")
        assert capfd.readouterr().err == ""
        make_encoder(str(folder))
        assert "pools this model by first, and qkd by mean" in capfd.readouterr().err
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "models.Dense", "path": "3_Dense"}]))
    make_encoder(f"{folder}?pooling=first")
    assert "without its module Dense" in capfd.readouterr().err
