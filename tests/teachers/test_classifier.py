"""Classifiers that somebody trained: their labels reach the right column, and what is none is refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from qkd.core.config import make_config
from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.teachers.classifier import match_labels
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
    np.testing.assert_allclose(teacher.answer(dataset.texts[:5]), found[:5], atol=1e-5)
    assert "its labels other, neither mean no label of the data" in capsys.readouterr().err
    assert teacher.describe()["labels"] == {"kind 0": ["kind 0"], "kind 1": ["Kind 1"]}


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
    with pytest.raises(QkdError, match=r"brings Python code of its own; .*--trust-remote-code"):
        fitted(f"classifier:{folder}", animals(2))
