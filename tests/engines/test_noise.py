"""Noise beyond Aer's models: against Qiskit's own channels, differentiated, fitted, scaled."""

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.quantum_info import (
    PTM,
    DensityMatrix,
    Operator,
    Pauli,
    PauliLindbladMap,
    QubitSparsePauli,
    SparsePauliOp,
    SuperOp,
)
from qiskit_aer import AerSimulator
from qiskit_aer.noise import (
    NoiseModel,
    PauliLindbladError,
    amplitude_damping_error,
    depolarizing_error,
    pauli_error,
    thermal_relaxation_error,
)

from qkd import QkdError
from qkd.core.errors import EngineError
from qkd.engines import (
    AerEstimator,
    DensityMatrixEstimator,
    LightConeEstimator,
    Noise,
    StatevectorEstimator,
)
from qkd.engines.noise.aer import error_of

ENGINES = {
    "lightcone": (LightConeEstimator, 1e-9),
    "density": (DensityMatrixEstimator, 1e-9),
    "aer": (lambda noise: AerEstimator(noise, shots=40_000, seed=2), 0.05),
}
NONE = torch.zeros(0, dtype=torch.float64)


def aer_model():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.03, 2), "cz")
    model.add_all_qubit_quantum_error(amplitude_damping_error(0.04), "rx")
    return model


def evolution(label, angle):
    return Operator(PauliEvolutionGate(SparsePauliOp(label), angle / 2))


def damping(label, rate):
    """exp(rate (P . P - .)) from its definition, as a superoperator."""
    pauli = SuperOp(Operator(Pauli(label)))
    chance = (1 - np.exp(-2 * rate)) / 2
    return (1 - chance) * SuperOp(np.eye(len(pauli.data))) + chance * pauli


def layers(circuit, behind, model=None):
    """A circuit as a list of steps: gates, and after every cz what ``behind(qubits)`` gives, as (channel, qubits)."""
    state = DensityMatrix(np.eye(1, 2**circuit.num_qubits).T @ np.eye(1, 2**circuit.num_qubits))
    for item in circuit.data:
        on = [circuit.find_bit(q).index for q in item.qubits]
        state = state.evolve(Operator(item.operation), on)
        if model is not None:
            error = model._default_quantum_errors.get(item.operation.name)
            state = state if error is None else state.evolve(SuperOp(error), on)
        if item.operation.name == "cz":
            for channel, where in behind(tuple(on)):
                state = state.evolve(channel, list(where))
    return state


def circuit_of(seed, n=3):
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(n)
    for _ in range(2):
        for q in range(n):
            circuit.rx(rng.uniform(-3, 3), q)
            circuit.ry(rng.uniform(-3, 3), q)
        for q in range(n - 1):
            circuit.cz(q, q + 1)
    for q in range(n):
        circuit.rx(rng.uniform(-3, 3), q)
    return circuit


def asked(estimator, circuit, observable):
    return float(estimator.run([(circuit, observable)]).result()[0].data.evs)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("observable", ["IIZ", "ZXY", "YIZ"])
def test_coherent_errors_and_rates_are_those_of_qiskit(engine, observable):
    angles = {"ZZ": 0.3, "ZI": -0.2, "IX": 0.25}
    rates = {"XX": 0.02, "IY": 0.05, "ZY": 0.01}
    noise = Noise(aer_model()).coherent("cz", angles).lindblad("cz", rates, (1, 2))
    circuit = circuit_of(1)

    def behind(on):
        found = [(evolution(label, angle), on) for label, angle in angles.items()]
        return found + ([(damping(label, rate), on) for label, rate in rates.items()] if on == (1, 2) else [])

    expected = layers(circuit, behind, aer_model()).expectation_value(Pauli(observable)).real
    make, tolerance = ENGINES[engine]
    assert asked(make(noise), circuit, observable) == pytest.approx(expected, abs=tolerance)


def test_rates_are_qiskits_pauli_lindblad_map():
    channel = PauliLindbladMap.from_sparse_list([("XY", [0, 1], 0.03), ("Z", [1], 0.05), ("ZZ", [0, 1], 0.02)], 2)
    noise, plain = Noise().lindblad("cz", channel), Noise().lindblad("cz", {"YX": 0.03, "ZI": 0.05, "ZZ": 0.02})
    circuit = circuit_of(2)
    assert asked(LightConeEstimator(noise), circuit, "XYZ") == asked(LightConeEstimator(plain), circuit, "XYZ")
    prepared = QuantumCircuit(2)
    prepared.h([0, 1])
    prepared.cz(0, 1)  # stabilized by XZ and ZX
    for label in ("XZ", "ZX"):
        fidelity = channel.pauli_fidelity(QubitSparsePauli(label))
        assert asked(LightConeEstimator(noise), prepared, label) == pytest.approx(fidelity, abs=1e-12)


