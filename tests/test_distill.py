"""The main job through its own commands: real sentences in, a run folder out, and nothing lost on the way."""

import html
import json
import re
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from qkd import QkdError, Run, Student, api
from qkd.export.runs import export_run
from tests.processes import qkd, signalled


def options(corpus, folder, **more):
    return {
        "data": str(corpus / "texts.csv"),
        "text_column": "t",
        "label_column": "y",
        "teacher": f"logits:{corpus / 'logits.csv'}",
        "encoder": "hashing:128",
        "qubits": 4,
        "layers": 1,
        "epochs": 6,
        "lr": 0.03,
        "runs": str(folder),
        **more,
    }


def command(given, *flags):
    return ["distill", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items()), *flags]


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """One finished run."""
    return api.distill(**options(corpus, tmp_path_factory.mktemp("runs"), name="whole"))


def test_the_folder_is_complete(run):
    names = {path.name for path in run.folder.path.iterdir()}
    assert names >= {"config.toml", "data.json", "metrics.json", "history.jsonl", "predictions.jsonl"}
    assert names >= {"checkpoint", "student", "report.html"}
    assert {path.name for path in run.folder.student.iterdir()} == {
        "config.json",
        "student.safetensors",
        "control.safetensors",
        "circuit.qasm",
        "README.md",
        "texts.safetensors",
        "quick.json",
        "quick.safetensors",
    }
    assert run.folder.path.parent.joinpath("latest").resolve() == run.folder.path
    assert len(run.history) == run.metrics.student.epochs <= 6
    assert run.report.read_text().count('<svg role="img"') >= 4


def test_numbers_are_there_with_intervals_and_make_sense(run):
    lines = run.metrics.lines
    assert list(lines) == ["teacher", "student", "linear", "logreg", "majority"]
    for line in lines.values():
        for _, number in line.numbers.items():
            assert 0 <= number.low <= number.value <= number.high <= 1
    assert lines["teacher"].numbers.accuracy.value > 0.9  # it has seen these texts
    assert lines["student"].numbers.accuracy.value > lines["majority"].numbers.accuracy.value
    assert lines["student"].ms_per_text > 0
    student = lines["student"]
    weights = load_file(run.folder.student / "student.safetensors")
    trained = sum(tensor.numel() for name, tensor in weights.items() if name not in ("center", "scale"))
    quantum = weights["core.weights"].numel()
    assert student.parameters.to_dict() == {"classical": trained - quantum, "quantum": quantum, "encoder": 0}
    assert lines["linear"].parameters.to_dict() == {"classical": trained - quantum, "quantum": 0}  # A = K here
    assert lines["logreg"].parameters.to_dict() == {"classical": 4 * 128 + 4, "quantum": 0}
    assert sum(run.metrics.seconds.values()) > 0


def test_the_circuit_is_judged_against_controls_in_words(run, corpus, tmp_path):
    from qkd.reports.run import summary

    gains, lines = run.metrics.controls, run.metrics.lines
    assert list(gains) == ["linear", "logreg"]
    for name, gain in gains.items():
        values = [lines[who].numbers.accuracy.value for who in ("student", name)]
        assert gain.value == pytest.approx(values[0] - values[1])
        assert gain.low <= gain.value <= gain.high
    card = (run.folder.student / "README.md").read_text()
    for sentence in ("a linear student of the same size", "a logistic regression on the same embeddings"):
        assert sentence in card and sentence in run.report.read_text() and sentence in summary(run.metrics)
    assert "in the circuit" in card
    gain = run.metrics.teacher_gain
    values = [lines[who].numbers.accuracy.value for who in ("teacher", "logreg")]
    assert gain.value == pytest.approx(values[0] - values[1]) and gain.sentence in summary(run.metrics)
    without = api.distill(**options(corpus, tmp_path, epochs=1, controls=False))
    assert list(without.metrics.lines) == ["teacher", "student", "majority"] and not without.metrics.controls


