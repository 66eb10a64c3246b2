"""The configuration: file, options and written-out defaults say the same thing."""

import tomllib

import pytest

from qkd.core.config import Config, fields, make_config, read_config, to_toml
from qkd.core.errors import QkdError


def test_written_defaults_read_back_to_the_same_configuration(tmp_path):
    path = tmp_path / "config.toml"
    asked = make_config({"data": {"data": "a.csv", "limit": 50}, "train": {"lr": 0.1}, "run": {"name": "x"}})
    path.write_text(to_toml(asked))
    assert read_config(path) == asked


def test_every_default_is_written_out_with_its_sentence():
    text = to_toml(Config())
    written = tomllib.loads(text)
    for section, key, field in fields():
        assert f"# {field.description}" in text
        assert key in written[section] or f"# {key} =" in text


def test_options_are_unique_and_sentences_are_sentences():
    options = [key for _, key, _ in fields()]
    assert len(options) == len(set(options))
    for section, key, field in fields():
        assert field.description and field.description.endswith("."), (section, key)


def test_options_override_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[train]\nepochs = 3\nlr = 0.5\n[data]\ndata = "a.csv"\n')
    asked = read_config(path, {("train", "epochs"): 9, ("engine", "precision"): "double"})
    assert (asked.train.epochs, asked.train.lr) == (9, 0.5)
    assert (asked.data.data, asked.engine.precision) == ("a.csv", "double")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nepoch = 3\n", ["no key 'epoch' in [train]", "did you mean 'epochs'"]),
        ("[trane]\nepochs = 3\n", ["no key 'trane'", "did you mean 'train'"]),
        ("[train]\nepochs = 0\n", ["train.epochs = 0", "greater than or equal to 1"]),
        ("[data]\nvalid = 1.5\n", ["data.valid = 1.5", "less than 1"]),
        ("[train\n", ["not a TOML file"]),
        ("train = 3\n", ["train = 3"]),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(QkdError) as caught:
        read_config(path)
    for word in ["bad.toml", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(QkdError, match=r"nowhere\.toml: no such file"):
        read_config(tmp_path / "nowhere.toml")
