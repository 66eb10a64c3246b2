"""Errors learned from a few circuits on devices whose errors are hidden, and sent no more than once."""

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qkd import QkdError
from qkd.cli import app
from qkd.core.config import Config
from qkd.devices import snapshot
from qkd.devices.random_errors import PHASES, hidden, with_learned
from qkd.devices.region import Region, noise_model
from qkd.engines import LightConeEstimator
from qkd.engines.noise import Noise
from qkd.hardware.measurements import shot_noise
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.request import LearningRequest
from qkd.hardware.run import collect, run
from qkd.hardware.service import sampled
from qkd.hardware.service.base import RetryPolicy
from qkd.simulation import fit
from qkd.simulation.setup import device_noise, make_setup

from .conftest import QUICK
from .test_parts import placed
from .test_service import YES, order

LATER = "2026-06-01T00:00:00+00:00"


def taught(device, seed, shots=256, layers=2):
    """A hidden device, and what is learned of it from 128 circuits."""
    _, small, region = placed(device, 4, layers)
    truth = hidden(region.snapshot, seed)
    student = fit.calibrating(small)
    values = fit.points(student, 8, 16, 0)
    measured = sampled.run(student, Region(truth, region.qubits), values, Mitigation("none", shots), seed)
    evs = measured["evs"].T
    stds = np.fmax(measured["stds"].T, shot_noise(evs, np.full((len(evs), 1), float(shots))))
    return small, region, truth, fit.fit(student, region, values, evs, stds, LATER)


@pytest.mark.parametrize("device", ["fake_brisbane", "fake_fez"])
def test_hidden_errors_are_recovered_and_predict_what_was_not_measured(device):
    small, region, truth, found = taught(device, 3, shots=1024)
    known, drawn = found.learned, truth.calibration.learned
    pairs = [
        (one.angles[label], drawn.gates[name][place].angles[label])
        for name, places in known.gates.items()
        for place, one in places.items()
        for label in one.angles
        if label in PHASES
    ]
    pairs += [(angle, drawn.spectators[pair]) for pair, angle in known.spectators.items()]
    fitted, true = np.array(pairs).T
    # phases behind one cz and before the next are the same to every circuit that has no turn between them
    share = {"fake_brisbane": 0.4, "fake_fez": 0.6}[device]
    assert len(pairs) >= 10 and np.sqrt(((fitted - true) ** 2).mean()) < share * np.sqrt((true**2).mean())
    assert found.unexplained[1] < 0.6 * found.unexplained[0] and found.clearer
    values = np.random.default_rng(9).normal(scale=0.8, size=(60, len(small.parameters)))
    values[:, len(small.inputs) :] = values[0, len(small.inputs) :]
    real, learned, calibrated = (
        LightConeEstimator(device_noise(Region(held, region.qubits)))
        .run([make_pub(small, values)])
        .result()[0]
        .data.evs
        for held in (truth, with_learned(region.snapshot, known), region.snapshot)
    )
    off, before = (np.sqrt(((one - real) ** 2).mean()) for one in (learned, calibrated))
    assert off < before / 2


def test_what_was_fitted_is_what_the_engine_makes_of_the_file():
    small, region, _, found = taught("fake_manila", 1, layers=1)
    student = fit.calibrating(small)
    amounts = fit._NoiseParameters([], [], [], [])
    noise, known = fit._noise(student, region, amounts)
    random = np.random.default_rng(0)
    u = fit.torch.from_numpy(random.normal(size=len(amounts.parameters)) / 2)
    drawn = dict(zip(amounts.parameters, map(float, amounts.values(u)), strict=True))
    held = with_learned(region.snapshot, known(drawn))
    file = Noise.from_model(device_noise(Region(held, region.qubits)))
    values = fit.points(student, 1, 3, 1)
    bare = noise_model(region)
    circuits = [make_pub(student, values)]
    fitted = LightConeEstimator(noise.bind(drawn)).run(circuits).result()[0].data.evs
    assert bare is not None and found.noise > 0
    unread = fit.replace(file, model=fit.rebuilt(file.model, lambda name, on, error: error, readout=False))
    # the error of sx depends on its angle; the fit does not change its calibrated error
    assert np.abs(LightConeEstimator(unread).run(circuits).result()[0].data.evs - fitted).max() < 5e-3


def test_without_errors_little_is_learned():
    _, small, region = placed("fake_manila", 4)
    student = fit.calibrating(small)
    values = fit.points(student, 4, 16, 0)
    evs = sampled.run(student, region, values, Mitigation("none", 1024), 0)["evs"].T
    found = fit.fit(student, region, values, evs, shot_noise(evs, np.full((len(evs), 1), 1024.0)), LATER)
    angles = [angle for one in found.learned.gates["cx"].values() for angle in one.angles.values()]
    assert np.sqrt(np.mean(np.square(angles))) < 0.03 and not found.clearer


