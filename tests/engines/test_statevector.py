from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from qiskit.circuit.library import PauliEvolutionGate, RYGate, StatePreparation, UnitaryGate
from qiskit.primitives import StatevectorEstimator as Reference
from qiskit.quantum_info import SparseObservable, SparsePauliOp, random_unitary
from qiskit_aer.noise import amplitude_damping_error

from qkd.circuits import library
from qkd.core.errors import QkdError
from qkd.engines import statevector
from qkd.engines.statevector import StatevectorEstimator
from tests.engines.conftest import GATES, random_circuit, random_observables

seeds = st.integers(0, 2**32 - 1)


def values(estimator, *pub):
    return estimator.run([pub]).result()[0].data.evs


def split(circuit, seed):
    """The circuit's parameters, dealt out at random to rows and shared."""
    order = np.random.default_rng(seed).permutation(circuit.num_parameters)
    cut = len(order) // 2
    parameters = list(circuit.parameters)
    return [parameters[i] for i in order[:cut]], [parameters[i] for i in order[cut:]]


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["IXYZ", "IZ"]))
def test_equals_qiskit_on_random_circuits(seed, letters):
    rng = np.random.default_rng(seed)
    circuit = random_circuit(seed)
    observables = random_observables(seed, 4, 3, letters)
    rows = rng.uniform(-4, 4, (3, circuit.num_parameters))
    rows[:, ::2] = rows[:1, ::2]  # some parameters are the same in all rows
    pub = (circuit, [[o] for o in observables], rows)
    np.testing.assert_allclose(values(StatevectorEstimator(), *pub), values(Reference(), *pub), atol=1e-9)


@pytest.mark.parametrize("name", sorted(GATES))
@pytest.mark.parametrize("rowwise", [False, True])
def test_every_standard_gate(name, rowwise, rng):
    gate = GATES[name].to_mutable()
    n = 4
    gate.params = list(ParameterVector("v", len(gate.params)))
    circuit = QuantumCircuit(n)
    for q in range(n):
        circuit.u(*rng.uniform(-3, 3, 3), q)
    circuit.append(gate, rng.permutation(n)[: gate.num_qubits].tolist())
    for q in range(n):
        circuit.rx(0.3 + q, q)
    observables = ["ZXYZ", "IIXX", "ZIYI", "IIIZ"]
    rows = rng.uniform(-7, 7, (3 if rowwise else 1, circuit.num_parameters))
    pub = (circuit, [[o] for o in observables], rows)
    np.testing.assert_allclose(values(StatevectorEstimator(), *pub), values(Reference(), *pub), atol=1e-9)


@pytest.mark.parametrize("base", ["rx", "u", "ry", "p", "swap", "h", "rzz"])
@pytest.mark.parametrize("state", [0, 1, 2])
def test_controlled_gates_with_open_controls(base, state, rng):
    gate = GATES[base].to_mutable()
    gate.params = list(ParameterVector("v", len(gate.params)))
    controlled = gate.control(2, ctrl_state=state)
    circuit = QuantumCircuit(controlled.num_qubits)
    circuit.h(range(circuit.num_qubits))
    circuit.t(range(circuit.num_qubits))
    circuit.append(controlled, rng.permutation(circuit.num_qubits).tolist())
    circuit.sx(range(circuit.num_qubits))
    observables = random_observables(7, circuit.num_qubits, 4)
    pub = (circuit, [[o] for o in observables], rng.uniform(-3, 3, (2, circuit.num_parameters)))
    np.testing.assert_allclose(values(StatevectorEstimator(), *pub), values(Reference(), *pub), atol=1e-9)


def test_gates_that_are_not_standard(rng):
    t = Parameter("t")
    inner = QuantumCircuit(2, name="inner")
    inner.ry(3 * t, 0)
    inner.cx(0, 1)
    circuit = QuantumCircuit(5)
    circuit.append(StatePreparation([0.6, 0, 0.8j, 0]), [1, 3])
    circuit.initialize([0.6, 0.8], 0)
    circuit.append(UnitaryGate(random_unitary(32, seed=3)), [4, 0, 2, 1, 3])
    circuit.append(inner.to_gate(), [3, 2])
    circuit.append(PauliEvolutionGate(SparsePauliOp(["XY"]), time=t), [4, 2])
    circuit.append(RYGate(t).control(1), [0, 4])
    circuit.mcx([0, 1, 2, 3], 4)
    circuit.barrier()
    circuit.delay(10, 2)
    circuit.global_phase = 0.4
    pub = (circuit, [[o] for o in random_observables(1, 5, 4)], rng.uniform(-3, 3, (3, 1)))
    np.testing.assert_allclose(values(StatevectorEstimator(), *pub), values(Reference(), *pub), atol=1e-9)


