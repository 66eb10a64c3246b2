"""Many students side by side: one table, paired differences, a verdict that numbers allow, and nothing done twice."""

import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from qkd import QkdError
from qkd.core.records import read_record
from qkd.experiments.specs import CompareSpec
from qkd.results import Comparison, PairedDifference
from qkd.simulation import diagnostics
from qkd.student.verdicts import compare_accuracies, conclude, holm, mean_over_seeds_and_texts
from qkd.studies import compare
from tests.processes import qkd, signalled
from tests.test_distill import options

STUDENTS = ("hardware", "qdllm", "product", "linear", "mlp", "fourier", "teacher-free", "logreg")


@pytest.fixture(scope="module")
def found(corpus, tmp_path_factory):
    """One comparison of everything."""
    folder = tmp_path_factory.mktemp("runs")
    spec = CompareSpec(students=STUDENTS, seeds=2, sims=("exact", "aer"), train_texts=(40, "all"))
    return compare(None, spec, **options(corpus, folder, name="all", epochs=3, shots=64))


def test_python_gets_tables_and_pictures(found):
    mpl.use("Agg")
    frame, differences, curves = found.to_frame(), found.to_frame("differences"), found.to_frame("curves")
    assert list(frame.index) == list(STUDENTS) and list(differences.index) == list(STUDENTS[1:])
    judged = found.differences["linear"]
    assert differences.loc["linear", ["value", "low", "verdict"]].tolist() == [judged.value, judged.low, judged.verdict]
    first = found.students["hardware"].numbers.accuracy
    assert frame.loc["hardware", ["accuracy", "accuracy_high"]].tolist() == [first.value, first.high]
    assert set(curves.loc["hardware", "at"]) == {40, found.texts["train"]}
    assert found.conclusion in repr(found) and "<svg" in found._repr_html_() and "<table>" in found._repr_html_()
    names = [label.get_text() for label in found.plot_accuracies().get_yticklabels()]
    assert names == list(reversed(STUDENTS))
    for axes in (found.plot_differences(), found.plot_reliability(), found.plot_curves()):
        assert axes.has_data()
    plt.close("all")


def test_every_student_has_a_row_with_its_size_and_times(found):
    assert list(found.students) == list(STUDENTS) and found.reference == "hardware"

    def total(size):
        return size.classical + size.quantum + size.encoder

    sizes = {name: row.parameters for name, row in found.students.items()}
    quantum = [name for name, size in sizes.items() if size.quantum]
    assert quantum == ["hardware", "qdllm", "product", "teacher-free"]
    for name, row in found.students.items():
        for number in dict(row.numbers.items()).values():
            assert 0 <= number.low <= number.value <= number.high <= 1
        assert (row.measured_drop is not None) == (name in quantum)
        assert row.trials == (1 if name == "logreg" else 2) and row.ms_per_text > 0
    assert sizes["linear"].classical == sizes["hardware"].classical
    assert abs(total(sizes["mlp"]) - total(sizes["hardware"])) <= 9  # a hidden unit more or less
    assert sizes["teacher-free"] == sizes["hardware"]
    assert [found.students[name].epochs for name in ("hardware", "linear", "mlp")] == [3, 15, 15]


def test_differences_are_paired_and_the_curve_ends_where_the_table_stands(found):
    accuracy = {name: row.numbers.accuracy.value for name, row in found.students.items()}
    assert list(found.differences) == list(STUDENTS[1:])
    for name, judged in found.differences.items():
        assert judged.value == pytest.approx(accuracy["hardware"] - accuracy[name])
        assert judged.low <= judged.value <= judged.high
        assert judged.p <= judged.p_holm <= 1
        points = f"({100 * judged.value:+z.1f} points, {100 * judged.low:+z.1f} to {100 * judged.high:+.1f}"
        assert points in judged.sentence and name in judged.sentence
    for name, curve in found.curves.items():
        assert [point.texts for point in curve] == [40, found.texts["train"]]
        assert curve[-1].value == pytest.approx(accuracy[name])


def test_page_markdown_and_json_say_the_same(found):
    from pathlib import Path

    page = Path(found.report)
    kept = json.loads(page.with_name("comparison.json").read_text())
    assert kept == {key: value for key, value in found.to_dict().items() if key != "report"}
    assert read_record(page.with_name("comparison.json"), Comparison, "").to_dict() == kept
    assert "measured_drop" not in kept["students"]["linear"] and "reproduction" not in kept
    markdown, html = page.with_name("report.md").read_text(), page.read_text()
    for judged in kept["differences"].values():
        assert judged["sentence"] in markdown
    assert kept["conclusion"] in markdown and kept["command"] in markdown
    for name, row in kept["students"].items():
        number = row["numbers"]["accuracy"]
        cell = f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"
        assert f"| {name} | {cell} |" in markdown and cell in html
    assert html.count("<svg role=") == 3


