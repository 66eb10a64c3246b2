"""Objects of a Python caller: texts, features, teachers, encoders, circuits and losses that no file held before."""

import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import ParameterVector
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch.nn import functional

import qkd
from qkd.core.errors import ConfigError, DataError, ModelError
from qkd.results import TeacherCard
from tests.models.conftest import save_model

SMALL = {"epochs": 2, "qubits": 3, "layers": 1, "diagnose": False, "controls": False, "quiet": True}


@pytest.fixture(scope="module")
def table(corpus):
    """120 texts and labels, in an order that mixes the labels."""
    frame = pd.read_csv(corpus / "texts.csv").rename(columns={"t": "text", "y": "label"})
    return frame.sample(120, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module")
def classifier(table):
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(table.text, table.label)


@pytest.fixture(scope="module")
def embedder(table):
    return make_pipeline(TfidfVectorizer(), TruncatedSVD(8, random_state=0)).fit(table.text)


@pytest.fixture
def distill(table, classifier, tmp_path):
    """A short distillation in a folder of its own."""

    def run(**options):
        if not (isinstance(options.get("data"), tuple) and hasattr(options["data"][0], "shape")):  # not features
            options = {"encoder": "hashing:16", "teacher": classifier} | options
        return qkd.distill(**{"data": table, "runs": tmp_path / "runs"} | SMALL | options)

    return run


def circuit_of(axes=2):
    """Three qubits, six inputs in one vector, weights in another, and their products."""
    x, w = ParameterVector("x", 3 * axes), ParameterVector("w", 4)
    circuit = QuantumCircuit(3)
    for number, angle in enumerate(x):
        circuit.ry(angle, number % 3)
    for qubit in range(3):
        circuit.rx(2 * w[qubit], qubit)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.ry(w[3], 2)
    return circuit, x


def test_splits_of_a_dataset_dict_are_kept(distill, table):
    names = sorted(set(table.label))
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=names))
    parts = {"train": table[:80], "test": table[80:]}
    splits = {
        name: datasets.Dataset.from_pandas(
            part.assign(label=part.label.map(names.index)), features=features, preserve_index=False
        )
        for name, part in parts.items()
    }
    run = distill(data=datasets.DatasetDict(splits))
    assert [row.text for row in run.predictions] == list(parts["test"].text)
    assert run.metrics.classes == tuple(names)


@pytest.mark.parametrize("kind", ["records", "columns", "sparse labels"])
def test_tables_in_pythons_own_types(distill, table, kind):
    data = {
        "records": table.to_dict("records"),
        "columns": table.to_dict("list"),
        "sparse labels": (list(table.text), [*table.label[:-1], None]),
    }[kind]
    run = distill(data=data, epochs=1)
    assert sum(run.metrics.texts.values()) == len(table) - (kind == "sparse labels")
    assert run.config.data.stem == "texts" and qkd.Run(run.folder.path).config == run.config


def test_features_skip_the_encoder(distill, table):
    labels = table.label.to_numpy()
    x = np.random.default_rng(0).normal(0, 0.3, (len(labels), 8))
    x[:, :4] += labels[:, None] == np.unique(labels)
    logits = LogisticRegression().fit(x, labels).decision_function(x)
    given = distill(data=(x, labels, logits), epochs=1)
    shown = {row.text: row.teacher for row in given.predictions}
    for text, row in zip(qkd.data.features.to_texts(x), logits, strict=True):
        assert text not in shown or shown[text] == pytest.approx(row, abs=1e-4)
    fitted = distill(data=(x, labels), epochs=6, lr=0.05)
    assert fitted.metrics.teacher.kind == "features" and fitted.metrics.encoder.dim == 8
    again = qkd.Student.load(fitted.folder.path)
    np.testing.assert_allclose(again.logits(x), fitted.student.logits(x.tolist()), atol=1e-5)
    assert [row.label for row in qkd.predict(x[:5], run=fitted.folder.path)] == again.predict(x[:5])
    assert fitted.metrics.lines["teacher"].numbers.accuracy.value > 0.8


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x, y: (x[:, :0], y), "shape"),
        (lambda x, y: (x, y[:-1]), "119"),
        (lambda x, y: (np.where(x == x[3, 0], np.nan, x), y), "not finite"),
        (lambda x, y: (x, y, np.zeros((120, 3))), "4 labels"),
        (lambda x, y: (x, y, np.full((120, 4), np.inf)), "not finite"),
        (lambda x, y: (x.astype(str), y), "numbers"),
        (lambda x, y: (x.astype(complex), y), "complex"),
    ],
)
def test_features_that_do_not_fit(distill, table, embedder, change, words):
    with pytest.raises(DataError, match=words):
        distill(data=change(embedder.transform(table.text), table.label.to_numpy()))