def test_custom_gates_of_one_name_are_not_confused():
    circuits = []
    for angle in (0.3, 1.1):
        inner = QuantumCircuit(1, name="block")
        inner.rx(angle, 0)
        circuits.append(QuantumCircuit(1))
        circuits[-1].append(inner.to_gate(), [0])
    estimator = StatevectorEstimator()
    found = [float(values(estimator, circuit, "Z")) for circuit in circuits]
    np.testing.assert_allclose(found, np.cos([0.3, 1.1]), atol=1e-12)


def test_a_circuit_changed_in_place_is_compiled_again():
    circuit = QuantumCircuit(1)
    circuit.ry(0.4, 0)
    estimator = StatevectorEstimator()
    assert float(values(estimator, circuit, "Z")) == pytest.approx(np.cos(0.4))
    circuit.ry(0.5, 0)
    assert float(values(estimator, circuit, "Z")) == pytest.approx(np.cos(0.9))


@pytest.mark.parametrize(
    ("observables", "rows"),
    [
        ((), ()),
        ((3,), ()),
        ((), (4,)),
        ((3, 1), (4,)),
        ((4,), (4,)),
        ((2, 1, 3), (4, 1)),
        ((1,), (2, 3)),
        ((5,), (0, 1)),
    ],
)
def test_broadcasting(observables, rows, rng):
    circuit = random_circuit(5, names=["rx", "cx", "rzz", "h"])
    count = int(np.prod(observables, dtype=int))
    some = random_observables(3, 4, count)
    array = np.empty(observables, dtype=object)
    for index, o in zip(np.ndindex(*observables), some, strict=True):
        array[index] = o
    pub = (circuit, array if observables else some[0], rng.uniform(-3, 3, (*rows, circuit.num_parameters)))
    result = StatevectorEstimator().run([pub], precision=0.1).result()[0]
    expected = values(Reference(), *pub)
    assert result.data.evs.shape == result.data.stds.shape == result.data.shape == expected.shape
    np.testing.assert_allclose(result.data.evs, expected, atol=1e-9)
    assert not result.data.stds.any()


def test_several_pubs_and_parameter_mappings(rng):
    one, other = random_circuit(8), random_circuit(9, num_qubits=5)
    rows = rng.uniform(-2, 2, (3, one.num_parameters))
    mapping = {tuple(reversed(one.parameters)): rows[:, ::-1]}
    pubs = [(one, "ZZZZ", rows), (other, ["XXIIZ", "IIIIZ"], np.ones(other.num_parameters)), (one, "XIYZ", mapping)]
    for mine, theirs in zip(StatevectorEstimator().run(pubs).result(), Reference().run(pubs).result(), strict=True):
        np.testing.assert_allclose(mine.data.evs, theirs.data.evs, atol=1e-9)


def test_projectors_are_expanded():
    circuit = QuantumCircuit(2)
    circuit.ry(0.8, 0)
    circuit.rx(0.5, 1)
    observable = SparseObservable.from_list([("0r", 1.0), ("1+", 0.5)])
    state = np.array([np.cos(0.4), np.sin(0.4)]), np.array([np.cos(0.25), -1j * np.sin(0.25)])
    right, plus = np.array([1, 1j]) / np.sqrt(2), np.array([1, 1]) / np.sqrt(2)
    expected = abs(state[1][0]) ** 2 * abs(right.conj() @ state[0]) ** 2
    expected += 0.5 * abs(state[1][1]) ** 2 * abs(plus @ state[0]) ** 2
    assert float(values(StatevectorEstimator(), circuit, observable)) == pytest.approx(expected, abs=1e-12)


def test_products_of_many_qubits_stay_products():
    n = 60
    angles = ParameterVector("a", n)
    circuit = QuantumCircuit(n)
    for q in range(n):
        circuit.ry(angles[q], q)
    for q in range(0, n, 3):
        circuit.cx(q, q + 1)
    x = np.linspace(0, 3, n)
    observables = [SparsePauliOp.from_sparse_list([("ZZ", [0, n - 1], 1.0)], n), SparsePauliOp("I" * n)]
    found = values(StatevectorEstimator(), circuit, observables, x)
    np.testing.assert_allclose(found, [np.cos(x[0]) * np.cos(x[n - 1]), 1.0], atol=1e-12)


