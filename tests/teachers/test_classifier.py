"""Labels of a trained classifier reach the right column, and other models are refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from qkd.core import cache
from qkd.core.config import make_config
from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from qkd.pipeline.settings import with_pinned_models
from qkd.teachers.classifier import match_labels, split_pairs
from qkd.teachers.registry import make_teacher
from tests.models.conftest import animals, save_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random classifier of four labels over the tiny LM's words."""
    from transformers import AutoModelForSequenceClassification

    folder = save_model(tmp_path_factory.mktemp("classifier"))
    torch.manual_seed(3)
    names = {0: "Kind 1", 1: "other", 2: "kind 0", 3: "neither"}
    network = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4, id2label=names, pad_token_id=1)
    network.save_pretrained(folder)
    return folder


def alone(folder, text):
    """The logits of one text by transformers and nothing else."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return network(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits[0].numpy()


def fitted(spec, dataset, **more):
    teacher = make_teacher(spec, config=make_config({"teacher": more}))
    teacher.fit(dataset, data.split_dataset(dataset))
    return teacher


def test_labels_are_found_by_name_whatever_their_case_and_order(checkpoint, capsys):
    dataset = animals(2)
    teacher = fitted(f"classifier:{checkpoint}", dataset)
    found = teacher.logits(dataset.texts)
    for row in (0, 41):
        np.testing.assert_allclose(found[row], alone(checkpoint, dataset.texts[row])[[2, 0]], atol=1e-5)
    np.testing.assert_allclose(teacher.predict_logits(dataset.texts[:5]), found[:5], atol=1e-5)
    assert "its labels other, neither mean no label of the data" in capsys.readouterr().err
    assert teacher.describe().labels == {"kind 0": ["kind 0"], "kind 1": ["Kind 1"]}


def test_a_map_puts_several_labels_on_one_and_their_probabilities_add_up(checkpoint):
    dataset = animals(2)
    teacher = fitted(f"classifier:{checkpoint}", dataset, label_map="other=kind 0, kind 0=kind 0, neither=kind 1")
    found = teacher.logits(dataset.texts[:3])
    for row in range(3):
        raw = np.exp(alone(checkpoint, dataset.texts[row]))
        np.testing.assert_allclose(np.exp(found[row]), [raw[1] + raw[2], raw[3]], rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], r"none of the model's labels \(LABEL_0, LABEL_1\) means the data's 'ant'; look up .* one of ant, bee"),
        (["LABEL_2=ant"], r"no label 'LABEL_2'; did you mean 'LABEL_0'|no label 'LABEL_2'; did you mean 'LABEL_1'"),
        (["LABEL_0=ent"], r"the data have no label 'ent'; did you mean 'ant'"),
        (["LABEL_0=ant"], r"means the data's 'bee'"),
    ],
)
def test_maps_that_do_not_fit(given, words):
    with pytest.raises(QkdError, match=words):
        match_labels("classifier:x", ("LABEL_0", "LABEL_1"), ("ant", "bee"), given)


def test_a_base_model_is_no_classifier(model, tmp_path):
    dataset = animals(2)
    with pytest.raises(QkdError, match=r"no classification head \(it is a LlamaForCausalLM\); use probe:"):
        fitted(f"classifier:{model}", dataset)
    liar = tmp_path / "liar"
    shutil.copytree(model, liar)
    (liar / "config.json").write_text((liar / "config.json").read_text().replace("CausalLM", "SequenceClassification"))
    with pytest.raises(QkdError, match=r"no classification head \(score\.weight would be random\)"):
        fitted(f"classifier:{liar}", dataset, label_map="LABEL_0=kind 0,LABEL_1=kind 1")


def test_a_map_that_is_no_map(checkpoint):
    with pytest.raises(QkdError, match=r"'other' is not MODEL=DATA"):
        make_teacher(f"classifier:{checkpoint}", config=make_config({"teacher": {"label_map": "other"}}))


def test_a_model_with_code_of_its_own_is_refused_unless_trusted(model, tmp_path):
    folder = tmp_path / "remote"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.Homemade", "AutoModel": "code.Net"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('foreign code ran')\n")
    with pytest.raises(QkdError, match=r"brings Python code of its own; .*trust_remote_code"):
        fitted(f"classifier:{folder}", animals(2))


def test_labels_with_commas_and_equals_signs_are_mapped():
    labels = ("x = 1, y", "z")
    assert match_labels("classifier:x", labels, ("a,b", "c"), split_pairs('"x = 1, y=a,b",z=c')) == ((0,), (1,))
    with pytest.raises(QkdError, match=r"the model has no label 'x'; did you mean|the model has no label 'x'"):
        match_labels("classifier:x", labels, ("a,b", "c"), split_pairs("x=c"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id2label": {"0": "score"}, "label2id": {"score": 0}}, r"the head has 1 output for a regression"),
        ({"problem_type": "multi_label_classification"}, r"the head gives several labels to one text"),
        (
            {"id2label": {str(n): f"kind {n}" for n in (0, 1, 2, 4)}},
            r"id2label of config.json numbers its labels \[0, 1, 2, 4\], not from 0 on",
        ),
        (
            {"id2label": {str(n): f"kind {n}" for n in range(5)}},
            r"score\.weight has shape \(4, 32\) .* ask for \(5, 32\)",
        ),
    ],
)
def test_heads_that_do_not_choose_one_label_are_refused(checkpoint, tmp_path, changes, words):
    folder = shutil.copytree(checkpoint, tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(QkdError, match=words):
        fitted(f"classifier:{folder}", animals(2))


def test_values_that_are_not_finite_are_refused_and_not_cached(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    dataset = animals(2)
    with pytest.raises(QkdError, match=r"(\d+) of \1 texts give numbers that are not finite, the first is '"):
        fitted(f"classifier:{folder}", dataset)
    with pytest.raises(QkdError, match=r"24 of 24 texts give numbers that are not finite"):
        embed_texts(make_encoder(str(folder)), dataset.texts[:24])
    assert not list(cache.root().rglob("rows/*/*.safetensors"))


def test_a_far_better_assignment_of_labels_is_reported(model, tmp_path, capsys):
    dataset = animals(2, count=200)
    teacher = make_teacher(
        f"lora:{model}", config=make_config({"lora": {"lora_epochs": 2, "lora_lr": 0.01, "lora_depth": 1}})
    )
    teacher.fit(dataset, data.split_dataset(dataset))
    teacher.save(tmp_path / "adapter")
    fitted(f"classifier:{tmp_path / 'adapter'}", dataset)
    assert "would be on" not in capsys.readouterr().err
    fitted(f"classifier:{tmp_path / 'adapter'}", dataset, label_map="kind 0=kind 1,kind 1=kind 0")
    assert "with the meanings kind 0=kind 0,kind 1=kind 1" in capsys.readouterr().err


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, model):
    """A peft adapter of the tiny LM with a tokenizer of its own: one more token, whose embedding the adapter holds."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("adapter")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["unheard"])
    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2, pad_token_id=None)
    base.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(1)
    network = get_peft_model(
        base, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"], modules_to_save=["embed_tokens", "score"])
    )
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.2 * torch.randn_like(weight) * weight.requires_grad)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = tokenizer("the cat unheard", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return folder, network.eval()(input_ids=ids).logits[0].numpy()


def test_an_adapter_brings_its_own_tokens(adapter):
    folder, expected = adapter
    teacher = fitted(f"classifier:{folder}", animals(2), label_map="LABEL_0=kind 0,LABEL_1=kind 1")
    np.testing.assert_allclose(teacher.predict_logits(["the cat unheard", "the cat"])[0], expected, atol=1e-5)


def test_adapters_that_are_not_whole_are_refused(adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(adapter[0], tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    lacking = {name: value for name, value in tensors.items() if "lora_B" not in name}
    save_file(lacking, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QkdError, match=r"lacks 2 weights that are used and would be random \(base_model.*lora_B"):
        fitted(f"classifier:{folder}", animals(2), label_map="LABEL_0=kind 0,LABEL_1=kind 1")
    with pytest.raises(QkdError, match=r"this folder holds a peft adapter; use classifier:"):
        make_encoder(str(folder))
    surplus = tensors | {name.replace("q_proj", "k_proj"): v.clone() for name, v in tensors.items() if "lora" in name}
    save_file(surplus, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QkdError, match=r"adapter has 4 weights that the model does not use \(base_model.*k_proj"):
        fitted(f"classifier:{folder}", animals(2), label_map="LABEL_0=kind 0,LABEL_1=kind 1")
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(QkdError, match="there is no base_model_name_or_path"):
        make_teacher(f"classifier:{folder}")
    shutil.copy(adapter[0] / "adapter_config.json", folder)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(QkdError, match=r"adapter_model\.bin is a pickle, which qkd does not read"):
        make_teacher(f"classifier:{folder}")


def test_a_name_that_is_missing_is_not_the_current_folder(model, monkeypatch):
    monkeypatch.chdir(model)
    for spec in ("classifier:", "classifier", "lora:"):
        with pytest.raises(QkdError, match="names nothing after"):
            make_teacher(with_pinned_models(make_config({"teacher": {"teacher": spec}})).teacher.teacher)
