"""The embedded data: balanced, masked, the same every time, and nothing is imported for it."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from qkd.data import corpora
from qkd.data import loading as data


@pytest.fixture(scope="module")
def dataset():
    return data.load_dataset("docstrings")


def test_it_is_balanced_and_has_no_duplicates(dataset):
    assert Counter(dataset.labels) == dict.fromkeys(corpora.LIBRARIES, corpora.SENTENCES_PER_LIBRARY)
    assert len({data.normalize_text(text) for text in dataset.texts}) == len(dataset.texts)
    assert min(len(text.split()) for text in dataset.texts) >= 4


def test_no_sentence_names_its_library(dataset):
    names = re.compile("|".join(corpora.LIBRARIES), re.IGNORECASE)
    assert [text for text in dataset.texts if names.search(text)] == []


def test_it_is_the_same_in_another_process_and_imports_none_of_the_libraries(dataset):
    script = (
        "import sys; from qkd.data import corpora\n"
        "table = corpora.read_docstrings(); print(repr(table.columns['text'][::100]))\n"
        "assert not set(corpora.LIBRARIES) & set(sys.modules), 'imported'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(list(dataset.texts[::100]))


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the mean of it.\n\nMore.", "Return the mean of it."),
        ("Return the one thing. And another one.", "Return the one thing."),
        ("Draw a\n  :class:`~matplotlib.figure.Figure` here.", "Draw a Figure here."),
        ("Build a ``torch.nn.Module`` from scratch.", "Build a library from scratch."),
        ("Check the PyTorch build for it.", "Check the library build for it."),
        ("See `torch.add` for :func:`add <pandas.add>` too.", "See library for add too."),
        ("Use e.g. the first row.", "Use e.g. the first row."),
        ("Too short.", None),
        ("", None),
    ],
)
def test_a_first_sentence_loses_markup_and_names(docstring, sentence):
    assert corpora.first_sentence(docstring) == sentence
