"""A transpiled student has the same values, few gates, the best qubits, and the noise of those qubits."""

import numpy as np
import pytest
import torch
from qiskit import transpile as qiskit_transpile
from qiskit.circuit import Gate, Parameter, ParameterVector, QuantumCircuit
from qiskit.circuit.library import HamiltonianGate
from qiskit.primitives import BackendEstimatorV2
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import Target, generate_preset_pass_manager
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime import fake_provider

import qkd
from qkd import QkdError
from qkd.circuits import library
from qkd.circuits.cone import support
from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit, count
from qkd.core.bundled import find_files
from qkd.devices import profiles, snapshot
from qkd.devices.backend import CalibratedBackend
from qkd.devices.catalogue import load_catalogue
from qkd.devices.compiled import report
from qkd.devices.profiles import load_profile
from qkd.devices.region import Region, noise_model, to_region, with_idle_noise
from qkd.devices.transpile import predicted_error, transpile, verify, with_measurements, without_measurements
from qkd.engines import LightConeEstimator
from tests.devices.conftest import check_reset_circuit

DEVICES = {"Eagle": "fake_brisbane", "Heron": "fake_fez", "Nighthawk": "fake_miami"}


def line_optimum(held, circuit, pulses):
    """The least predicted error of a brick circuit over all lines of a chip, by exhaustive search.

    ``pulses`` are how many one-qubit gates (sx) each place of the line gets.
    """
    told, length = held.calibration, len(pulses)
    near = {q: [] for q in range(held.num_qubits)}
    for a, b in told.couplers():
        near[a].append(b)
        near[b].append(a)
    pair = {key: -np.log1p(-done.error) for key, done in told.couplers().items()}
    read = [-np.log1p(-q.readout_error) if q.readout_error is not None else np.inf for q in told.qubits]
    pulse = {place[0]: -np.log1p(-done.error) for place, done in told.gates["sx"].items()}
    gates = np.zeros(length - 1)
    for item in circuit.data:
        if len(item.qubits) == 2:
            gates[min(circuit.find_bit(q).index for q in item.qubits)] += 1
    best = [np.inf]

    def walk(path, error):
        if error >= best[0]:
            return
        if len(path) == length:
            best[0] = error
            return
        for q in near[path[-1]]:
            if q not in path:
                edge = gates[len(path) - 1] * pair[min(path[-1], q), max(path[-1], q)]
                walk([*path, q], error + edge + read[q] + pulses[len(path)] * pulse[q])

    for q in pulse:
        walk([q], read[q] + pulses[0] * pulse[q])
    return best[0]


@pytest.mark.parametrize("device", DEVICES.values())
def test_the_default_circuit_is_native_to_every_family(device):
    student, held = library.load_circuit("hardware"), snapshot.load_snapshot(device)
    compiled = transpile(student, held)
    found = count(compiled)
    assert "swap" not in found.gates and found.two_qubit_gates <= 20 and found.two_qubit_depth <= 4
    assert [p.name for p in compiled.parameters] == [p.name for p in student.parameters]
    assert verify(student, compiled, held) < 1e-9
    said = report(student, compiled, held)
    assert said.compiled.fidelity >= said.stock.fidelity and len(said.qubits) == 11 and said.rows()[1][3] == "20"


@pytest.mark.parametrize(("device", "slack"), [("fake_torino", 0), ("fake_kingston", 0), ("fake_brisbane", 0.01)])
def test_the_region_is_the_best_line(device, slack):
    student, held = library.load_circuit("hardware"), snapshot.load_snapshot(device)
    compiled = transpile(student, held)
    path = compiled.layout.initial_index_layout(filter_ancillas=True)
    names = [
        (item.operation.name, compiled.circuit.find_bit(item.qubits[0]).index)
        for item in compiled.circuit.data
        if len(item.qubits) == 1
    ]
    # which way an ecr gate points decides about further pulses, and only the compiler knows: hence the slack
    pulses = [sum(name in ("sx", "x") and on == q for name, on in names) for q in path]
    error = predicted_error(compiled.circuit, held.target, support(compiled.observables))
    assert error <= line_optimum(held, student.circuit, pulses) * (1 + slack) + 1e-9


def test_at_forty_qubits_it_is_never_worse_than_level_3_with_measurements():
    student, held = library.load_circuit("hardware", 40), snapshot.load_snapshot("fake_kingston")
    compiled = transpile(student, held)
    measured = with_measurements(student.circuit, range(40))
    stock = without_measurements(generate_preset_pass_manager(3, target=held.target, seed_transpiler=0).run(measured))
    read = support([o.apply_layout(stock.layout) for o in student.observables])
    ours = predicted_error(compiled.circuit, held.target, support(compiled.observables))
    assert ours <= predicted_error(stock, held.target, read) + 1e-9


