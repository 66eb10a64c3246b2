"""What IBM's client-side Estimator takes and returns: PUBs, results and the number of executions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import ParameterExpression, QuantumCircuit

from qkd.circuits.student import StudentCircuit

if TYPE_CHECKING:
    from qkd.hardware.mitigation.layers import Layers
    from qkd.hardware.mitigation.settings import Mitigation

RESULT_FIELDS = {"evs": "evs", "stds": "stds", "evs_factors": "evs_noise_factors", "stds_factors": "stds_noise_factors"}


def make_pub(student: StudentCircuit, values: np.ndarray) -> tuple[Any, ...]:
    """Return one PUB of all K observables at parameter values (N,A+P); its result has the shape (K,N)."""
    observables = [[observable] for observable in student.observables]
    return _with_uniform_gates(student.circuit), observables, {tuple(student.parameters): values}


def _with_uniform_gates(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit in which no gate mixes numbers with free parameters.

    samplomatic, which the client uses, cannot propagate a Pauli through such a gate: a ``u3`` with one free angle. A
    number becomes an expression of the gate's own free parameter that has the same value.
    """
    if not any(_is_mixed(item.operation.params) for item in circuit.data):
        return circuit
    uniform = circuit.copy_empty_like()
    for item in circuit.data:
        operation, params = item.operation, item.operation.params
        if _is_mixed(params):
            free = next(iter(next(p for p in params if isinstance(p, ParameterExpression)).parameters))
            operation = operation.to_mutable()
            operation.params = [p if isinstance(p, ParameterExpression) else free - free + float(p) for p in params]
        uniform.append(operation, item.qubits)
    return uniform


def _is_mixed(params: list[Any]) -> bool:
    free = [isinstance(value, ParameterExpression) for value in params]
    return any(free) and not all(free)


def read_result(data: Any) -> dict[str, np.ndarray]:
    """Return ``evs`` and ``stds`` (T,N) of the client's result, and those of each noise factor (T,N,F) if present."""
    return {name: np.asarray(data[field], dtype=float) for name, field in RESULT_FIELDS.items() if field in data}


def count_executions(
    student: StudentCircuit, mitigation: Mitigation, layers: Layers | None, backend: Any
) -> tuple[int, int]:
    """Return the executions of each parameter set, and those of each job, which learn the readout.

    They are counted on the program that the client makes of one parameter set. Twirls, bases, noise factors and the
    sampling overhead of ``pec`` are included.
    """
    from qiskit_ibm_runtime.executor_estimator.prepare import prepare

    pub = make_pub(student, np.zeros((1, len(student.parameters))))
    program, _ = prepare([pub], mitigation.options(layers), backend=backend)
    sizes = [program.shots * item.size() for item in program.items]
    learning = sizes[-1] if mitigation.method.learns_readout else 0
    return sum(sizes) - learning, learning
