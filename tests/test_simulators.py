"""``--sim aer``, ``--sim aer-noisy`` and ``--engine aer`` from the option to the report."""

import json
from dataclasses import replace

import numpy as np
import pytest
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer.noise import NoiseModel, depolarizing_error

from qkd import QkdError, Run, api
from qkd.circuits import library
from qkd.core.config import Config, EngineSpec
from qkd.core.errors import BudgetError
from qkd.simulation.aer_check import FEWEST, SHOTS, SIGMAS, compare_with_aer
from qkd.simulation.estimate import simulation_cost
from qkd.simulation.factory import make_engine, make_sampler
from qkd.simulation.setup import make_setup
from tests.processes import qkd, signalled
from tests.test_distill import SAVED, command, options, same_weights

NOISY = {"sim": "aer-noisy", "device": "ibm_brisbane", "shots": 300, "epochs": 3}


@pytest.fixture(scope="module")
def noisy(corpus, tmp_path_factory):
    """One run under the noise of a device."""
    return api.distill(**options(corpus, tmp_path_factory.mktemp("runs"), **{**NOISY, "name": "noisy"}))


def test_a_noisy_run_puts_its_students_side_by_side(noisy):
    lines, noise = noisy.metrics.lines, noisy.metrics.noise
    assert list(lines) == [
        "teacher",
        "student",
        "student, ideal device",
        "ideal training",
        "ideal training, ideal device",
        "ideal training, head refitted",
        "ideal training, head refitted, ideal device",
        "linear",
        "logreg",
        "majority",
    ]
    assert (noise.device, len(noise.qubits)) == ("fake_brisbane", 4)
    assert noise.gain.low <= noise.gain.value <= noise.gain.high
    assert "density engine" in noisy.metrics.student.engine and "noise" in noisy.metrics.student.engine
    assert "300 shots" in noisy.metrics.student.measured
    page = noisy.report.read_text()
    assert "ideal training" in page and "fake_brisbane" in page


def test_what_was_simulated_is_kept(noisy):
    folder = noisy.folder.path / "device"
    assert len(json.loads((folder / "snapshot.json").read_text())["calibration"]["qubits"]) == 127
    compiled, logical = (
        library.load_circuit(str(folder / "circuit.qasm")),
        library.load_circuit(str(noisy.folder.student / "circuit.qasm")),
    )
    assert (compiled.num_qubits, logical.num_qubits) == (127, 4)
    assert len(compiled.parameters) == len(logical.parameters)


def test_noise_changes_what_is_learned(noisy, corpus, tmp_path):
    ideal = api.distill(**options(corpus, tmp_path, name="ideal", epochs=3))
    assert not same_weights(noisy, ideal)
    other = noisy.metrics.lines["ideal training, ideal device"].numbers.accuracy
    assert other == ideal.metrics.lines["student"].numbers.accuracy


@pytest.mark.parametrize("epoch", [1, 4], ids=["under noise", "ideal"])
def test_a_killed_noisy_run_resumes_to_the_same_weights(noisy, corpus, tmp_path, epoch):
    words = command(options(corpus, tmp_path, **{**NOISY, "name": "killed"}))
    signalled(*words, after=SAVED, times=epoch)
    assert (tmp_path / "killed/checkpoint/ideal/state.json").exists() == (epoch > NOISY["epochs"])
    qkd(*words, "--resume", check=True)
    assert same_weights(noisy, Run(tmp_path / "killed"))
    again = Run(tmp_path / "killed").metrics.lines
    assert again["student"].numbers == noisy.metrics.lines["student"].numbers


def test_a_student_is_measured_with_shots(corpus, tmp_path):
    run = api.distill(**options(corpus, tmp_path, name="shots", sim="aer", shots=200, epochs=2))
    assert list(run.metrics.lines) == [
        "teacher",
        "student",
        "student, no shot noise",
        "linear",
        "logreg",
        "majority",
    ]
    assert run.metrics.noise is None and "AerSimulator without noise" in run.metrics.student.measured


@pytest.mark.parametrize("gradient", ["spsa", "parameter-shift"])
def test_a_student_trains_on_shots_and_resumes(corpus, tmp_path, gradient):
    given = options(
        corpus, tmp_path, name="aer", engine="aer", gradient=gradient, shots=20, epochs=1, qubits=2, limit=60, sim="aer"
    )
    first = api.distill(**given)
    assert f"gradients by {gradient}" in first.metrics.student.engine
    longer = api.distill(resume=True, **{**given, "epochs": 2})
    straight = api.distill(**{**given, "epochs": 2, "name": "straight"})
    assert same_weights(longer, straight)


