"""Every snapshot of qiskit-ibm-runtime once: a random circuit under its noise on our exact engines and on AerSimulator.

    python benchmarks/snapshots.py [NAME ...]

On each device a few neighboring qubits are drawn. A random circuit of its own gates, with delays where it has them,
is read with random Pauli strings, readout errors included. The reference is AerSimulator's density matrix.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from qiskit.circuit import Delay, Gate, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import Target
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime import fake_provider

WIDTH, GATES, STRINGS = 4, 30, 4


def names() -> list[str]:
    """Return the names of all snapshots."""
    found = (getattr(fake_provider, name) for name in dir(fake_provider) if name.startswith("Fake"))
    return sorted(one.__name__ for one in found if isinstance(one, type) and hasattr(one, "backend_name"))


def neighbors(target: Target, rng: np.random.Generator) -> list[int]:
    """Return up to ``WIDTH`` qubits that hang together."""
    edges = target.build_coupling_map().get_edges() if target.num_qubits > 1 else []
    chosen = [int(rng.integers(target.num_qubits))]
    while len(chosen) < WIDTH:
        near = sorted({b for a, b in edges if a in chosen} | {a for a, b in edges if b in chosen} - set(chosen))
        near = [qubit for qubit in near if qubit not in chosen]
        if not near:
            break
        chosen.append(int(rng.choice(near)))
    return chosen


def case(name: str) -> tuple[QuantumCircuit, list[SparsePauliOp], NoiseModel]:
    """Return a random circuit of a device's gates, observables, and the device's noise as Aer reads it."""
    backend = getattr(fake_provider, name)()
    rng = np.random.default_rng(list(name.encode()))
    chosen = neighbors(backend.target, rng)
    possible: list[tuple[Gate | Delay, tuple[int, ...]]] = [
        (operation, on)
        for operation, on in backend.target.instructions
        if isinstance(operation, Gate | Delay) and on and set(on) <= set(chosen)
    ]
    circuit = QuantumCircuit(backend.num_qubits)
    for qubit in chosen:  # a state of no symmetry, so that no value is 0; these gates have no noise
        circuit.u(*rng.uniform(-3, 3, 3), qubit)
    for _ in range(GATES):
        operation, on = possible[int(rng.integers(len(possible)))]
        operation = operation.to_mutable()
        if isinstance(operation, Delay):
            operation = Delay(float(rng.uniform(1e-7, 3e-6)), "s")
        else:
            operation.params = [float(rng.uniform(0.1, 1.5)) for _ in operation.params]
        circuit.append(operation, on)
    for qubit in chosen:
        circuit.u(*rng.uniform(-3, 3, 3), qubit)
    strings = [
        ("".join(rng.choice(list("XYZ"), size)), rng.permutation(chosen)[:size].tolist(), 1.0)
        for size in rng.integers(1, len(chosen) + 1, STRINGS)
    ]
    observables = [SparsePauliOp.from_sparse_list([string], circuit.num_qubits) for string in strings]
    return circuit, observables, NoiseModel.from_backend(backend)


def main(chosen: list[str]) -> None:
    """Print how far our engines are from AerSimulator on each snapshot."""
    from benchmarks.correctness import worst

    warnings.simplefilter("ignore")
    wrong = 0
    for name in chosen:
        difference = worst(case(name))
        wrong += difference > 1e-8
        print(f"{name}: {difference:.1e}{'  WRONG' if difference > 1e-8 else ''}", flush=True)
    print(f"{len(chosen)} snapshots, {wrong} wrong")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(sys.argv[1:] or names())