def without_times(summary):
    """Return a comparison's numbers, but for seconds and the folder."""
    kept = json.loads(json.dumps(summary))
    for row in kept["students"].values():
        del row["seconds"], row["ms_per_text"]
    return {key: value for key, value in kept.items() if key not in ("seconds", "command", "report")}


def test_a_killed_comparison_goes_on_to_the_same_numbers(corpus, tmp_path):
    spec = CompareSpec(students=("hardware", "linear", "logreg"), seeds=2)
    given = options(corpus, tmp_path, epochs=2)
    whole = compare(None, spec, **{**given, "name": "whole"})
    words = [f"--{name.replace('_', '-')}={value}" for name, value in {**given, "name": "killed"}.items()]
    words = ["compare", "--students=hardware,linear,logreg", "--seeds=2", *words]
    signalled(*words, after="qkd.experiments.trial:write_json")
    trials = tmp_path / "killed" / "trials"
    before = {path: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    assert len(before) == 1
    done = qkd(*words, "--json", check=True)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert without_times(json.loads(done.stdout)) == without_times(whole.to_dict())


def test_mistakes_are_found_before_any_work(corpus, tmp_path, monkeypatch):
    given = options(corpus, tmp_path)
    for students, words in (
        (("hardware", "liner"), "linear"),
        (("linear", "linear"), "twice"),
        (("hardware", "nowhere.toml"), "nowhere"),
    ):
        with pytest.raises(QkdError, match=words):
            compare(None, CompareSpec(students=students), **given)
    for sims in (("exact", "aer", "aer-noisy"), ("aer", "aer"), ()):
        with pytest.raises(QkdError, match="two that differ"):
            compare(None, CompareSpec(sims=sims), **given)
    with pytest.raises(QkdError, match="add aer-noisy to sims"):
        compare(None, CompareSpec(noise_scales=(1.0, 2.0)), **given)
    monkeypatch.setattr(diagnostics, "MAX_DIFFERENCE", -1.0)  # no circuit is like itself then
    with pytest.raises(QkdError, match="would be saved as another one"):
        compare(None, CompareSpec(students=("linear", "hardware")), **given)
    assert not list(tmp_path.rglob("trials"))


def test_a_run_lends_its_settings(corpus, tmp_path):
    from qkd import api

    run = api.distill(**options(corpus, tmp_path, name="run", epochs=1))
    summary = compare(run.folder.path, CompareSpec(students=("hardware", "linear"), seeds=1))
    ours = run.metrics.lines["student"].numbers.accuracy.value
    assert summary.students["hardware"].numbers.accuracy.value == ours  # the same seed, the same student
    assert "compare-texts" in summary.report


def test_settings_that_a_comparison_does_not_look_at_are_told(corpus, tmp_path, capsys):
    given = options(corpus, tmp_path, epochs=1, sim="aer-noisy", tune_encoder=1)
    compare(None, CompareSpec(students=("product", "linear"), seeds=1), **given)
    told = capsys.readouterr().err
    assert "sim is ignored" in told and "tune_encoder is for transformer: students" in told


def simulated(rng, gap, seeds, texts, own=0.3):
    """Return (S,N) paired differences of two students whose accuracies differ by about ``gap``."""
    common = rng.normal(0.9, 2.5, texts)
    rows = []
    for shift in (gap * 9.0, 0.0):  # about nine logits a unit of accuracy where texts are as hard as these
        logit = common + shift + rng.normal(0, own, texts) + rng.normal(0, 0.05, (seeds, 1))
        rows.append((rng.random((seeds, texts)) < 1 / (1 + np.exp(-logit))).astype(float))
    return rows[0] - rows[1]


def verdicts(gap, seeds, texts, margin, count, salt):
    """Return the verdicts on ``count`` simulated comparisons."""
    found = []
    for number in range(count):
        rows = simulated(np.random.default_rng([number, salt]), gap, seeds, texts)
        found.append(compare_accuracies("a", rows, {"b": np.zeros((1, texts))}, margin)["b"])
    return found


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_equal_students_are_rarely_better_or_worse(seeds):
    found = verdicts(0, seeds, 300, 0.01, 200, seeds)
    if seeds > 1:  # with one seed the verdict is on that seed alone
        assert np.mean([one.verdict in ("better", "worse") for one in found]) <= 0.08
        assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.92
    assert all(one.texts_needed > 300 for one in found if one.verdict == "undecided" and one.texts_needed)


def test_a_difference_as_large_as_the_margin_is_rarely_equivalent_and_none_often_is():
    rows = [one.verdict for one in verdicts(0, 5, 4000, 0.03, 40, 5)]
    assert np.mean([verdict == "equivalent" for verdict in rows]) >= 0.9
    found = verdicts(0.02, 5, 4000, 0.0, 100, 6)
    margin = float(np.mean([one.value for one in found]))
    at_the_margin = verdicts(0.02, 5, 4000, margin, 100, 6)
    assert np.mean([one.verdict == "equivalent" for one in at_the_margin]) <= 0.08


def test_a_difference_of_three_points_is_found():
    found = [
        mean_over_seeds_and_texts(simulated(np.random.default_rng([number, 7]), 0.03, 10, 500)) for number in range(60)
    ]
    assert np.mean([one.p_different() <= 0.05 and one.value > 0 for one in found]) >= 0.8
    assert np.mean([one.value for one in found]) == pytest.approx(0.03, abs=0.006)
    spread = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.35)