@pytest.mark.parametrize("name", sorted(find_files("transpile_profiles", (".toml",))))
def test_every_bundled_profile_compiles_on_its_snapshot(name):
    profile = profiles.load_profile(name)
    device = "fake_brisbane" if name in ("default", "ibm_brisbane") else DEVICES[profile.families[0]]
    student, held = library.load_circuit("hardware", 6), snapshot.load_snapshot(device)
    compiled = transpile(student, held, profile)
    assert verify(student, compiled, held) < 1e-9
    if profile.basis == "fractional":
        assert "rx" in compiled.circuit.count_ops()


@pytest.mark.parametrize("name", sorted(library.paths()))
def test_a_compiled_student_is_the_logical_one_even_routed(name):
    student, held = library.load_circuit(name, 5, 1), snapshot.load_snapshot("fake_fez")
    compiled = transpile(student, held)
    assert compiled.num_qubits == 156 and verify(student, compiled, held) < 1e-9
    again = from_qasm(to_qasm(compiled))
    assert verify(student, again.with_circuit(again.circuit, again.observables), held) < 1e-9


def test_verify_notices_what_is_wrong():
    student, held = library.load_circuit("hardware", 4), snapshot.load_snapshot("fake_fez")
    compiled = transpile(student, held)
    swapped = compiled.with_circuit(compiled.circuit, compiled.observables[::-1], compiled.layout)
    assert verify(student, swapped, held) > 1e-3


def test_a_region_has_the_noise_of_the_device():
    student, held = library.load_circuit("hardware", 5), snapshot.load_snapshot("fake_brisbane")
    compiled = transpile(student, held)
    small, region = to_region(compiled, held)
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.uniform(-3, 3, (2, 5)))
    w = torch.tensor(rng.uniform(-3, 3, len(student.weights)))
    whole, part = (
        LightConeEstimator(noise).compile(one.circuit, one.observables, one.inputs, one.weights)(x, w)
        for one, noise in ((compiled, noise_model(held)), (small, noise_model(region)))
    )
    assert small.num_qubits == 5 and torch.allclose(whole, part, atol=1e-9)


def test_a_region_is_a_backend_for_everybody():
    student, held = library.load_circuit("hardware", 3, 1), snapshot.load_snapshot("fake_fez")
    small, region = to_region(transpile(student, held), held)
    values = np.zeros(len(small.circuit.parameters))
    observables = [[o] for o in small.observables]
    again = qiskit_transpile(small.circuit, region.backend, optimization_level=1, seed_transpiler=0)
    assert again.num_qubits == 3
    model = NoiseModel.from_backend(region.backend)
    exact = LightConeEstimator(model).run([(small.circuit, observables, values)]).result()[0].data.evs
    noisy = AerSimulator.from_backend(region.backend, seed_simulator=1)
    sampled = BackendEstimatorV2(backend=noisy).run([(small.circuit, observables, values)], precision=0.01).result()[0]
    assert np.abs(sampled.data.evs - exact).max() < 0.06
    assert model.noise_qubits == [0, 1, 2]


@pytest.mark.filterwarnings("ignore")
def test_ibms_own_estimator_takes_a_region():
    from qiskit_ibm_runtime.executor_estimator import Estimator

    student, held = library.load_circuit("hardware", 2, 1), snapshot.load_snapshot("fake_fez")
    small, region = to_region(transpile(student, held), held)
    estimator = Estimator(mode=AerSimulator.from_backend(region.backend, seed_simulator=2))
    estimator.options.resilience_level = 0
    values = np.full(len(small.circuit.parameters), 0.4)
    data = estimator.run([(small.circuit, [[o] for o in small.observables], values)], precision=0.02).result()[0].data
    model = NoiseModel.from_backend(region.backend)
    exact = LightConeEstimator(model).run([(small.circuit, [[o] for o in small.observables], values)])
    assert np.abs(data.evs - exact.result()[0].data.evs).max() < 0.12


def test_waiting_qubits_relax_when_asked():
    student, held = library.load_circuit("hardware", 5), snapshot.load_snapshot("fake_brisbane")
    small, region = to_region(transpile(student, held), held)
    waiting, noise = with_idle_noise(small, region)
    x, w = torch.zeros(1, 5, dtype=torch.float64), torch.zeros(len(student.weights), dtype=torch.float64)
    plain, idle = (
        LightConeEstimator(model).compile(one.circuit, one.observables, one.inputs, one.weights)(x, w)
        for one, model in ((small, noise_model(region)), (waiting, noise))
    )
    ideal = LightConeEstimator().compile(waiting.circuit, waiting.observables, waiting.inputs, waiting.weights)(x, w)
    assert (idle - plain).abs().max() > 1e-4 and verify(student, transpile(student, held), held) < 1e-9
    assert torch.allclose(ideal, torch.ones(1, 5, dtype=torch.float64), atol=1e-9)


