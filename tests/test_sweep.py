"""A sweep checks its space first, trains nothing twice, and distill trains its best settings."""

import json
import statistics
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

pytest.importorskip("optuna")

from qkd import QkdError, api
from qkd.core.config import Config, read_config
from qkd.core.records import read_record
from qkd.core.specs import validated
from qkd.experiments import space
from qkd.experiments.specs import SweepSpec
from qkd.results import Sweep
from qkd.simulation import diagnostics
from qkd.studies import sweep
from tests.processes import qkd, signalled
from tests.test_distill import options

OVER = ("lr=0.0001..0.1", "layers=1..2", "circuit=hardware,reupload", "alpha=0,0.2,0.5")


def given(corpus, folder, **more):
    return {**options(corpus, folder, epochs=8), "diagnose": False, "controls": False, **more}


@pytest.fixture(scope="module")
def found(corpus, tmp_path_factory):
    """A sweep with pruned trials in it."""
    spec = SweepSpec(over=OVER, trials=18, parallel=6, seeds=2)
    return sweep(None, spec, **given(corpus, tmp_path_factory.mktemp("runs"), name="whole"))


def test_python_gets_tables_and_pictures(found):
    mpl.use("Agg")
    frame = found.to_frame()
    assert list(frame.index) == [trial.number for trial in found.trials]
    best, name = found.trials[found.best], found.space[0].name
    assert frame.loc[best.number, name] == best.point[name]
    assert frame.loc[best.number, "valid_accuracy"] == best.valid_accuracy
    assert list(found.to_frame("students").index) == list(found.judged.students)
    assert name in repr(found) and "<svg" in found._repr_html_()
    assert found.plot_trials().has_data() and found.plot_setting(name).get_title() == name
    with pytest.raises(QkdError, match="the sweep searched no setting 'depth'"):
        found.plot_setting("depth")
    plt.close("all")


def without_times(found):
    """Return a sweep's trials and what was judged, but for seconds."""
    trials = found["trials"]
    for trial in trials:
        trial.pop("seconds", None)
    return trials, found["best"], {name: row["value"] for name, row in found["judged"]["differences"].items()}


def test_the_best_is_the_best_and_starts_from_what_was_given(found):
    trials = found.trials
    assert [trial.number for trial in trials] == list(range(18))
    assert trials[0].point == {"lr": 0.03, "layers": 1, "circuit": "hardware", "alpha": 0.2}  # the given point
    whole = [trial for trial in trials if trial.state == "complete"]
    assert max(trial.value for trial in whole) == trials[found.best].value
    assert list(found.judged.students) == ["best", "start", "linear"]
    assert sum(found.importances.values()) == pytest.approx(1)