def test_identical_answers_are_equivalent_only_with_enough_texts():
    few, many = (compare_accuracies("a", np.ones((1, n)), {"b": np.ones((1, n))}, 0.01)["b"] for n in (50, 400))
    assert (few.verdict, many.verdict) == ("undecided", "equivalent")
    assert few.low < -0.01 and 200 <= few.texts_needed <= 400 and "margin 1)" in many.sentence


def test_the_number_of_texts_that_would_decide_does_decide():
    rng = np.random.default_rng(3)
    rows = rng.choice([-1.0, 0.0, 1.0], (1, 400), p=[0.05, 0.9, 0.05])
    nothing = {"b": np.zeros((1, 1))}
    short = compare_accuracies("a", rows, nothing, 0.02)["b"]
    assert short.verdict == "undecided" and f"{short.texts_needed:,} texts would decide" in short.sentence
    longer = np.tile(rows, -(-short.texts_needed // 400))[:, : short.texts_needed]
    assert compare_accuracies("a", longer, nothing, 0.02)["b"].verdict != "undecided"
    seeds = np.repeat([[0.3], [-0.3], [0.1]], 400, axis=1)  # seeds differ, texts do not
    alone = compare_accuracies("a", seeds, nothing, 0.02)["b"]
    assert alone.texts_needed is None and "more seeds" in alone.sentence


def test_one_seed_gives_the_interval_over_texts():
    rows = (np.random.default_rng(1).random((1, 400)) < 0.5).astype(float) - 0.5
    found = mean_over_seeds_and_texts(rows)
    assert found.error == pytest.approx(rows.std(ddof=1) / 20, rel=0.02)
    interval = found.interval()
    assert interval.high - interval.low == pytest.approx(2 * 1.966 * found.error, rel=0.01)


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(2)
    rows = rng.normal(0, 0.3, (5, 400))
    steady, restless = (mean_over_seeds_and_texts(rows + rng.normal(0, s, (5, 1))) for s in (0.0, 0.1))
    assert restless.error > 2 * steady.error
    assert restless.freedom < 6  # five seeds know their spread badly, and the interval says so


def test_holm_is_holms():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]) == [0.5]


def test_the_conclusion_agrees_with_every_verdict():
    def judged(**words):
        numbers = dict.fromkeys(("value", "low", "high", "p", "p_holm"), 0.0)
        return {name: PairedDifference(**numbers, verdict=word) for name, word in words.items()}

    none = conclude("hardware", judged(linear="equivalent", logreg="better", mlp="undecided"))
    assert none.startswith("No benefit of the circuit is shown")
    assert "equivalent to linear" in none and "from mlp is undecided" in none and "logreg" not in none
    assert "worse than logreg" in conclude("hardware", judged(linear="better", logreg="worse"))
    assert conclude("hardware", judged(linear="better", logreg="better")).startswith("A benefit")
    assert "cannot show" in conclude("hardware", {})


def test_the_recipe_is_reproduced_beside_its_deviations(corpus, tmp_path):
    from qkd.studies import reproduce

    given = options(corpus, tmp_path, epochs=2, name="again")
    del given["lr"], given["layers"]
    summary = reproduce(seeds=2, students=("hardware", "logreg"), deviations=("js", "carried"), **given)
    told = summary.reproduction
    assert [row.name for row in told.variants] == ["qdllm", "qdllm, js", "qdllm, carried", "qdllm, all deviations"]
    assert list(summary.students)[4:] == ["hardware", "logreg"]
    honest = told.variants[0]
    assert honest.gain is None
    for row in told.variants[1:]:
        difference = row.accuracy.value - honest.accuracy.value
        assert row.gain.value == pytest.approx(difference)
        assert row.gain.low <= row.gain.value <= row.gain.high
    from pathlib import Path

    markdown = Path(summary.report).with_name("report.md").read_text()
    assert "Adaptations of this reproduction" in markdown and "LLaMA2-7B" in markdown
    with pytest.raises(QkdError, match="qdllm"):
        reproduce("another")


def test_the_shipped_recipe_is_the_papers():
    from qkd.circuits import library
    from qkd.core.config import read_config
    from qkd.experiments.candidates import recipe_file

    recipe = read_config(recipe_file())
    circuit = library.load_circuit(recipe.student.circuit)
    assert (circuit.num_qubits, len(circuit.weights), len(circuit.inputs)) == (11, 144, 11)
    assert recipe.student.angle_map == "minmax" and recipe.student.dropout == 0 and not recipe.student.standardize
    assert (recipe.loss.temperature, recipe.loss.alpha, recipe.train.lr) == (2, 0.5, 0.06)
    assert recipe.train.weight_decay == 0 and not recipe.train.shuffle
