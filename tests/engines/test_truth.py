"""Labels, units, attributes and noise models changed in place change every engine's values as they change Aer's."""

import copy
import math

import numpy as np
import pytest
import torch
from qiskit.circuit import Delay, Gate, Parameter, QuantumCircuit, Reset
from qiskit.circuit.library import (
    CXGate,
    DiagonalGate,
    HGate,
    IGate,
    Initialize,
    PauliEvolutionGate,
    PauliGate,
    RXGate,
    RZZGate,
    SXGate,
    UnitaryGate,
    XGate,
)
from qiskit.quantum_info import Kraus, Pauli, SparsePauliOp, SuperOp, random_unitary
from qiskit_aer import AerSimulator
from qiskit_aer.noise import (
    NoiseModel,
    QuantumError,
    ReadoutError,
    RelaxationNoisePass,
    amplitude_damping_error,
    depolarizing_error,
    pauli_error,
    thermal_relaxation_error,
)

from qkd import QkdError
from qkd.engines import (
    AerEstimator,
    DensityMatrixEstimator,
    LightConeEstimator,
    StatevectorEstimator,
)

NOISY = {
    "lightcone": (LightConeEstimator, 1e-9),
    "density": (DensityMatrixEstimator, 1e-9),
    "aer": (lambda noise: AerEstimator(noise, shots=20_000, seed=1), 0.05),
}
EXACT = ("lightcone", "density")


def aer(circuit, observable, noise):
    """Aer's density matrix itself, bound circuits, no readout error."""
    circuit = circuit.copy()
    circuit.save_expectation_value(observable, range(circuit.num_qubits))
    result = AerSimulator(method="density_matrix", noise_model=noise).run(circuit).result()
    assert result.success, result.status
    return result.data(0)["expectation_value"]


def asked(estimator, circuit, observable):
    return float(estimator.run([(circuit, observable)]).result()[0].data.evs)


def flips(chance):
    return pauli_error([("X", chance), ("I", 1 - chance)])


@pytest.fixture
def noise():
    """An error of its own size for every name and label that occurs below."""
    model = NoiseModel()
    for i, name in enumerate(["x", "h", "sx", "id", "reset", "rx", "unitary", "superop", "one", "other", "X", "mine"]):
        model.add_all_qubit_quantum_error(flips(0.03 + 0.02 * i), name)
    model.add_all_qubit_quantum_error(depolarizing_error(0.07, 2), "cx")
    model.add_all_qubit_quantum_error(depolarizing_error(0.2, 2), "two")
    model.add_all_qubit_quantum_error(depolarizing_error(0.15, 2), "rzz")
    model.add_quantum_error(amplitude_damping_error(0.3), "sx", [1])
    return model


class Tilt(Gate):
    """A gate whose angle is an attribute and no parameter."""

    def __init__(self, angle, label=None):
        super().__init__("tilt", 1, [], label)
        self.angle = angle

    def _define(self):
        self.definition = QuantumCircuit(1)
        self.definition.rx(self.angle, 0)


def labelled(operation, label):
    operation = operation.to_mutable() if hasattr(operation, "to_mutable") else copy.deepcopy(operation)
    operation.label = label
    return operation


def block(angle):
    circuit = QuantumCircuit(2, name="mine")
    circuit.rx(angle, 0)
    circuit.cx(0, 1)
    return circuit.to_gate()