def test_the_bundle_predicts_in_a_fresh_process_without_teacher_data_or_network(run, tmp_path):
    bundle = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", str(run.folder.student), str(bundle)], check=True)
    texts = [row.text for row in run.predictions[:20]]
    script = (
        "import json, socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network here')\n"
        "socket.socket.connect = refuse\n"
        "from qkd import Student\n"
        "student = Student.load(sys.argv[1])\n"
        "json.dump([student.predict_proba(json.load(sys.stdin)).tolist(), list(student.classes)], sys.stdout)\n"
        "assert 'transformers' not in sys.modules and 'qkd.teachers.registry' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle)], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    rows, classes = json.loads(done.stdout)
    here = Student.load(run.folder.path)
    assert classes == list(here.classes)
    for row, expected in zip(rows, here.predict_proba(texts), strict=True):
        assert row == pytest.approx(expected.tolist(), abs=1e-6)
        assert sum(row) == pytest.approx(1)
    assert here.predict(texts) == [classes[max(range(4), key=row.__getitem__)] for row in rows]


def test_unlabelled_texts_are_learned_from_and_what_they_bought_is_told(corpus, tmp_path):
    import pandas as pd

    table = pd.read_csv(corpus / "texts.csv")
    mask = table.index % 3 == 0
    table[mask].to_csv(tmp_path / "few.csv", index=False)
    table["t"].to_csv(tmp_path / "all.csv", index=False)  # qkd ignores those that few.csv has too
    given = options(corpus, tmp_path, data=str(tmp_path / "few.csv"), unlabeled=str(tmp_path / "all.csv"))
    found = api.distill(**given)
    lines, bought = found.metrics.lines, found.metrics.unlabeled_gain
    assert found.metrics.unlabeled_texts == len(table) - mask.sum()
    assert list(lines) == ["teacher", "student", "labeled only", "linear", "logreg", "majority"]
    student, without = (lines[name].numbers.accuracy.value for name in ("student", "labeled only"))
    assert bought.value == pytest.approx(student - without)
    assert bought.low <= bought.value <= bought.high
    assert f"With {found.metrics.unlabeled_texts} unlabeled texts: The student" in found.report.read_text()
    assert api.evaluate(found.folder.path).numbers.accuracy.value == student


def test_evaluate_finds_the_same_numbers_again(run):
    again = api.evaluate(run.folder.path).numbers
    kept = run.metrics.lines["student"].numbers
    assert again.accuracy == kept.accuracy
    assert again.agreement == kept.agreement


def test_evaluate_refuses_a_label_it_never_learned(run, tmp_path):
    (tmp_path / "new.csv").write_text("t,y\n" + "".join(f"a sentence {i},unheard\n" for i in range(8)))
    with pytest.raises(QkdError, match="knows no label 'unheard'"):
        api.evaluate(run.folder.path, str(tmp_path / "new.csv"))


def test_the_written_configuration_does_the_run_again(run, tmp_path):
    written = tomllib.loads(run.folder.config.read_text())
    assert written["train"]["epochs"] == 6 and "temperature" in written["loss"]
    done = qkd("distill", "--config", str(run.folder.config), "--runs", str(tmp_path), "-q", check=True)
    assert "teacher" in done.stdout and "majority" in done.stdout
    assert not re.sub(r"warning: .*\n", "", done.stderr)
    assert same_weights(run, Run(tmp_path / "whole"))


SAVED = "qkd.student.trainer:Trainer.save"


@pytest.mark.parametrize("epoch", [0, 4])
def test_a_killed_run_resumes_to_the_same_weights(run, corpus, tmp_path, epoch):
    words = command(options(corpus, tmp_path, name="killed"))
    signalled(*words, after=SAVED if epoch else "qkd.pipeline.inputs:_pin_texts", times=epoch or 1)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    qkd(*words, "--resume", check=True)
    assert same_weights(run, Run(tmp_path / "killed"))
    assert [row["epoch"] for row in Run(tmp_path / "killed").history] == [row["epoch"] for row in run.history]


def test_ctrl_c_leaves_a_valid_run_that_goes_on(run, corpus, tmp_path):
    words = command(options(corpus, tmp_path, name="stopped"))
    done = signalled(*words, after=SAVED, times=2, number=signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert "--resume" in done.stderr and "Traceback" not in done.stderr
    stopped = Run(tmp_path / "stopped")
    assert stopped.metrics.finished is False
    assert len(stopped.student.predict(["A sentence about tensors."])) == 1
    qkd(*words, "--resume", check=True)
    assert same_weights(run, Run(tmp_path / "stopped"))


def test_resume_refuses_another_configuration_and_changed_texts(run, corpus, tmp_path):
    with pytest.raises(QkdError, match=r"student\.qubits is 4, not 5"):
        api.distill(resume=True, **options(corpus, run.folder.path.parent, name="whole", qubits=5))
    copy = tmp_path / "texts.csv"
    copy.write_bytes((corpus / "texts.csv").read_bytes())
    given = options(corpus, tmp_path, name="changed", data=str(copy), epochs=1)
    api.distill(**given)
    copy.write_text(copy.read_text().replace("a", "e", 1))
    with pytest.raises(QkdError, match="have changed since"):
        api.distill(resume=True, **given)


def test_given_test_texts_are_the_test_and_a_resumed_run_has_the_same(corpus, tmp_path):
    header, *rows = (corpus / "texts.csv").read_text().splitlines(keepends=True)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("".join([header, *(row for n, row in enumerate(rows) if n % 4)]))
    test.write_text("".join([header, *rows[::4]]))
    given = options(corpus, tmp_path, name="given", data=str(train), test_data=str(test), epochs=1)
    done = api.distill(**given)
    assert done.metrics.given_splits == ("test",)
    assert done.metrics.texts["test"] == len(done.predictions) == len(rows[::4])
    assert "The data set defines its test split." in done.report.read_text()
    assert done.config.data.test_data == test
    with train.open("a") as file:
        file.write(rows[0])  # also a training text; test texts must not become training texts
    again = api.distill(resume=True, **given)
    assert again.metrics.texts == done.metrics.texts
    test.write_text("".join([header, *rows[4::4]]))
    with pytest.raises(QkdError, match="the texts have changed"):
        api.distill(resume=True, **given)


def test_more_epochs_go_on_from_where_the_run_ended(run, corpus, tmp_path):
    given = options(corpus, tmp_path, name="longer", epochs=3)
    api.distill(**given)
    longer = api.distill(resume=True, **{**given, "epochs": 6})
    assert same_weights(run, longer)


def test_mistakes_leave_nothing_behind(corpus, tmp_path):
    with pytest.raises(QkdError, match="label"):
        api.distill(**options(corpus, tmp_path / "runs", label_column="label"))
    assert list((tmp_path / "runs").iterdir()) == []


def test_one_sentence_and_no_traceback(corpus, tmp_path):
    given = options(corpus, tmp_path, data=str(tmp_path / "nowhere.csv"))
    done = qkd(*command(given))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "nowhere.csv" in done.stderr
    shown = qkd(*command(given, "--debug"))
    assert "Traceback" in shown.stderr


def test_the_table_is_for_people_and_json_for_scripts(run, corpus, tmp_path):
    done = qkd(*command(options(corpus, tmp_path, epochs=1), "--json"), check=True)
    assert json.loads(done.stdout)["lines"]["student"]["numbers"]["accuracy"]["value"] > 0
    for word in ("teacher", "student", "majority", "accuracy"):
        assert word in str(run.table())


def same_weights(one, other):
    a, b = (load_file(run.folder.student / "student.safetensors") for run in (one, other))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_numbers_survive_a_picture_that_fails(corpus, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise ValueError("Unknown symbol: $$")

    monkeypatch.setattr("qkd.reports.plots.confusion", broken)
    run = api.distill(**options(corpus, tmp_path, epochs=1, controls=False, diagnose=False))
    assert run.metrics.lines["student"].numbers.accuracy.value > 0 and len(run.student.predict(["a text"])) == 1
    assert "Unknown symbol" in capsys.readouterr().err


def test_a_cascade_is_in_metrics_report_and_card(run, tmp_path):
    cascade, rows = run.metrics.cascade, run.predictions
    assert json.loads(run.folder.metrics.read_text())["cascade"]["curve"]["high"] == list(cascade.curve.high)
    student, teacher = (np.array([getattr(row, who) for row in rows]) for who in ("student", "teacher"))
    targets = np.array([run.student.classes.index(row.label) for row in rows])
    probabilities = np.exp(student) / np.exp(student).sum(axis=1, keepdims=True)
    answered = cascade.deferral.answered(probabilities)
    chosen = np.where(answered, student.argmax(axis=1), teacher.argmax(axis=1))
    assert cascade.together.value == pytest.approx((chosen == targets).mean())
    assert cascade.answered.value == pytest.approx(answered.mean())
    assert cascade.curve.risk[-1] == pytest.approx(1 - run.metrics.lines["student"].numbers.accuracy.value)
    assert cascade.sentence in (run.folder.student / "README.md").read_text()
    assert html.escape(cascade.sentence, quote=False) in run.report.read_text().replace("&#39;", "'")


def test_the_teacher_of_the_run_answers_deferred_texts(run):
    rows = {row.text: row for row in run.predictions}
    answers = [
        answer
        for risk in (0.3, 0.9)
        for answer in api.predict(list(rows), run=run.folder.path, defer=risk, ask_teacher=True)
    ]
    assert {row.answered_by for row in answers} == {"student", "teacher"}
    for answer in answers:
        logits = getattr(rows[answer.text], answer.answered_by)
        assert answer.label == run.student.classes[int(np.argmax(logits))]
        assert answer.deferred == (answer.answered_by == "teacher")
    with pytest.raises(QkdError, match="a bundle has no teacher"):
        api.predict(list(rows), run=run.folder.student, ask_teacher=True)


def test_the_bundle_has_the_linear_control(run, tmp_path):
    control = Student.load(run.folder.path).control
    rows = run.predictions
    logits = control.logits(run.student.encoder.encode([row.text for row in rows]))
    assert logits == pytest.approx(np.array([row.control for row in rows]), abs=1e-5)
    page = export_run(run.folder.path, "page", tmp_path / "page", check=False).folder / "index.html"
    model = json.loads(re.search(r"<script[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)[1])
    assert model["control"]["name"] == "linear"
    Student(run.student.model, run.student.encoder).save(tmp_path / "student")
    assert Student.load(tmp_path / "student").control is None


def test_data_may_be_a_table_columns_or_a_path(run, corpus, tmp_path):
    import datasets
    import pandas as pd

    table = pd.read_csv(corpus / "texts.csv")
    given = options(corpus, tmp_path, controls=False, diagnose=False)
    forms = {"frame": table, "lists": (table["t"].tolist(), table["y"].tolist()), "path": corpus / "texts.csv"}
    forms["dataset"] = datasets.Dataset.from_pandas(table).class_encode_column("y")
    for name, data in forms.items():
        found = api.distill(**{**given, "data": data, "name": name})
        assert same_weights(run, found)
    again = api.distill(**{**given, "data": table, "name": "frame", "resume": True})
    assert again.metrics.texts == run.metrics.texts
    with pytest.raises(QkdError, match="started with other texts"):
        api.distill(**{**given, "data": table[:-1], "name": "frame", "resume": True})
    with pytest.raises(QkdError, match="no column 't'"):
        api.distill(**{**given, "data": table.rename(columns={"t": "text"})})


def test_one_text_is_classified_as_one_text(run):
    text = run.predictions[0].text
    (alone,) = api.predict(text, run=run.folder.path)
    assert alone.text == text and alone.label in run.student.classes


def test_a_table_of_texts_has_the_column_of_the_run(run, corpus, tmp_path):
    column = run.config.data.text_column
    assert column != "text"
    rows = run.predictions[:3]
    pd.DataFrame({column: [row.text for row in rows]}).to_csv(tmp_path / "new.csv", index=False)
    answers = api.predict(file=tmp_path / "new.csv", run=run.folder.path)
    assert [answer.text for answer in answers] == [row.text for row in rows]
    with pytest.raises(QkdError, match="no column 'text'"):
        api.predict(file=tmp_path / "new.csv", run=run.folder.student)


def test_a_teacher_below_a_logistic_regression_is_told_before_the_training(corpus, tmp_path, said):
    logits = pd.read_csv(corpus / "logits.csv")
    names = [name for name in logits if name != "text"]
    logits[names] = np.random.default_rng(0).normal(size=(len(logits), len(names)))
    logits.to_csv(tmp_path / "random.csv", index=False)
    teacher = f"logits:{tmp_path / 'random.csv'}"
    api.distill(**options(corpus, tmp_path, teacher=teacher, encoder="hashing:512", epochs=1, qubits=2))
    lines = said()
    early = [n for n, line in enumerate(lines) if line.startswith("on the validation texts: The teacher is worse")]
    assert len(early) == 1 and "Ctrl-C" in lines[early[0]]
    assert early[0] < min(n for n, line in enumerate(lines) if line.startswith("training:"))


def test_a_rare_label_is_refused_before_the_circuit_is_searched_or_compiled(corpus, tmp_path):
    rare = pd.concat([pd.read_csv(corpus / "texts.csv"), pd.DataFrame({"t": ["one of its kind"], "y": ["rare"]})])
    rare.to_csv(tmp_path / "rare.csv", index=False)
    wide = {"data": str(tmp_path / "rare.csv"), "sim": "aer-noisy", "device": "fake_manila", "qubits": 8}
    with pytest.raises(QkdError, match="label 'rare' has 1 texts, at least"):
        api.distill(**options(corpus, tmp_path) | wide)


def test_the_linear_control_trains_longer_than_the_student(run):
    kept = json.loads((run.folder.checkpoint / "linear" / "state.json").read_text())["progress"]
    assert len(run.history) <= 6 < kept["epoch"] <= 30
