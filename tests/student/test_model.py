"""The student: an EstimatorQNN that asks once, whose gradients are right down to the projection, and a whole bundle."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from qiskit.primitives import StatevectorEstimator
from qiskit_machine_learning.neural_networks import EstimatorQNN

from qkd import QkdError, Student
from qkd.circuits import library
from qkd.circuits.qasm import to_qasm
from qkd.core.config import EngineSpec, LossSpec, TrainSpec
from qkd.encoders.registry import make_encoder
from qkd.simulation.factory import make_engine
from qkd.student.about import About
from qkd.student.cores import QuantumCore, StudentQNN
from qkd.student.data import TrainingData
from qkd.student.model import START_SPREAD, StudentModel
from qkd.student.trainer import Trainer


def model(seed=0, angle_map="tanh", precision="double", dropout=0.0):
    circuit = library.load_circuit("hardware", qubits=3, layers=1)
    engine = make_engine(EngineSpec(precision=precision, torch_device="cpu"), circuit)
    torch.manual_seed(seed)
    return StudentModel(QuantumCore(circuit, engine), 5, ("no", "yes"), angle_map, dropout).double()


def examples(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.normal(size=(n, 5)) + 1.5 * y[:, None], y


def training_data(train, valid):
    """Return training data of (number of texts, seed) for each of the two splits."""
    (x, y), (xv, yv) = examples(*train), examples(*valid)
    targets = np.concatenate([y, yv])
    rows = np.arange(len(targets))
    train_rows, valid_rows = rows[: len(y)], rows[len(y) :]
    logits = np.eye(2)[targets] * 4
    return TrainingData(("no", "yes"), np.concatenate([x, xv]), logits, targets, train_rows, valid_rows, valid_rows)


@pytest.mark.parametrize("angle_map", ["tanh", "minmax"])
def test_gradients_equal_finite_differences_for_every_parameter(angle_map):
    student = model(angle_map=angle_map)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).double()
    student(x).square().sum().backward()
    for name, parameter in student.named_parameters():
        index = parameter.numel() // 2
        values = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.view(-1)[index] += shift
                values.append(student(x).square().sum().item())
                parameter.view(-1)[index] -= shift
        assert parameter.grad.view(-1)[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6), name


def test_it_is_an_estimator_qnn_that_agrees_with_a_stock_one_and_asks_once(monkeypatch):
    student = model()
    qnn, circuit = student.quantum.qnn, student.circuit
    assert isinstance(qnn, EstimatorQNN) and qnn.input_gradients
    stock = EstimatorQNN(
        circuit=circuit.circuit,
        estimator=StatevectorEstimator(),
        observables=list(circuit.observables),
        input_params=list(circuit.inputs),
        weight_params=list(circuit.weights),
        input_gradients=True,
        default_precision=0.0,
    )
    x, w = np.random.default_rng(2).normal(size=(3, 3)), student.quantum.weights.detach().numpy()
    asked = []
    run = qnn.estimator.run
    monkeypatch.setattr(qnn.estimator, "run", lambda pubs, **more: asked.append(list(pubs)) or run(asked[-1], **more))
    assert np.allclose(qnn.forward(x, w), stock.forward(x, w), atol=1e-9)
    assert [len(pubs) for pubs in asked] == [1]
    for ours, theirs in zip(qnn.backward(x, w), stock.backward(x, w), strict=True):
        assert np.allclose(ours, theirs, atol=1e-9)
    evs = qnn.evaluate(torch.as_tensor(x), torch.as_tensor(w))
    assert np.allclose(evs.numpy(), stock.forward(x, w), atol=1e-9)


def test_minmax_is_the_papers_scaling():
    student = model(angle_map="minmax")
    angles = student.angles(torch.randn(6, 5, generator=torch.Generator().manual_seed(3)).double())
    assert angles.amin(dim=1).abs().max() == 0 and angles.amax(dim=1).sub(10).abs().max() < 1e-6
    assert model().angles(100 * torch.ones(2, 5).double()).abs().max() <= np.pi


def test_training_separates_what_is_separable(tmp_path):
    student = model(precision="single").float()
    data = training_data((200, 1), (60, 2))
    student.standardize(torch.as_tensor(data.embeddings[data.train], dtype=torch.float32))
    trainer = Trainer(student, data, LossSpec(), TrainSpec(epochs=15, lr=0.05, batch_size=16), tmp_path)
    assert trainer.run() and trainer.progress.history[-1]["valid_accuracy"] > 0.9
    best = min(trainer.progress.history, key=lambda row: row["valid_loss"])
    assert trainer.progress.best_epoch == best["epoch"]


def test_early_stopping_keeps_the_best_epoch():
    student = model(precision="single").float()
    spec = TrainSpec(epochs=60, lr=0.3, batch_size=8, patience=3)
    trainer = Trainer(student, training_data((40, 3), (20, 4)), LossSpec(), spec)
    trainer.run()
    assert trainer.progress.epoch == min(60, trainer.progress.best_epoch + 3)
    kept = trainer.validate()["valid_loss"]
    assert kept == pytest.approx(trainer.progress.best_loss, rel=1e-5)


def test_k_epochs_and_resume_and_k_more_are_2k(tmp_path):
    def trained(folder, *stops):
        for epochs in stops:
            student = model(precision="single", dropout=0.3).float()
            spec = TrainSpec(epochs=epochs, patience=50)
            trainer = Trainer(student, training_data((50, 5), (20, 6)), LossSpec(), spec, folder)
            torch.manual_seed(9)
            trainer.resume()
            trainer.run()
        return trainer

    whole, halves = trained(tmp_path / "a", 6), trained(tmp_path / "b", 3, 6)
    assert whole.progress.history == halves.progress.history
    for name, value in whole.model.state_dict().items():
        assert value.equal(halves.model.state_dict()[name]), name
    assert [p.suffix for p in (tmp_path / "a").glob("state-*")] == [".safetensors"]


@pytest.mark.parametrize("damage", ["cut", "missing", "newer", "foreign"])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    def trainer(student):
        return Trainer(student, training_data((20, 5), (10, 6)), LossSpec(), TrainSpec(epochs=1), tmp_path)

    trainer(model(precision="single").float()).run()
    tensors, state = next(tmp_path.glob("state-*")), tmp_path / "state.json"
    other = model(precision="single").float()
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:100])
    elif damage == "missing":
        tensors.unlink()
    elif damage == "newer":
        state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 99}))
    else:
        other.head = torch.nn.Linear(3, 7)
    with pytest.raises(QkdError, match=str(tmp_path)):
        trainer(other).resume()


def test_a_diverging_loss_is_named():
    student = model(precision="single").float()
    data = training_data((20, 1), (10, 2))
    data.embeddings[3] = float("nan")
    with pytest.raises(QkdError, match="lower lr"):
        Trainer(student, data, LossSpec(), TrainSpec(epochs=1)).run()


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    circuit = library.load_circuit("hardware", qubits=3, layers=1)
    trained = StudentModel(
        QuantumCore(circuit, make_engine(EngineSpec(torch_device="cpu"), circuit)), 16, ("no", "yes")
    )
    Student(trained, make_encoder("hashing:16"), About(teacher="nobody")).save(tmp_path / "student")
    return tmp_path / "student"


def test_a_bundle_answers_as_the_model_did(bundle):
    student = Student.load(bundle)
    texts = ["one text", "another text"]
    assert student.predict_proba(texts).shape == (2, 2)
    shutil.copytree(bundle, bundle.parent / "copy")
    assert np.array_equal(student.logits(texts), Student.load(bundle.parent / "copy").logits(texts))
    assert "hashing:16" in (bundle / "README.md").read_text()


def test_a_saved_folder_has_nothing_of_an_older_bundle(bundle):
    student, older = Student.load(bundle), bundle.parent / "older"
    (older / "encoder" / "0").mkdir(parents=True)
    names = ("encoder.safetensors", "control.safetensors", "texts.safetensors", "quick.json", "encoder/0/config.json")
    for name in (*names, "notes.txt"):
        (older / name).write_text("{}")
    student.save(older)
    files = {path.relative_to(bundle) for path in bundle.rglob("*")}
    assert {path.relative_to(older) for path in older.rglob("*")} == files | {Path("notes.txt")}
    assert np.array_equal(Student.load(older).logits(["a text"]), student.logits(["a text"]))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_student_can_be_copied_and_pickled_after_use(bundle, copied):
    student = Student.load(bundle)
    texts = ["one text", "another text"]
    expected = student.logits(texts)
    other, model = copied(student), copied(student.model)
    assert np.array_equal(other.logits(texts), expected) and other.classes == student.classes
    assert np.array_equal(model.logits(student.encoder.encode(texts)), expected)
    if copied is not copy.copy:
        with torch.no_grad():
            other.model.core.weights += 1.0
        assert not np.allclose(other.logits(texts), expected)
        assert np.array_equal(student.logits(texts), expected)  # nothing is shared


def test_a_student_goes_through_torch_export(bundle, tmp_path):
    student = Student.load(bundle)
    rows = student.encoder.encode(["one text", "another text", "a third"])
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(student.to_torch(), (torch.zeros(2, 16),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "student.pt2")
    read = torch.export.load(tmp_path / "student.pt2").module()
    np.testing.assert_allclose(read(torch.as_tensor(rows)).numpy(), student.model.logits(rows), atol=1e-5)


def test_a_bundle_that_reads_back_differently_is_not_saved(bundle, monkeypatch, tmp_path):
    student = Student.load(bundle)
    with torch.no_grad():
        student.model.core.weights += torch.linspace(0.5, 8, 9)
    wrong = to_qasm(student.model.circuit).replace("(w1)", "(w0)")
    monkeypatch.setattr("qkd.student.bundle.to_qasm", lambda circuit: wrong)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    for folder in (tmp_path / "new", bundle):
        with pytest.raises(QkdError, match="nothing was saved"):
            student.save(str(folder), ["one text", "another text"])
    assert not (tmp_path / "new").exists() and not list(bundle.parent.glob(".*"))
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.parametrize("name", ["config.json", "student.safetensors", "circuit.qasm"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_damaged_bundles_are_refused(bundle, name, damage):
    path = bundle / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(QkdError, match=str(bundle)):
        Student.load(bundle)


def test_a_bundle_refuses_another_encoder_and_a_newer_format(bundle):
    config = json.loads((bundle / "config.json").read_text())
    for change, words in (
        ({"format": 99}, "format 99"),
        ({"encoder": {**config["encoder"], "name": "hashing:18"}}, "trained on embeddings"),
    ):
        (bundle / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(QkdError, match=words):
            Student.load(bundle)


def test_the_qnn_is_usable_alone():
    circuit = library.load_circuit("product", qubits=2)
    qnn = StudentQNN(circuit, make_engine(EngineSpec(precision="double", torch_device="cpu"), circuit))
    evs = qnn.evaluate(torch.zeros(1, 2).double(), torch.zeros(4).double())
    assert evs[0].tolist() == pytest.approx([1, 1], abs=1e-12)  # all rotations at 0 leave |00>


def test_training_starts_where_the_circuit_responds_linearly():
    student = model()
    x = 3 + 2 * torch.randn(500, 5, generator=torch.Generator().manual_seed(4)).double()
    student.standardize(x)
    angles = student.angles(x).detach()
    assert angles.mean(dim=0).numpy() == pytest.approx(np.full(3, np.pi / 2), abs=0.03)
    assert angles.std(dim=0).mean().item() == pytest.approx(START_SPREAD, rel=0.5)
    assert student.with_engine(student.circuit, student.engine).double().angles(x).detach().numpy() == pytest.approx(
        angles.numpy(), abs=1e-5
    )
    paper = model(angle_map="minmax")
    paper.standardize(x)
    assert paper.angles(x).detach().amax(dim=1).numpy() == pytest.approx(np.full(500, 10.0), abs=1e-6)


def test_a_feature_that_no_training_text_varies_changes_no_logits():
    student, x = model(), examples(50, 0)[0] * (1, 1e-4, 1e3, 1, 1)
    x[:, 3] = 0.3
    x[:, 4] *= 1e-33
    student.standardize(torch.as_tensor(x))
    unseen = x[:5].copy()
    unseen[:, 3:] = -7, 1e-32
    assert np.array_equal(student.logits(unseen), student.logits(x[:5]))
    unseen[:, 1] += 1e-4
    assert not np.allclose(student.logits(unseen), student.logits(x[:5]))
