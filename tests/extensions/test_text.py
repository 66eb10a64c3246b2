"""A toy encoder and a toy teacher run through ``distill``; the teacher also as another package's entry point."""

import numpy as np
import pytest

from qkd import QkdError, api
from qkd.encoders import registry as encoders
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from qkd.teachers import registry as teachers
from qkd.teachers.registry import make_teacher
from tests.extensions import toy_teacher


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose metadata names the toy teacher."""
    info = tmp_path / "site" / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[qkd.teachers]\ncounts = tests.extensions.toy_teacher:make\nbroken = tests.extensions.no_such_module:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def test_a_new_encoder_is_one_module_and_one_line(monkeypatch):
    monkeypatch.setitem(encoders.KINDS, "lengths", "tests.extensions.toy_encoder")
    texts = ["a quantum circuit", "a b c d e"]
    joined = make_encoder("lengths:3+hashing:8")
    lengths = np.array([[1, 7, 7], [1, 1, 1]])
    expected = lengths / np.linalg.norm(lengths, axis=1, keepdims=True)
    np.testing.assert_allclose(joined.encode(texts)[:, :3], expected, rtol=1e-6)
    assert joined.name == "lengths:3+hashing:8" and embed_texts(joined, texts).shape == (2, 11)
    np.testing.assert_array_equal(embed_texts(make_encoder("lengths:3"), texts), joined.encode(texts)[:, :3])


def test_a_new_teacher_is_one_module_and_one_line_and_its_card_is_in_the_results(monkeypatch, corpus, tmp_path):
    monkeypatch.setitem(teachers.KINDS, "counts", "tests.extensions.toy_teacher")
    monkeypatch.setitem(encoders.KINDS, "lengths", "tests.extensions.toy_encoder")
    options = {"qubits": 2, "epochs": 1, "diagnose": False, "controls": False, "runs": str(tmp_path)}
    columns = {"text_column": "t", "label_column": "y"}
    run = api.distill(
        data=str(corpus / "texts.csv"), **columns, teacher="counts:0.5", encoder="lengths:4", name="toy", **options
    )
    assert run.metrics.teacher.smoothing == 0.5 and run.metrics.teacher.kind == "counts"


def test_another_package_brings_a_teacher(package):
    assert isinstance(make_teacher("counts:2"), toy_teacher.CountTeacher)
    with pytest.raises(QkdError, match=r"did you mean 'counts'"):
        make_teacher("count:2")
    with pytest.raises(QkdError, match=r"tests\.extensions\.no_such_module:make cannot be imported"):
        make_teacher("broken:2")
