"""PUBs, results and numbers of executions of IBM's client-side Estimator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import CircuitInstruction, Gate, QuantumCircuit
from qiskit.circuit.library import RZGate, SXGate

from qkd.circuits.student import StudentCircuit
from qkd.core.console import log

if TYPE_CHECKING:
    from qkd.hardware.mitigation.base import Mitigation
    from qkd.hardware.mitigation.learned import Layers

U_GATES = ("u1", "u2", "u3", "p", "u", "r", "ry")
RESULT_FIELDS = {"evs": "evs", "stds": "stds", "evs_factors": "evs_noise_factors", "stds_factors": "stds_noise_factors"}


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print the client's warnings, for example that it omits a mitigation.

    Those of its extrapolations are ignored: values near zero have no covariance there, and qkd extrapolates itself.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", module=r"qiskit_mitigation\.zne\.extrapolation")
        yield
    for message in dict.fromkeys(str(one.message) for one in caught):
        log.warning(f"IBM's client: {message}")


def make_pub(student: StudentCircuit, values: np.ndarray) -> tuple[Any, ...]:
    """Return one PUB of all K observables at parameter values (N,A+P); its result has the shape (K,N)."""
    circuit, *others = make_backend_pub(student, values)
    return _with_client_gates(circuit), *others


def make_backend_pub(student: StudentCircuit, values: np.ndarray) -> tuple[Any, ...]:
    """Return the same PUB with the circuit's own gates, for another client than IBM's."""
    observables = [[observable] for observable in student.observables]
    return student.circuit, observables, {tuple(student.parameters): values}


def _with_client_gates(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit whose parameterized u, ``r`` and ``ry`` gates are rotations about Z and square roots of X.

    samplomatic, which the client uses, cannot move a Pauli through other parameterized gates of one qubit, and some
    devices have no others. The client itself writes all one-qubit gates beside a twirl in this form.
    """
    if not any(_is_parameterized_u(item) for item in circuit.data):
        return circuit
    converted = circuit.copy_empty_like()
    for item in circuit.data:
        if _is_parameterized_u(item):
            for gate in _rotations(item.operation.name, item.operation.params):
                converted.append(gate, item.qubits)
        else:
            converted.append(item.operation, item.qubits)
    return converted


def _is_parameterized_u(item: CircuitInstruction) -> bool:
    return item.operation.name in U_GATES and item.is_parameterized()


def _rotations(name: str, params: Sequence[Any]) -> list[Gate]:
    """Return the gates, first to last, that equal a gate of ``U_GATES`` up to a global phase."""
    if name in ("u1", "p"):
        return [RZGate(params[0])]
    if name == "u2":
        return [RZGate(params[1] - np.pi / 2), SXGate(), RZGate(params[0] + np.pi / 2)]
    if name == "ry":
        params = [params[0], 0.0, 0.0]
    elif name == "r":
        params = [params[0], params[1] - np.pi / 2, np.pi / 2 - params[1]]
    theta, phi, lam = params
    return [RZGate(lam), SXGate(), RZGate(theta + np.pi), SXGate(), RZGate(phi + np.pi)]


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
