"""Every kind of source gives the same texts; unusable rows are dropped with a message, unusable files are refused."""

import contextlib
import csv
import json
import os
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from qkd.core.errors import QkdError
from qkd.data import loading as data
from tests.data.conftest import check_tables

LABELS = ("cat", "dog")
TEXTS = [f"{LABELS[n % 2]} number {n}, with a comma" for n in range(20)]
ROWS = [{"t": text, "y": text[:3]} for text in TEXTS]


def write(path, rows=ROWS, **options):
    """Write ``rows`` in the kind that the suffix says."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",", **options)
    return str(path)


def load(path, **options):
    return data.load_dataset(str(path), "t", "y", **options)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_table_gives_the_same_texts(tmp_path, suffix):
    found = load(write(tmp_path / f"f.{suffix}"))
    assert found.texts == tuple(TEXTS)
    assert found.classes == LABELS
    assert found.notes[1:] == ()
    np.testing.assert_array_equal(found.targets, np.arange(20) % 2)
    assert found.targets.dtype == np.int64


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_texts_survive_as_they_are(tmp_path, suffix):
    odd = ["NA", "null", "1e5", "  spaces  ", 'a "quoted" word', "two\nlines", "naïve 日本 🙂", "tab\there", "a\u2028b"]
    rows = [*ROWS, *({"t": text, "y": "cat"} for text in odd)]
    assert load(write(tmp_path / f"f.{suffix}", rows)).texts == (*TEXTS, *odd)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("values", "names"), [((0, 1), ("0", "1")), ((False, True), ("false", "true")), ((0.0, 2.5), ("0", "2.5"))]
)
def test_labels_may_be_numbers_and_truth_values(tmp_path, suffix, values, names):
    rows = [{"t": text, "y": values[n % 2]} for n, text in enumerate(TEXTS)]
    assert load(write(tmp_path / f"f.{suffix}", rows)).classes == names


def test_a_byte_order_mark_semicolons_and_windows_line_ends_are_understood(tmp_path):
    body = "".join(f'{row["y"]};"{row["t"]}"\r\n' for row in ROWS)
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + f"y;t\r\n{body}".encode())
    assert load(tmp_path / "f.csv").texts == tuple(TEXTS)


def test_a_tsv_without_any_quoting_is_understood(tmp_path):
    texts = ['"an opening quote only', 'and " another', *TEXTS]
    (tmp_path / "f.tsv").write_text("t\ty\n" + "".join(f"{text}\t{'cat'}\n" for text in texts))
    assert load(tmp_path / "f.tsv").texts == tuple(texts)


def test_a_qdllm_folder(tmp_path):
    for prefix, part in (("train", ROWS[:12]), ("test", ROWS[12:])):
        for label in LABELS:
            lines = [row["t"] for row in part if row["y"] == label]
            (tmp_path / f"{prefix}_{label}.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "README.txt").write_text("not data\n")
    found = data.load_dataset(f"qdllm:{tmp_path}")
    assert sorted(zip(found.texts, found.labels, strict=True)) == sorted((row["t"], row["y"]) for row in ROWS)
    assert found.notes[1:] == ()


def test_a_local_hf_dataset_with_named_classes_and_two_splits(tmp_path):
    import datasets

    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=["dog", "cat"])})
    numbers = [{"t": row["t"], "y": ["dog", "cat"].index(row["y"])} for row in ROWS]
    numbers[3]["y"] = -1
    parts = {
        "train": datasets.Dataset.from_list(numbers[:12], features=features),
        "test": datasets.Dataset.from_list(numbers[12:], features=features),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    found = load(f"hf:{tmp_path / 'saved'}")
    assert found.texts == tuple(TEXTS[:3] + TEXTS[4:])
    assert found.classes == LABELS
    assert found.labels[0] == "cat"
    assert found.notes[1:] == ("dropped 1 texts without a label: train 4",)


def test_an_hf_folder_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "plain").mkdir()
    write(tmp_path / "plain" / "train.jsonl")
    assert load(f"hf:{tmp_path / 'plain'}").texts == tuple(TEXTS)


def test_an_hf_dataset_that_cannot_be_had(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(QkdError, match=r"hf:.*empty: the data set cannot be loaded"):
        load(f"hf:{tmp_path / 'empty'}")


def test_what_is_dropped_is_told_with_its_lines(tmp_path):
    rows = [
        *ROWS,  # lines 2 to 21
        {"t": "", "y": "cat"},
        {"t": " \t", "y": "cat"},
        {"t": "no label", "y": ""},
        {"t": TEXTS[0].upper().replace(" ", "   "), "y": "cat"},  # line 25, the same as line 2
        {"t": "cafe\u0301 au lait", "y": "cat"},
        {"t": "caf\u00e9 au lait", "y": "dog"},  # the same text, composed, under another label
    ]
    found = load(write(tmp_path / "f.csv", rows))
    assert found.texts == tuple(TEXTS)
    assert found.notes[1:] == (
        "dropped 2 texts that are empty: line 22, line 23",
        "dropped 1 texts without a label: line 24",
        "dropped 2 texts that occur under different labels: line 26, line 27",
        "dropped 1 texts that occur more than once (the first was kept): line 25",
    )
    assert found.rows == tuple(range(20))
    assert found.num_rows == 26


def test_lines_are_those_of_the_file_when_texts_have_line_breaks(tmp_path):
    rows = [{"t": "one\ntwo\nthree", "y": "cat"}, {"t": "", "y": "cat"}, *ROWS]
    assert load(write(tmp_path / "f.csv", rows)).notes[1:] == ("dropped 1 texts that are empty: line 5",)


def test_a_missing_column_names_those_that_exist(tmp_path):
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        path = write(tmp_path / f"f.{suffix}")
        with pytest.raises(QkdError, match=rf"f.{suffix}: there is no column 'text', only 't', 'y'"):
            data.load_dataset(path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("f.csv", b"", "f.csv: the file is empty"),
        ("f.jsonl", b"\n\n", "f.jsonl: the file is empty"),
        ("f.csv", b"t,y\n", "f.csv: the file has a header but no rows"),
        ("f.csv", b"t,y\na,b\nna\xefve,b\n", r"f.csv: line 3, byte 3 \(0xef\) is not UTF-8"),
        ("f.csv", "t,y\na,b\n".encode("utf-16"), "f.csv: the file is UTF-16"),
        ("f.csv", b"t,y\na,b\none, two,b\n", "f.csv: line 3 has 3 fields but the header has 2"),
        ("f.csv", b't,y\na,b\n"never closed,b\n', "f.csv: line 3: unexpected end of data"),
        ("f.csv", b"t,t,y\na,b,c\n", "f.csv: the header has 2 columns called 't'"),
        ("f.jsonl", b'{"t": "a", "y": "b"}\n{"t": \n', "f.jsonl: line 2 is not JSON"),
        ("f.jsonl", b'{"t": "a", "y": "b"}\n[1]\n', "f.jsonl: line 2 is not a JSON object"),
        ("f.jsonl", b'{"t": ["a"], "y": "b"}\n', "f.jsonl: line 1, column 't' holds a list"),
        ("f.parquet", b"PAR1 no", "f.parquet: cannot be read as Parquet"),
        ("f.xlsx", b"PK", "'.xlsx' is not a supported table format; use one of .csv"),
        ("f.csv", b"t,y\n,b\n,b\na,b\n", "f.csv: 2 of 3 texts are empty"),
        ("f.csv", b"t,y\na,\nb,\n", "f.csv: none of 2 texts can be used"),
    ],
)
def test_a_malformed_file_is_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(QkdError, match=sentence) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert (tmp_path / name).read_bytes() == content


def test_what_is_not_there(tmp_path):
    write(tmp_path / "texts.csv")
    with pytest.raises(QkdError, match=r"did you mean 'texts.csv'"):
        load(tmp_path / "text.csv")
    with pytest.raises(QkdError, match=r"is a folder; write qdllm:"):
        load(tmp_path)
    with pytest.raises(QkdError, match=r"no such folder"):
        data.load_dataset(f"qdllm:{tmp_path / 'none'}")
    with pytest.raises(QkdError, match=r"no file is called PREFIX_LABEL.txt"):
        data.load_dataset(f"qdllm:{tmp_path}")


def test_a_limit_is_stratified_nested_and_keeps_small_classes(tmp_path):
    rows = [{"t": f"text {n}", "y": "rare" if n < 8 else "common" if n < 100 else "usual"} for n in range(200)]
    path = write(tmp_path / "f.csv", rows)
    large, small = load(path, limit=100), load(path, limit=40)
    assert len(large.texts) == 100 and len(small.texts) == 40
    assert set(small.texts) < set(large.texts)
    counts = pd.Series(large.labels).value_counts()
    assert counts["rare"] >= 5 and abs(counts["common"] - 46) <= 3 and abs(counts["usual"] - 50) <= 3
    assert set(load(path, limit=40, seed=1).texts) != set(small.texts)
    assert all(large.texts[n] == f"text {row}" for n, row in enumerate(large.rows))
    assert pd.Series(load(path, limit=7).labels).value_counts().max() <= 3


def test_texts_alone(tmp_path, capfd):
    (tmp_path / "f.txt").write_text("one\ntwo \nthree", encoding="utf-8")
    assert data.load_texts(tmp_path / "f.txt") == ["one", "two ", "three"]
    assert data.load_texts(write(tmp_path / "f.csv"), "t") == TEXTS
    (tmp_path / "f.txt").write_text("one\n\nthree\n", encoding="utf-8")
    assert data.load_texts(tmp_path / "f.txt") == ["one", "three"]
    assert "f.txt: skipped 1 blank lines" in capfd.readouterr().err
    with pytest.raises(QkdError, match=r"f.jsonl: no text at line 2, line 3; remove these rows"):
        data.load_texts(
            write(tmp_path / "f.jsonl", [ROWS[0], {"t": " ", "y": "cat"}, {"t": "", "y": "cat"}, ROWS[1]]), "t"
        )


def test_splits_are_disjoint_complete_and_stratified(tmp_path):
    rows = [{"t": f"text {n}", "y": "rare" if n < 30 else "common"} for n in range(300)]
    found = load(write(tmp_path / "f.csv", rows))
    splits = data.split_dataset(found, valid=0.1, test=0.2, seed=3)
    parts = (splits.train, splits.valid, splits.test)
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert [len(part) for part in parts] == [210, 30, 60]
    for part in parts:
        assert part.dtype == np.int64
        assert np.mean([found.labels[row] == "rare" for row in part]) == pytest.approx(0.1)


def test_a_split_depends_on_content_and_seed_not_on_the_order_of_rows(tmp_path):
    found = load(write(tmp_path / "a.csv"))
    mixed = load(write(tmp_path / "b.csv", ROWS[::-1]))

    def test_texts(dataset, seed):
        return {dataset.texts[row] for row in data.split_dataset(dataset, seed=seed).test}

    assert test_texts(found, 0) == test_texts(mixed, 0)
    assert len({frozenset(test_texts(found, seed)) for seed in range(5)}) > 1


def test_a_class_of_five_is_in_every_split_and_one_of_four_is_refused():
    def dataset(count):
        labels = ("rare",) * count + ("common",) * 50
        return data.Dataset(tuple(f"text {n}" for n in range(len(labels))), labels)

    splits = data.split_dataset(dataset(5))
    for part in (splits.train, splits.valid, splits.test):
        assert (part < 5).any()
    with pytest.raises(QkdError, match=r"label 'rare' has 4 texts, at least 5"):
        data.split_dataset(dataset(4))
    with pytest.raises(QkdError, match=r"label 'rare' has 7 texts.*leave none for training"):
        data.split_dataset(dataset(7), valid=0.45, test=0.5)


def test_one_class_or_impossible_fractions_are_refused():
    one = data.Dataset(tuple(TEXTS), ("cat",) * 20)
    with pytest.raises(QkdError, match=r"all 20 texts have the label 'cat'"):
        data.split_dataset(one)
    with pytest.raises(QkdError, match=r"leave some texts for training"):
        data.split_dataset(one, valid=0.5, test=0.5)


def test_unequal_lengths_are_refused():
    with pytest.raises(QkdError, match=r"2 texts but 1 labels"):
        data.Dataset(("a", "b"), ("x",))


def test_a_huge_field_is_read(tmp_path):
    limit = csv.field_size_limit()
    rows = [*ROWS, {"t": "x" * (limit + 10), "y": "cat"}]
    assert len(load(write(tmp_path / "f.csv", rows)).texts[-1]) == limit + 10
    assert csv.field_size_limit() == limit


def test_half_a_character_and_a_long_header(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b \\ud83d", "label": "y"}\n')
    with pytest.raises(QkdError, match=r"line 2, column 'text' holds half of a character"):
        data.load_dataset(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.csv").write_text(f"text,label,{'x' * 200_000}\na,b,c\nd,e,f\n")
    assert data.load_dataset(str(tmp_path / "t.csv")).texts == ("a", "d")


def hf(path, **parts):
    """Save a data set with splits; rows are (text, label)."""
    import datasets

    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=list(LABELS))})
    tables = {name: [{"t": text, "y": label} for text, label in rows] for name, rows in parts.items()}
    splits = {name: datasets.Dataset.from_list(table, features=features) for name, table in tables.items()}
    datasets.DatasetDict(splits).save_to_disk(path)
    return f"hf:{path}"


def rows_of(start, stop):
    return [(TEXTS[n % 20] + f" {n}", n % 2) for n in range(start, stop)]


def of(found, rows):
    return {found.texts[row] for row in rows}


def test_a_dataset_keeps_its_own_splits(tmp_path):
    parts = {"train": rows_of(0, 40), "validation": rows_of(40, 50), "test": rows_of(50, 70)}
    found = load(hf(tmp_path / "three", **parts))
    for seed in (0, 1):
        splits = data.split_dataset(found, valid=0.4, test=0.4, seed=seed)  # nothing is left to draw
        for rows, part in ((splits.train, "train"), (splits.valid, "validation"), (splits.test, "test")):
            assert of(found, rows) == {text for text, _ in parts[part]}
    assert found.own == ("valid", "test")


def test_validation_is_drawn_from_the_training_texts_where_there_is_none(tmp_path):
    found = load(hf(tmp_path / "two", train=rows_of(0, 160), test=rows_of(160, 240)))
    splits = data.split_dataset(found)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (136, 24, 80)
    assert of(found, splits.test) == {text for text, _ in rows_of(160, 240)}
    assert found.own == ("test",)
    assert of(found, data.split_dataset(found, seed=1).valid) != of(found, splits.valid)
    assert np.bincount(found.targets[splits.valid]).tolist() == [12, 12]


def test_what_is_tested_with_is_not_learned_from(tmp_path):
    again = [(text.upper(), label) for text, label in rows_of(40, 43)]  # equal but for case
    other = [(text, 1 - label) for text, label in rows_of(43, 45)]  # and even under another label
    parts = {"train": [*rows_of(0, 40), *again, *other], "test": rows_of(40, 60)}
    found = load(hf(tmp_path / "leak", **parts))
    splits = data.split_dataset(found)
    assert of(found, splits.test) == {text for text, _ in parts["test"]}
    assert of(found, [*splits.train, *splits.valid]) == {text for text, _ in rows_of(0, 40)}
    assert found.notes[1:] == (
        "dropped 5 texts that are in the validation or test split too (where they were kept): train 41, train 42, "
        "train 43, train 44, train 45",
    )


def test_secret_test_labels_leave_the_validation_split_for_the_test(tmp_path):
    secret = [(text, -1) for text, _ in rows_of(60, 80)]
    found = load(hf(tmp_path / "glue", train=rows_of(0, 40), validation=rows_of(40, 60), test=secret))
    assert of(found, data.split_dataset(found).test) == {text for text, _ in rows_of(40, 60)}
    assert found.own == ("test",)


def test_splits_that_say_nothing_are_pooled(tmp_path):
    found = load(hf(tmp_path / "plain", train=rows_of(0, 40)))
    assert found.own == () and len(data.split_dataset(found).test) == 8
    found = load(hf(tmp_path / "odd", easy=rows_of(0, 20), hard=rows_of(20, 40)))
    assert found.own == () and len(found.texts) == 40


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_of_test_texts(tmp_path, suffix):
    train = write(tmp_path / f"train.{suffix}", [{"t": text, "y": LABELS[label]} for text, label in rows_of(0, 40)])
    test = write(tmp_path / f"test.{suffix}", [{"t": text, "y": LABELS[label]} for text, label in rows_of(38, 60)])
    found = load(train, test=test)
    splits = data.split_dataset(found)
    assert of(found, splits.test) == {text for text, _ in rows_of(38, 60)}
    assert (len(splits.train), len(splits.valid)) == (32, 6)
    assert found.num_rows == 62


def test_given_test_texts_replace_a_test_split(tmp_path):
    source = hf(tmp_path / "two", train=rows_of(0, 40), test=rows_of(40, 60))
    test = write(tmp_path / "test.csv", [{"t": text, "y": LABELS[label]} for text, label in rows_of(60, 70)])
    found = load(source, test=test)
    assert of(found, data.split_dataset(found).test) == {text for text, _ in rows_of(60, 70)}
    assert found.notes[1] == f"ignored 20 texts of the source's test split, which {test} replaces"
    assert len(found.texts) == 50


def test_a_limit_leaves_every_split_its_share(tmp_path):
    found = load(hf(tmp_path / "two", train=rows_of(0, 160), test=rows_of(160, 240)), limit=60)
    splits = data.split_dataset(found)
    assert (len(splits.train) + len(splits.valid), len(splits.test)) == (40, 20)


def test_labels_that_only_the_test_has_are_refused(tmp_path):
    train = write(tmp_path / "train.csv", [{"t": f"{text} b", "y": text[:3]} for text in TEXTS])
    test = write(tmp_path / "test.csv", [*ROWS, {"t": "moo", "y": "cow"}])
    with pytest.raises(QkdError, match="label 'cow' has 0 texts, at least 5 are needed for training and validation"):
        data.split_dataset(load(train, test=test))


def test_random_tables_are_read_as_they_were_written(tmp_path):
    refused, warned = check_tables(tmp_path, range(300))
    assert refused < 60 and warned < 4


def test_stray_quotation_marks_in_a_tsv_swallow_no_rows(tmp_path):
    rows = [f"item {n} is {n} inches" for n in range(40)]
    rows[3], rows[20], rows[31] = '"tall" one', '"opened only', 'closed only"'
    (tmp_path / "f.tsv").write_text("t\ty\n" + "".join(f"{text}\t{LABELS[n % 2]}\n" for n, text in enumerate(rows)))
    found = load(tmp_path / "f.tsv")
    assert found.texts == tuple(rows)


def test_a_quoted_tsv_is_unquoted(tmp_path):
    rows = ['he said "no"', "tab\there", "two\nlines", "plain", *TEXTS]
    with (tmp_path / "f.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([["t", "y"], *([text, "cat"] for text in rows)])
    assert load(tmp_path / "f.tsv").texts == tuple(rows)


def test_a_csv_whose_quotation_mark_is_not_closed_is_refused(tmp_path):
    lines = [f"text {n},cat" for n in range(60)]
    lines[10], lines[30], lines[50] = '"text 10,cat', "no comma", 'text 50",cat'
    (tmp_path / "f.csv").write_text("t,y\n" + "\n".join(lines) + "\n")
    with pytest.raises(QkdError, match=r"contain 40 lines that look like rows .the first from line 12."):
        load(tmp_path / "f.csv")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_labels_lose_blanks_and_are_composed(tmp_path, suffix):
    spellings = ("dog", " dog", "dog\u00a0", "caf\u00e9", "cafe\u0301", "caf\u00e9\t")
    rows = [{"t": text, "y": spellings[n % 6]} for n, text in enumerate(TEXTS)]
    found = load(write(tmp_path / f"f.{suffix}", rows))
    assert found.classes == ("caf\u00e9", "dog")
    assert any(note.startswith("cleaned blanks and Unicode composition in 13 labels") for note in found.notes)


def test_labels_that_differ_in_case_are_named(tmp_path):
    rows = [{"t": text, "y": ("Dog", "dog", "cat")[n % 3]} for n, text in enumerate(TEXTS)]
    found = load(write(tmp_path / "f.csv", rows))
    assert found.classes == ("Dog", "cat", "dog")
    assert any("'Dog', 'dog' differ in case only" in note for note in found.notes)


def test_labels_that_look_the_same_are_one_class_or_named(tmp_path):
    hidden = ("dog", "dog\u200b", "\ufeffdog", "\u2060dog\x00", "cat", "c\u00adat", "\uff43at")
    rows = [{"t": text, "y": hidden[n % 7]} for n, text in enumerate(TEXTS)]
    found = load(write(tmp_path / "f.jsonl", rows))
    assert found.classes == ("cat", "c\u00adat", "dog", "\uff43at")
    assert any("look alike" in note and "'cat', 'c\\xadat', '\uff43at'" in note for note in found.notes)
    found = load(
        write(tmp_path / "f.csv", [{"t": text, "y": ("1", "1.0", "2")[n % 3]} for n, text in enumerate(TEXTS)])
    )
    assert any("'1', '1.0' look alike or mean the same number" in note for note in found.notes)
    flags = [f"\U0001f3f4\U000e0067\U000e0062{tag}\U000e007f" for tag in ("\U000e0065", "\U000e0073")]
    found = load(write(tmp_path / "f.csv", [{"t": text, "y": flags[n % 2]} for n, text in enumerate(TEXTS)]))
    assert found.classes == tuple(flags)


@pytest.mark.parametrize("kind", ["csv", "hf"])
def test_rows_inside_a_quoted_text_are_counted_by_their_labels(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    lines = [f"{LABELS[n % 2]},text {n}" for n in range(12)]
    lines[2], lines[6] = 'cat,"text 2, open', 'cat,text 6, closed"'
    (tmp_path / "plain").mkdir()
    path = tmp_path / "plain" / "train.csv"
    path.write_text("y,t\n" + "\n".join(lines) + "\n")
    found = load(path if kind == "csv" else f"hf:{path.parent}")
    assert any("contain 3 lines that look like rows (the first from line 5)" in note for note in found.notes)
    path.write_text("y,t\n" + "\n".join(lines[:2] * 5) + "\ncat,text,more,most\n")
    with pytest.raises(QkdError, match=r"line 12 has 4 fields"):
        load(path if kind == "csv" else f"hf:{path.parent}")


def test_random_marks_end_in_a_table_or_a_sentence(tmp_path):
    marks = ['"', '"', "\t", "\t", "\n", "\n", "\r", "a", "cat", "dog", " "]
    for seed in range(100):
        rng = random.Random(seed)
        (tmp_path / "f.tsv").write_text("t\ty\n" + "".join(rng.choices(marks, k=40)), newline="")
        with contextlib.suppress(QkdError):
            load(tmp_path / "f.tsv")


def test_lines_of_old_files_and_files_of_two_bytes_a_letter(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"one\rtwo\rthree\r")
    assert data.load_texts(path) == ["one", "two", "three"]
    path.write_bytes("one\ntwo\n".encode("utf-16-le"))
    with pytest.raises(QkdError, match="UTF-16 or binary"):
        data.load_texts(path)


def test_a_parquet_column_with_a_dot_and_a_class_without_a_name(tmp_path):
    import datasets
    import pyarrow
    import pyarrow.parquet

    table = {"t": TEXTS, "y": [{"b": "wrong"}] * 20, "y.b": [LABELS[n % 2] for n in range(20)]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "f.parquet")
    assert data.load_dataset(str(tmp_path / "f.parquet"), "t", "y.b").labels == tuple(table["y.b"])
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=list(LABELS))})
    numbers = pyarrow.table({"t": TEXTS, "y": pyarrow.array([0, 1, 7, 1] * 5)}).cast(features.arrow_schema)
    info = datasets.DatasetInfo(features=features)
    datasets.Dataset(datasets.table.InMemoryTable(numbers), info=info).save_to_disk(tmp_path / "saved")
    with pytest.raises(QkdError, match="row 3, column 'y' holds class 7"):
        load(f"hf:{tmp_path / 'saved'}")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_hf_folder_keeps_labels_that_other_readers_take_for_missing(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "plain").mkdir()
    names = ("NA", "None", "null", "01")
    rows = [{"t": "NA" if n == 7 else text, "y": names[n % 4]} for n, text in enumerate(TEXTS)]
    write(tmp_path / "plain" / f"train.{suffix}", rows)
    found = load(f"hf:{tmp_path / 'plain'}")
    assert found.texts == tuple(row["t"] for row in rows) and found.labels == tuple(row["y"] for row in rows)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_and_bytes_are_limited_and_a_user_can_raise_the_limits(tmp_path, monkeypatch, suffix):
    short = write(tmp_path / f"short.{suffix}", [{"t": f"{n} a", "y": "cat"} for n in range(50)])
    long = write(tmp_path / f"long.{suffix}", [{"t": f"{n} " + "x" * 2000, "y": "cat"} for n in range(50)])
    monkeypatch.setenv("QKD_LIMITS", "0.000009001")
    with pytest.raises(QkdError, match=r"rows are more than the 45 .*QKD_LIMITS"):
        load(short)
    monkeypatch.setenv("QKD_LIMITS", "0.0003")
    with pytest.raises(QkdError, match=r"bytes are more than the 80,530 .*QKD_LIMITS"):
        load(long)
    monkeypatch.setenv("QKD_LIMITS", "0.001")
    assert len(load(long).texts) == len(load(short).texts) == 50


def test_a_small_parquet_of_huge_content_takes_little_memory(tmp_path):
    import pyarrow
    import pyarrow.parquet as parquet

    path, cells = tmp_path / "f.parquet", pyarrow.DictionaryArray.from_arrays([0] * 3000, ["x" * 1_000_000])
    parquet.write_table(pyarrow.table({"t": cells, "y": ["a", "b"] * 1500}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    script = (
        "import re, sys\nfrom pathlib import Path\nfrom qkd.data import load\n"
        "try: load(sys.argv[1], 't', 'y')\nexcept Exception as error: print(error)\n"
        # not ru_maxrss, which a process inherits from its parent
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    message, megabytes = done.stdout.splitlines()
    assert "bytes are more than the 268,435,456" in message and int(megabytes) < 800


def test_a_parquet_column_of_lists_is_refused_before_it_is_read(tmp_path):
    path = write(tmp_path / "f.parquet", [{"t": [text], "y": "cat"} for text in TEXTS])
    with pytest.raises(QkdError, match=r"column 't' holds list<.*>, not texts"):
        load(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "txt"])
def test_pipes_and_devices_are_no_files(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(QkdError, match="not a regular file"):
            data.load_texts(tmp_path / f"{name}.{suffix}", "t")


def test_mostly_unusable_rows_stop_the_reading_unless_the_user_allows_them(tmp_path, monkeypatch):
    path = write(tmp_path / "f.csv", [*ROWS, *({"t": f"text {n}", "y": ""} for n in range(30))])
    with pytest.raises(QkdError, match=r"30 of 50 texts have no label .*is label_column the right one"):
        load(path)
    monkeypatch.setenv("QKD_LIMITS", "2")
    assert load(path).texts == tuple(TEXTS)


def test_a_json_object_with_a_key_twice_is_refused(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"t": "a", "t": "b", "y": "c"}\n')
    with pytest.raises(QkdError, match=r"line 1 is not JSON .the key 't' occurs twice."):
        load(tmp_path / "f.jsonl")
