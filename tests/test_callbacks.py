"""Callbacks follow the stages, epochs and jobs of a run, and none of them can end it."""

import importlib.util
import json
import sys
import time

import pandas as pd
import pytest

import qkd
from qkd.core.errors import ConfigError

SMALL = {"encoder": "hashing:16", "epochs": 2, "qubits": 3, "layers": 1, "diagnose": False, "quiet": True}


@pytest.fixture
def options(corpus, tmp_path):
    """A run of two epochs with two trainings."""
    table = pd.read_csv(corpus / "texts.csv")
    data = {"data": (list(table.t), list(table.y)), "teacher": f"logits:{corpus / 'logits.csv'}"}
    return {**data, "runs": tmp_path / "runs", **SMALL}


class Recorder(qkd.Callback):
    """Keeps every call."""

    def __init__(self):
        self.calls = []

    def on_stage(self, stage, numbers):
        self.calls.append(("stage", stage, dict(numbers)))

    def on_epoch(self, training, epoch, numbers):
        self.calls.append(("epoch", training, epoch, dict(numbers)))

    def on_job(self, plan, event, facts):
        self.calls.append(("job", plan, event, dict(facts)))


class Broken:
    """Fails at the first epoch."""

    calls = 0

    def on_epoch(self, training, epoch, numbers):
        self.calls += 1
        raise RuntimeError("no disk")


def test_callbacks_follow_a_run_and_its_device_jobs(options, said):
    recorder, broken = Recorder(), Broken()
    run = qkd.distill(callbacks=[broken, recorder], **options)
    stages = [call[1] for call in recorder.calls if call[0] == "stage"]
    assert stages == ["data", "encoder", "teacher", "controls", "training", "evaluation", "test"]
    epochs = [call for call in recorder.calls if call[0] == "epoch"]
    assert [call[1:3] for call in epochs[:2]] == [("training", 1), ("training", 2)]
    controls = [call[1:3] for call in epochs[2:]]
    assert controls == [("linear", epoch + 1) for epoch in range(len(controls))] and 2 < len(controls) <= 10
    assert [call[3]["valid_loss"] for call in epochs[:2]] == [row["valid_loss"] for row in run.history]
    assert recorder.calls[-1][2]["accuracy_student"] == run.metrics.lines["student"].numbers.accuracy.value
    assert broken.calls == 1 and sum("no disk" in line for line in said()) == 1
    recorder.calls.clear()
    qkd.run_hardware(
        run,
        device="fake_manila",
        local=True,
        samples=2,
        shots=64,
        mitigation="none",
        callbacks=[recorder],
        quiet=True,
    )
    events = [call[2] for call in recorder.calls]
    assert events[0] == "planned" and events[-1] == "saved" and {call[0] for call in recorder.calls} == {"job"}
    ledger = [json.loads(line)["event"] for line in (run.folder.hardware / "ledger.jsonl").read_text().splitlines()]
    assert events == ledger


@pytest.mark.parametrize("callbacks", [[object()], [Recorder], Recorder(), "tensorboard", [None]])
def test_what_is_no_callback_is_refused(options, callbacks):
    with pytest.raises(ConfigError, match="callback"):
        qkd.distill(callbacks=callbacks, **options)


def test_a_tracker_that_is_not_installed_is_named(options, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("qkd.core.callbacks.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install mlflow-skinny"):
        qkd.distill(track="mlflow", **options)
    with pytest.raises(ConfigError, match="track"):
        qkd.distill(track="excel", **options)


@pytest.mark.parametrize(
    ("package", "extra", "wrong"),
    [
        ("datasets", "hf", {"data": "hf:nowhere"}),
        ("peft", "lora", {"teacher": "lora:nowhere"}),
        ("httpx", "api", {"teacher": "api:nowhere"}),
    ],
)
def test_a_missing_extra_is_named_before_anything_slow(options, monkeypatch, package, extra, wrong):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf" needs {package}, .* run pip install 'qkd-llm\[{extra}\]'"):
        qkd.distill(**options | wrong)


def test_tensorboard_has_every_epoch(options):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = qkd.distill(track="tensorboard", **options)
    events = EventAccumulator(str(run.folder.path / "tensorboard")).Reload()
    losses = events.Scalars("training/valid_loss")
    assert [event.step for event in losses] == [1, 2]
    assert [event.value for event in losses] == pytest.approx([row["valid_loss"] for row in run.history])
    assert events.Scalars("test/accuracy_student")[0].value == pytest.approx(
        run.metrics.lines["student"].numbers.accuracy.value
    )


def test_mlflow_has_settings_and_every_epoch(options, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = qkd.distill(track="mlflow", **options)
    client = mlflow.MlflowClient()
    [stored] = client.search_runs([client.get_experiment_by_name("qkd").experiment_id])
    assert stored.info.status == "FINISHED" and stored.data.params["epochs"] == "2"
    values = client.get_metric_history(stored.info.run_id, "training/valid_loss")
    assert [value.value for value in values] == pytest.approx([row["valid_loss"] for row in run.history])


def test_wandb_writes_offline_runs(options, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = qkd.distill(track="wandb", **options)
    [folder] = (run.folder.path / "wandb").glob("offline-run-*")
    until = time.monotonic() + 20  # a process of wandb's own writes the file
    while not any(path.suffix == ".wandb" and path.stat().st_size > 500 for path in folder.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.2)


def test_trackio_has_every_epoch(options, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    run = qkd.distill(track="trackio", **options)
    files = [path for path in (tmp_path / "trackio").rglob("*") if path.is_file()]
    assert run.metrics.finished and any(path.stat().st_size for path in files)
