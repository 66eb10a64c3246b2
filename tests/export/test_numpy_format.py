"""The numpy export classifies without qkd exactly as the student, and refuses what it cannot read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qkd.circuits import library
from qkd.core.errors import ConfigError, FolderError, ModelError
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.registry import make_encoder
from qkd.encoders.static import StaticEncoder
from qkd.export import numpy_format, registry
from qkd.export.server import load_model
from qkd.student.cores import make_control
from tests.export.conftest import CLASSES, CPU, make_student, read, wordpiece_table


def run_loader(folder, *arguments, code=None):
    """Run the exported loader as a user does, in a process that cannot import qkd, torch or Qiskit."""
    block = "import sys; sys.modules.update(dict.fromkeys(('qkd', 'torch', 'qiskit', 'sklearn', 'safetensors')));"
    main = "import runpy; sys.argv[0] = 'classify.py'; runpy.run_path('classify.py', run_name='__main__')"
    code = code or f"{block} {main}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_hashing_student_is_exported_and_compared(hashing_student, some_texts, tmp_path):
    done = hashing_student.export(tmp_path / "out", texts=some_texts)
    assert done.texts == len(some_texts) + len(registry.HARD_TEXTS)
    assert done.difference < 1e-6 and done.agreement == 1 and done.bytes < 100_000
    assert read(tmp_path / "out" / "model.json")["classes"] == list(CLASSES)
    lines = (tmp_path / "out" / "classify.py").read_text("utf-8").splitlines()
    assert len(lines) < 200
    shown = run_loader(tmp_path / "out", some_texts[0], "").stdout.splitlines()
    label, probability, text = shown[0].split("\t")
    exact = hashing_student.predict_proba([some_texts[0]])[0]
    assert (label, text) == (CLASSES[exact.argmax()], " ".join(some_texts[0].split())) and abs(
        float(probability) - exact.max()
    ) < 6e-4


def test_a_static_student_tokenizes_as_the_student_does(static_student, some_texts, tmp_path):
    done = static_student.export(tmp_path / "out", texts=some_texts)
    assert done.difference < 5e-6
    assert len((tmp_path / "out" / "classify.py").read_text("utf-8").splitlines()) < 200


def test_int8_tables_are_smaller_and_nearly_equal(static_student, some_texts, tmp_path):
    exact, small = (static_student.export(tmp_path / str(int8), texts=some_texts, int8=int8) for int8 in (False, True))
    tables = [(tmp_path / str(int8) / "model.safetensors").stat().st_size for int8 in (False, True)]
    assert tables[1] < tables[0] and 0 < small.difference < 0.02 and exact.difference < 5e-6


@pytest.mark.parametrize("core", ["linear", "mlp", "product"])
def test_controls_are_exported(core, some_texts, tmp_path):
    circuit = library.load_circuit("hardware", qubits=4, layers=1)
    student = make_student(make_encoder("hashing:32"), core=make_control(core, circuit, 3, CPU))
    assert student.export(tmp_path / "out", texts=some_texts).difference < 5e-6


def test_reuploading_students_run_a_statevector(some_texts, tmp_path):
    student = make_student(make_encoder("hashing:32"), library.load_circuit("reupload", qubits=9, layers=3))
    assert student.export(tmp_path / "out", texts=some_texts[:5]).difference < 5e-6
    assert read(tmp_path / "out" / "model.json")["core"]["kind"] == "gates"
    assert len((tmp_path / "out" / "classify.py").read_text("utf-8").splitlines()) < 200


@pytest.mark.parametrize("core", ["contraction", "gates", "mlp", "linear"])
@pytest.mark.parametrize("encoder", [["hashing"], ["static"], ["static", "hashing"]])
def test_every_loader_is_short(core, encoder):
    source = numpy_format.loader_source({core, *encoder})
    compile(source, "classify.py", "exec")
    assert len(source.splitlines()) < 200 and "# begin" not in source and "\n\n\n\n" not in source


def test_joined_encoders(some_texts, tmp_path):
    joined = JoinedEncoder([make_encoder("hashing:33"), StaticEncoder("static:tiny", 8, wordpiece_table())])
    assert make_student(joined).export(tmp_path / "out", texts=some_texts).difference < 5e-6


def test_other_encoders_are_refused_with_the_alternative(tmp_path):
    class Transformer:
        name, dim, arrays, num_parameters, key, encode, report = "minilm", 8, {}, 0, {}, None, None

    with pytest.raises(ModelError, match=r"'minilm' runs a transformer.*format onnx"):
        make_student(Transformer()).export(tmp_path / "out", "numpy")
    arrays = wordpiece_table()
    tokenizer = json.loads(arrays["tokenizer"].tobytes())
    mark = {"id": 3, "content": "[SEP]", "special": False, "normalized": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    for change in ({"pre_tokenizer": {"type": "Whitespace"}}, {"added_tokens": [mark | flags]}):
        arrays["tokenizer"] = np.frombuffer(json.dumps(tokenizer | change).encode(), np.uint8)
        student = make_student(StaticEncoder("static:other", 8, arrays))
        with pytest.raises(ModelError, match="not BERT's WordPiece without added tokens"):
            student.export(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_export_that_differs_is_not_written(hashing_student, tmp_path, monkeypatch):
    write = numpy_format.write

    def wrong(request, folder):
        write(request, folder)
        text = (folder / "classify.py").read_text("utf-8")
        (folder / "classify.py").write_text(text.replace("np.pi * np.tanh(z)", "3.13 * np.tanh(z)"), "utf-8")

    monkeypatch.setattr(numpy_format, "write", wrong)
    hashing_student.export(tmp_path / "kept", check=False)
    with pytest.raises(ModelError, match=r"the export differs from the student: probabilities by up to"):
        hashing_student.export(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_damaged_or_foreign_export_is_refused(hashing_student, tmp_path):
    changes = {"format": "qkd-numpy-99", "core": {"kind": "predict"}, "classes": ["yes", "no"], "encoder": ["hashing"]}
    for damage in ("weights", *changes):
        folder = hashing_student.export(tmp_path / damage, check=False).folder
        model = read(folder / "model.json")
        if damage == "weights":
            data = bytearray((folder / "model.safetensors").read_bytes())
            data[-5] ^= 1
            (folder / "model.safetensors").write_bytes(bytes(data))
        else:
            (folder / "model.json").write_text(json.dumps({**model, damage: changes[damage]}))
        done = run_loader(folder, "a text")
        assert done.returncode and "is no readable export" in done.stderr and "export the student again" in done.stderr
        with pytest.raises(FolderError, match="was changed after the export"):
            load_model(folder)
        manifest = read(folder / "export.json")  # as another version would have written it
        manifest["sha256"] = {}
        (folder / "export.json").write_text(json.dumps(manifest))
        with pytest.raises(FolderError, match="is no readable export"):
            load_model(folder)


def test_folders_with_other_files_are_kept(hashing_student, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FolderError, match="holds other files"):
        hashing_student.export(tmp_path)
    hashing_student.export(tmp_path / "out", check=False)
    hashing_student.export(tmp_path / "out", check=False)  # an earlier export is replaced
    with pytest.raises(ConfigError, match="did you mean 'numpy'"):
        hashing_student.export(tmp_path / "out", "nunpy")


def test_long_texts_and_many_texts(hashing_student, tmp_path):
    folder = hashing_student.export(tmp_path / "out", check=False).folder
    code = (
        "import sys; sys.modules['qkd'] = None; from classify import predict_proba as p; import numpy as np\n"
        "texts = ['a' * 100_000, 'b c ' * 250_000, '量' * 300_000, ''] + ['word %d' % i for i in range(2000)]\n"
        "rows = p(texts); assert rows.shape == (2004, 3) and np.allclose(rows[-1], p(texts[-1:])[0], atol=1e-12)\n"
        "assert p([]).shape == (0, 3)\n"
        "try: p('one string')\nexcept TypeError as error: print(error)"
    )
    assert run_loader(folder, code=code).stdout.strip() == "give a list of texts, not one string"


def test_an_empty_environment_with_numpy_alone_classifies(hashing_student, static_student, some_texts, tmp_path):
    """A new environment gets numpy's own files and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    source = Path(np.__file__).parent
    for folder in (source, source.with_name("numpy.libs")):
        if folder.is_dir():
            (packages / folder.name).symlink_to(folder)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name, student in (("hashing", hashing_student), ("static", static_student)):
        folder = student.export(tmp_path / name, check=False).folder
        command = [str(python), str(folder / "classify.py"), *some_texts[:3]]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        labels = [line.split("\t")[0] for line in done.stdout.splitlines()]
        assert labels == student.predict(some_texts[:3])
        code = (
            "import sys, numpy; sys.path.insert(0, sys.argv[1]); import classify; classify.load(); print(*sys.modules)"
        )
        loaded = subprocess.run([str(python), "-c", code, str(folder)], env=environment, capture_output=True, text=True)
        assert not {"qkd", "torch", "qiskit", "scipy", "sklearn", "safetensors"} & set(loaded.stdout.split())
        assert "classify" in loaded.stdout.split()