TURN = random_unitary(2, seed=3)
VARIANTS = {
    "label": [XGate(), XGate(label="one"), XGate(label="other"), XGate(label="unknown"), XGate(label="")],
    "name": [HGate(), SXGate(), XGate()],
    "label of a rotation": [RXGate(0.3), RXGate(0.3, label="one"), RXGate(0.3, label="other"), RXGate(0.4)],
    "unitary": [UnitaryGate(TURN), UnitaryGate(TURN, label="one"), UnitaryGate(np.eye(2), label="one")],
    "identity": [IGate(), IGate(label="other"), IGate(label="nothing")],
    "pauli": [PauliGate("X"), PauliGate("Y"), labelled(PauliGate("X"), "one")],
    "control state": [CXGate(), CXGate(ctrl_state=0), CXGate(label="two"), CXGate(ctrl_state=0, label="unknown")],
    "two qubits": [RZZGate(0.4), RZZGate(0.4, label="two"), RZZGate(0.5)],
    "channel": [
        SuperOp(Kraus(amplitude_damping_error(0.2).to_instruction().definition.data[0].operation)).to_instruction(),
        labelled(SuperOp(np.eye(4)).to_instruction(), "one"),
        amplitude_damping_error(0.4).to_instruction(),
        depolarizing_error(0.4, 2).to_instruction(),
    ],
    "reset": [Reset(), labelled(Reset(), "one"), IGate(label="nothing")],
    "attribute": [Tilt(0.3), Tilt(1.3), Tilt(0.3, label="unknown")],
    "evolution": [
        PauliEvolutionGate(SparsePauliOp("XX"), 0.4),
        PauliEvolutionGate(SparsePauliOp("YX"), 0.4),
        PauliEvolutionGate(SparsePauliOp("YX"), 0.5),
    ],
    "phases": [DiagonalGate([1, 1j]), DiagonalGate([1, -1]), labelled(DiagonalGate([1, 1j]), "one")],
}


def around(operation):
    circuit = QuantumCircuit(2)
    circuit.append(RXGate(0.7, label="nothing"), [0])
    circuit.append(RXGate(-0.5, label="nothing"), [1])
    circuit.append(operation, range(operation.num_qubits))
    circuit.append(RXGate(1.1, label="nothing"), [0])
    return circuit


def understood(circuit):
    """The circuit in Aer's basis: gates that Aer does not know are decomposed once."""
    return circuit.decompose(["tilt", "PauliEvolution"]).decompose(["PauliEvolution"])


@pytest.mark.parametrize("engine", NOISY)
@pytest.mark.parametrize("kind", VARIANTS)
def test_an_attribute_that_changes_aers_answer_changes_ours(kind, engine, noise):
    make, tolerance = NOISY[engine]
    estimator = make(noise)  # one for all variants: a compiled variant must not answer for another
    for operation in VARIANTS[kind]:
        circuit = around(operation)
        for observable in ("ZZ", "IY"):
            expected = aer(understood(circuit), Pauli(observable), noise)
            assert asked(estimator, circuit, observable) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("kind", VARIANTS)
def test_variants_in_one_job_are_kept_apart(kind, noise):
    estimator = LightConeEstimator(noise)
    circuits = [around(operation) for operation in VARIANTS[kind]]
    together = [float(one.data.evs) for one in estimator.run([(c, "ZZ") for c in circuits]).result()]
    alone = [asked(LightConeEstimator(noise), circuit, "ZZ") for circuit in circuits]
    assert together == alone and len({round(value, 9) for value in alone}) > 1


def test_an_operation_changed_in_place_is_another(noise):
    estimator, gate = StatevectorEstimator(), Tilt(0.3)
    circuit = around(gate)
    before = asked(estimator, circuit, "ZZ")
    gate = circuit.data[2].operation
    gate.angle, gate.definition = 1.3, Tilt(1.3).definition
    after = QuantumCircuit(2)
    for item in circuit.data:
        after.append(gate if item.operation.name == "tilt" else item.operation, item.qubits)
    assert asked(estimator, after, "ZZ") != pytest.approx(before)