def test_what_cannot_be_laid_out_is_said():
    held = snapshot.load_snapshot("fake_fez")
    with pytest.raises(QkdError, match="has 157 qubits and fake_fez 156"):
        transpile(library.load_circuit("product", 157), held)
    with pytest.raises(QkdError, match="entangles 140 qubits"):
        small = snapshot.load_snapshot("fake_torino")
        transpile(library.load_circuit("hardware", 140), held) if small.num_qubits > 140 else _raise(held)
    with pytest.raises(QkdError, match="transpile it for this device first"):
        to_region(library.load_circuit("hardware", 4), held)
    with pytest.raises(QkdError, match="different qubits"):
        Region(held, (1, 1))


@pytest.mark.parametrize(
    ("qubits", "sentence"),
    [
        ("[0, 0, 1]", "give 3 different physical qubits"),
        ("[0, 1]", "give 3 different physical qubits"),
        ("[0, 1, 500]", "qubit 500; fake_torino has qubits 0 to 132"),
        ("[85, 86, 87]", "qubit 86 of fake_torino, which its calibration reports as faulty"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_sentence(qubits, sentence):
    profile = profiles.load_profile("heron").with_overrides({"qubits": qubits})
    with pytest.raises(QkdError, match=sentence):
        transpile(library.load_circuit("hardware", 3), snapshot.load_snapshot("fake_torino"), profile)


def _own_gate(circuit, p):
    circuit.append(Gate("mystery", 2, [p]), [0, 1])


def _diagonal_hamiltonian(circuit, p):
    circuit.append(HamiltonianGate(np.diag([1, 2, 3, 4]), p), [0, 1])


def test_a_delay_is_a_multiple_of_the_devices_alignment():
    held = snapshot.load_snapshot("fake_manila")  # its clock has steps of 0.22 ns, and delays come in 16 of them
    x = Parameter("x")

    def compiled(length, unit):
        circuit = QuantumCircuit(1)
        circuit.ry(x, 0)
        circuit.delay(length, 0, unit)
        return transpile(StudentCircuit(circuit, [x], [], [SparsePauliOp("Z")]), held)

    for length, unit in ((1, "us"), (100, "dt")):
        with pytest.raises(QkdError, match=r"multiple of 16 there, such as (4,?496|96) dt"):
            compiled(length, unit)
    assert compiled(96, "dt").circuit.count_ops()["delay"] == 1
    assert compiled(16 * held.calibration.dt, "s").circuit.count_ops()["delay"] == 1


@pytest.mark.parametrize("add", [_own_gate, _diagonal_hamiltonian, lambda c, p: c.delay(p, 0, "s")])
def test_what_qiskit_cannot_compile_is_one_sentence(add):
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    add(circuit, w)
    student = StudentCircuit(circuit, [x], [w], [SparsePauliOp("IZ")])
    with pytest.raises(QkdError, match=r"circuit 'circuit' (cannot be compiled|holds a delay)"):
        transpile(student, snapshot.load_snapshot("fake_fez"))


@pytest.mark.parametrize("seed", range(12))
def test_resets_are_verified_exactly(seed):
    check_reset_circuit(seed, ("fake_manila", "fake_fez")[seed % 2])


SNAPSHOTS = sorted(entry.snapshot for entry in load_catalogue().devices if entry.snapshot)


@pytest.mark.parametrize("device", SNAPSHOTS)
def test_every_snapshot_of_the_client_transpiles(device):
    held = snapshot.load_snapshot(device)
    # every coupler of fake_kyoto has an error of 1, so no circuit with a two-qubit gate runs there
    name, width = ("product", 2) if device == "fake_kyoto" else ("hardware", min(3, held.num_qubits))
    student = library.load_circuit(name, width, 1) if width > 1 else library.load_circuit("product", 1, 1)
    compiled = transpile(student, held, load_profile("default").with_overrides({"seeds": 1}))
    error = predicted_error(compiled.circuit, held.target, support(compiled.observables))
    small, region = to_region(compiled, held)
    assert 0 < error < 3 and small.num_qubits == width
    assert noise_model(region).noise_qubits == list(range(width))


def test_all_snapshots_of_the_client_are_listed():
    kinds = [kind for kind in vars(fake_provider).values() if isinstance(kind, type)]
    assert {getattr(kind, "backend_name", None) for kind in kinds} - {None} == {*SNAPSHOTS}


def _raise(held):
    """A chip of which too few qubits are joined."""
    from dataclasses import replace

    told = held.calibration
    gates = told.gates | {"cz": {pair: done for pair, done in told.gates["cz"].items() if max(pair) < 130}}
    transpile(library.load_circuit("hardware", 140), replace(held, calibration=replace(told, gates=gates)))


def _backends():
    return [
        GenericBackendV2(5, seed=1),
        GenericBackendV2(5, noise_info=False),
        GenericBackendV2(5, basis_gates=["rz", "r", "rxx"], seed=2),  # trapped ions
        GenericBackendV2(5, basis_gates=["rx", "rz", "rzz"], seed=2),
        AerSimulator(n_qubits=6),
        AerSimulator.from_backend(fake_provider.FakeManilaV2()),
        fake_provider.FakeFez(),
    ]


@pytest.mark.parametrize("backend", _backends(), ids=lambda backend: backend.name)
def test_any_backend_is_a_device(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("QKD_SNAPSHOTS", str(tmp_path))
    compiled = qkd.transpile("hardware", backend=backend, qubits=3, layers=1)
    _, region = compiled.region()
    assert compiled.report.difference < 1e-9 and set(compiled.student.circuit.count_ops()) <= {
        *backend.target.operation_names
    }
    assert bool(noise_model(region).noise_qubits) == bool(compiled.device.calibration.qubits[0].t1)
    path = snapshot.save_snapshot(backend)
    again = snapshot.load_snapshot(path)
    assert again.calibration.gates == compiled.device.calibration.gates
    assert snapshot.load_snapshot(again.name).num_qubits == backend.num_qubits


def _own_circuit():
    x, w = ParameterVector("x", 3), ParameterVector("w", 3)
    circuit = QuantumCircuit(3)
    for i in range(3):
        circuit.ry(x[i], i)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    for i in range(3):
        circuit.ry(w[i], i)
    return circuit, x


def test_a_quantum_circuit_takes_its_inputs_by_name_or_parameter():
    circuit, x = _own_circuit()
    compiled = qkd.transpile(circuit, "fake_manila", inputs=x, layout=[2, 1, 0])
    assert compiled.qubits == (2, 1, 0) and compiled.student.inputs == tuple(x)
    assert [p.name for p in compiled.student.weights] == ["w[0]", "w[1]", "w[2]"]
    assert [o.paulis.to_labels() for o in compiled.logical.observables] == [["IIZ"], ["IZI"], ["ZII"]]
    named = qkd.transpile(circuit, "fake_manila", inputs=["x[2]", "x[0]", "x[1]"], observables=[SparsePauliOp("ZZZ")])
    assert [p.name for p in named.student.inputs] == ["x[2]", "x[0]", "x[1]"] and len(named.student.observables) == 1


def test_a_circuit_that_is_compiled_already_keeps_its_gates_and_qubits():
    circuit, x = _own_circuit()
    backend = fake_provider.FakeFez()
    isa = qiskit_transpile(circuit, backend, initial_layout=[3, 4, 5], optimization_level=3, seed_transpiler=1)
    compiled = qkd.transpile(isa, backend=backend, inputs=x)
    assert compiled.student.circuit == isa and compiled.qubits == (3, 4, 5)
    logical = StudentCircuit(circuit, tuple(x), compiled.student.weights, compiled.logical.observables)
    assert verify(logical, compiled.student, compiled.device) < 1e-9
    with pytest.raises(QkdError, match="compiled for 156 qubits, and fake_manila has 5"):
        qkd.transpile(isa, "fake_manila", inputs=x)
    other = qiskit_transpile(circuit, GenericBackendV2(156, basis_gates=["u", "cx"], seed=1), optimization_level=0)
    with pytest.raises(QkdError, match=r"has 'u' on qubits \(0,\), which fake_fez lacks"):
        qkd.transpile(other, backend=backend, inputs=x)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda circuit: qkd.transpile(circuit, "fake_manila", inputs=["y"]), r"no parameter 'y'; known are"),
        (lambda circuit: qkd.transpile("hardware", "fake_manila", inputs=["y"]), "belong to a QuantumCircuit"),
        (lambda circuit: qkd.transpile(circuit, device=3.5), "device is 3.5"),
        (lambda circuit: qkd.transpile(circuit, backend=NoQubits()), "does not report its number of qubits"),
    ],
)
def test_a_wrong_call_is_one_sentence(call, sentence):
    with pytest.raises(QkdError, match=sentence):
        call(_own_circuit()[0])


class NoQubits(CalibratedBackend):
    """A backend with an empty target."""

    def __init__(self):
        super().__init__("nothing", Target())


def test_an_option_noise_model_may_be_no_model_of_aer():
    """IonQ's backends have one that is a name."""
    backend = GenericBackendV2(4, seed=0)
    backend.options.update_options(noise_model="ideal")
    assert qkd.transpile("hardware", backend=backend, qubits=3).device.num_qubits == 4
