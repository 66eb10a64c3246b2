"""Random circuits with resets, and a check of their transpiled form."""

import numpy as np
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import DensityMatrix, SparsePauliOp, random_pauli_list

from qkd.circuits.student import StudentCircuit
from qkd.devices import snapshot
from qkd.devices.transpile import expectation_values, transpile, verify


def random_reset_circuit(seed):
    """Return a circuit of 2 to 5 qubits with resets at random places, and a point of its parameters."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    circuit, inner, parameters = QuantumCircuit(n), QuantumCircuit(1, name="inner"), [Parameter("first")]
    inner.h(0)
    inner.reset(0)
    circuit.ry(parameters[0], 0)
    for _ in range(rng.integers(6, 20)):
        kind, (a, b) = rng.integers(7), rng.permutation(n)[:2].tolist()
        if kind < 2:
            parameters.append(Parameter(f"p{len(parameters)}"))
            [circuit.rx, circuit.ry, circuit.rz][rng.integers(3)](parameters[-1], a)
        elif kind == 2:
            circuit.h(a)
        elif kind == 3:
            circuit.reset(a)
        elif kind == 4 and rng.integers(3) == 0:
            circuit.append(inner.to_instruction(), [a])
        else:
            circuit.cx(a, b)
    half = len(parameters) // 2
    paulis = [random_pauli_list(n, 2, seed=int(rng.integers(1 << 30)), phase=False) for _ in range(2)]
    observables = [SparsePauliOp(pauli, [1.5, -0.5]) for pauli in paulis]
    student = StudentCircuit(circuit, parameters[:half], parameters[half:], observables)
    return student, rng.uniform(-np.pi, np.pi, len(parameters))


def check_reset_circuit(seed, device):
    """Compare a random circuit's values with Qiskit's density matrix, and with those of the compiled circuit."""
    student, values = random_reset_circuit(seed)
    rho = DensityMatrix(student.circuit.assign_parameters(dict(zip(student.parameters, values, strict=True))))
    exact = [rho.expectation_value(observable).real for observable in student.observables]
    np.testing.assert_allclose(expectation_values(student, values), exact, atol=1e-10, err_msg=f"seed {seed}")
    held = snapshot.load_snapshot(device)
    assert verify(student, transpile(student, held), held, seed) < 1e-9, f"seed {seed}"
