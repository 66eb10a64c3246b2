"""A student is trained further on new texts, and compared with the one before on texts that neither learned from."""

import numpy as np
import pandas as pd
import pytest

import qkd
from qkd.core.errors import QkdError
from qkd.data.hashes import text_hashes
from tests.processes import qkd as command
from tests.test_distill import options


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A run on half of the texts, and one that continues with others, some of which the first knows."""
    folder = tmp_path_factory.mktemp("runs")
    table = pd.read_csv(corpus / "texts.csv").sample(frac=1, random_state=0)
    table[:120].to_csv(folder / "old.csv", index=False)
    old = qkd.distill(**options(corpus, folder, data=str(folder / "old.csv"), epochs=3, qubits=3, name="old"))
    new = qkd.distill(continue_from=old.folder.path, data=table[60:], runs=folder, name="new", epochs=1)
    return old, new


def test_a_bundle_knows_the_texts_of_its_splits(runs):
    old, _ = runs
    tested = text_hashes([row.text for row in old.predictions])
    assert sorted(old.student.hashes["test"]) == sorted(tested)
    sizes = {name: len(rows) for name, rows in old.student.hashes.items()}
    assert sizes == old.metrics.texts
    assert text_hashes(["One  text\n"]) == text_hashes(["one text"]) != text_hashes(["another"])


def test_no_test_text_was_learned_by_either(runs):
    old, new = (run.student.hashes for run in runs)
    for learned in ("train", "valid"):
        assert not np.isin(new["test"], old[learned]).any() and not np.isin(old["test"], new[learned]).any()
    assert np.isin(old["test"], new["test"]).any() and np.isin(old["train"], new["train"]).any()


def test_training_starts_from_the_student_before_with_its_settings(runs):
    old, new = runs
    assert new.config.student == old.config.student and new.config.encoder == old.config.encoder
    assert new.config.data.text_column == "t" and new.config.train.epochs == 1
    before, after = (run.student.model.quantum.weights.detach().numpy() for run in runs)
    assert 0 < np.abs(after - before).max() < 0.2  # one epoch away
    scale, other = (run.student.model.scale.numpy() for run in runs)
    assert np.array_equal(scale, other)


def test_both_are_compared_on_the_same_texts_and_one_is_recommended(runs):
    old, new = runs
    found = new.metrics.continued
    texts, labels = zip(*((row.text, row.label) for row in new.predictions), strict=True)
    scores = [np.mean(np.array(run.student.predict(texts)) == labels) for run in (old, new)]
    assert found.gain.value == pytest.approx(scores[1] - scores[0]) and found.run == "old"
    kept = [qkd.evaluate(run, ([r.text for r in old.predictions], [r.label for r in old.predictions])) for run in runs]
    accuracies = [evaluation.numbers.accuracy.value for evaluation in kept]
    assert found.kept.value == pytest.approx(accuracies[1] - accuracies[0])
    verdicts = {found.gain.verdict, found.kept.verdict}
    assert (found.deploy == "new") == ("better" in verdicts and "worse" not in verdicts)
    assert found.sentence in repr(new) and "before" in new.to_frame().index


def test_training_texts_are_told_when_they_are_evaluated(runs, corpus, said):
    old, _ = runs
    qkd.evaluate(old, corpus / "texts.csv")
    assert any(f"{old.metrics.texts['train']} of 240 texts are training texts" in line for line in said())


def test_without_new_texts_a_run_continues_with_its_own(runs):
    old, _ = runs
    more = qkd.distill(continue_from=old.folder.path, runs=old.folder.path.parent, epochs=1, quiet=True)
    assert more.config.data == old.config.data.model_copy(update={"continue_from": old.folder.path})
    assert {row.text for row in more.predictions} == {row.text for row in old.predictions}


def test_what_cannot_continue_is_told(runs, corpus, tmp_path):
    old, _ = runs
    texts = pd.read_csv(corpus / "texts.csv")
    given = {"runs": tmp_path, "epochs": 1, "continue_from": old.folder.path}
    with pytest.raises(QkdError, match=r"but the student in .* knows"):
        qkd.distill(**given, data=texts[texts["y"] != "torch"])
    other = {"qubits": 4, "encoder": "hashing:32", "circuit": "product", "angle_map": "minmax"}
    for name, value in other.items():
        with pytest.raises(QkdError, match=rf"{name} is {value}, and the student in .* has "):
            qkd.distill(**given, data=texts, **{name: value})
    done = command("distill", "--continue", str(tmp_path / "none"), "--data", "x.csv", "--runs", str(tmp_path))
    assert done.returncode == 1 and "no run in this folder" in done.stderr
