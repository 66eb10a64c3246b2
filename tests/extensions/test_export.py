"""A toy export format is one module and one line of the registry, and its answers are checked like any other's."""

import pytest

from qkd.circuits import library
from qkd.core.errors import ModelError
from qkd.encoders.registry import make_encoder
from qkd.export import registry
from qkd.student.cores import make_control
from tests.export.conftest import CPU, make_student


def test_a_new_format_is_one_module_and_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(registry.FORMATS, "toy", "tests.extensions.toy_export")
    circuit = library.load_circuit("hardware", qubits=3, layers=1)
    linear = make_student(make_encoder("hashing:16"), core=make_control("linear", circuit, 3, CPU))
    done = linear.export(tmp_path / "out", "toy", texts=["a text"])
    assert done.difference < 1e-5 and (done.folder / "toy.json").is_file()
    with pytest.raises(ModelError, match="the export differs from the student"):  # it knows no circuits
        make_student(make_encoder("hashing:16"), circuit).export(tmp_path / "other", "toy")
