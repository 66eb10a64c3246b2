"""Random noisy circuits on our exact engines and on AerSimulator's density matrix: how many differ, and by how much.

    python benchmarks/correctness.py [CASES] [FIRST SEED]

Each case is a seed. It has 2 to 4 qubits, gates of every kind that Aer knows with labels and composites, resets and
delays. The noise model has random errors by name and label, also of ``measure``. Observables are random.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import SparsePauliOp, random_quantum_channel
from qiskit_aer.noise import (
    NoiseModel,
    QuantumError,
    ReadoutError,
    amplitude_damping_error,
    depolarizing_error,
    pauli_error,
    thermal_relaxation_error,
)

from qkd.engines import AerEstimator, DensityMatrixEstimator, LightConeEstimator
from qkd.engines.aer import AerProgram
from qkd.engines.program import ExpectationProblem

GATES = {
    name: gate
    for name, gate in get_standard_gate_name_mapping().items()
    if name not in ("measure", "delay") and gate.num_qubits and gate.num_qubits <= 3
}
Case = tuple[QuantumCircuit, list[SparsePauliOp], NoiseModel]


def error(rng: np.random.Generator, qubits: int) -> QuantumError:
    """Return a random error on one or two qubits."""
    if qubits == 2 and rng.random() < 0.5:
        return error(rng, 1).tensor(error(rng, 1))
    kind = int(rng.integers(5))
    if kind == 0:
        return depolarizing_error(float(rng.uniform(0, 0.3)), qubits)
    if kind == 1:
        labels = rng.choice(list("IXYZ"), (3, qubits))
        return pauli_error(list(zip(map("".join, labels), rng.dirichlet(np.ones(3)), strict=True)))
    if kind == 2:
        return QuantumError(random_quantum_channel(2**qubits, seed=int(rng.integers(2**31)), rank=2))
    if qubits == 2:
        return error(rng, 1).tensor(error(rng, 1))
    if kind == 3:
        return amplitude_damping_error(float(rng.uniform(0, 0.4)))
    t1 = float(rng.uniform(20, 100))
    return thermal_relaxation_error(t1, float(rng.uniform(0.2, 2)) * t1, float(rng.uniform(0, 30)))


def case(seed: int) -> Case:
    """Return a random circuit, observables and a noise model."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    circuit, used = QuantumCircuit(n), dict[str, int]()
    for _ in range(int(rng.integers(5, 25))):
        gate = GATES[str(rng.choice(sorted(GATES)))].to_mutable()
        if gate.num_qubits > n:
            continue
        gate.params = [float(rng.uniform(-4, 4)) for _ in gate.params]
        if rng.random() < 0.2 and gate.name != "reset":
            gate.label = f"label{gate.num_qubits}{rng.integers(3)}"
        if gate.num_qubits < 3:
            used[gate.label or gate.name] = gate.num_qubits
        circuit.append(gate, rng.permutation(n)[: gate.num_qubits].tolist())
    noise = NoiseModel()
    for name, width in sorted({**used, "cx": 2, "x": 1, "measure": 1}.items()):
        if rng.random() < 0.5:
            noise.add_all_qubit_quantum_error(error(rng, width), name, warnings=False)
        if rng.random() < 0.3:
            on = rng.permutation(n)[:width].tolist()
            noise.add_quantum_error(error(rng, width), name, on, warnings=False)
    for qubit in range(n):
        if rng.random() < 0.5:
            a, b = rng.uniform(0, 0.2, 2)
            noise.add_readout_error(ReadoutError([[1 - a, a], [b, 1 - b]]), [qubit])
    labels = ["".join(rng.choice(list("IXYZ"), n)) for _ in range(3)]
    observables = [SparsePauliOp(label) * float(rng.uniform(0.5, 2)) for label in labels]
    return circuit, observables, noise


def worst(one: Case) -> float:
    """Return the largest difference of an exact engine from Aer, in any observable of a case."""
    circuit, observables, noise = one
    aer = AerProgram(ExpectationProblem(circuit, observables, [], []), AerEstimator(noise)).exact(np.zeros((1, 0)))[0]
    return max(
        float(np.abs(engine(noise, device="cpu").run([(circuit, observables)]).result()[0].data.evs - aer).max())
        for engine in (LightConeEstimator, DensityMatrixEstimator)
    )


def main(cases: int = 1000, first: int = 0) -> None:
    """Print how many of so many cases are wrong."""
    differences = np.array([worst(case(seed)) for seed in range(first, first + cases)])
    wrong = np.flatnonzero(differences > 1e-8) + first
    print(f"{cases} cases from seed {first}: {len(wrong)} wrong, largest difference {differences.max():.1e}")
    for seed in wrong[:20]:
        print(f"  seed {seed}: {differences[seed - first]:.2e}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(*map(int, sys.argv[1:]))