def test_a_device_is_asked_once(service, folder):
    learning = LearningRequest(run=folder, device="ibm_manila", points=32, shots=64, max_qpu_seconds=10)
    [dry] = run(learning, YES, dry_run=True, policy=QUICK)
    assert dry.plan.budget.seconds > 2 and not service.jobs
    service.hold = True
    [sent] = run(learning, YES, detach=True, policy=QUICK)
    assert sent.result.circuits == 0 and len(service.jobs) == 1
    [same] = run(learning, YES, detach=True, policy=QUICK)  # the same question is not asked again
    assert same.plan.name == sent.plan.name and len(service.jobs) == 1
    service.hold = False
    [outcome] = collect(folder, policy=QUICK)
    assert len(service.jobs) == 1 and collect(folder, policy=QUICK) == []
    told = json.loads((outcome.plan.folder / "result.json").read_text())
    path = Path(told["file"])
    # the device has only the calibrated errors, so later runs need no correction
    assert not told["clearer"] and path == outcome.plan.folder / "learned.json"
    assert snapshot.learned_files("ibm_manila") == []
    held = snapshot.read_snapshot(path)
    assert held.calibration.learned.gates["cx"] and held.name == "ibm_manila"
    config = Config.model_validate({"device": {"device": str(path)}, "engine": {"sim": "aer-noisy"}})
    assert isinstance(make_setup(config, placed("fake_manila", 4)[0]).noisy.model, Noise)
    with pytest.raises(QkdError, match="above max_qpu_seconds"):
        run(
            LearningRequest(run=folder, device="ibm_manila", points=32, shots=65536, max_qpu_seconds=10),
            YES,
            policy=QUICK,
        )


def test_two_learnings_of_one_day_are_two_files_and_the_newest_is_taken(folder, tmp_path):
    strange = tmp_path / "strange.json"
    snapshot.write_snapshot(hidden(snapshot.load_snapshot("fake_manila"), 1, stress=True).calibration, strange)
    files = []
    for seconds in (0, 60):
        later = RetryPolicy(now=lambda seconds=seconds: 1_795_000_000.0 + seconds)
        learning = LearningRequest(run=folder, device=str(strange), local=True, points=64, seed=seconds)
        [outcome] = run(learning, YES, policy=later)
        assert outcome.result.clearer
        files.append(Path(outcome.result.file))
    assert snapshot.learned_files("fake_manila") == files and len({*files}) == 2
    # the date is the measurement's, not the fit's
    assert snapshot.read_snapshot(files[1]).calibration.learned.date == "2026-11-18T11:07:40+00:00"
    old = files[0].with_name("fake_manila-2026-11-18-learned.json")  # the older name of such a file
    files[0].rename(old)
    assert snapshot.learned_files("fake_manila") == [old, files[1]]


def errors_of_manila(date, name="ibm_manila"):
    """A file as `qkd devices learn` leaves it."""
    device = hidden(snapshot.load_snapshot("fake_manila"), 1)
    learned = replace(device.calibration.learned, date=date.isoformat(timespec="seconds"))
    path = snapshot.learned_path(name, date)
    snapshot.write_snapshot(replace(device.calibration, learned=learned, name=name), path)
    return path


def test_a_device_run_reckons_with_what_was_learned_lately(service, folder, capsys):
    now = datetime.datetime.now(datetime.UTC)
    old = errors_of_manila(now - datetime.timedelta(days=9))
    [bare] = run(order(folder), YES, dry_run=True, policy=QUICK)
    assert bare.plan.snapshot.calibration.learned is None and "9 days ago" not in capsys.readouterr().err
    new = errors_of_manila(now - datetime.timedelta(days=2))
    [taught] = run(order(folder), YES, dry_run=True, policy=QUICK)
    learned = snapshot.read_snapshot(new).calibration.learned
    assert taught.plan.snapshot.calibration.learned == learned
    assert learned.date[:10] in capsys.readouterr().err
    assert taught.plan.snapshot.calibration.gates == bare.plan.snapshot.calibration.gates
    for asked, errors in (("none", None), (str(old), snapshot.read_snapshot(old).calibration.learned)):
        [outcome] = run(order(folder, learned=asked), YES, dry_run=True, policy=QUICK)
        assert outcome.plan.snapshot.calibration.learned == errors
    elsewhere = errors_of_manila(now, "ibm_fez")
    with pytest.raises(QkdError, match="ibm_manila is another device"):
        run(order(folder, learned=str(elsewhere)), YES, policy=QUICK)
    [sent] = run(order(folder), YES, policy=QUICK)
    [without] = run(order(folder, learned="none"), YES, policy=QUICK)
    assert sent.result.rms_noisy != without.result.rms_noisy and len(service.jobs) == 2
    new.write_text("{")
    [again] = run(order(folder), YES, dry_run=True, policy=QUICK)
    assert again.plan.snapshot.calibration.learned is None and "ignored" in capsys.readouterr().err


def test_the_command_learns_from_a_snapshot(folder, tmp_path):
    snapshot.write_snapshot(hidden(snapshot.load_snapshot("fake_manila"), 2).calibration, tmp_path / "hidden.json")
    spoken = ["devices", "learn", str(tmp_path / "hidden.json"), "--run", str(folder), "--local"]
    spoken += ["--points", "32", "--shots", "128"]
    told = CliRunner().invoke(app, spoken)
    assert told.exit_code == 0 and "ZZ between neighbors" in told.stdout
    path = next(line for line in told.stdout.splitlines() if line.endswith("learned.json"))
    rehearsal = ["run-hardware", "--run", str(folder), "--device", path, "--local", "--samples", "8", "--json"]
    told = CliRunner().invoke(app, [*rehearsal, "--mitigation", "none", "--shots", "64"])
    assert told.exit_code == 0
    told = CliRunner().invoke(app, ["jobs", "show", "hw-1", "--run", str(folder)])
    assert told.exit_code == 0 and "residual of the learned errors" in told.stdout
