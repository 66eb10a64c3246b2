"""Logits from a file reach the right text and the right class, or are refused by row, column and name."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.teachers.registry import make_teacher

LABELS = ("ant", "bee", "cow")
ROWS = [(f"text number {n}", LABELS[n % 3]) for n in range(30)]
SOURCE_ROWS = [("", "ant"), *ROWS, ROWS[4]]  # the first is empty, the last a duplicate: both are dropped


@pytest.fixture
def dataset(tmp_path):
    pd.DataFrame(SOURCE_ROWS, columns=["text", "label"]).to_csv(tmp_path / "texts.csv", index=False)
    return data.load_dataset(str(tmp_path / "texts.csv"))


@pytest.fixture
def logits(request):
    seed = sum(map(ord, request.node.name))
    return np.random.default_rng(seed).normal(size=(len(ROWS), 3)).astype(np.float32)


def fitted(path, dataset):
    teacher = make_teacher(f"logits:{path}")
    teacher.fit(dataset, data.split_dataset(dataset))
    return teacher


def save(path, logits, classes=None, texts=None):
    """Write a logits file of the kind that the suffix says."""
    if path.suffix == ".npz":
        more = {name: np.array(value) for name, value in (("classes", classes), ("texts", texts)) if value is not None}
        np.savez(path, logits=logits, **more)
    elif path.suffix == ".safetensors":
        about = {name: json.dumps(list(v)) for name, v in (("classes", classes), ("texts", texts)) if v is not None}
        save_file({"logits": logits}, path, metadata=about)
    else:
        frame = pd.DataFrame(logits, columns=list(classes or LABELS))
        if texts is not None:
            frame["text"] = list(texts)
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "csv", "parquet"])
def test_shuffled_rows_and_columns_are_put_in_order(tmp_path, dataset, logits, suffix):
    rows = np.random.default_rng(7).permutation(30)
    names = ("cow", "ant", "bee")
    columns = [LABELS.index(name) for name in names]
    texts = [ROWS[row][0].upper() for row in rows]
    path = save(tmp_path / f"l.{suffix}", logits[np.ix_(rows, columns)], names, texts)
    teacher = fitted(path, dataset)
    found = teacher.logits(dataset.texts)
    np.testing.assert_allclose(found, logits, rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(teacher.logits(dataset.texts[5:2:-1]), found[5:2:-1])
    np.testing.assert_array_equal(teacher.predict_logits(dataset.texts), found)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "csv", "parquet"])
def test_without_texts_rows_are_those_of_the_source_or_those_kept(tmp_path, dataset, logits, suffix):
    source = np.vstack([np.full(3, 9.0), logits, np.full(3, 8.0)]).astype(np.float32)
    for number, rows in enumerate((source, logits)):
        found = fitted(save(tmp_path / f"{number}.{suffix}", rows, LABELS), dataset).logits(dataset.texts)
        np.testing.assert_allclose(found, logits, rtol=1e-6)


def test_a_limit_takes_the_rows_of_the_texts_it_keeps(tmp_path, dataset, logits):
    path = save(tmp_path / "l.npz", np.vstack([np.zeros(3), logits, np.zeros(3)]))
    few = data.load_dataset(dataset.source, limit=18)
    found = fitted(path, few).logits(few.texts)
    np.testing.assert_array_equal(found, logits[[int(text.split()[-1]) for text in few.texts]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "csv", "parquet"])
def test_a_number_that_is_not_finite_is_refused_by_row(tmp_path, dataset, logits, suffix, bad):
    logits[16, 1] = bad
    with pytest.raises(QkdError, match=r"row 17, column 2 is (nan|inf), not a finite float32 number \(1 rows"):
        fitted(save(tmp_path / f"l.{suffix}", logits, LABELS), dataset)


def test_another_length_says_both(tmp_path, dataset, logits):
    with pytest.raises(QkdError, match=r"29 rows of logits, but .*texts.csv has 32 rows, of which 30 were kept"):
        fitted(save(tmp_path / "l.npz", logits[:29]), dataset)


def test_texts_of_another_data_set_are_refused(tmp_path, dataset, logits):
    texts = [text if n != 3 else "something else" for n, (text, _) in enumerate(ROWS)]
    with pytest.raises(QkdError, match=r"no logits for 1 of the 30 texts, the first is 'text number 3'"):
        fitted(save(tmp_path / "l.parquet", logits, LABELS, texts), dataset)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (("ant", "bee", "cows"), "no logits for the data's label 'cow'; did you mean 'cows'"),
        (("ant", "bee", "cow", "dog"), "'dog' is no label of"),
        (("ant", "bee"), "no logits for the data's label 'cow'"),
    ],
)
def test_labels_that_are_not_shared_are_refused(tmp_path, dataset, logits, classes, sentence):
    wide = np.hstack([logits, logits])[:, : len(classes)]
    with pytest.raises(QkdError, match=sentence):
        fitted(save(tmp_path / "l.npz", wide, classes), dataset)


def test_a_wrong_number_of_columns_is_refused(tmp_path, dataset, logits):
    with pytest.raises(QkdError, match=r"2 columns of logits for 3 classes \(ant, bee, cow\)"):
        fitted(save(tmp_path / "l.npz", logits[:, :2]), dataset)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "parquet"])
def test_a_damaged_file_is_one_sentence(tmp_path, dataset, logits, suffix):
    path = save(tmp_path / f"l.{suffix}", logits, LABELS)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(QkdError, match=f"l.{suffix}: cannot be read as") as caught:
        fitted(path, dataset)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_executed(tmp_path, dataset):
    np.savez(tmp_path / "l.npz", logits=np.array([{"not": "numbers"}] * 30, dtype=object))
    with pytest.raises(QkdError, match=r"holds Python objects"):
        fitted(tmp_path / "l.npz", dataset)


def test_what_is_not_there(tmp_path, dataset, logits):
    with pytest.raises(QkdError, match=r"none.npz: no such file"):
        fitted(tmp_path / "none.npz", dataset)
    with pytest.raises(QkdError, match=r"'.txt' is no known kind of logits file"):
        fitted(tmp_path / "l.txt", dataset)
    np.savez(tmp_path / "l.npz", scores=logits)
    with pytest.raises(QkdError, match=r"there is no array 'logits', only scores"):
        fitted(tmp_path / "l.npz", dataset)


def test_a_text_it_has_not_seen_is_named(tmp_path, dataset, logits):
    teacher = fitted(save(tmp_path / "l.npz", logits), dataset)
    with pytest.raises(QkdError, match=r"no logits for the text 'a new text'"):
        teacher.logits(["a new text"])


def test_kinds_are_listed():
    with pytest.raises(
        QkdError,
        match=r"there is no kind 'xyz'; known are: api, classifier, features, logits, lora, object, probe, prompt",
    ):
        make_teacher("xyz:x")
    with pytest.raises(QkdError, match=r"did you mean 'probe'"):
        make_teacher("prob:x")
    with pytest.raises(QkdError, match=r"names nothing after 'logits:'"):
        make_teacher("logits")


@pytest.mark.parametrize("said", ["3", "[1, 2]", "{", "[" * 100_000])
def test_metadata_that_are_no_list_of_names_are_one_sentence(tmp_path, said):
    from safetensors.numpy import save_file

    from qkd.teachers.logits_file import read_logits

    save_file({"logits": np.zeros((2, 2), np.float32)}, tmp_path / "l.safetensors", metadata={"classes": said})
    with pytest.raises(QkdError, match=r"metadata's 'classes' are .* not a JSON list of strings"):
        read_logits(tmp_path / "l.safetensors")


@pytest.mark.parametrize("total", [1, 100])
def test_probabilities_are_recognized_and_their_logarithms_used(tmp_path, dataset, logits, capsys, total):
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rounded = np.round(total * chances, 3)
    rounded[0] = [total, 0, 0]
    found = fitted(save(tmp_path / "l.csv", rounded, texts=[text for text, _ in ROWS]), dataset).logits(dataset.texts)
    np.testing.assert_allclose(found[1:], np.log(chances[1:]), atol=0.05)
    assert np.isfinite(found).all() and found[0].argmax() == 0
    assert "qkd uses their logarithms as logits" in capsys.readouterr().err
    assert "logarithms" not in str(fitted(save(tmp_path / "m.csv", logits), dataset)) + capsys.readouterr().err


def test_columns_in_another_order_are_reported(tmp_path, dataset, capsys):
    right = 5 * np.eye(3, dtype=np.float32)[[LABELS.index(label) for _, label in ROWS]]
    fitted(save(tmp_path / "l.npz", right[:, [1, 2, 0]]), dataset)
    assert "would be on 100.0% with the meanings" in capsys.readouterr().err
    fitted(save(tmp_path / "l.npz", right), dataset)
    assert "with the meanings" not in capsys.readouterr().err


def test_rows_longer_than_the_header_and_texts_in_an_index_are_not_misread(tmp_path, dataset, logits):
    path = tmp_path / "l.csv"
    path.write_text("ant,bee,cow\n" + "".join(f"{n},3,2,1\n" for n in range(30)))
    with pytest.raises(QkdError, match="cannot be read as logits"):
        fitted(path, dataset)
    path.write_text("ant,bee,cow\n" + "1e39,3,2\n" * 30)
    with pytest.raises(QkdError, match=r"row 1, column 1 is 1e.39, not a finite float32 number"):
        fitted(path, dataset)
    order = np.random.default_rng(3).permutation(30)
    frame = pd.DataFrame(logits[order], columns=LABELS, index=pd.Index([ROWS[n][0] for n in order], name="text"))
    frame.to_parquet(tmp_path / "l.parquet")
    assert np.array_equal(fitted(tmp_path / "l.parquet", dataset).logits([row[0] for row in ROWS]), logits)


def test_scores_that_may_be_probabilities_are_named(tmp_path, dataset, capfd):
    scores = np.random.default_rng(5).uniform(size=(30, 3))
    fitted(save(tmp_path / "l.npz", scores), dataset)
    assert "uses them as logits" in capfd.readouterr().err


def test_columns_are_cleaned_as_labels_are_and_occur_once(tmp_path, dataset, logits):
    teacher = fitted(save(tmp_path / "l.npz", logits, (" cow", "ant\u200b", "bee ")), dataset)
    assert np.array_equal(teacher.logits([row[0] for row in ROWS]), logits[:, [1, 2, 0]])
    doubled = np.hstack([logits, logits[:, :1]])
    with pytest.raises(QkdError, match="2 columns are called 'ant'"):
        fitted(save(tmp_path / "l.npz", doubled, (*LABELS, "ant ")), dataset)
