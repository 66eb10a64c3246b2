"""The ONNX export passes the checker and answers in onnxruntime exactly as the student."""

import json
import subprocess
import sys

import numpy as np
import pytest

from qkd.circuits import library
from qkd.core.errors import ConfigError, ModelError
from qkd.encoders.registry import make_encoder
from qkd.export.server import load_model
from qkd.student.cores import make_control
from tests.export.conftest import CLASSES, CPU, make_student
from tests.export.test_classical import own_circuit

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def session(folder):
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def test_a_static_student_has_its_encoder_inside(static_student, some_texts, tmp_path):
    done = static_student.export(tmp_path / "out", "onnx", texts=some_texts)
    assert done.difference < 1e-5 and done.agreement == 1
    assert {path.name for path in done.folder.iterdir()} == {
        "model.onnx",
        "tokenizer.json",
        "classify.py",
        "export.json",
    }
    model = onnx.load(done.folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}  # standard operators alone
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == list(CLASSES) and metadata["encoder"] == "static:tiny"


def test_the_graph_gives_labels_and_expectation_values(static_student, tmp_path):
    folder = static_student.export(tmp_path / "out", "onnx").folder
    text = "the quantum circuit"
    ids = np.array([static_student.encoder.tokens([text])[0]])
    names = ["probabilities", "label", "expectation_values", "classes"]
    rows, label, values, classes = session(folder).run(names, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    embedding = static_student.encoder.encode([text])
    assert np.allclose(rows, static_student.predict_proba([text]), atol=1e-5)
    assert np.allclose(values, static_student.classical().values(embedding), atol=1e-5)
    assert list(label) == static_student.predict([text]) and tuple(classes) == CLASSES


def test_its_loader_is_a_program(static_student, some_texts, tmp_path):
    folder = static_student.export(tmp_path / "out", "onnx", check=False).folder
    command = [sys.executable, str(folder / "classify.py"), *some_texts[:3]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == static_student.predict(some_texts[:3])
    assert subprocess.run(command[:2], capture_output=True, text=True).stderr.startswith("usage: ")


def test_int8_tables_are_integers_and_nearly_equal(static_student, some_texts, tmp_path):
    done = static_student.export(tmp_path / "out", "onnx", texts=some_texts, int8=True)
    types = {constant.data_type for constant in onnx.load(done.folder / "model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in types and onnx.TensorProto.FLOAT16 not in types
    assert done.agreement >= 0.98 and 0 < done.difference < 0.02


@pytest.mark.parametrize(
    ("name", "qubits", "layers"), [("hardware", 6, 2), ("reupload", 3, 2), ("reupload", 9, 3), ("own", 2, 1)]
)
def test_embeddings_may_enter_instead(name, qubits, layers, some_texts, tmp_path):
    circuit = own_circuit(lambda y: y) if name == "own" else library.load_circuit(name, qubits=qubits, layers=layers)
    student = make_student(make_encoder("hashing:32"), circuit)
    done = student.export(tmp_path / "out", "onnx", texts=some_texts[:8], inputs="embeddings")
    assert done.difference < 1e-5 and not (done.folder / "tokenizer.json").exists()


@pytest.mark.parametrize("core", ["linear", "mlp", "fourier", "product"])
def test_controls(core, some_texts, tmp_path):
    circuit = library.load_circuit("hardware", qubits=4, layers=1)
    student = make_student(make_encoder("hashing:32"), core=make_control(core, circuit, 3, CPU))
    assert student.export(tmp_path / "out", "onnx", texts=some_texts, inputs="embeddings").difference < 1e-5


def test_hashing_cannot_be_in_the_graph(hashing_student, tmp_path):
    with pytest.raises(ModelError, match="format numpy for hashing"):
        hashing_student.export(tmp_path / "out", "onnx")
    with pytest.raises(ConfigError, match="inputs is texts or embeddings, not 'tokens'"):
        hashing_student.export(tmp_path / "out", "onnx", inputs="tokens")


@pytest.mark.models
@pytest.mark.parametrize("name", ["minilm?layers=1,2", "minilm?layers=1&pooling=max&tokens=16"])
def test_a_transformer_is_in_the_graph(name, some_texts, tmp_path):
    student = make_student(make_encoder(name))
    done = student.export(tmp_path / "out", texts=some_texts[:20])  # a transformer's default format
    assert done.format == "onnx"
    assert done.difference < 1e-5 and done.agreement == 1
    if "max" not in name:
        small = student.export(tmp_path / "int8", "onnx", texts=some_texts[:20], int8=True)
        assert small.bytes < 0.4 * done.bytes and small.agreement > 0.9 and small.difference < 0.1
        operators = [(node.domain, node.op_type) for node in onnx.load(small.folder / "model.onnx").graph.node]
        # Two layers of four dense maps, each for the first token and for the others.
        assert {domain for domain, _ in operators} == {""} and operators.count(("", "MatMulInteger")) == 16


@pytest.mark.models
def test_padding_does_not_change_a_text(some_texts, tmp_path):
    student = make_student(make_encoder("minilm?layers=1,2"))
    model = load_model(student.export(tmp_path / "out", "onnx", check=False).folder)
    texts = [*some_texts[:5], "word " * 400, "", "a"]
    alone = [model.predict_proba([text])[0] for text in texts]
    assert np.allclose(model.predict_proba(texts), alone, atol=1e-6) and model.predict_proba([]).shape == (0, 3)
