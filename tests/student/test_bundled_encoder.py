"""Bundles that contain their encoder: they load offline, in an empty cache, without the original model."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import qkd
from qkd import QkdError
from tests.models.conftest import save_model
from tests.student.test_hub import hub, in_process  # noqa: F401

TEXTS = ["Add a gate to the circuit.", "Plot a line with markers."]


@pytest.fixture(scope="module")
def bundle(corpus, tmp_path_factory):
    """A bundle with its encoder, whose model and run are gone, and the student's probabilities."""
    folder = tmp_path_factory.mktemp("bundled")
    sentences = (corpus / "texts.csv").read_text().splitlines()
    models = [str(save_model(folder / name, seed, sentences)) for seed, name in enumerate("ab")]
    run = qkd.distill(
        data=corpus / "texts.csv",
        **{"text_column": "t", "label_column": "y", "limit": 80, "teacher": f"logits:{corpus / 'logits.csv'}"},
        encoder=f"{models[0]}?layers=1,2+{models[1]}?layer=1+hashing:8",
        **{"epochs": 1, "qubits": 3, "layers": 1, "diagnose": False, "controls": False},
        **{"runs": folder / "runs", "bundle_encoder": True},
    )
    expected = run.student.predict_proba(TEXTS)
    shutil.move(run.folder.student, folder / "bundle")
    for path in (*models, run.folder.path):
        shutil.rmtree(path)
    return folder / "bundle", expected


def test_it_needs_neither_the_model_nor_a_cache(bundle, tmp_path):
    folder, expected = bundle
    script = f"import qkd; print(qkd.Student.load({str(folder)!r}).predict_proba({TEXTS!r}).tolist())"
    environment = {"QKD_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(eval(done.stdout), expected, atol=1e-5)


def test_it_keeps_its_encoder_when_it_is_saved_or_uploaded_again(bundle, tmp_path, hub, said):  # noqa: F811
    folder, expected = bundle
    student = qkd.Student.load(folder)
    for _ in range(2):  # the second one replaces the first
        student.save(tmp_path / "copy", TEXTS)
    assert sum(" MB" in line for line in said()) == 4
    assert oct((tmp_path / "copy" / "encoder" / "0" / "model.safetensors").stat().st_mode)[-3:] == "644"
    np.testing.assert_allclose(qkd.Student.load(tmp_path / "copy").predict_proba(TEXTS), expected, atol=1e-5)
    script = f"""
from qkd import Student
Student.load({str(folder)!r}).push_to_hub("lab/student", encoder=True)
print(Student.from_pretrained("lab/student").predict_proba({TEXTS!r}).tolist())
"""
    np.testing.assert_allclose(eval(in_process(hub, script)), expected, atol=1e-5)


def other_weights(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "damage, words",
    [
        (other_weights, "trained on embeddings"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
        (lambda folder: shutil.rmtree(folder), "missing"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "pytorch_model.bin"),
        (lambda folder: (folder / "modeling.py").write_text("raise SystemExit"), "modeling.py"),
    ],
)
def test_another_encoder_is_refused(bundle, tmp_path, damage, words):
    folder = shutil.copytree(bundle[0], tmp_path / "bundle")
    damage(folder / "encoder" / "1")
    with pytest.raises(QkdError, match=words):
        qkd.Student.load(folder)


def test_an_object_cannot_be_included(corpus, tmp_path):
    def embed(texts):
        return np.array([[len(text), text.count("e")] for text in texts])

    options = {"data": corpus / "texts.csv", "text_column": "t", "label_column": "y", "runs": tmp_path / "runs"}
    with pytest.raises(QkdError, match="Python object"):
        qkd.distill(encoder=embed, bundle_encoder=True, teacher=f"logits:{corpus / 'logits.csv'}", **options)
    assert not list((tmp_path / "runs").glob("*/checkpoint"))
