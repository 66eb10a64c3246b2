"""Mitigation, budget, ledger and rehearsal, each for itself."""

from dataclasses import replace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit.library import CZGate, ECRGate
from qiskit.quantum_info import Operator, SuperOp, pauli_basis
from qiskit_aer.noise import depolarizing_error, thermal_relaxation_error

from qkd import QkdError
from qkd.circuits import library
from qkd.core.console import _Silent
from qkd.core.specs import validated
from qkd.devices import snapshot
from qkd.devices.region import noise_model, to_region
from qkd.devices.transpile import transpile
from qkd.engines import LightConeEstimator, StatevectorEstimator
from qkd.hardware import budget
from qkd.hardware.budget import Budget, Stage, find_shots, shots_for_stderr, split_into_jobs
from qkd.hardware.ledger import Ledger
from qkd.hardware.mitigation import METHODS, Mitigation
from qkd.hardware.mitigation.base import MIN_READOUT_SHOTS
from qkd.hardware.mitigation.client import count_executions, make_pub
from qkd.hardware.mitigation.learned import calibrated_layers, find_layers, lindblad_rates
from qkd.hardware.plan import list_plans, new_folder
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.result import margins
from qkd.hardware.service import simulated


def placed(device, qubits, layers=1):
    logical = library.load_circuit("hardware", qubits=qubits, layers=layers)
    held = snapshot.load_snapshot(device)
    return logical, *to_region(transpile(logical, held), held)


def values_for(student, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, len(student.parameters)))


@pytest.mark.parametrize("device", ["fake_brisbane", "fake_fez"])
def test_light_cones_expect_what_the_whole_circuit_expects(device):
    _, small, region = placed(device, 11, 2)
    values = values_for(small, 3)
    whole = LightConeEstimator(noise_model(region), dtype="float64").run([make_pub(small, values)]).result()[0].data.evs
    parts = simulated.pieces(small, region)
    assert len(parts) > 1 and sum(4 ** part[0].num_qubits for part in parts) < 4**11
    found = np.full_like(whole, np.nan)
    for student, part, ks in parts:
        engine = LightConeEstimator(noise_model(part), dtype="float64")
        found[ks] = engine.run([make_pub(student, simulated._columns(small, student, values))]).result()[0].data.evs
    assert np.abs(found - whole).max() < 1e-9


@pytest.mark.parametrize("gate", [CZGate(), ECRGate()], ids=lambda gate: gate.name)
def test_rates_have_the_twirled_fidelities_of_the_noise_in_front_of_the_gate(gate):
    error = SuperOp(depolarizing_error(0.02, 2)).compose(
        SuperOp(thermal_relaxation_error(1e-4, 8e-5, 1e-6).expand(thermal_relaxation_error(5e-5, 6e-5, 1e-6)))
    )
    before = SuperOp(gate).compose(error).compose(SuperOp(Operator(gate).adjoint()))
    rates = dict(lindblad_rates(error, Operator(gate)))
    for b in pauli_basis(2)[1:]:
        matrix = b.to_matrix()
        carried = (before.data @ matrix.reshape(-1, order="F")).reshape(4, 4, order="F")
        fidelity = np.trace(matrix.conj().T @ carried).real / 4
        total = sum(rate for label, rate in rates.items() if not pauli_basis(2)[_index(label)].commutes(b))
        assert np.exp(-2 * total) == pytest.approx(fidelity, abs=2e-6)


def _index(label):
    return pauli_basis(2).to_labels().index(label)


def test_each_mitigation_brings_values_closer_to_exact_ones():
    logical, small, region = placed("fake_brisbane", 4)
    values = values_for(small, 4)
    exact = StatevectorEstimator().run([make_pub(logical, values)]).result()[0].data.evs
    off = {}
    for name in METHODS:
        mitigation = Mitigation(name, 16384, {"none": None, "pec": 96}.get(name, 24))
        found = simulated.run(small, region, values, mitigation, 5, _Silent(), processes=1)
        evs, stds = found["evs"], found["stds"]
        assert evs.shape == stds.shape == exact.shape
        off[name] = np.abs(evs - exact).mean()
    del off["affine"]  # the client computes only half of it
    assert off["readout"] < off["none"]
    assert min(off.values()) < off["none"] / 2
    assert max(off["pea"], off["pec"]) < off["none"]