def test_pruned_trials_were_behind_the_median_of_the_rounds_before(found):
    study = _study(Path(found.report).parent)
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        step = max(trial.intermediate_values)
        earlier = [one for one in study.trials[: trial.number // 6 * 6] if one.state.name == "COMPLETE"]
        there = [one.intermediate_values[step] for one in earlier if step in one.intermediate_values]
        assert max(trial.intermediate_values.values()) < statistics.median(there)
        assert step >= 5


def test_distill_trains_the_best_trial_to_the_same_numbers(found):
    best = found.trials[found.best]
    path = Path(found.report).with_name("best.toml")
    assert found.command == f"qkd distill --config {path}"
    run = api.distill(read_config(path), name="again", runs=str(path.parent.parent))
    assert run.metrics.student.best_valid_loss == pytest.approx(best.valid_loss, abs=1e-6)
    assert run.metrics.student.epochs == best.epochs


def test_page_markdown_and_json_say_the_same(found):
    page = Path(found.report)
    assert json.loads(page.with_name("sweep.json").read_text()) == {
        key: value for key, value in found.to_dict().items() if key != "report"
    }
    assert read_record(page.with_name("sweep.json"), Sweep, "") == found.model_copy(update={"report": None})
    pruned = next(trial for trial in found.to_dict()["trials"] if trial["state"] == "pruned")
    assert "valid_loss" not in pruned
    markdown, html = page.with_name("report.md").read_text(), page.read_text()
    best = found.trials[found.best]
    for text in (markdown, html):
        assert found.command in text and f"{best.valid_accuracy:.3f}" in text
    for judged in found.judged.differences.values():
        assert judged.sentence in markdown and judged.sentence in html


def _study(folder):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name="study", storage=storage)


def test_a_killed_sweep_goes_on_to_the_same_end(found, corpus, tmp_path):
    settings = given(corpus, tmp_path, name="killed")
    flags = {False: "--no-{}", True: "--{}"}
    words = [
        flags[value].format(name) if isinstance(value, bool) else f"--{name.replace('_', '-')}={value}"
        for name, value in settings.items()
    ]
    words += [f"--over={word}" for word in OVER] + ["--trials=18", "--parallel=6", "--seeds=2"]
    signalled("sweep", *words, after="qkd.experiments.sweep:progress_line", times=8)  # in the second round of six
    journal = tmp_path / "killed" / "study.journal"
    kept = journal.read_bytes()
    assert len(_study(tmp_path / "killed").trials) == 8
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # a line that was being written
    done = qkd("sweep", *words, "--json", "-q", check=True)
    assert journal.read_bytes().startswith(kept)
    assert without_times(json.loads(done.stdout)) == without_times(found.to_dict())


def test_a_folder_holds_one_search(found, corpus):
    folder = Path(found.report).parent.parent
    with pytest.raises(QkdError, match="holds another search"):
        sweep(None, SweepSpec(over=("lr=0.01,0.1",), trials=2, parallel=6), **given(corpus, folder, name="whole"))


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("lrr", "did you mean 'lr'"),
        ("patience", "has no values"),
        ("lr=0.1..0.01", "smaller number to a larger"),
        ("lr=a..b", "'a' is not a number"),
        ("layers=1.5..3", "whole number"),
        ("layers=1,1", "different values"),
        ("lr=-1,0.1", "greater than 0"),
        ("alpha=0..2", "less than or equal to 1"),
        ("teacher=probe:minilm", "no setting of that name"),
        ("circuit=hardwere", "did you mean 'hardware'"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_any_work(word, sentence):
    with pytest.raises(QkdError, match=sentence):
        space.dimensions([word], Config())


@pytest.mark.parametrize("word", ["circuit=hardware,qdllm", "layers=1..2", "lr=0.01,0.1"])
def test_circuits_that_cannot_be_saved_are_refused_before_any_work(word, monkeypatch):
    monkeypatch.setattr(diagnostics, "MAX_DIFFERENCE", -1.0)  # no circuit is like itself then
    with pytest.raises(QkdError, match="would be saved as another one"):
        space.dimensions([word], Config())


def test_losses_that_cannot_be_compared_choose_nothing():
    with pytest.raises(QkdError, match="cannot be compared"):
        validated(SweepSpec, {"over": ("alpha=0,1", "lr=0.1,1"), "goal": "loss"})
    with pytest.raises(QkdError, match="twice"):
        space.dimensions(["lr=0.1,1", "lr=0.1..1"], Config())


def test_a_space_is_typed_as_it_is_described():
    words = ("lr=0.001..0.1", "layers=1..3", "encoder=minilm?layers=4,6|hashing:64", "batch-size=16,32")
    words += ("weight-decay=0..0.5",)
    dimensions = space.dimensions(words, Config())
    assert space.dimensions([one.describe() for one in dimensions], Config()) == dimensions
    lr, layers, encoder, batch, decay = dimensions
    assert lr.logarithmic and not decay.logarithmic and not layers.logarithmic
    assert encoder.values == ("minilm?layers=4,6", "hashing:64") and batch.values == (16, 32)
    assert space.value_at(Config(), "qubits") == 11


def test_trials_that_cannot_be_done_are_told_and_others_go_on(corpus, tmp_path):
    (tmp_path / "z3.toml").write_text(
        'name = "z3"\ndescription = "reads qubit 3"\nqubits = 4\nlayers = 1\nobservables = ["Z3"]\n'
        '[encoding]\nrotations = ["ry"]\n[ansatz]\nrotations = ["ry"]\nentangler = "cz"\npattern = "line"\n'
    )
    spec = SweepSpec(over=("qubits=2..4", f"circuit={tmp_path / 'z3.toml'},hardware"), trials=8, parallel=4, seeds=1)
    settings = given(corpus, tmp_path, name="some", epochs=1, qubits=4)
    found = sweep(None, spec, **settings)
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert failed and all("z3" in trial.point["circuit"] and "Z3" in trial.error for trial in failed)
    assert found.trials[found.best].state == "complete"