def test_an_engine_that_disagrees_with_aer_is_stopped():
    student = library.load_circuit("hardware", 4, 1)
    model, other = NoiseModel(), NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.02, 2), ["cz"])
    other.add_all_qubit_quantum_error(depolarizing_error(0.05, 2), ["cz"])
    spec = EngineSpec(torch_device="cpu")
    found = compare_with_aer(make_engine(spec, student, model), student, model)
    assert found.difference < 1e-6 and found.points == 2 and found.observables == found.of == 4
    renamed = replace(make_engine(spec, student, model), reason="called something else")
    with pytest.raises(QkdError, match="density engine and AerSimulator disagree by"):
        compare_with_aer(renamed, student, other)
    sampled = EngineSpec(torch_device="cpu", engine="aer", shots=400)
    compare_with_aer(make_engine(sampled, student, model), student, model)


def test_wide_light_cones_are_compared_with_trajectories_on_a_sample(monkeypatch):
    monkeypatch.setattr("qkd.simulation.aer_check.SECONDS", 3.0)
    student = library.load_circuit("hardware", 20, 4)
    model, other = NoiseModel(), NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), ["cz"])
    other.add_all_qubit_quantum_error(depolarizing_error(0.3, 2), ["cz"])
    engine = make_engine(EngineSpec(torch_device="cpu", engine="lightcone", truncation=1e-3), student, model)
    start = np.full((2, len(student.parameters)), 0.2)  # where values are far from 0, so that noise is seen
    found = compare_with_aer(engine, student, model, start)
    assert found.method == "matrix_product_state" and FEWEST <= found.shots <= SHOTS
    assert 1 <= found.observables < found.of == 20 and 0 < found.sigmas < SIGMAS
    assert f"{found.observables} of 20 observables" in found.describe()
    with pytest.raises(QkdError, match="lightcone engine and AerSimulator disagree by"):
        compare_with_aer(engine, student, other, start)


def test_what_aer_is_too_slow_for_is_measured_with_shots_on_the_trainers_values(monkeypatch):
    student = library.load_circuit("hardware", 5, 1)
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.02, 2), ["cz"])
    spec = EngineSpec(torch_device="cpu", shots=400, engine_seed=3)
    trainer = make_engine(spec, student, model)
    assert make_sampler(spec, student, model, trainer).kind == "aer"
    monkeypatch.setattr("qkd.simulation.factory.MAX_AER_SECONDS", 0.0)
    sampler = make_sampler(spec, student, model, trainer)
    assert sampler.kind == "lightcone" and "400 shots drawn" in sampler.describe()
    rows = np.random.default_rng(1).uniform(-3, 3, (40, len(student.parameters)))
    pub = (student.circuit, [[o] for o in student.observables], rows)
    exact = trainer.estimator.run([pub]).result()[0].data.evs
    data = sampler.estimator.run([pub]).result()[0].data
    z = (data.evs - exact) / data.stds
    assert np.abs(z.mean()) < 0.3 and 0.8 < z.std() < 1.2 and np.abs(z).max() < 5  # 200 values
    assert np.allclose(data.stds, np.sqrt((1 - data.evs**2) / 400))
    sampler.estimator.reseed(0)
    again = sampler.estimator.run([pub]).result()[0].data.evs
    assert np.array_equal(again, data.evs)


def test_a_setting_trains_and_measures_on_the_same_circuit():
    config = Config.model_validate(
        {"engine": {"sim": "aer-noisy", "torch_device": "cpu"}, "device": {"device": "fake_miami"}}
    )
    logical = library.load_circuit("hardware", 5)
    setting = make_setup(config, logical)
    assert setting.circuit.num_qubits == 5 and setting.noisy.compiled.num_qubits == 120
    assert "qubits" in setting.noisy.describe() and "calibrated" in setting.noisy.describe()
    waiting = make_setup(
        config.model_copy(update={"device": config.device.model_copy(update={"idle_noise": True})}), logical
    )
    assert "id" in waiting.circuit.circuit.count_ops()
    compare_with_aer(waiting.trainer, waiting.circuit, waiting.noisy.model)


