"""A run folder, a bundle and a device run of every version before are read as they were, and gone on with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from qkd import Run, Student, api
from qkd.devices import snapshot
from qkd.hardware import collect, listed
from qkd.hardware.result import read_result
from tests.processes import qkd

VERSIONS = sorted((Path(__file__).parent / "kept").iterdir())


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def kept(request, tmp_path, monkeypatch):
    """A copy, in the working folder that its configuration names files of."""
    shutil.copytree(request.param, tmp_path / "kept")
    (tmp_path / "kept" / "runs").mkdir()
    (tmp_path / "kept" / "run").rename(tmp_path / "kept" / "runs" / "kept")
    monkeypatch.chdir(tmp_path / "kept")
    return Path("runs/kept").resolve()


def test_a_students_answers_are_what_they_were(kept):
    told = json.loads(Path("answers.json").read_text())
    for folder in (kept, kept / "student"):
        np.testing.assert_allclose(Student.load(folder).logits(told["texts"]), told["logits"], atol=1e-5)


def test_a_runs_numbers_are_what_they_were(kept):
    run = Run(kept)
    accuracy = run.metrics["lines"]["student, ideal device"]["numbers"]["accuracy"]
    assert f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in run.table()
    before = json.loads((kept / "metrics.json").read_text())["lines"]["student, ideal device"]["numbers"]["accuracy"]
    assert accuracy.to_json() == before
    assert api.evaluate(kept).numbers.accuracy.to_json() == pytest.approx(before)
    line = run.metrics.lines["student"]
    assert line.parameters.to_json() == {"classical": 40, "quantum": 6, "encoder": 0}
    assert len(run.history) == run.metrics["training"]["epochs"] and len(run.predictions) == 24
    assert snapshot.read_snapshot(kept / "device" / "snapshot.json").name == "fake_manila"


def test_a_device_run_is_listed_and_shown(kept):
    rows, damaged = listed(kept)
    assert damaged == [] and [row["state"] for row in rows] == ["saved"]
    assert collect(kept) == []
    assert read_result(kept / "hardware" / "hw-1" / "result.json").error.value == pytest.approx(0.0534195)
    [again] = collect(kept, "hw-1")
    before = json.loads((kept / "hardware" / "hw-1" / "result.json").read_text())
    assert [list(row.evs) for row in again.result.rows] == [row["evs"] for row in before["rows"]]
    assert "mitigation readout" in qkd("jobs", "show", "hw-1", "--run", str(kept), check=True).stdout


def test_training_goes_on(kept):
    before = Run(kept).history
    longer = api.distill(resume=True, name="kept", epochs=6)
    assert longer.history[: len(before)] == before and len(longer.history) == 6
    assert longer.metrics["finished"]