def test_gradients_by_angles_and_rates_are_finite_differences():
    angle, rate, x = Parameter("angle"), Parameter("rate"), Parameter("x")
    noise = Noise(aer_model()).coherent("cz", {"ZZ": angle, "IX": 2 * angle}).lindblad("cz", {"XZ": rate, "YI": 0.1})
    circuit = circuit_of(3)
    circuit.rx(x, 0)
    observables = [SparsePauliOp("XYZ"), SparsePauliOp(["IIZ", "ZZI"], [0.5, 1])]
    for engine in (LightConeEstimator(noise), DensityMatrixEstimator(noise)):
        program = engine.compile(circuit, observables, [x], [angle, rate])
        rows = torch.tensor([[0.3], [1.4]], dtype=torch.float64, requires_grad=True)
        shared = torch.tensor([0.2, 0.0], dtype=torch.float64, requires_grad=True)  # a rate of 0 has a gradient
        assert torch.autograd.gradcheck(program, (rows, shared), eps=1e-6, atol=1e-7)
        bound = noise.bind({angle: 0.2, rate: 0.0})
        same = type(engine)(bound).compile(circuit, observables, [x], [])(rows, NONE)
        assert torch.allclose(program(rows, shared), same, atol=1e-12)
    # rates may differ from row to row
    program = LightConeEstimator(noise).compile(circuit, observables, [x, rate], [angle])
    rows = torch.tensor([[0.3, 0.0], [0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    shared = torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(program, (rows, shared), eps=1e-6, atol=1e-7)


def test_a_noise_model_is_fitted_to_what_was_measured():
    angles, rates = [Parameter(f"a{i}") for i in range(2)], [Parameter(f"r{i}") for i in range(2)]
    noise = Noise().coherent("cz", dict(zip(["ZZ", "IZ"], angles, strict=True)))
    noise = noise.lindblad("cz", dict(zip(["XI", "ZZ"], rates, strict=True)))
    truth = torch.tensor([0.15, -0.08, 0.03, 0.06], dtype=torch.float64)
    observables = [SparsePauliOp(label) for label in ("IIZ", "IXY", "ZXY", "YZX", "XXI", "ZZZ")]
    programs = [
        LightConeEstimator(noise).compile(circuit_of(seed), observables, [], [*angles, *rates]) for seed in range(6)
    ]

    def values(parameters):
        return torch.cat([program(torch.zeros(1, 0), parameters)[0] for program in programs])

    measured = values(truth)
    guess = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([guess], max_iter=60, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = ((values(guess) - measured) ** 2).sum()
        error.backward()
        return error

    optimizer.step(loss)
    assert torch.allclose(guess.detach(), truth, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_crosstalk_happens_where_gates_are_simultaneous(engine):
    noise = Noise().coherent([("cz", (0, 1)), ("cz", (2, 3))], {"ZZ": 0.5}, (1, 2))
    noise = noise.lindblad([("cz", (0, 1)), ("cz", (2, 3))], {"XX": 0.1}, (0, 3))
    at_once, apart = QuantumCircuit(4), QuantumCircuit(4)
    for circuit, between in ((at_once, False), (apart, True)):
        circuit.rx(0.7, range(4))
        circuit.cz(0, 1)
        circuit.rx(0.4, 1)  # after the layer, though written between its gates
        if between:
            circuit.cz(1, 2)
        circuit.cz(2, 3)
        circuit.rx(0.4, range(4))
    make, tolerance = ENGINES[engine]
    by_hand = QuantumCircuit(4)
    by_hand.rx(0.7, range(4))
    by_hand.cz(0, 1)
    by_hand.cz(2, 3)
    by_hand.rzz(0.5, 1, 2)
    chance = (1 - np.exp(-0.2)) / 2
    by_hand.append(pauli_error([("XX", chance), ("II", 1 - chance)]).to_instruction(), [0, 3])
    by_hand.rx(0.4, 1)
    by_hand.rx(0.4, range(4))
    for observable in ("ZZZZ", "IYXI"):
        state = by_hand.copy()
        state.save_expectation_value(Pauli(observable), range(4))
        expected = AerSimulator(method="density_matrix").run(state).result().data(0)["expectation_value"]
        assert asked(make(noise), at_once, observable) == pytest.approx(expected, abs=tolerance)
        assert asked(make(noise), apart, observable) == pytest.approx(
            asked(StatevectorEstimator(), apart, observable), abs=tolerance
        )


def test_scaled_noise_is_folded_noise_where_it_commutes():
    rates = {"ZZ": 0.02, "IZ": 0.03, "ZI": 0.01}
    noise = Noise().coherent("cz", {"ZZ": 0.1}).lindblad("cz", rates)
    circuit, folded = circuit_of(6), QuantumCircuit(3)
    for item in circuit.data:
        for _ in range(3 if item.operation.name == "cz" else 1):  # cz is its own inverse
            folded.append(item.operation, item.qubits)
    for observable in ("IIZ", "XYZ"):
        scaled = asked(LightConeEstimator(noise.scaled(3)), circuit, observable)
        assert scaled == pytest.approx(asked(LightConeEstimator(noise), folded, observable), abs=1e-12)
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.05, 2), "cz")  # commutes with everything
    for observable in ("IIZ", "XYZ"):
        scaled = asked(LightConeEstimator(Noise(model).scaled(3)), circuit, observable)
        assert scaled == pytest.approx(asked(LightConeEstimator(model), folded, observable), abs=1e-10)
        half = Noise(aer_model()).scaled(0.5).scaled(2)
        assert asked(LightConeEstimator(half), circuit, observable) == pytest.approx(
            asked(LightConeEstimator(aer_model()), circuit, observable), abs=1e-9
        )
        none = asked(LightConeEstimator(Noise(aer_model()).coherent("cz", {"ZZ": 0.1}).scaled(0)), circuit, observable)
        assert none == pytest.approx(asked(StatevectorEstimator(), circuit, observable), abs=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
def test_channels_on_three_qubits(engine):
    model = NoiseModel()
    error = depolarizing_error(0.1, 3).compose(pauli_error([("XYZ", 0.1), ("IZX", 0.05), ("YII", 0.05), ("III", 0.8)]))
    model.add_all_qubit_quantum_error(error, "ccx")
    circuit = QuantumCircuit(3)
    circuit.rx(0.7, range(3))
    circuit.ccx(0, 2, 1)
    circuit.ry(0.4, range(3))
    make, tolerance = ENGINES[engine]
    for observable in ("ZIZ", "XYZ"):
        state = circuit.copy()
        state.save_expectation_value(Pauli(observable), range(3))
        simulator = AerSimulator(method="density_matrix", noise_model=model)
        expected = simulator.run(state).result().data(0)["expectation_value"]
        assert asked(make(model), circuit, observable) == pytest.approx(expected, abs=tolerance)
    noise = Noise().coherent("ccx", {"ZXY": 0.4}).lindblad("ccx", {"XXX": 0.1, "YZI": 0.05})
    expected = DensityMatrix(circuit_of_three(circuit, noise)).expectation_value(Pauli("XYZ")).real
    assert asked(make(noise), circuit, "XYZ") == pytest.approx(expected, abs=tolerance)


def circuit_of_three(circuit, noise):
    """The state behind the circuit above, with terms behind its ccx as Qiskit has them."""
    state = DensityMatrix.from_label("000")
    for item in circuit.data:
        on = [circuit.find_bit(q).index for q in item.qubits]
        state = state.evolve(Operator(item.operation), on)
        if item.operation.name == "ccx":
            state = state.evolve(evolution("ZXY", 0.4), on)
            state = state.evolve(damping("XXX", 0.1), on).evolve(damping("YZI", 0.05), on)
    return state


@pytest.mark.parametrize("engine", ENGINES)
def test_aers_own_pauli_lindblad_errors(engine):
    error = PauliLindbladError(["XX", "IZ", "YI"], [0.1, 0.02, 0.05])
    model = NoiseModel()
    model.add_all_qubit_quantum_error(error, "cz")
    circuit = circuit_of(7)
    circuit.append(PauliLindbladError(["XXZ", "IZI"], [0.05, 0.1]).to_instruction(), [0, 1, 2])
    circuit.ry(0.3, range(3))
    make, tolerance = ENGINES[engine]
    for observable in ("IZX", "YXZ"):
        state = circuit.copy()
        state.save_expectation_value(Pauli(observable), range(3))
        simulator = AerSimulator(method="density_matrix", noise_model=model)
        expected = simulator.run(state).result().data(0)["expectation_value"]
        assert asked(make(model), circuit, observable) == pytest.approx(expected, abs=tolerance)
        twice = asked(make(Noise(model).scaled(2)), circuit, observable)
        plain = Noise().lindblad("cz", {"XX": 0.2, "IZ": 0.04, "YI": 0.1})
        assert twice == pytest.approx(asked(make(plain), circuit, observable), abs=2 * tolerance)
    model.add_all_qubit_quantum_error(PauliLindbladError(["XX"], [0.1]), "cz", warnings=False)
    plain = asked(make(Noise().lindblad("cz", {"XX": 0.2, "IZ": 0.02, "YI": 0.05})), circuit, "IZX")
    assert asked(make(model), circuit, "IZX") == pytest.approx(plain, abs=2 * tolerance)


@pytest.mark.parametrize("engine", ENGINES)
def test_depolarization_and_joint_flips_are_aers(engine):
    noise = Noise(aer_model()).depolarizing("cz", 0.03, (1, 2)).flipped(0.1, (0, 1)).flipped(0.2, (1, 2))
    circuit = circuit_of(3)
    for observable, factor in (("IIZ", 0.8), ("IZZ", 0.6), ("ZIZ", 0.8 * 0.6), ("IXI", 0.8 * 0.6)):
        without = Noise(aer_model()).lindblad("cz", dict.fromkeys(all_pairs(), 0.03 / 8), (1, 2))
        expected = factor * asked(LightConeEstimator(without), circuit, observable)
        make, tolerance = ENGINES[engine]
        assert asked(make(noise), circuit, observable) == pytest.approx(expected, abs=tolerance)


def all_pairs():
    return [a + b for a in "IXYZ" for b in "IXYZ" if a + b != "II"]


def test_frames_make_pauli_channels_of_errors():
    model = Noise(aer_model())
    noise = model.coherent("cz", {"ZZ": 0.3}).coherent("rx", {"X": 0.2})
    circuit, random = circuit_of(3), np.random.default_rng(0)
    plain = Noise(aer_model()).twirled().coherent("rx", {"X": 0.2})
    halves = [plain.coherent("cz", {"ZZ": sign * 0.3}) for sign in (1, -1)]
    one_gate = QuantumCircuit(2)
    one_gate.rx(random.uniform(0, 3), [0, 1])
    one_gate.cz(0, 1)
    one_gate.rx(0.3, [0, 1])
    for observable in ("ZI", "YZ"):
        values = [asked(LightConeEstimator(half), one_gate, observable) for half in halves]
        assert asked(LightConeEstimator(noise.twirled()), one_gate, observable) == pytest.approx(np.mean(values))
    for label in ("XYZ", "ZII"):
        left, bare = (asked(LightConeEstimator(one.twirled()), circuit, label) for one in (noise.incoherent(), model))
        assert left == pytest.approx(bare, abs=1e-12)
    with pytest.raises(EngineError, match="below pi/2"):
        Noise().coherent("cz", {"ZZ": 2.0}).twirled()


def test_a_twirled_error_has_the_diagonal_of_the_transfer_matrix():
    error = depolarizing_error(0.01, 2).compose(
        thermal_relaxation_error(1e-4, 8e-5, 3e-6).expand(thermal_relaxation_error(5e-5, 6e-5, 3e-6))
    )
    model = NoiseModel()
    model.add_quantum_error(error, "cz", [0, 1])
    found = error_of(Noise(model).twirled().model, "cz", (0, 1))
    before, after = PTM(SuperOp(error)).data.real, PTM(SuperOp(found)).data.real
    assert np.allclose(np.diag(after), np.diag(before), atol=1e-9)
    assert np.allclose(after, np.diag(np.diag(after)), atol=1e-9)


def test_mistakes_are_one_sentence():
    rate = Parameter("rate")
    with pytest.raises(QkdError, match="one letter for each"):
        Noise().coherent("cz", {"ZZZ": 0.1}, (0, 1))
    with pytest.raises(QkdError, match="one letter for each"):
        Noise().lindblad("cz", {"II": 0.1})
    with pytest.raises(QkdError, match="positive"):
        Noise().lindblad("cz", {"ZZ": -0.1})
    with pytest.raises(QkdError, match="give the qubits"):
        Noise().coherent([("cz", (0, 1)), ("cz", (2, 3))], {"ZZ": 0.1})
    with pytest.raises(QkdError, match="parameters 'rate'"):
        LightConeEstimator(Noise().lindblad("cz", {"ZZ": rate})).run([(circuit_of(1), "ZZZ")]).result()
    with pytest.raises(QkdError, match="follows"):
        LightConeEstimator(Noise().coherent("rx", {"ZZ": 0.1})).run([(circuit_of(1), "ZZZ")]).result()
    with pytest.raises(QkdError, match="parameters"):
        AerEstimator(Noise().lindblad("cz", {"ZZ": rate})).compile(circuit_of(1), [SparsePauliOp("ZZZ")], [], [rate])