def test_devices_are_listed_and_shown(tmp_path):
    listed = json.loads(qkd("devices", "list", "--json").stdout)
    assert {row["name"] for row in listed["devices"]} >= {"ibm_brisbane", "ibm_fez", "ibm_miami"}
    assert "retired 2025-11" in qkd("devices").stdout
    shown = qkd("devices", "show", "ibm_brisbane", "--png", str(tmp_path / "chip.png"))
    assert "two-qubit error" in shown.stdout and "hardware would take" in shown.stdout
    assert (tmp_path / "chip.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(qkd("devices", "show", "fez", "--json").stdout)["region"]) == 11


def test_a_run_is_transpiled(noisy, tmp_path):
    out = tmp_path / "isa.qasm"
    done = qkd("transpile", str(noisy.folder.path), "--device", "fake_fez", "--set", "seeds=1", "--out", str(out))
    assert "equal to the logical circuit" in done.stdout and "predicted fidelity" in done.stdout, done.stderr
    assert library.load_circuit(str(out)).num_qubits == 156
    said = json.loads(qkd("transpile", "hardware", "--qubits", "3", "--device", "miami", "--json").stdout)
    assert said["device"] == "fake_miami" and said["profile"] == "nighthawk" and len(said["qubits"]) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["devices", "show", "ibm_brisbone"], "did you mean 'ibm_brisbane'"),
        (["devices", "snapshot", "ibm_fez"], "no IBM Quantum account"),
        (["transpile", "hardware", "--device", "fez", "--profile", "eagle"], "is for Eagle, and fake_fez is a Heron"),
        (["transpile", "hardware", "--device", "fez", "--set", "seed=1"], "did you mean 'seeds'"),
        (["transpile", "hardware", "--device", "fez", "--set", "seeds"], "write KEY=VALUE"),
        (["transpile", "product", "--qubits", "200", "--device", "fez"], "has 200 qubits"),
        (["distill", "--sim", "aer-noisy", "--device", "ibm_moon", "--runs", "nowhere"], "no device 'ibm_moon'"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    done = qkd(*words)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ") and sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_long_simulation_is_estimated_before_anything_starts(corpus, tmp_path):
    given = options(
        corpus, tmp_path, sim="aer-noisy", device="ibm_brisbane", circuit="qdllm", qubits=60, max_hours=0.001
    )
    with pytest.raises(BudgetError, match=r"takes about .* more than max_hours 0.001; use fewer qubits"):
        api.distill(**given)


def test_estimates_grow_with_width_depth_texts_and_epochs():
    config = Config.model_validate({"engine": {"sim": "aer-noisy"}})
    narrow, deep, wide = (
        simulation_cost(config, library.load_circuit("hardware", *size)) for size in ((16, 4), (16, 6), (40, 6))
    )
    assert 0 < narrow.seconds(100, 1) < deep.seconds(100, 1) < wide.seconds(100, 1)
    assert narrow.seconds(1000, 1) > narrow.seconds(100, 1) and narrow.seconds(100, 5) > narrow.seconds(100, 1)
    line = library.load_circuit("hardware", 16, 4)
    ring = line.circuit.copy()
    ring.cz(0, 15)
    assert simulation_cost(config, line.with_circuit(ring, line.observables)).search > narrow.search  # it needs swaps
    exact = simulation_cost(config, library.load_circuit("hardware", 16, 2))
    assert exact.search == 0 and 0 < exact.step < narrow.step


def test_a_distillation_takes_a_backend_and_a_layout(corpus, tmp_path):
    backend = GenericBackendV2(6, basis_gates=["rz", "r", "rxx"], seed=3)
    given = options(corpus, tmp_path, sim="aer-noisy", device=backend, layout=[4, 2, 0], qubits=3, layers=1, epochs=1)
    run = api.distill(**given)
    assert run.metrics.noise.device == backend.name and [*run.metrics.noise.qubits] == [4, 2, 0]
    assert "layout = [4, 2, 0]" in (run.folder.path / "config.toml").read_text()


def test_a_layout_is_an_option():
    words = ("transpile", "hardware", "--qubits", "3", "--device", "fez", "--layout")
    assert json.loads(qkd(*words, "5,4,3", "--json").stdout)["qubits"] == [5, 4, 3]
    assert "give 3 different physical qubits" in qkd(*words, "5,4").stderr