@pytest.mark.parametrize("engine", NOISY)
def test_a_delay_has_a_unit(engine):
    noise = NoiseModel()
    relaxing = RelaxationNoisePass([50e-6, 60e-6], [40e-6, 70e-6], dt=1e-9, op_types=Delay)
    noise._custom_noise_passes.append(relaxing)
    make, tolerance = NOISY[engine]
    estimator = make(noise)
    values = []
    for unit in ("ns", "us", "dt"):
        circuit = QuantumCircuit(2)
        circuit.h([0, 1])
        circuit.delay(30, 0, unit=unit)
        circuit.delay(10, 1, unit=unit)
        circuit.h([0, 1])
        values.append(asked(estimator, circuit, "ZZ"))
        assert values[-1] == pytest.approx(aer(circuit, Pauli("ZZ"), noise), abs=tolerance)
    assert abs(values[0] - values[1]) > 0.2


@pytest.mark.parametrize("engine", NOISY)
def test_a_noise_model_changed_in_place_or_set_anew_is_another(engine):
    make, tolerance = NOISY[engine]
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(flips(0.1), "x")
    estimator, circuit = make(noise), QuantumCircuit(1)
    circuit.x(0)
    assert asked(estimator, circuit, "Z") == pytest.approx(-0.8, abs=tolerance)
    noise.add_all_qubit_quantum_error(flips(0.1), "x", warnings=False)  # composed with the one before
    assert asked(estimator, circuit, "Z") == pytest.approx(-0.64, abs=tolerance)
    noise.add_readout_error(ReadoutError([[0.9, 0.1], [0.2, 0.8]]), [0])
    assert asked(estimator, circuit, "Z") == pytest.approx(0.7 * -0.64 + 0.1, abs=tolerance)
    estimator.noise_model = None
    assert asked(estimator, circuit, "Z") == pytest.approx(-1, abs=tolerance)


def test_two_errors_made_of_different_gates_of_one_name_stay_two():
    values = []
    for angle in (0.2, 1.2):
        inside = QuantumCircuit(1)
        inside.append(Tilt(angle), [0])
        error = QuantumError([(inside, 1.0)])
        noise = NoiseModel()
        noise.add_all_qubit_quantum_error(error, "x")
        circuit = QuantumCircuit(1)
        circuit.x(0)
        values.append(asked(LightConeEstimator(noise), circuit, "Z"))
        assert values[-1] == pytest.approx(-math.cos(angle), abs=1e-9)


@pytest.mark.parametrize("engine", NOISY)
def test_a_composite_gate_with_an_error_of_its_own_is_one_instruction(engine, noise):
    make, tolerance = NOISY[engine]
    inside = QuantumCircuit(2, name="whole")
    inside.rx(0.4, 0)
    inside.cx(0, 1)
    whole = inside.to_gate()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.3, 2), "whole")
    circuit = QuantumCircuit(2)
    circuit.append(whole, [0, 1])
    # the inner gates have no noise in Aer, because their labels have no error
    said = QuantumCircuit(2)
    said.append(RXGate(0.4, label="nothing"), [0])
    said.append(CXGate(label="nothing"), [0, 1])
    said.append(depolarizing_error(0.3, 2).to_instruction(), [0, 1])
    estimator = make(noise)
    assert asked(estimator, circuit, "ZZ") == pytest.approx(aer(said, Pauli("ZZ"), noise), abs=tolerance)
    renamed = circuit.copy()
    renamed.data = []
    parts = inside.to_gate(label="")
    parts.name = "parts"
    renamed.append(parts, [0, 1])
    assert asked(estimator, renamed, "ZZ") == pytest.approx(aer(inside, Pauli("ZZ"), noise), abs=tolerance)


@pytest.mark.parametrize("engine", NOISY)
def test_a_gate_that_aer_must_take_apart_to_shift_keeps_its_noise(engine, noise):
    make, tolerance = NOISY[engine]
    noise.add_all_qubit_quantum_error(depolarizing_error(0.4, 2), "crx")
    angle = Parameter("a")
    circuit = QuantumCircuit(2)
    circuit.append(XGate(label="nothing"), [0])
    circuit.crx(angle, 0, 1)
    evs = make(noise).run([(circuit, "ZI", [0.6])]).result()[0].data.evs
    assert evs == pytest.approx(0.6 * math.cos(0.6), abs=tolerance)


