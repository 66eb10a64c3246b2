"""Devices ranked for a student, on snapshots."""

from dataclasses import replace

import numpy as np
import pytest

from qkd import QkdError
from qkd.cli import app
from qkd.core.runs import RunFolder
from qkd.devices import snapshot
from qkd.devices.calibration import Operation
from qkd.devices.region import noise_model, to_region
from qkd.devices.transpile import transpile
from qkd.engines.density import DensityMatrixEstimator
from qkd.hardware.fitness import rank_devices, ranking_rows
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.result import exact_values
from qkd.student.bundle import Student

from .test_layout import trained_on


def scaled(held, factor):
    """A device whose gates and readouts fail so many times as often."""
    told = held.calibration
    gates = {
        name: {place: Operation(min(0.5, factor * (done.error or 0)), done.duration) for place, done in places.items()}
        for name, places in told.gates.items()
    }
    qubits = tuple(
        replace(one, readout_error=None if one.readout_error is None else min(0.45, factor * one.readout_error))
        for one in told.qubits
    )
    return replace(held, calibration=replace(told, gates=gates, qubits=qubits))


def file_of(held, path):
    snapshot.write_snapshot(held.calibration, path)
    return str(path)


def test_the_less_a_device_errs_the_higher_it_stands(folder, tmp_path, capsys):
    held = snapshot.load_snapshot("fake_manila")
    names = [file_of(scaled(held, factor), tmp_path / f"{factor}.json") for factor in (8, 1, 0.1)]
    found = rank_devices(folder, [*names, "fake_nowhere"])
    assert {one.device for one in found} == {"8.json", "1.json", "0.1.json"}
    assert len(found) == 3 and "fake_nowhere is excluded" in capsys.readouterr().err
    by_error = sorted(found, key=lambda one: one.error)
    assert [one.rms for one in by_error] == sorted(one.rms for one in found)
    assert by_error[-1].rms > 3 * by_error[0].rms
    order = [(-one.same.value, one.rms) for one in found]
    assert order == sorted(order)
    assert all(one.seconds > 2 and one.depth >= 1 and one.texts == 48 and len(one.qubits) == 4 for one in found)
    table = ranking_rows(found)
    assert len(table) == 4 and all(len(row) == len(table[0]) for row in table)
    with pytest.raises(QkdError, match="takes this student"):
        rank_devices(folder, ["fake_nowhere"])


def test_marks_are_those_of_density_matrices_under_the_calibrations_noise(folder):
    run, held = RunFolder(folder), snapshot.load_snapshot("fake_manila")
    student, rows = Student.load(folder), run.rows(run.predictions)
    values = student.model.values(student.encoder.encode([row["text"] for row in rows]))
    targets = np.array([student.classes.index(row["label"]) for row in rows])
    exact = exact_values(student.model.circuit, values)
    small, region = to_region(transpile(student.model.circuit, held), held)
    evs = DensityMatrixEstimator(noise_model(region)).run([make_pub(small, values)]).result()[0].data.evs.T
    [found] = rank_devices(folder, ["fake_manila"])
    assert found.rms == pytest.approx(np.sqrt(((evs - exact) ** 2).mean()), rel=1e-6)
    assert found.accuracy.value == (student.model.logits_of(evs).argmax(axis=1) == targets).mean()


def test_the_commands_print_a_table_and_json(folder, capsys):
    from typer.testing import CliRunner

    trained_on(folder, snapshot.load_snapshot("fake_manila"))
    told = CliRunner().invoke(app, ["devices", "compare", str(folder), "--devices", "fake_manila,fake_lima"])
    assert told.exit_code == 0 and "predicted error" in told.stdout
    assert len([line for line in told.stdout.splitlines() if line.startswith("fake_")]) == 2