def test_a_student_of_features_reads_features_alone(distill, table, embedder):
    run = distill(data=(embedder.transform(table.text), table.label), teacher=LogisticRegression(), epochs=1)
    assert run.config.teacher.teacher == "object:LogisticRegression"
    with pytest.raises(DataError, match="reads features"):
        run.student.predict(["a text"])
    with pytest.raises(DataError, match="8"):
        run.student.predict(np.zeros((2, 7)))


class OwnTeacher:
    """A teacher by the protocol, which counts letters."""

    name, cross_fitted, num_parameters = "letters", False, 4

    def fit(self, dataset, splits):
        self.classes = len(dataset.classes)

    def logits(self, texts):
        return np.array([[text.count(letter) for letter in "aeio"[: self.classes]] for text in texts], np.float32)

    predict_logits = logits

    def describe(self):
        return TeacherCard(name=self.name, kind="letters")


def test_teachers_of_five_kinds_give_their_logits(distill, table, classifier):
    expected = dict(zip(table.text, classifier.predict_log_proba(table.text), strict=True))
    order = [3, 1, 0, 2]
    shuffled = qkd.teachers.FunctionTeacher(
        lambda texts: classifier.predict_proba(texts)[:, order],
        classes=tuple(classifier.classes_[order]),
        probabilities=True,
    )
    for teacher in (classifier, lambda texts: classifier.predict_log_proba(texts), shuffled):
        rows = distill(teacher=teacher, epochs=1).predictions
        for row in rows:
            logits = np.array(row.teacher)
            assert logits - logits.max() == pytest.approx(expected[row.text] - expected[row.text].max(), abs=1e-4)
    rows = distill(teacher=OwnTeacher(), epochs=1).predictions
    assert all(row.teacher[0] == row.text.count("a") for row in rows)


def test_a_classifier_that_is_not_fitted_never_sees_the_texts_it_labels(distill, table):
    memory = make_pipeline(TfidfVectorizer(), LogisticRegression(C=1e4))
    run = distill(teacher=memory, alpha=0.9)
    assert not hasattr(memory, "classes_")  # the caller's object is unchanged
    assert run.metrics.lines["teacher"].numbers.accuracy.value < 0.95
    assert run.config.teacher.teacher == "object:Pipeline"