@pytest.mark.parametrize("engine", NOISY)
@pytest.mark.parametrize("letters", ["Z", "X", "Y"])
def test_errors_of_measuring_are_what_aer_makes_of_them(engine, letters):
    make, tolerance = NOISY[engine]
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(thermal_relaxation_error(50e-6, 60e-6, 9e-6), "measure")
    noise.add_quantum_error(flips(0.1), "measure", [1])
    noise.add_readout_error(ReadoutError([[0.97, 0.03], [0.08, 0.92]]), [0])
    circuit = QuantumCircuit(2)
    circuit.ry(0.4, 0)
    circuit.rx(1.0, 1)
    circuit.cx(0, 1)
    circuit.ry(0.3, [0, 1])
    measured = circuit.copy()
    for qubit in (0, 1):
        if letters == "Y":
            measured.sdg(qubit)
        if letters != "Z":
            measured.h(qubit)
    measured.measure_all()
    shots = 200_000
    counts = AerSimulator(noise_model=noise, seed_simulator=1).run(measured, shots=shots).result().get_counts()
    expected = sum((1 - 2 * (key.count("1") % 2)) * count for key, count in counts.items()) / shots
    assert asked(make(noise), circuit, letters * 2) == pytest.approx(expected, abs=tolerance + 5 * shots**-0.5)
    if engine == "aer":
        return
    from qkd.engines.aer import AerProgram
    from qkd.engines.program import ExpectationProblem

    program = AerProgram(ExpectationProblem(circuit, [SparsePauliOp(letters * 2)], [], []), AerEstimator(noise))
    exact = program.exact(np.zeros((1, 0)))[0, 0]
    assert asked(make(noise), circuit, letters * 2) == pytest.approx(exact, abs=tolerance)


def reset_circuit():
    circuit = QuantumCircuit(2)
    circuit.ry(0.7, 0)
    circuit.cx(0, 1)
    circuit.reset(0)
    circuit.ry(0.9, 0)
    circuit.cx(1, 0)
    circuit.reset(1)
    return circuit


@pytest.mark.parametrize("engine", [*NOISY, "statevector"])
def test_reset_is_the_same_everywhere(engine):
    make, tolerance = (lambda _: StatevectorEstimator(), 1e-9) if engine == "statevector" else NOISY[engine]
    estimator = make(None)
    for observable in ("IZ", "ZZ", "IX"):
        expected = aer(reset_circuit(), Pauli(observable), None)
        assert asked(estimator, reset_circuit(), observable) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("engine", [*NOISY, "statevector"])
def test_preparing_a_state_in_the_middle_resets(engine):
    make, tolerance = (lambda _: StatevectorEstimator(), 1e-9) if engine == "statevector" else NOISY[engine]
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.append(Initialize([0.6, 0.8]), [0])
    for observable, expected in (("IZ", 0.36 - 0.64), ("ZZ", 0.0), ("IX", 0.96)):
        assert asked(make(None), circuit, observable) == pytest.approx(expected, abs=tolerance)


ALL = {**{name: make for name, (make, _) in NOISY.items()}, "statevector": lambda noise: StatevectorEstimator()}


@pytest.mark.parametrize("engine", ALL)
def test_what_no_engine_takes_every_engine_refuses(engine):
    estimator = ALL[engine](None)
    looped, measured, conditional, infinite = (QuantumCircuit(1, 1) for _ in range(4))
    with looped.for_loop(range(3)):
        looped.x(0)
    measured.measure(0, 0)
    with conditional.if_test((conditional.clbits[0], 1)):
        conditional.x(0)
    infinite.rx(math.nan, 0)
    for circuit in (looped, measured, conditional, infinite):
        with pytest.raises(QkdError) as caught:
            estimator.run([(circuit, "Z")]).result()
        assert isinstance(caught.value, ValueError)
    turned = QuantumCircuit(1)
    turned.rx(Parameter("a"), 0)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            estimator.run([(turned, "Z", [value])]).result()


