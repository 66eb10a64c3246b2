"""Options of a comparison: noise in training, curves, the same tuning for all, a cluster, folders."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qkd import QkdError, api
from qkd.core.config import Config
from qkd.core.specs import validated
from qkd.experiments import trial
from qkd.experiments.candidates import make_candidates
from qkd.experiments.conditions import EXACT, Conditions, make_conditions
from qkd.experiments.specs import CompareSpec
from qkd.experiments.trial import tuning_candidates
from qkd.pipeline.inputs import Clock, prepare_inputs
from qkd.pipeline.settings import settled
from qkd.studies import compare
from tests.models.conftest import save_model
from tests.test_distill import options

NOISE = {"qubits": 2, "device": "ibm_fez", "shots": 256, "epochs": 3}


@pytest.fixture(scope="module")
def setting(corpus, tmp_path_factory):
    """A configuration, its texts as a data, and a two-qubit student on a device."""
    from qkd.core.runs import RunFolder

    folder = tmp_path_factory.mktemp("setting")
    config = settled(Config(), options(corpus, folder, **NOISE))
    data = prepare_inputs(config, RunFolder(folder / "texts"), False, Clock()).data
    student = make_candidates(["hardware", "linear"], config)[0]
    spec = CompareSpec(sims=("aer-noisy", "exact"), shot_counts=(4, 65536), noise_scales=(0.0, 1.0, 8.0))
    return config, data, student, make_conditions(config, spec, student.circuit(), "hardware")


def ideal_of(student):
    circuit = student.circuit()
    return circuit, student.engine(circuit)


def test_training_under_noise_is_what_distill_does(setting, corpus, tmp_path):
    _, data, student, asked = setting
    assert asked.trains_noisy and not replace(asked, sims=("exact", "aer-noisy")).trains_noisy
    noisy = trial._train(student, data, 0, conditions=asked)
    ideal = trial._train(student, data, 0)
    assert noisy.progress.best_loss != pytest.approx(ideal.progress.best_loss, abs=1e-4)
    more = {"sim": "aer-noisy", "diagnose": False, "controls": False, "name": "noisy"}
    run = api.distill(**options(corpus, tmp_path, **NOISE, **more))
    assert run.metrics.student.best_valid_loss == pytest.approx(noisy.progress.best_loss, abs=1e-5)


def test_more_noise_leads_farther_from_exact_logits_and_none_leaves_readout_alone(setting):
    _, data, student, asked = setting
    model = trial._train(student, data, 0).model
    rows = data.embeddings[data.test][:8]
    noisy = {
        factor: model.with_engine(*asked._stage(True, ideal_of(student), factor)).logits(rows) for factor in asked.noise
    }
    exact = model.with_engine(*ideal_of(student)).logits(rows)
    far = {factor: float(np.abs(values - exact).mean()) for factor, values in noisy.items()}
    assert far[0.0] < far[1.0] < far[8.0]
    assert far[0.0] > 1e-5  # the readout errors are still there
    shots = asked._sampled(model, *asked._stage(True, ideal_of(student)), 1 << 20, rows, 0)
    assert np.abs(shots - noisy[1.0]).max() < 0.1 * np.abs(exact).max()


def test_curves_hold_classes_of_every_test_text(setting):
    _, data, student, asked = setting
    found = trial.run_trial(student, data, 0, asked)
    curves, logits = found.curves, np.array(found.logits)
    assert list(curves["shots"]) == ["4", "65536"] and list(curves["noise"]) == ["0.0", "1.0", "8.0"]
    for rows in (*curves["shots"].values(), *curves["noise"].values()):
        assert len(rows) == len(data.test) and set(rows) <= {0, 1, 2, 3}
    agree = {shots: np.mean(np.array(rows) == curves["noise"]["1.0"]) for shots, rows in curves["shots"].items()}
    assert agree["65536"] > 0.9 and agree["65536"] > agree["4"]
    assert logits.shape == np.array(found.measured).shape
    exact = trial.run_trial(student, data, 0, replace(asked, sims=("exact",)))
    assert exact.logits == trial.run_trial(student, data, 0).logits and exact.measured is None


def test_a_report_shows_the_curves_and_says_what_was_trained_under(corpus, tmp_path):
    spec = CompareSpec(
        students=("hardware", "linear"),
        seeds=2,
        sims=("exact", "aer-noisy"),
        shot_counts=(8, 512),
        noise_scales=(1.0, 4.0),
        train_texts=(40, "all"),
    )
    found = compare(None, spec, **options(corpus, tmp_path, **NOISE, name="curves"))
    assert [point.shots for point in found.shot_curves["hardware"]] == [8, 512]
    assert [point.noise for point in found.noise_curves["hardware"]] == [1, 4]
    assert set(found.shot_curves) == {"hardware"}  # a linear student has neither
    assert found.students["hardware"].measured_drop and found.students["linear"].measured_drop is None
    page = Path(found.report)
    markdown = page.with_name("report.md").read_text()
    assert "trained ideally" in markdown and "drop under noise and shots" in markdown
    assert "Accuracy against shots" in markdown and "gate errors" in markdown
    assert page.read_text().count("<svg role=") == 5
    assert "--shot-counts 8,512 --noise-scales 1.0,4.0" in found.command
    noisy = compare(
        None,
        CompareSpec(students=("hardware", "linear"), seeds=2, sims=("aer-noisy",)),
        **{**options(corpus, tmp_path, **NOISE, name="under")},
    )
    assert "trained under the device's noise" in Path(noisy.report).with_name("report.md").read_text()
    linear = [one.students["linear"].numbers for one in (found, noisy)]
    assert linear[0] == linear[1]  # no noise reaches it


def test_everybody_may_try_as_much_and_validation_texts_choose(corpus, tmp_path):
    spec = CompareSpec(students=("hardware", "mlp", "linear", "logreg"), seeds=1, tune=4)
    given = options(corpus, tmp_path, epochs=3, name="tuned")
    found = compare(None, spec, **given)
    assert list(found.tuned) == ["hardware", "mlp", "linear"]  # the regression has its own search
    assert all(one.trials == 4 for one in found.tuned.values())
    tries = [json.loads(path.read_text()) for path in (tmp_path / "tuned" / "tuning").glob("*.json")]
    assert len(tries) == 12
    config = settled(Config(), given)
    for student in make_candidates(["hardware", "mlp", "linear"], config):
        settings = [
            (one.config.train.lr, one.config.train.weight_decay, one.config.student.dropout)
            for one in tuning_candidates(student, 4)
        ]
        assert settings[0] == (0.03, 0.0, 0.5)  # its own come first
        assert settings == [
            (one.config.train.lr, one.config.train.weight_decay, one.config.student.dropout)
            for one in tuning_candidates(make_candidates(["linear", "mlp"], config)[0], 4)
        ]
        assert tuple(found.tuned[student.name].settings.values()) in settings
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tuned").rglob("*/*.json")}
    again = compare(None, spec, **given)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert again.differences == found.differences
    assert "Settings chosen by the validation texts" in Path(found.report).with_name("report.md").read_text()


def test_the_chosen_try_has_the_smallest_validation_loss(setting):
    from qkd.experiments.trial import tune_students

    config, data, *_ = setting
    students = make_candidates(["linear", "logreg"], config)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        chosen, told = tune_students(
            students, dict.fromkeys(("linear", "logreg"), data), {"linear": "x"}, 5, Path(folder)
        )
    losses = [trial.run_validation(one, data, 0).valid_loss for one in tuning_candidates(students[0], 5)]
    assert chosen[0].config == tuning_candidates(students[0], 5)[int(np.argmin(losses))].config
    assert chosen[1] is students[1] and list(told) == ["linear"]


def test_a_static_table_and_a_small_transformer_from_a_folder_take_part(corpus, tmp_path):
    folder = save_model(tmp_path / "model", sentences=pd.read_csv(corpus / "texts.csv")["t"])
    names = ("hardware", f"encoder:static:{folder}?dim=16", f"encoder:{folder}", f"transformer:{folder}")
    given = options(corpus, tmp_path, epochs=2, tune_encoder=1, tune_epochs=2, tune_lr=0.001, name="folders")
    found = compare(None, CompareSpec(students=names, seeds=1), **given)
    rows = found.students
    assert [rows[name].parameters.quantum for name in names[1:]] == [0, 0, 0]
    assert rows[names[1]].encoder.startswith("static:") and rows[names[2]].encoder.startswith(str(folder))
    assert rows[names[1]].parameters.encoder and rows[names[2]].parameters.encoder > 10_000
    assert set(found.differences) == set(names[1:])
    assert rows[names[3]].parameters == rows[names[2]].parameters


def test_a_transformer_that_trains_with_its_student_learns_more(corpus, tmp_path):
    from qkd.core.runs import RunFolder
    from qkd.experiments.compare import candidate_data

    folder = save_model(tmp_path / "model", sentences=pd.read_csv(corpus / "texts.csv")["t"])
    given = options(corpus, tmp_path, epochs=2, tune_encoder=1, tune_epochs=3, tune_lr=0.0001)
    config = settled(Config(), given)
    inputs = prepare_inputs(config, RunFolder(tmp_path / "texts"), False, Clock())
    students = make_candidates([f"encoder:{folder}", f"transformer:{folder}"], config)
    data, _ = candidate_data(inputs, students, config)
    data = {name: replace(one, valid=one.train) for name, one in data.items()}  # can it learn at all?
    frozen, tuned = (trial.run_validation(student, data[student.name], 0) for student in students)
    assert tuned.valid_loss < frozen.valid_loss and tuned.epochs == frozen.epochs + 3
    answers = [trial.run_trial(student, data[student.name], 0).logits for student in students]
    assert np.abs(np.subtract(*answers)).max() > 1e-3


@pytest.mark.parametrize("model", ["hashing", "hashing:64", "static:minilm", "minilm+hashing"])
def test_what_has_no_layers_is_refused_before_a_teacher_is_asked(model):
    with pytest.raises(QkdError, match=r"has no layers to train; name one transformer"):
        make_candidates(["hardware", f"transformer:{model}"], Config())


def test_the_recipe_stands_there_as_published_and_tuned(corpus, tmp_path):
    from qkd.studies import reproduce

    given = options(corpus, tmp_path, epochs=2, name="again")
    del given["lr"], given["layers"]
    found = reproduce(seeds=2, students=("hardware", "linear"), deviations=("js",), tune=3, **given)
    assert list(found.students) == ["qdllm", "qdllm, js", "qdllm, tuned", "hardware", "linear"]
    assert list(found.tuned) == ["qdllm, tuned", "hardware", "linear"]
    beside = found.reproduction.beside
    assert beside.reference == "hardware" and set(beside.differences) == {"qdllm", "qdllm, tuned", "linear"}
    accuracy = {name: row.numbers.accuracy.value for name, row in found.students.items()}
    for name, judged in beside.differences.items():
        assert judged.value == pytest.approx(accuracy["hardware"] - accuracy[name])


def test_a_cluster_gives_the_same_comparison_and_the_same_sweep(cluster, corpus, tmp_path):
    pytest.importorskip("optuna")
    from qkd.experiments.specs import SweepSpec
    from qkd.studies import sweep
    from tests.test_compare import without_times
    from tests.test_sweep import without_times as without_seconds

    spec = CompareSpec(students=("hardware", "linear", "logreg"), seeds=2)
    search = SweepSpec(over=("lr=0.001..0.1", "layers=1,2"), trials=6, parallel=3, seeds=1)
    given = options(corpus, tmp_path, epochs=2)
    compared, swept = [], []
    for where in (None, "local"):
        compared.append(without_times(compare(None, spec, ray=where, **given, name=f"compare-{where}").to_dict()))
        swept.append(without_seconds(sweep(None, search, ray=where, **given, name=f"sweep-{where}").to_dict()))
    assert compared[0] == compared[1] and swept[0] == swept[1]


def test_exact_values_are_the_default_of_a_trial():
    assert Conditions() == EXACT and EXACT.trainer() is None
    with pytest.raises(QkdError, match="students"):
        validated(CompareSpec, {"students": ("one",)})