def test_a_transformers_pipeline_is_a_teacher(distill, table, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    folder = save_model(tmp_path / "model", sentences=list(table.text))
    names = dict(enumerate(sorted(set(table.label), reverse=True)))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4, id2label=names, pad_token_id=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    run = distill(teacher=pipeline("text-classification", model=model, tokenizer=tokenizer), epochs=1)
    row = run.predictions[0]
    with torch.inference_mode():
        logits = model(**tokenizer(row.text, return_tensors="pt")).logits[0].numpy()[::-1]
    assert row.teacher == pytest.approx(logits, abs=1e-4)
    assert run.metrics.lines["teacher"].parameters.classical == model.num_parameters()


def test_probabilities_that_nobody_declared_are_reported(distill, classifier, said):
    distill(teacher=classifier.predict_proba, epochs=1)
    assert any("probabilities=True" in line for line in said())


class Half:
    """Half a teacher, and half an encoder."""

    def logits(self, texts):
        return np.zeros((len(texts), 4))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"teacher": Half()}, "has 'logits' but not name, cross_fitted"),
        ({"teacher": LogisticRegression}, "class LogisticRegression"),
        ({"teacher": 3}, "teacher is a int"),
        ({"teacher": lambda texts: np.zeros((len(texts), 3))}, "shape"),
        ({"teacher": lambda texts: 1 / 0}, "ZeroDivisionError"),
        ({"teacher": lambda texts: np.full((len(texts), 4), np.nan)}, "not finite"),
        ({"teacher": LogisticRegression().fit([[0.0], [1.0]], ["a", "b"])}, "none of the model's labels"),
        ({"encoder": Half()}, "encoder is a Half"),
        ({"encoder": TruncatedSVD}, "class TruncatedSVD"),
        ({"encoder": lambda texts: np.zeros(3)}, "must return"),
        ({"encoder": TfidfVectorizer()}, "NotFittedError"),
        ({"encoder": lambda texts: np.zeros((len(texts), 4)), "tune_encoder": 1}, "neither a transformer nor static"),
        ({"loss": "mse"}, "no such loss"),
        ({"loss": 3}, "loss is a int"),
        ({"loss": lambda s, t, y: (s - t) ** 2}, "scalar"),
        ({"loss": lambda s, t: s.sum()}, "TypeError"),
        ({"loss": lambda s, t, y: t.sum()}, "does not depend"),
        ({"circuit": circuit_of()[0]}, "needs inputs"),
        ({"circuit": circuit_of()[0], "inputs": ["y"]}, "no parameter 'y'"),
        ({"circuit": 3}, "circuit is a int"),
        ({"inputs": "x"}, "inputs are for OpenQASM"),
        ({"data": 3}, "data is a int"),
        ({"data": datasets.Dataset.from_dict({"a": ["b"]})}, "no column 'text'"),
        ({"data": (["a", "b"], ["x"])}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_one_sentence(distill, options, words):
    with pytest.raises(qkd.QkdError, match=words):
        distill(**options)


def test_encoders_are_functions_transformers_and_objects(distill, table, embedder):
    class Sentences:
        """An object with the interface of a SentenceTransformer."""

        def encode(self, sentences, batch_size=32):
            return torch.as_tensor(embedder.transform(sentences))

    logits = {}
    for encoder in (embedder, embedder.transform, Sentences()):
        run = distill(encoder=encoder)
        logits[run.config.encoder.encoder] = run.student.logits(["a function that plots"])
        loaded = qkd.Student.load(run.folder.path, encoder=encoder)
        np.testing.assert_allclose(loaded.logits(list(table.text[:9])), run.student.logits(list(table.text[:9])))
    assert list(logits) == ["object:Pipeline", "object:transform", "object:Sentences"]
    assert np.ptp(list(logits.values()), axis=0) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ModelError, match="other embeddings"):
        qkd.Student.load(run.folder.path, encoder=lambda texts: 2 + embedder.transform(texts))
    with pytest.raises(ModelError, match="other embeddings"):
        qkd.Student.load(run.folder.path, encoder=lambda texts: embedder.transform(texts)[:, :7])


