"""A device run takes the region of training while it is nearly as good as the best one."""

from dataclasses import replace

import pytest

from qkd.circuits import library
from qkd.circuits.qasm import to_qasm
from qkd.core.config import read_config, to_toml
from qkd.core.files import write_text
from qkd.core.runs import RunFolder
from qkd.devices import profiles, snapshot
from qkd.devices.calibration import Operation
from qkd.devices.region import to_region
from qkd.devices.transpile import transpile
from qkd.hardware.layout import MAX_ERROR_RATIO, choose_circuit, region_error, trained_circuit
from qkd.hardware.plan import Plan
from qkd.hardware.planning import make_plans
from qkd.student.bundle import Student

from .test_service import order

DEVICE = "fake_brisbane"


def worse(held, qubits, factor):
    """The device with the errors of the two-qubit gates among some qubits multiplied."""
    told = held.calibration
    gates = {
        name: {
            place: Operation(min(0.9, factor * done.error), done.duration)
            if len(place) == 2 and set(place) <= set(qubits)
            else done
            for place, done in places.items()
        }
        for name, places in told.gates.items()
    }
    return replace(held, calibration=replace(told, gates=gates))


def trained_on(folder, held):
    """Let a run be one that was trained on a device; return its circuit there, and its qubits."""
    run = RunFolder(folder)
    compiled = transpile(Student.load(folder).model.circuit, held, profiles.load_profile(profiles.default_name(held)))
    snapshot.write_snapshot(held.calibration, run.device / "snapshot.json")
    write_text(run.device / "circuit.qasm", to_qasm(compiled))
    return run, to_region(compiled, held)[1].qubits


def test_a_region_is_kept_until_it_is_clearly_worse_than_the_best():
    held, student = snapshot.load_snapshot(DEVICE), library.load_circuit("hardware", 4, 2)
    kept = transpile(student, held)
    qubits = to_region(kept, held)[1].qubits
    seen = []
    for factor in (1.0, 1.5, 10.0):
        now = worse(held, qubits, factor)
        anew = transpile(student, now)
        ratio = region_error(kept, now) / region_error(anew, now)
        assert choose_circuit(student, kept, anew, now) is (kept if ratio <= MAX_ERROR_RATIO else anew)
        seen.append(ratio)
    assert seen[0] == pytest.approx(1, abs=1e-9) and seen[-1] > MAX_ERROR_RATIO
    assert choose_circuit(student, None, kept, held) is kept


def test_a_region_with_a_dead_coupler_is_left(capsys):
    held, student = snapshot.load_snapshot(DEVICE), library.load_circuit("hardware", 4, 2)
    kept = transpile(student, held)
    told, qubits = held.calibration, set(to_region(kept, held)[1].qubits)
    gates = {
        name: {place: done for place, done in places.items() if len(place) == 1 or not set(place) <= qubits}
        for name, places in told.gates.items()
    }
    dead = replace(held, calibration=replace(told, gates=gates))
    anew = transpile(student, dead)
    assert region_error(kept, dead) is None and choose_circuit(student, kept, anew, dead) is anew
    assert "lacks gates or qubits of the region of training" in capsys.readouterr().err


def test_a_plan_takes_the_region_of_training_under_a_later_calibration(folder, tmp_path, capsys):
    held = snapshot.load_snapshot(DEVICE)
    run, qubits = trained_on(folder, held)
    told = {"local": True, "samples": 3, "mitigation": "none"}
    for factor, stays in ((1.0, True), (20.0, False)):
        snapshot.write_snapshot(worse(held, qubits, factor).calibration, tmp_path / "later.json")
        [plan] = make_plans(order(folder, device=str(tmp_path / "later.json"), **told), run)
        assert (set(to_region(plan.student, plan.snapshot)[1].qubits) == set(qubits)) is stays
        said = capsys.readouterr().err
        assert ("region of training, qubits" in said) is stays and ("more than 1.25 times" in said) is not stays
        plan.save()
        assert to_qasm(Plan.load(plan.folder).student) == to_qasm(plan.student)
    assert trained_circuit(run, snapshot.load_snapshot("fake_fez")) is None


def test_a_run_that_was_trained_with_a_profile_is_taken_to_its_device_with_that(folder, tmp_path):
    held = snapshot.load_snapshot(DEVICE)
    run, _ = trained_on(folder, held)
    (tmp_path / "mine.toml").write_text('inherits = "eagle"\nmax_qpu_seconds = 41\n')
    config = read_config(run.config)
    device = config.device.model_copy(update={"device": DEVICE, "profile": str(tmp_path / "mine.toml")})
    write_text(run.config, to_toml(config.model_copy(update={"device": device})))
    told = {"local": True, "samples": 3, "mitigation": "none"}
    assert make_plans(order(folder, device=DEVICE, **told), run)[0].limit == 41
    assert make_plans(order(folder, device=DEVICE, profile="eagle", **told), run)[0].limit == 60
    assert make_plans(order(folder, device="fake_fez", **told), run)[0].limit == 60
