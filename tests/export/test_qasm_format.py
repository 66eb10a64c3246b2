"""The qasm export: a program that Qiskit reads, and a description with which it gives the student's answers."""

import numpy as np
import pytest
from qiskit import qasm3
from qiskit.quantum_info import SparsePauliOp, Statevector

from qkd import QkdError
from qkd.circuits import library
from qkd.core.errors import ModelError
from qkd.encoders.registry import make_encoder
from qkd.student.cores import make_control
from tests.export.conftest import CLASSES, CPU, make_student, read
from tests.export.test_classical import own_circuit


@pytest.mark.parametrize("kind", ["hardware", "reupload", "own"])
def test_the_program_gives_the_students_probabilities(kind, some_texts, tmp_path):
    circuit = own_circuit(lambda y: 2 * y) if kind == "own" else library.load_circuit(kind, qubits=3, layers=2)
    student = make_student(make_encoder("hashing:16"), circuit)
    done = student.export(tmp_path / "out", "qasm", texts=some_texts[:10])
    assert done.difference < 1e-6 and done.texts == 10 + 11
    about = read(done.folder / "student.json")
    assert about["classes"] == list(CLASSES) and len(about["inputs"]) == len(circuit.inputs)
    assert "input float[64] x0" in (done.folder / "circuit.qasm").read_text("utf-8")


def test_the_isa_program_measures_the_same_on_the_devices_qubits(tmp_path):
    student = make_student(make_encoder("hashing:16"), library.load_circuit("hardware", qubits=3, layers=1))
    folder = student.export(tmp_path / "out", "qasm", device="fake_manila").folder
    about = read(folder / "student.json")
    isa = qasm3.loads((folder / "isa.qasm").read_text("utf-8"))
    assert about["isa"]["device"] == "fake_manila" and len(about["isa"]["physical_qubits"]) == 3
    assert set(isa.count_ops()) <= {"rz", "sx", "x", "cx"}
    values = student.model.values(student.encoder.encode(["a text"]))
    angles = dict(zip(about["inputs"], values[0], strict=False))
    state = Statevector(isa.assign_parameters({p: angles[p.name] for p in isa.parameters}))
    exact = student.classical().values(student.encoder.encode(["a text"]))[0]
    for text, value in zip(about["isa"]["observables"], exact, strict=True):
        qubit = int(text.removeprefix("Z"))
        measured = state.expectation_value(SparsePauliOp("Z"), [qubit]).real
        assert measured == pytest.approx(value, abs=1e-6)


def test_what_cannot_be_exported_is_refused(tmp_path):
    circuit = library.load_circuit("hardware", qubits=3, layers=1)
    linear = make_student(make_encoder("hashing:16"), core=make_control("linear", circuit, 3, CPU))
    with pytest.raises(QkdError, match="classical control"):
        linear.export(tmp_path / "out", "qasm")
    wide = make_student(make_encoder("hashing:16"), library.load_circuit("hardware", qubits=20, layers=1))
    with pytest.raises(ModelError, match="20 qubits are more than 14; export with check=False"):
        wide.export(tmp_path / "out", "qasm")
    program = wide.export(tmp_path / "out", "qasm", check=False).folder / "circuit.qasm"
    assert qasm3.loads(program.read_text("utf-8")).num_qubits == 20
    assert np.isfinite(read(tmp_path / "out" / "student.json")["head"]["bias"]).all()