def test_a_sentence_transformer_is_an_encoder(distill, table, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models

    words = models.Transformer(str(save_model(tmp_path / "model", sentences=list(table.text))))
    words.tokenizer.pad_token = "<eos>"
    pooling = models.Pooling(32)
    encoder = sentence_transformers.SentenceTransformer(modules=[words, pooling], device="cpu")
    run = distill(encoder=encoder, epochs=1)
    assert run.metrics.encoder.dim == 32 and run.config.encoder.encoder == "object:SentenceTransformer"
    assert run.student.predict(["a text"])[0] in run.metrics.classes


def test_another_process_is_told_what_to_pass_and_other_objects_are_refused(
    distill, table, embedder, classifier, tmp_path
):
    run = distill(teacher=classifier, encoder=embedder.transform, name="mine")
    code = f"import qkd; qkd.Student.load({str(run.folder.path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "qkd.core.errors.ModelError" in done.stderr and "Student.load(folder, encoder=...)" in done.stderr
    with pytest.raises(ModelError, match="call it yourself"):
        qkd.predict(["a text"], run=run, defer=0.01, ask_teacher=True)
    with pytest.raises(ConfigError, match=r"teacher=\.\.\."):
        qkd.distill(resume=True, runs=tmp_path / "runs", name="mine", epochs=3)
    again = {"resume": True, "runs": tmp_path / "runs", "name": "mine", "epochs": 3}
    others = {"teacher": clone(classifier).fit(table.text[::2], table.label[::2])}
    others["encoder"] = clone(embedder).fit(table.text[:9]).transform
    objects = {"teacher": classifier, "encoder": embedder.transform}
    for role, other in others.items():
        with pytest.raises(ConfigError, match=f"{role} is another object"):
            qkd.distill(**again, **{**objects, role: other})
    resumed = qkd.distill(**again, **objects)
    assert len(resumed.history) == 3 and resumed.config.teacher == run.config.teacher


def test_a_circuit_and_its_openqasm_are_the_same_student(distill, tmp_path):
    circuit, x = circuit_of()
    (tmp_path / "plain.qasm").write_text(qasm3.dumps(circuit))
    names = [parameter.name for parameter in x]
    sized = {"qubits": None, "layers": None}
    runs = [
        distill(circuit=circuit, inputs=x, **sized),
        distill(circuit=circuit, inputs=names, **sized),
        distill(circuit=str(tmp_path / "plain.qasm"), inputs="x", **sized),
        distill(circuit=tmp_path / "plain.qasm", inputs=",".join(names), **sized),
        distill(circuit=qkd.circuits.load(str(tmp_path / "plain.qasm"), inputs=["x"]), **sized),
    ]
    rows = [[row.student for row in run.predictions] for run in runs]
    for row in rows[1:]:
        np.testing.assert_allclose(row, rows[0], atol=1e-4)
    assert qkd.circuits.load(str(runs[0].folder.student / "circuit.qasm")).num_qubits == 3
    with pytest.raises(qkd.QkdError, match="'y' is no input parameter"):
        distill(circuit=tmp_path / "plain.qasm", inputs="y", **sized)
    with pytest.raises(qkd.QkdError, match="name them with inputs"):
        distill(circuit=tmp_path / "plain.qasm", **sized)


def test_a_function_is_the_loss(distill):
    def only_teacher(student, teacher, labels):
        return functional.kl_div(student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean")

    own = distill(loss=only_teacher, temperature=1.0)
    kl = distill(alpha=1.0, temperature=1.0)
    assert own.config.loss.loss.startswith("object:only_teacher-")
    assert own.history[0]["loss"] != kl.history[0]["loss"]  # that one adds JS
    assert own.history[0]["loss"] == pytest.approx(kl.history[0]["kl"], rel=0.3)

    def other(student, teacher, labels):
        return functional.cross_entropy(student, labels.clamp_min(0))

    with pytest.raises(ConfigError, match="another function"):
        distill(resume=True, name=own.name, loss=other, epochs=3)


def test_studies_and_teach_take_objects(table, classifier, embedder, tmp_path):
    def loss(student, teacher, labels):
        return functional.cross_entropy(student, teacher.softmax(1))

    options = {"data": table, "runs": tmp_path, "qubits": 3, "layers": 1, "epochs": 2, "quiet": True}
    spec = qkd.CompareSpec(students=("hardware", "linear"), seeds=2)
    given = options | {"teacher": classifier, "encoder": embedder}
    comparison = qkd.compare(spec=spec, name="c", loss=loss, **given)
    trials = sorted((tmp_path / "c" / "trials").iterdir())
    times = [path.stat().st_mtime_ns for path in trials]
    again = qkd.compare(spec=spec, name="c", loss=loss, **given)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "c" / "trials").iterdir())] == times
    lines = [[line["numbers"] for line in one.to_dict()["students"].values()] for one in (comparison, again)]
    assert lines[0] == lines[1]
    with pytest.raises(qkd.QkdError, match="alpha = 0"):
        qkd.compare(spec=qkd.CompareSpec(students=("hardware", "teacher-free"), seeds=2), loss=loss, **given)
    labeled = qkd.teach(tmp_path / "logits.parquet", data=table, teacher=classifier, quiet=True)
    assert labeled.texts == len(table) and labeled.teacher.kind == "object"
    assert not (tmp_path / "runs").exists()