def test_large_batches_go_in_chunks(monkeypatch, rng):
    circuit = random_circuit(11)
    batched, shared = split(circuit, 0)
    program = StatevectorEstimator().compile(circuit, random_observables(2, 4, 3), batched, shared)
    x = torch.tensor(rng.uniform(-2, 2, (7, len(batched))), requires_grad=True)
    w = torch.tensor(rng.uniform(-2, 2, len(shared)), requires_grad=True)
    whole = torch.autograd.grad(program(x, w).square().sum(), (x, w))
    monkeypatch.setattr(statevector, "_CHUNK_BYTES", 2 * program._row_bytes_backward)
    assert program._rows_at_once() == 2
    parts = torch.autograd.grad(program(x, w).square().sum(), (x, w))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_single_precision_agrees_with_double(seed):
    rng = np.random.default_rng(seed)
    circuit = random_circuit(seed, num_qubits=6, size=60)
    batched, shared = split(circuit, seed)
    observables = random_observables(seed, 6, 4)
    found = []
    x, w = rng.uniform(-3, 3, (5, len(batched))), rng.uniform(-3, 3, len(shared))
    for dtype in ("complex128", "complex64"):
        program = StatevectorEstimator(dtype=dtype).compile(circuit, observables, batched, shared)
        rows, common = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
        evs = program(rows, common)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(evs.square().sum(), (rows, common))]))
    exact, rough = found
    assert (rough - exact).norm() <= 1e-4 * exact.norm() + 1e-6


def circuit_with(instruction):
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    instruction(circuit)
    return circuit


@pytest.mark.parametrize(
    ("circuit", "message"),
    [
        (circuit_with(lambda c: c.measure(0, 0)), "remove_final_measurements"),
        (
            circuit_with(lambda c: c.append(amplitude_damping_error(0.1).to_instruction(), [0])),
            "not unitary",
        ),
        (circuit_with(lambda c: c.if_test((0, 1), QuantumCircuit(2, 1), c.qubits, c.clbits)), "control flow"),
    ],
)
def test_what_is_not_unitary_is_refused(circuit, message):
    job = StatevectorEstimator().run([(circuit, "ZZ")])
    with pytest.raises(QkdError, match=message):
        job.result()


@pytest.mark.parametrize(
    ("pub", "message"),
    [
        ((QuantumCircuit(2),), "length"),
        ((QuantumCircuit(2), "ZZZ"), "number of qubits"),
        ((circuit_with(lambda c: c.rx(Parameter("x"), 0)), "ZZ"), "parameters"),
        ((QuantumCircuit(2), SparsePauliOp("ZZ", 1j)), "Hermitian"),
        (("nonsense", "ZZ"), "malformed"),
    ],
)
def test_malformed_pubs_are_refused(pub, message):
    with pytest.raises(QkdError, match=message):
        StatevectorEstimator().run([pub])


def test_compile_refuses_what_does_not_fit_together():
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(2)
    circuit.rx(x, 0)
    z = SparsePauliOp("ZZ")
    compile_ = StatevectorEstimator().compile
    for arguments, message in [
        ((circuit, [z], [], []), "unbound"),
        ((circuit, [z], [x, y], []), "no parameter 'y'"),
        ((circuit, [z], [x], [x]), "twice"),
        ((circuit, [], [x], []), "nothing to measure"),
        ((circuit, [SparsePauliOp("Z")], [x], []), "acts on 1 qubits"),
        ((circuit, [SparsePauliOp("ZZ", 1j)], [x], []), "Hermitian"),
    ]:
        with pytest.raises(QkdError, match=message):
            compile_(*arguments)


def test_too_many_qubits_are_refused_before_anything_is_allocated():
    circuit = QuantumCircuit(60)
    circuit.h(0)
    for q in range(59):
        circuit.cx(q, q + 1)
        circuit.rx(0.1, q + 1)
    with pytest.raises(QkdError, match=r"entangles \d+ qubits or more, of which \d+ fit"):
        values(StatevectorEstimator(), circuit, "Z" * 60)