def test_a_rehearsal_does_not_depend_on_the_number_of_processes():
    _, small, region = placed("fake_fez", 4)
    values, mitigation = values_for(small, 7), Mitigation("readout", 256, 4)
    one = simulated.run(small, region, values, mitigation, 5, _Silent(), processes=1)
    two = simulated.run(small, region, values, mitigation, 5, _Silent(), processes=2)
    assert np.array_equal(one["evs"], two["evs"]) and np.array_equal(one["stds"], two["stds"])


def test_pulses_on_waiting_qubits_are_simulated_too():
    _, small, region = placed("fake_fez", 4)
    from qiskit_ibm_runtime.executor_estimator.prepare import prepare

    values, pulses = values_for(small, 1), {}
    for name in ("none", "XpXm"):
        options = Mitigation("none", 4096, None, name).options()
        program, _ = prepare([make_pub(small, values)], options, backend=region.backend)
        pulses[name] = program.items[0].circuit.count_ops().get("x", 0)
    assert pulses["XpXm"] > pulses["none"] == 0
    evs = simulated.run(small, region, values, Mitigation("none", 4096, None, "XpXm"), 5, _Silent(), 1)["evs"]
    expected = (
        LightConeEstimator(noise_model(region), dtype="float64").run([make_pub(small, values)]).result()[0].data.evs
    )
    assert np.abs(evs - expected).max() < 0.1  # as without pulses, but for their own small errors


def test_executions_are_counted_on_the_clients_own_program():
    _, small, region = placed("fake_brisbane", 5)
    count = {}
    for name in ("none", "readout", "zne"):
        count[name] = count_executions(small, Mitigation(name, 1024), None, region.backend)
    assert count == {"none": (1024, 0), "readout": (1024, MIN_READOUT_SHOTS), "zne": (3 * 1024, MIN_READOUT_SHOTS)}
    from qiskit_ibm_runtime.executor_estimator import Estimator

    pec = Mitigation("pec", 1024)
    layers = find_layers(Estimator(mode=region.backend, options=pec.options()), small)
    each, _ = count_executions(small, pec, calibrated_layers(layers, small, noise_model(region)), region.backend)
    assert each > 1024  # the overhead of cancelling the noise


def test_five_hundred_texts_fit_the_free_plan():
    _, small, region = placed("fake_fez", 11, 2)
    each, once = count_executions(small, Mitigation("readout", 1024), None, region.backend)
    chunks = split_into_jobs(500, each, once)
    cost = Budget(
        (
            Stage("measure", "measuring", len(chunks), 500 * each),
            Stage("learn-readout", "readout", 0, len(chunks) * once),
        )
    )
    assert len(chunks) <= 3
    assert cost.seconds == pytest.approx(2 * len(chunks) + 250e-6 * (1024 * 500 + MIN_READOUT_SHOTS * len(chunks)))
    assert cost.seconds < 600
    cost.check(600)
    with pytest.raises(QkdError, match="above max_qpu_seconds 60"):
        cost.check(60)
    with pytest.raises(QkdError, match="has 100 s left"):
        Budget(cost.stages, remaining=100).check(600)


def test_jobs_are_few_and_hold_every_text_once():
    assert split_into_jobs(10, 100, 5, max_executions=305) == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert split_into_jobs(3, 100, 0, max_executions=1000) == [(0, 3)]
    with pytest.raises(QkdError, match="use fewer shots"):
        split_into_jobs(1, 2000, 0, max_executions=1000)


