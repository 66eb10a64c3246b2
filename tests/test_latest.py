"""``runs/latest`` is a run with a student, whatever fails or is stopped after it."""

import os
import shutil
import stat

import pytest

from qkd import QkdError, api, run_hardware
from qkd.core import runs
from qkd.pipeline import distillation as pipeline
from qkd.student.trainer import Trainer

from .test_distill import options


@pytest.fixture(scope="module")
def good(corpus, tmp_path_factory):
    """A run with a student."""
    return api.distill(**options(corpus, tmp_path_factory.mktemp("latest"), name="good", epochs=1))


MISTAKES = [
    {"data": "typo.csv"},
    {"label_column": "label"},
    {"teacher": "logits:nowhere.csv"},
    {"encoder": "no-such-folder/encoder"},
    {"circuit": "hardwear"},
    {"sim": "aer-noisy", "device": "ibm_brisbain"},
]


def test_no_failed_or_interrupted_command_moves_latest(good, corpus, monkeypatch):
    folder = good.folder.path.parent
    stages = [(pipeline, "prepare_inputs"), (pipeline, "run_trainings"), (Trainer, "run"), (pipeline, "save_run")]
    stops = [(*stage, KeyboardInterrupt) for stage in stages]
    stops += [(*stage, error) for stage, error in zip(stages, (QkdError, OSError, MemoryError, OSError), strict=True)]
    for case in (*MISTAKES, *stops):
        given = options(corpus, folder, epochs=1)
        with monkeypatch.context() as patch:
            if isinstance(case, dict):
                given |= case
            else:
                where, name, error = case

                def stop(*_, error=error, **__):
                    raise error("stopped here")

                patch.setattr(where, name, stop)
            with pytest.raises((QkdError, KeyboardInterrupt, MemoryError, OSError)):
                api.distill(**given)
        assert (folder / "latest").resolve() == good.folder.path, case
        assert len(api.predict(["A sentence about tensors."], run=folder / "latest")) == 1, case
    for left in folder.iterdir():  # an interrupted run can be continued, and a failed one keeps its costly results
        assert left.name == "latest" or (left / "config.toml").is_file()
    for left in folder.iterdir():
        if not left.is_symlink() and left != good.folder.path and not (left / "checkpoint").exists():
            api.distill(**options(corpus, folder, epochs=1, name=left.name), resume=True)
            break
    else:
        pytest.fail("no run was interrupted")


def test_a_failed_run_leaves_no_folder_and_touches_none_that_was_there(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "run_trainings", lambda *_, **__: (_ for _ in ()).throw(QkdError("here")))
    with pytest.raises(QkdError):
        api.distill(**options(corpus, tmp_path / "runs", name="one"))
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(QkdError):
        api.distill(**options(corpus, tmp_path, name="mine"))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_resume_without_a_name_goes_on_with_the_run_that_was_started_last(good, corpus, tmp_path, monkeypatch):
    done = api.distill(**options(corpus, tmp_path, epochs=1))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run_trainings", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            api.distill(**options(corpus, tmp_path, epochs=2))
    assert (tmp_path / "latest").resolve() == done.folder.path
    resumed = api.distill(runs=str(tmp_path), resume=True)
    assert resumed.folder.path != done.folder.path and len(resumed.history) == 2
    assert (tmp_path / "latest").resolve() == resumed.folder.path


def test_resume_refuses_a_configuration_that_is_another(good):
    where = {"runs": str(good.folder.path.parent), "name": "good"}
    other = good.config.model_copy(update={"student": good.config.student.model_copy(update={"qubits": 5})})
    with pytest.raises(QkdError, match=r"student\.qubits is 4, not 5"):
        api.distill(other, resume=True, **where)
    assert api.distill(good.config, resume=True, **where).name == "good"


def test_a_line_separator_inside_a_text_breaks_nothing(corpus, tmp_path):
    texts = (corpus / "texts.csv").read_text().splitlines()
    odd = [line.replace(" ", mark, 1) for line, mark in zip(texts[1:], "\u2028\u2029\x85" * len(texts), strict=False)]
    path = tmp_path / "odd.csv"
    path.write_text("\n".join([texts[0], *odd]) + "\n")
    run = api.distill(**options(corpus, tmp_path / "runs", data=str(path), epochs=1) | {"teacher": _teacher(path)})
    assert any(mark in row.text for row in run.predictions for mark in "\u2028\u2029\x85")
    assert api.evaluate(run.folder.path).texts == len(run.predictions)


def _teacher(path):
    import pandas as pd

    table = pd.read_csv(path)
    logits = pd.get_dummies(table["y"]).astype(float).assign(text=table["t"])
    logits.to_csv(path.with_name("logits.csv"), index=False)
    return f"logits:{path.with_name('logits.csv')}"


def test_texts_and_accounts_are_their_owners_alone_and_other_files_follow_the_umask(corpus, tmp_path):
    before = os.umask(0o027)
    try:
        run = api.distill(**options(corpus, tmp_path, epochs=1))
        run_hardware(run, device="fake_manila", local=True, samples=4, shots=16, mitigation="none")
    finally:
        os.umask(before)
    files = {path.relative_to(run.folder.path): path for path in run.folder.path.rglob("*") if path.is_file()}
    private = {str(name) for name, path in files.items() if stat.S_IMODE(path.stat().st_mode) == 0o600}
    assert {name for name in files if stat.S_IMODE(files[name].stat().st_mode) not in (0o600, 0o640)} == set()
    plan = [f"hardware/hw-1/{name}" for name in ("plan.json", "texts.jsonl", "result.json")]
    assert private == {"predictions.jsonl", "report.html", "hardware/ledger.jsonl", *plan}


def test_what_a_killed_process_left_is_swept(good):
    left = [good.folder.path / ".metrics.json.0a0a0a0a-1.part", good.folder.checkpoint / ".state.json.0a0a0a0a-7.part"]
    for path in left:
        path.write_text("{")
    with runs.RunFolder(good.folder.path).lock():
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_called_latest_and_is_no_link_is_left_alone(good, tmp_path, kind, capfd):
    run = runs.RunFolder(shutil.copytree(good.folder.path, tmp_path / "copy"))
    (tmp_path / "latest").mkdir() if kind == "folder" else (tmp_path / "latest").write_text("mine")
    run.make_latest()
    assert "latest: is no link" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "latest"]
    assert kind == "folder" or (tmp_path / "latest").read_text() == "mine"
