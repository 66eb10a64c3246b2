"""Random circuits, noise models and observables: our engines against Aer's density matrix and IBM's pauli-prop."""

import numpy as np
import pytest
from benchmarks.correctness import case, worst
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import PauliLindbladError

from qkd.engines import LightConeEstimator

seeds = st.integers(0, 2**31)


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_random_noisy_cases_are_aers(seed):
    assert worst(case(seed)) < 1e-9


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_wide_cliffords_rotations_and_rates_are_pauli_props(seed):
    pauli_prop = pytest.importorskip("pauli_prop")
    rng, n = np.random.default_rng(seed), 30
    circuit = QuantumCircuit(n)
    for layer in range(2):
        for q in range(n):
            circuit.rx(rng.uniform(-3, 3), q)
            circuit.rz(rng.uniform(-3, 3), q)
        for q in range(layer % 2, n - 1, 2):
            circuit.cx(q, q + 1)
            error = PauliLindbladError(["XX", "ZI", "IY"], rng.uniform(0, 0.05, 3))
            circuit.append(error.to_instruction(), [q, q + 1])
    at = int(rng.integers(3, n - 4))
    observable = SparsePauliOp.from_sparse_list([("ZZ", [at, at + 1], 1.0), ("X", [at + 1], 0.5)], n)
    strings, _ = pauli_prop.propagate_through_circuit(observable, circuit, 2**16, 0.0, "h")
    expected = strings.coeffs.real[~strings.paulis.x.any(axis=1)].sum()  # on |0>
    found = float(LightConeEstimator().run([(circuit, observable)]).result()[0].data.evs)
    assert found == pytest.approx(expected, abs=1e-9)
