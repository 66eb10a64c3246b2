"""Error bars of observables with several or scaled Pauli terms, on the same path as a run's."""

import numpy as np
import pytest
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits import library
from qkd.core.console import _Silent
from qkd.devices import snapshot
from qkd.devices.region import to_region
from qkd.devices.transpile import transpile
from qkd.engines import StatevectorEstimator
from qkd.hardware.ledger import JobRecord
from qkd.hardware.measurements import collect_measurements, mitigate
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.mitigation.zne import extrapolate
from qkd.hardware.result import exact_values, predicted_values
from qkd.hardware.service.local import LocalService
from qkd.hardware.terms import Terms

from .sequences import template

SUMS = [
    SparsePauliOp.from_list([("IIIZ", 10.0)]),
    SparsePauliOp.from_list([("IIZI", 0.1)]),
    SparsePauliOp.from_list([("IIIZ", 0.5), ("IIZZ", 0.5), ("IIII", 0.2)]),
    SparsePauliOp.from_list([("IZII", -0.7), ("ZIII", 1.3), ("ZZII", 0.4)]),
]


def plan_of(tmp_path, mitigation, texts, points, seed=0):
    """A plan of a small circuit with sums of Pauli terms on a snapshot."""
    held = snapshot.load_snapshot("fake_manila")
    logical = library.load_circuit("hardware", qubits=4, layers=1)
    logical = logical.with_circuit(logical.circuit, SUMS)
    compiled = transpile(logical, held)
    values = np.random.default_rng(seed).normal(scale=0.8, size=(texts + points, len(logical.parameters)))
    values[:, len(logical.inputs) :] = values[0, len(logical.inputs) :]
    plan = template()
    facts = {
        "folder": tmp_path / "hw-1",
        "request": plan.request.model_copy(update={"local": True}),
        "mitigation": mitigation,
        "snapshot": held,
        "values": values,
        "chunks": ((0, len(values)),),
        "texts": [{"text": "a", "label": None, "teacher": None}] * texts,
    }
    made = {name: getattr(plan, name) for name in type(plan).model_fields} | facts | {"student": compiled}
    return logical, type(plan)(**made)


@pytest.mark.parametrize("name", ["none", "readout", "affine", "zne"])
def test_exact_values_lie_inside_the_bars_of_sums_of_terms(tmp_path, name):
    points = 60 if name == "affine" else 0
    logical, plan = plan_of(tmp_path, Mitigation(name, 256), 400, points)
    assert len(plan.terms.student.observables) == 6  # Z0, Z1, Z0 Z1, Z2, Z3, Z2 Z3
    arrays = LocalService(plan, _Silent()).result(0, "")
    record = JobRecord(0, file="job-0.safetensors", sha256=plan.write_arrays("job-0", **arrays))
    exact = exact_values(Terms.from_student(logical).student, plan.values)
    small, region = to_region(plan.terms.student, plan.snapshot)
    estimates = mitigate(
        plan, collect_measurements(plan, [record]), exact, predicted_values(small, region, plan.values)
    )
    ideal = StatevectorEstimator().run([make_pub(logical, plan.values[:400])]).result()[0].data.evs.T
    covered = (np.abs(estimates.evs - ideal) < 1.96 * estimates.stds).mean(axis=0)
    assert 0.93 <= covered.mean() <= 0.97, covered
    assert (covered > 0.90).all() and (covered < 0.99).all()
    sizes = np.abs(SUMS[0].coeffs[0].real / SUMS[1].coeffs[0].real)
    ratio = np.median(estimates.noise[:, 0]) / np.median(estimates.noise[:, 1])
    assert sizes / 4 < ratio < sizes * 4  # bars scale with the coefficient


def test_terms_have_the_values_and_the_errors_of_their_observables():
    circuit = library.load_circuit("hardware", qubits=4, layers=1)
    student = circuit.with_circuit(circuit.circuit, SUMS)
    terms = Terms.from_student(student)
    values = np.random.default_rng(1).normal(size=(20, len(student.parameters)))
    whole = StatevectorEstimator().run([make_pub(student, values)]).result()[0].data.evs.T
    parts = StatevectorEstimator().run([make_pub(terms.student, values)]).result()[0].data.evs.T
    assert np.allclose(terms.values(parts), whole)
    shots = np.sqrt((1 - parts**2) / 100)
    expected = [
        np.sqrt(100 * (1 - parts[:, 0] ** 2) / 100),
        np.sqrt(0.01 * (1 - parts[:, 1] ** 2) / 100),
        np.sqrt((0.25 * (1 - parts[:, 0] ** 2) + 0.25 * (1 - parts[:, 2] ** 2)) / 100),
    ]
    assert np.allclose(terms.errors(shots)[:, :3].T, expected)


def test_observables_that_are_constant_need_no_term():
    circuit = library.load_circuit("hardware", qubits=4, layers=1)
    terms = Terms.from_student(circuit.with_circuit(circuit.circuit, [SparsePauliOp("IIII", 0.25)]))
    assert np.allclose(terms.values(np.ones((3, 1))), 0.25) and np.allclose(terms.errors(np.ones((3, 1))), 0)


def test_decays_beyond_the_grid_widen_the_bars_and_are_reported(capsys):
    random, factors = np.random.default_rng(0), np.array([1.0, 3.0, 5.0])
    covered, rates = [], (0.5, 0.8, 2.6)
    for rate in rates:
        truth = random.uniform(-0.9, 0.9, (60, 2))  # two texts of each of 60 terms
        means = truth[..., None] * np.exp(-rate * factors)
        stds = np.full(means.shape, 0.01)
        values, errors = extrapolate(means + stds * random.normal(size=stds.shape), stds, factors)
        covered.append((np.abs(values - truth) < 1.96 * errors).mean())
    assert min(covered) > 0.9, covered
    assert "decay too fast to be extrapolated" in capsys.readouterr().err
