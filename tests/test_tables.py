"""Tables and pictures for Python: evaluations, runs, and the notebook's view of them."""

import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import classification_report, confusion_matrix

import qkd
from qkd.core.errors import ConfigError, DataError
from tests.processes import qkd as command
from tests.test_distill import options


@pytest.fixture(autouse=True, scope="module")
def _without_a_window():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A short run on a table with columns of its own."""
    return qkd.distill(**options(corpus, tmp_path_factory.mktemp("runs"), epochs=2, qubits=3, name="own-columns"))


@pytest.fixture(scope="module")
def table(corpus):
    """The texts of the run as a DataFrame."""
    return pd.read_csv(corpus / "texts.csv")


def test_three_lines_from_a_table_to_a_confusion_matrix(run, table):
    evaluation = qkd.evaluate(run, data=table)
    axes = evaluation.plot_confusion()
    counts = confusion_matrix(table["y"], run.student.predict(list(table["t"])))
    assert np.array_equal(evaluation.confusion, counts)
    drawn = [text.get_text() for text in axes.texts]
    assert drawn == [str(count) for count in counts.ravel()]
    assert axes.figure.number in plt.get_fignums()  # a notebook shows figures of pyplot


def test_scores_of_classes_are_those_of_scikit_learn(run, table):
    evaluation = qkd.evaluate(run.folder.student, table, "t", "y")
    expected = classification_report(
        table["y"], evaluation.to_frame("texts")["prediction"], output_dict=True, zero_division=0
    )
    frame = evaluation.to_frame()
    assert evaluation.plot_classes().has_data()
    assert list(frame.index) == sorted(set(table["y"]))
    for name, row in frame.iterrows():
        assert row["support"] == expected[name]["support"] == 60
        assert row["f1"] == pytest.approx(expected[name]["f1-score"])
        assert row["recall"] == pytest.approx(expected[name]["recall"])
        assert row["recall_low"] <= row["recall"] <= row["recall_high"]
        if not np.isnan(row["precision"]):
            assert row["precision"] == pytest.approx(expected[name]["precision"])
    assert evaluation.numbers.accuracy.value == pytest.approx(expected["accuracy"])
    assert all(name in repr(evaluation) for name in frame.index)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_command_takes_a_name_and_the_columns_of_the_run(run, corpus, tmp_path, suffix):
    out = tmp_path / f"predictions.{suffix}"
    folder = run.folder.path.parent.parent
    (folder / "runs").exists() or (folder / "runs").symlink_to(run.folder.path.parent)
    data = str(corpus / "texts.csv")
    done = command("evaluate", "own-columns", "--data", data, "--output", str(out), "--json", cwd=folder, check=True)
    found = json.loads(done.stdout)
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda path: pd.read_json(path, lines=True)}
    rows = read[suffix](out)
    assert len(rows) == found["texts"] == 240 and "predictions" not in found
    assert (rows["label"] == rows["prediction"]).mean() == pytest.approx(found["numbers"]["accuracy"]["value"])
    shares = rows[[f"probability of {name}" for name in found["classes"]]].to_numpy()
    assert shares.sum(axis=1) == pytest.approx(np.ones(240))
    assert shares.max(axis=1) == pytest.approx(rows["probability"])


def test_wrong_calls_are_told_in_a_sentence(run, table, tmp_path):
    with pytest.raises(DataError, match="a bundle contains no test texts"):
        qkd.evaluate(run.folder.student)
    with pytest.raises(ConfigError, match="there is no table 'text'"):
        run.to_frame("text")
    with pytest.raises(DataError, match="the student knows no label 'other'"):
        qkd.evaluate(run.student, (list(table["t"]), ["other"] * 240))
    done = command("evaluate", str(run.folder.path), "--output", str(tmp_path / "x.xls"))
    assert done.returncode == 1 and "must end in .csv, .jsonl, .parquet" in done.stderr


def test_a_run_shows_its_table_conclusion_and_picture(run):
    text, page = repr(run), run._repr_html_()
    assert run.metrics.gain.sentence in text and str(run.table()) in text
    assert "<table>" in page and "<svg" in page and run.metrics.gain.sentence in page
    frame = run.to_frame()
    student = run.metrics.lines["student"].numbers.accuracy
    assert frame.loc["student", ["accuracy", "accuracy_low"]].tolist() == [student.value, student.low]
    assert run.to_frame("history").index.tolist() == [1, 2]
    rows = run.to_frame("predictions")
    assert (rows["student"] == rows["label"]).mean() == pytest.approx(student.value)
    assert run.student.predict(list(rows["text"])) == list(rows["student"])


@pytest.mark.parametrize("name", ["accuracies", "learning", "confusion", "reliability", "risk_coverage", "agreement"])
def test_pictures_of_a_run_take_axes(run, name):
    figure, axes = plt.subplots()
    assert getattr(run, f"plot_{name}")(ax=axes) is axes and axes.has_data() and figure.axes[0] is axes


def test_a_student_shows_itself(run):
    student = run.student
    assert all(word in repr(student) for word in (*student.classes, student.encoder.name, "3 qubits"))
    weights = student.to_frame("weights")["value"].to_numpy()
    assert np.array_equal(weights, student.model.quantum.weights.detach().numpy().astype(float))
    assert "<svg" in student._repr_html_() and student.plot_circuit().has_data()


def test_a_column_of_texts_is_classified_as_a_list(run, table):
    texts = list(table["t"][:5])
    for given in (table["t"][:5], np.array(texts), tuple(texts)):
        assert qkd.predict(given, run=run) == qkd.predict(texts, run=run)


def test_a_device_run_takes_a_layout(run):
    [device_run] = qkd.run_hardware(
        run, device="fake_manila", local=True, samples=4, shots=16, mitigation="none", layout=[4, 3, 2], dry_run=True
    )
    assert device_run.plan.student.layout.initial_index_layout(filter_ancillas=True) == [4, 3, 2]


def test_every_public_object_fits_a_screen(run, table, corpus):
    device, dataset = qkd.devices.load("fake_fez"), qkd.data.load(str(corpus / "texts.csv"), "t", "y")
    compiled = qkd.transpile("hardware", "fake_manila", qubits=4)
    [rehearsal] = qkd.run_hardware(run, device="fake_manila", local=True, samples=4, shots=16, mitigation="none")
    shown = [run, run.student, run.metrics, run.table(), run.student.classical(), run.student.encoder]
    shown += [run.student.defer(list(table["t"][:9]), risk=0.5), run.student.about]
    shown += [qkd.teachers.make_teacher(f"logits:{corpus / 'logits.csv'}")]
    shown += [rehearsal, rehearsal.plan, device, device.calibration, compiled, compiled.region()[1], compiled.student]
    shown += [dataset, qkd.data.split(dataset), qkd.Config(), qkd.CompareSpec(), qkd.SweepSpec()]
    for one in shown:
        assert len(repr(one).splitlines()) < 40 and len(repr(one)) < 4000, type(one)
        assert " object at 0x" not in repr(one), repr(one)
    assert f"{len(table):,} texts of 4 classes" in repr(dataset) and "4 inputs" in repr(compiled.logical)
    assert "two-qubit gates" in repr(compiled) and "<svg" in compiled._repr_html_()
    assert compiled.to_frame().loc["compiled", "two_qubit_gates"] == compiled.report.compiled.two_qubit_gates
    assert "<table" in run.table()._repr_html_()
