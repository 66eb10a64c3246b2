"""Every file that qkd reads back, changed in every way a disk or a stranger can: one sentence, and little memory."""

import copy
import json
import shutil
import tracemalloc

import pytest
import torch
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qkd import QkdError, Student
from qkd.circuits import library
from qkd.core import checkpoint
from qkd.core.config import EngineSpec
from qkd.core.errors import DataError, FolderError
from qkd.devices import snapshot
from qkd.encoders.registry import make_encoder
from qkd.hardware.ledger import Ledger
from qkd.simulation.factory import make_engine
from qkd.student.about import About
from qkd.student.cores import QuantumCore
from qkd.student.model import StudentModel
from qkd.student.trainer import Progress

WRONG = [None, -1, 10**12, 1.5, float("inf"), float("nan"), "x", "", [], {}, [[]], True]


def changed(value, path=()):
    """Yield a JSON value with each of its entries removed, and replaced by each wrong one."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in entries:
        without = copy.copy(value)
        del without[key]
        yield (*path, key), without
        for wrong in WRONG:
            other = copy.copy(value)
            other[key] = wrong
            yield (*path, key, wrong), other
        for place, deeper in changed(inner, (*path, key)):
            other = copy.copy(value)
            other[key] = deeper
            yield place, other


def read_or_refused(read, path, value):
    """Read a file with another value in it; the error must name the file's folder."""
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    try:
        read()
    except QkdError as error:
        assert str(path.parent) in str(error) and "\n" not in str(error)
        return False
    return True


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, a snapshot and a checkpoint, small ones."""
    folder = tmp_path_factory.mktemp("made")
    circuit = library.load_circuit("hardware", qubits=2, layers=1)
    engine = make_engine(EngineSpec(torch_device="cpu"), circuit)
    model = StudentModel(QuantumCore(circuit, engine), 16, ("no", "yes | *maybe*"))
    Student(model, make_encoder("hashing:16"), About(teacher="a`b\nc")).save(folder / "student")
    snapshot.write_snapshot(snapshot.from_backend(FakeManilaV2()).calibration, folder / "snapshot" / "s.json")
    progress = Progress(epoch=3, history=[{"epoch": 1.0}])
    checkpoint.write_checkpoint(folder / "checkpoint", "000003", progress, {"student.w": torch.zeros(3)})
    return folder


READERS = {
    "student/config.json": lambda folder: Student.load(folder),
    "snapshot/s.json": lambda folder: snapshot.read_snapshot(folder / "s.json").backend,
    "checkpoint/state.json": lambda folder: checkpoint.read_checkpoint(folder, Progress),
}


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "made")


@pytest.mark.parametrize("name", READERS)
def test_whatever_a_file_says_the_answer_is_a_record_or_a_sentence(folder, name):
    path = folder / name
    whole = json.loads(path.read_text())
    assert read_or_refused(lambda: READERS[name](path.parent), path, whole)
    if name.startswith("snapshot"):  # the rows of all gates have the same fields
        gates = whole["calibration"]["gates"]
        whole["calibration"]["gates"] = {"cx": gates["cx"][:2], "sx": gates["sx"], "rz": gates["rz"]}
    results = [read_or_refused(lambda: READERS[name](path.parent), path, value) for _, value in changed(whole)]
    assert results.count(False) > 50
    for text in (
        "",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        '{"format": ' + "9" * 5000 + "}",
        "\udcff".encode(errors="replace").decode(),
    ):
        assert not read_or_refused(lambda: READERS[name](path.parent), path, text)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(FolderError, match="JSON"):
        READERS[name](path.parent)


def test_a_bundle_that_claims_a_billion_dimensions_takes_no_memory(folder):
    path = folder / "student" / "config.json"
    config = json.loads(path.read_text())
    for dim in (10**9, 2**20, 17):
        config["encoder"]["dim"] = dim
        path.write_text(json.dumps(config))
        tracemalloc.start()
        with pytest.raises(FolderError, match=r"encoder\.dim|projection\.weight"):
            Student.load(folder / "student")
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()
    (folder / "big.json").write_bytes(b" " * (65 << 20))
    with pytest.raises(FolderError, match="more than the"):
        snapshot.read_snapshot(folder / "big.json")


def test_a_checkpoint_names_no_file_outside_its_folder(folder):
    path = folder / "checkpoint" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tensors": "../student/student.safetensors"}))
    with pytest.raises(FolderError, match="no file name"):
        checkpoint.read_checkpoint(path.parent, Progress)


def test_a_checkpoint_that_is_read_is_the_only_one(folder):
    place = folder / "checkpoint"
    (place / "state-000002.safetensors").write_bytes((place / "state-000003.safetensors").read_bytes())
    assert checkpoint.read_checkpoint(place, Progress) is not None
    assert [path.name for path in place.glob("state-*")] == ["state-000003.safetensors"]


def test_what_was_not_measured_may_be_infinite(folder):
    path = folder / "snapshot" / "s.json"
    told = json.loads(path.read_text())
    told["calibration"]["qubits"][0]["t1"] = float("inf")
    path.write_text(json.dumps(told))
    assert 0 in snapshot.read_snapshot(path).cleaning.avoided


def test_a_ledger_line_that_lacks_a_key_is_told_and_kept(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for event, facts in (("intent", {"tag": "t"}), ("submitted", {"id": "i"}), ("saved", {"file": "f", "sha256": "s"})):
        ledger.append("hw-1", event, job=0, **facts)
    lines = ledger.path.read_text().splitlines()
    for number, line in enumerate(lines):
        for key in json.loads(line):
            without = {name: value for name, value in json.loads(line).items() if name != key}
            ledger.path.write_text("\n".join([*lines[:number], json.dumps(without), *lines[number + 1 :]]) + "\n")
            rows, damaged = ledger.read()
            assert damaged == ([] if key == "job" else [number + 1]) and len(rows) + len(damaged) == 3
            ledger.jobs("hw-1", 1)


def test_the_card_shows_names_as_they_are(made):
    card = (made / "student" / "README.md").read_text()
    assert r"yes \| \*maybe\*" in card and "`` a`b c ``" in card


@pytest.mark.parametrize("texts", ["one string", b"bytes", [3, None], ["a", float("nan")], 7, None])
def test_texts_are_a_list_of_strings(folder, texts):
    with pytest.raises(DataError, match="string"):
        Student.load(folder / "student").predict(texts)