def test_sampled_programs_refuse_what_is_not_finite():
    angle = Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    program = AerEstimator().compile(circuit, [SparsePauliOp("Z")], [angle], [])
    with pytest.raises(QkdError, match="finite"):
        program(torch.tensor([[math.nan]]), torch.zeros(0))


@pytest.mark.parametrize("engine", ALL)
def test_malformed_pubs_raise_what_qiskit_raises(engine):
    estimator, circuit = ALL[engine](None), QuantumCircuit(2)
    for pub, kind in (
        ((circuit, "Z"), ValueError),
        ((circuit, "ZZ", [1.0]), ValueError),
        (("circuit", "ZZ"), TypeError),
    ):
        with pytest.raises(kind) as caught:
            estimator.run([pub])
        assert isinstance(caught.value, QkdError)
    with pytest.raises(ValueError):
        estimator.run(circuit)
    with pytest.raises(ValueError):
        estimator.run([(circuit, "ZZ")], precision=-1)


@pytest.mark.parametrize("engine", ["lightcone"])
def test_readout_of_a_wide_string_is_a_product(engine):
    noise = NoiseModel()
    for qubit in range(40):
        p = 0.001 * (qubit + 1)
        noise.add_readout_error(ReadoutError([[1 - p, p], [2 * p, 1 - 2 * p]]), [qubit])
    circuit, expected = QuantumCircuit(40), 1.0
    for qubit in range(40):
        circuit.rx(0.05 * qubit, qubit)
        p = 0.001 * (qubit + 1)
        expected *= (1 - 3 * p) * math.cos(0.05 * qubit) + p
    for wide in (30, 40):
        value = np.prod([(1 - 0.003 * (q + 1)) * math.cos(0.05 * q) + 0.001 * (q + 1) for q in range(wide)])
        found = asked(LightConeEstimator(noise), circuit, "I" * (40 - wide) + "Z" * wide)
        assert found == pytest.approx(value, abs=1e-12)
    # pairs: a product of 15 numbers
    for qubit in range(0, 30, 2):
        circuit.cx(qubit, qubit + 1)
    pairs = [
        asked(LightConeEstimator(noise), circuit, SparsePauliOp.from_sparse_list([("ZZ", [q, q + 1], 1)], 40))
        for q in range(0, 30, 2)
    ]
    whole = asked(LightConeEstimator(noise), circuit, "I" * 10 + "Z" * 30)
    assert whole == pytest.approx(np.prod(pairs), abs=1e-12)


def test_a_string_too_wide_to_carry_is_refused_at_once():
    noise = NoiseModel()
    noise.add_all_qubit_readout_error(ReadoutError([[0.9, 0.1], [0.2, 0.8]]))
    noise.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), "cz")
    circuit = QuantumCircuit(30)
    for _ in range(4):
        for qubit in range(29):
            circuit.rx(0.1, qubit)
            circuit.ry(0.2, qubit)
            circuit.cz(qubit, qubit + 1)
    for engine in (LightConeEstimator, DensityMatrixEstimator):
        with pytest.raises(QkdError):
            engine(noise).run([(circuit, "Z" * 30)]).result()


def test_wide_gates_are_taken_apart_where_they_have_no_noise(noise):
    circuit = QuantumCircuit(4)
    circuit.append(RXGate(0.7, label="nothing"), [0])
    circuit.ccx(0, 1, 2)
    circuit.rccx(2, 1, 3)
    circuit.mcx([0, 1, 2], 3)
    circuit.append(RXGate(0.3, label="nothing"), [3])
    ideal = asked(StatevectorEstimator(), circuit, "ZZIZ")
    assert asked(LightConeEstimator(), circuit, "ZZIZ") == pytest.approx(ideal, abs=1e-9)
    assert asked(DensityMatrixEstimator(), circuit, "ZZIZ") == pytest.approx(ideal, abs=1e-9)
