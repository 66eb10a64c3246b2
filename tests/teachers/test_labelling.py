"""Labeling a corpus writes the logits that a run would use, and a second time costs nothing."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

from qkd import api
from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.data.tables import unchanged
from qkd.models.backbone import FeatureExtractor
from qkd.teachers.registry import make_teacher
from tests.models.conftest import animals
from tests.processes import qkd, signalled


@pytest.fixture
def corpus(tmp_path):
    """A CSV of labelled texts and a file of texts without labels, two of which the CSV has."""
    dataset = animals(3, count=300)
    pd.DataFrame({"text": dataset.texts, "label": dataset.labels}).to_csv(tmp_path / "texts.csv", index=False)
    fresh = [f"the {word} ran after the cat" for word in ("dog", "qubit", "gate", "mat", "ball")]
    (tmp_path / "more.txt").write_text("\n".join([*fresh, fresh[0].upper(), *dataset.texts[:2]]) + "\n")
    return tmp_path


def teach(corpus, model, out="logits.parquet", **more):
    return api.teach(corpus / out, data=str(corpus / "texts.csv"), teacher=f"probe:{model}", **more)


def test_the_file_holds_every_text_in_order_and_can_be_used_as_a_teacher(corpus, model, capsys):
    found = teach(corpus, model, unlabeled=str(corpus / "more.txt"))
    assert "ignored 3 texts that occur twice or are in" in capsys.readouterr().err
    dataset = data.load_dataset(str(corpus / "texts.csv"))
    table = parquet.read_table(corpus / "logits.parquet")
    assert table.column_names == ["text", "kind 0", "kind 1", "kind 2"] and found.texts == table.num_rows == 305
    assert table["text"].to_pylist()[:300] == list(dataset.texts)
    assert json.loads(table.schema.metadata[b"qkd.teacher"])["name"] == f"probe:{model}"
    splits = data.split_dataset(dataset)
    direct, again = make_teacher(f"probe:{model}"), make_teacher(f"logits:{corpus / 'logits.parquet'}")
    for teacher in (direct, again):
        teacher.fit(dataset, splits)
    texts = [*dataset.texts[:9], "the qubit ran after the cat"]
    np.testing.assert_array_equal(direct.logits(texts), again.logits(texts))


def test_it_ends_with_accuracy_chance_and_the_labels_that_were_given(tmp_path):
    texts = [f"text {n}" for n in range(200)]
    right = np.array([n % 4 == 0 for n in range(200)], dtype=int)  # one of four texts is of the rarer kind
    said = np.where([n % 5 == 0 for n in range(200)], 0, right)  # of which a fifth is missed
    pd.DataFrame({"text": texts, "label": np.array(["common", "rare"])[right]}).to_csv(tmp_path / "t.csv", index=False)
    rows = pd.DataFrame({"text": texts, "common": 1.0 - said, "rare": 1.0 * said})
    rows.to_csv(tmp_path / "logits.csv", index=False)
    given = {"data": str(tmp_path / "t.csv"), "teacher": f"logits:{tmp_path / 'logits.csv'}"}
    found = api.teach(tmp_path / "out.parquet", **given)
    dataset = data.load_dataset(given["data"])
    valid = data.split_dataset(dataset).valid
    assert found.valid_accuracy == pytest.approx(np.mean(said[valid] == right[valid]))
    assert found.valid_chance == pytest.approx(1 - right[valid].mean()) and found.valid_chance > 0.7
    assert found.predicted == {"common": int((said == 0).sum()), "rare": int(said.sum())}
    words = [f"--{name}={value}" for name, value in given.items()]
    told = qkd("teach", f"--out={tmp_path / 'again.parquet'}", *words, check=True).stdout
    assert f"accuracy on the validation split {found.valid_accuracy:.3f}" in told
    assert f"(chance, the most frequent label: {found.valid_chance:.3f})" in told
    assert told.endswith(f"labels given: common {(said == 0).sum():,}, rare {said.sum():,}\n")


def test_a_second_labelling_calls_no_model_and_a_changed_text_costs_one(corpus, model, monkeypatch):
    teach(corpus, model, unlabeled=str(corpus / "more.txt"))
    first = (corpus / "logits.parquet").read_bytes()
    asked = []
    real = FeatureExtractor.features
    monkeypatch.setattr(FeatureExtractor, "features", lambda *a, **k: asked.extend(a[1]) or real(*a, **k))
    teach(corpus, model, unlabeled=str(corpus / "more.txt"))
    assert asked == [] and (corpus / "logits.parquet").read_bytes() == first
    more = (corpus / "more.txt").read_text()
    (corpus / "more.txt").write_text(more.replace("the gate ran", "the gate slept", 1))
    teach(corpus, model, unlabeled=str(corpus / "more.txt"))
    assert asked == ["the gate slept after the cat"]


def test_a_killed_labelling_goes_on_to_the_same_file(corpus, model):
    out = str(corpus / "killed.parquet")
    words = ["teach", "--data", str(corpus / "texts.csv"), "--teacher", f"probe:{model}", "--out", out]
    where = os.environ | {"QKD_CACHE": str(corpus / "another")}
    teach(corpus, model, out="whole.parquet")
    signalled(*words, after="qkd.core.cache:Store._save", env=where)
    assert not (corpus / "killed.parquet").exists()
    done = qkd(*words, env=where, check=True)
    assert "300 texts and 3 classes" in done.stdout and "texts/s" in done.stdout
    whole, resumed = (parquet.read_table(corpus / f"{name}.parquet") for name in ("whole", "killed"))
    assert resumed["text"] == whole["text"]
    for name in whole.column_names[1:]:  # another process may have other threads, and so another last digit
        np.testing.assert_allclose(resumed[name], whole[name], atol=1e-3)


def test_embeddings_can_be_had_in_the_same_go(corpus, model):
    from qkd.core import cache
    from qkd.encoders.registry import make_encoder

    teach(corpus, model, embed=True, encoder="hashing:16")
    encoder, texts = make_encoder("hashing:16"), data.load_dataset(str(corpus / "texts.csv")).texts
    found = cache.cached_rows(encoder.key, texts, lambda _: pytest.fail("not embedded yet"), "testing")
    np.testing.assert_array_equal(found, encoder.encode(texts))


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text("text,label\na,b\n")
    with pytest.raises(QkdError, match=r"changed while qkd read it \(\+4 bytes\)"), unchanged(file):
        file.write_text("text,label\na,b\nc,d\n")


def test_other_mistakes(corpus, model):
    with pytest.raises(QkdError, match=r"must be called NAME\.parquet"):
        teach(corpus, model, out="logits.csv")
    (corpus / "same.txt").write_text(data.load_dataset(str(corpus / "texts.csv")).texts[0] + "\n")
    with pytest.raises(QkdError, match=r"all of its 1 texts are in .*texts\.csv already"):
        teach(corpus, model, unlabeled=str(corpus / "same.txt"))
