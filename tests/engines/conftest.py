"""Random circuits and observables for the engines' tests, each from its own seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import SparsePauliOp

GATES = {
    name: gate for name, gate in get_standard_gate_name_mapping().items() if name not in ("measure", "reset", "delay")
}


def random_circuit(seed: int, num_qubits: int = 4, size: int = 25, names: list[str] | None = None) -> QuantumCircuit:
    """A circuit of standard gates, most of their angles free, some repeated, some inside expressions."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(num_qubits)
    free: list[Parameter] = []

    def angle():
        kind = rng.integers(5)
        if kind == 0:
            return float(rng.uniform(-4, 4))
        if kind == 1 and free:
            return free[rng.integers(len(free))]
        free.append(Parameter(f"p{len(free)}"))
        if kind == 2:
            return 2 * free[-1] + np.pi / 3
        if kind == 3 and len(free) > 1:
            return (free[-1] * free[0]).sin() - free[1] / 2
        return free[-1]

    pool = names or sorted(GATES)
    while len(circuit.data) < size:
        gate = GATES[pool[rng.integers(len(pool))]].to_mutable()
        if gate.num_qubits > num_qubits:
            continue
        gate.params = [angle() for _ in gate.params]
        circuit.append(gate, rng.permutation(num_qubits)[: gate.num_qubits].tolist())
    return circuit


def random_observables(seed: int, num_qubits: int, count: int, letters: str = "IXYZ") -> list[SparsePauliOp]:
    """Sums of one to three random Pauli strings with real coefficients."""
    rng = np.random.default_rng(seed)
    return [
        SparsePauliOp(
            ["".join(rng.choice(list(letters), num_qubits)) for _ in range(rng.integers(1, 4))],
        ).simplify()
        * float(rng.uniform(0.2, 2))
        for _ in range(count)
    ]


@pytest.fixture
def rng(request):
    """A random stream of the test's own, from its name."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are slower on several threads, much slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