def test_unknown_dtype_is_refused():
    with pytest.raises(QkdError, match="complex64"):
        StatevectorEstimator(dtype="float16")


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_wide_and_narrow_batches(rows, rng):
    """A batch's size picks other matrix products; all are the same numbers."""
    circuit = random_circuit(31, num_qubits=7, size=60, names=["rx", "ry", "rz", "cx", "rzz", "ecr"])
    batched, shared = split(circuit, 4)
    program = StatevectorEstimator().compile(circuit, random_observables(8, 7, 3), batched, shared)
    x = torch.tensor(rng.uniform(-2, 2, (rows, len(batched))), requires_grad=True)
    w = torch.tensor(rng.uniform(-2, 2, len(shared)), requires_grad=True)
    evs = program(x, w)
    by_rows, by_shared = torch.autograd.grad(evs.sum(), (x, w))
    single = [torch.autograd.grad(program(row[None], w).sum(), (x, w)) for row in x]
    torch.testing.assert_close(sum(one for one, _ in single), by_rows, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sum(one for _, one in single), by_shared, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kept", [0, 2**30])
def test_a_batch_that_is_split_says_the_same(kept, monkeypatch):
    student = library.load_circuit("hardware", 4, 2)
    rng = np.random.default_rng(3)
    x = torch.tensor(rng.uniform(-3, 3, (7, 4)), requires_grad=True)
    w = torch.tensor(rng.uniform(-3, 3, len(student.weights)), requires_grad=True)
    found = []
    for split in (False, True):
        if split:  # chunks of two rows of 2^4 amplitudes
            monkeypatch.setattr("qkd.engines.statevector._CORE_CACHE_BYTES", 0)
            monkeypatch.setattr("qkd.engines.statevector._SHARED_CACHE_BYTES", 2 * 2**4 * 16)
            monkeypatch.setattr("qkd.engines.amplitudes.sweep.MAX_KEPT_BYTES", kept)
        program = StatevectorEstimator(device="cpu").compile(
            student.circuit, student.observables, student.inputs, student.weights
        )
        evs = program(x, w)
        mix = torch.arange(evs.numel(), dtype=evs.dtype).view_as(evs)
        found.append([evs, *torch.autograd.grad((evs * mix).sum(), (x, w))])
    assert program._rows_at_once() == 2
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, atol=1e-12)


@pytest.mark.parametrize("kept", [0, 2**28])
def test_what_is_kept_between_calls_belongs_to_one_of_them(kept, monkeypatch, rng):
    """The next call reuses tensors; a late backward pass computes its own."""
    monkeypatch.setattr("qkd.engines.amplitudes.sweep.MAX_KEPT_BYTES", kept)
    student = library.load_circuit("reupload", 4, 2)
    program = StatevectorEstimator(device="cpu").compile(
        student.circuit, student.observables, student.inputs, student.weights
    )

    def leaves(rows):
        shapes = (rows, len(student.inputs)), (len(student.weights),)
        return [torch.tensor(rng.uniform(-3, 3, shape), requires_grad=True) for shape in shapes]

    arguments = [leaves(rows) for rows in (3, 3, 5, 3)]
    alone = [torch.autograd.grad(program(*pair).square().sum(), pair) for pair in arguments]
    losses = [program(*pair).square().sum() for pair in arguments]
    with torch.no_grad():
        program(*arguments[0])
    for twice in (True, False):
        for loss, pair, gradients in zip(reversed(losses), reversed(arguments), reversed(alone), strict=True):
            late = torch.autograd.grad(loss, pair, retain_graph=twice)
            for one, other in zip(late, gradients, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_program_answers_several_threads_at_once(rng):
    circuit = random_circuit(5, num_qubits=5, size=40, names=["rx", "ry", "rz", "cx", "rzz"])
    batched, shared = split(circuit, 1)
    program = StatevectorEstimator(device="cpu").compile(circuit, random_observables(2, 5, 3), batched, shared)
    rows = [torch.tensor(rng.uniform(-2, 2, (4, len(batched)))) for _ in range(8)]
    weights = torch.tensor(rng.uniform(-2, 2, len(shared)), requires_grad=True)

    def gradient(x):
        return torch.autograd.grad(program(x, weights).sum(), weights)[0]

    alone = [gradient(x) for x in rows]
    with ThreadPoolExecutor(4) as threads:
        for one, other in zip(threads.map(gradient, rows * 5), alone * 5, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
