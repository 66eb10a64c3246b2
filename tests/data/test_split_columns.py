"""Splits by a column: names of splits, groups that stay together, and times."""

import numpy as np
import pandas as pd
import pytest

from qkd import QkdError
from qkd.core.config import Config, DataSpec
from qkd.core.specs import validated
from qkd.data import loading as data


def table(path, rows=300, groups=40, seed=0):
    """Write texts of three classes by authors who have favorite classes, at times in random order."""
    rng = np.random.default_rng(seed)
    authors = rng.integers(0, groups, rows)
    frame = pd.DataFrame(
        {
            "text": [f"text {number} of the table" for number in range(rows)],
            "label": [f"c{(author + rng.integers(0, 2)) % 3}" for author in authors],
            "author": [f"author {author}" for author in authors],
            "day": pd.date_range("2024-01-01", periods=rows, freq="7h")[rng.permutation(rows)].strftime(
                "%Y-%m-%dT%H:%M"
            ),
        }
    )
    frame.to_csv(path, index=False)
    return frame


def split(path, kind, column, **options):
    dataset = data.load_dataset(str(path), split_by=(kind, column), **options)
    return dataset, data.split_dataset(dataset)


@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_in_two_splits_and_classes_keep_their_shares(tmp_path, seed):
    frame = table(tmp_path / "t.csv", seed=seed)
    dataset, splits = split(tmp_path / "t.csv", "group", "author")
    parts = [set(frame["author"][list(rows)]) for rows in (splits.train, splits.valid, splits.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert sorted(np.concatenate([splits.train, splits.valid, splits.test])) == list(range(300))
    for number in range(3):
        for rows, share in ((splits.test, 0.2), (splits.valid, 0.15)):
            assert (dataset.targets[rows] == number).sum() / (dataset.targets == number).sum() == pytest.approx(
                share, abs=0.08
            )
    shuffled = frame.sample(frac=1, random_state=1)
    shuffled.to_csv(tmp_path / "other.csv", index=False)
    _, again = split(tmp_path / "other.csv", "group", "author")
    assert set(shuffled["author"].iloc[again.test]) == parts[2]  # the order of the rows does not matter


def test_the_newest_texts_are_the_test(tmp_path):
    frame = table(tmp_path / "t.csv")
    _, splits = split(tmp_path / "t.csv", "time", "day")
    days = frame["day"].to_numpy()
    assert len(splits.test) == 60 and len(splits.valid) == 45
    assert days[splits.train].max() < days[splits.valid].min() and days[splits.valid].max() < days[splits.test].min()
    frame.assign(day=range(300)).to_csv(tmp_path / "n.csv", index=False)
    dataset, splits = split(tmp_path / "n.csv", "time", "day", limit=200)
    assert min(int(dataset.split_keys[row]) for row in splits.test) > max(
        int(dataset.split_keys[r]) for r in splits.valid
    )


def test_a_column_names_the_splits(tmp_path):
    frame = table(tmp_path / "t.csv")
    names = np.array(["train", "dev", "Test"])[np.arange(300) % 3]
    frame.assign(part=names).to_csv(tmp_path / "t.csv", index=False)
    _, splits = split(tmp_path / "t.csv", "split", "part")
    assert [list(rows % 3) for rows in (splits.train, splits.valid, splits.test)] == [[0] * 100, [1] * 100, [2] * 100]


@pytest.mark.parametrize(
    ("kind", "column", "values", "sentence"),
    [
        ("time", "day", "yesterday", "'yesterday' is neither a number nor a date"),
        ("time", "day", "2024-05-01", "label 'c0' has 0 texts before the validation and test texts"),
        (
            "group",
            "author",
            "one",
            "no group of the valid split has the label|no group of the test split has the label",
        ),
        ("group", "author", "", "line 2 has no value in the column 'author'"),
        ("split", "author", "last", "'last' in 'author' is no split"),
    ],
)
def test_a_column_that_cannot_split_is_told(tmp_path, kind, column, values, sentence):
    table(tmp_path / "t.csv").assign(**{column: values}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(QkdError, match=sentence):
        split(tmp_path / "t.csv", kind, column)


def test_a_group_in_given_test_texts_and_in_the_others_is_told(tmp_path):
    frame = table(tmp_path / "t.csv")
    frame.assign(text=[f"another {number}" for number in range(300)]).to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(QkdError, match="groups are in the training texts and in the given test"):
        split(tmp_path / "t.csv", "group", "author", test=tmp_path / "test.csv")
    with pytest.raises(QkdError, match="chooses the test texts"):
        split(tmp_path / "t.csv", "time", "day", test=tmp_path / "test.csv")


def test_one_column_alone_decides():
    assert validated(Config, {"data": {"group_column": "a"}}).data.split_by == ("group", "a")
    with pytest.raises(QkdError, match="exclude each other"):
        validated(DataSpec, {"group_column": "a", "time_column": "b"})
    with pytest.raises(QkdError, match="only a table file"):
        data.load_dataset("docstrings", split_by=("group", "a"))