def test_shots_that_margins_need_make_most_predictions_clear():
    random = np.random.default_rng(3)
    weights, evs = random.normal(size=(3, 5)), random.uniform(-0.9, 0.9, (200, 5))
    logits = evs @ weights.T
    lead, deviation = margins(logits, np.sqrt(1 - evs**2), weights)
    shots = find_shots(lead, deviation**2)
    assert 16 < shots < budget.MAX_SHOTS
    for count, most in ((shots, True), (budget.SHOTS_GRID[budget.SHOTS_GRID.index(shots) - 1], False)):
        _, error = margins(logits, np.sqrt((1 - evs**2) / count), weights)
        assert ((lead > 2 * error).mean() >= 0.95) == most
    assert shots_for_stderr(0.01, np.array([0.3, 1.0])) == 10000
    assert shots_for_stderr(0.02, np.array([1.0, 9.0])) == 22500  # the observable 3 Z has nine times the variance
    with pytest.raises(QkdError, match="takes 90,000 shots"):
        shots_for_stderr(0.01, np.array([9.0]))


def test_errors_of_margins_are_those_of_repeated_measurements():
    random = np.random.default_rng(4)
    weights, evs, stds = random.normal(size=(3, 6)), random.uniform(-1, 1, (1, 6)), random.uniform(0.01, 0.03, (1, 6))
    _, error = margins(evs @ weights.T, stds, weights)
    order = np.argsort(-(evs @ weights.T)[0])
    again = (evs + stds * random.normal(size=(20000, 6))) @ weights.T
    assert np.std(again[:, order[0]] - again[:, order[1]]) == pytest.approx(error[0], rel=0.03)


def test_a_damaged_line_of_the_ledger_is_kept_and_told(tmp_path):
    ledger = Ledger(tmp_path / "hardware" / "ledger.jsonl")
    ledger.append("hw-1", "intent", job=0, tag="t")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"time": "2026-')  # as a crash leaves it
    ledger.append("hw-1", "submitted", job=0, id="abc")
    ledger.append("hw-1", "saved", job=0, file="f", sha256="s")
    rows, damaged = ledger.read()
    assert [row["event"] for row in rows] == ["intent", "submitted", "saved"] and damaged == [2]
    assert b'{"time": "2026-\n' in ledger.path.read_bytes()
    record = ledger.jobs("hw-1", 1)[0]
    assert (record.id, record.file, record.tags, record.open) == ("abc", "f", ["t"], False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "sesion"},
        {"decoupling": "XY5"},
        {"mitigation": "znee"},
        {"samples": 0},
        {"randomizations": 0},
        {"max_qpu_seconds": -1},
        {"max_qpu_seconds": float("nan")},
        {"shots": "many"},
        {"shots": "-5"},
        {"shots": "100", "target_stderr": 0.1},
        {"target_stderr": 0},
    ],
    ids=str,
)
def test_a_request_refuses_values_that_do_not_fit(wrong):
    with pytest.raises(QkdError, match=next(iter(wrong))):
        validated(DeviceRunRequest, wrong, "options")


def test_folders_that_are_no_plans_are_passed_over(tmp_path):
    for name in ("hw-1", "hw-2", "hw-1.bak", "hw-x", "hw-²"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text("{}")
    assert [path.name for path in list_plans(tmp_path)] == ["hw-1", "hw-2"]
    assert new_folder(tmp_path).name == "hw-3"


def test_unknown_mitigations_and_no_shots_are_refused():
    with pytest.raises(QkdError, match="did you mean 'zne'"):
        Mitigation("zn", 100)
    with pytest.raises(QkdError, match="at least 1 shot"):
        Mitigation("zne", 0)


def test_a_gate_without_a_reported_duration_takes_as_long_as_the_others():
    held = snapshot.load_snapshot("fake_manila")
    circuit = QuantumCircuit(5)
    circuit.cx(0, 1)
    gates = held.calibration.gates
    typical = np.median([gate.duration for gate in gates["cx"].values()])
    unknown = {**gates, "cx": {**gates["cx"], (0, 1): replace(gates["cx"][0, 1], duration=None)}}
    device = replace(held, calibration=replace(held.calibration, gates=unknown))
    longer = budget.seconds_per_shot(circuit, device) - budget.seconds_per_shot(QuantumCircuit(5), device)
    assert longer == pytest.approx(typical, rel=0.1)
