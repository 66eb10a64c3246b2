"""Cache keys of compiled programs: two keys are equal only if the programs are.

An object of an unknown kind is equal to itself alone. A missing case therefore costs a compilation and never gives a
wrong number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from qiskit.circuit import Instruction, Parameter, ParameterExpression, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import SparsePauliOp

_MAX_DEPTH = 8  # levels of an operation's attributes that a key includes


class SameObject:
    """A key that is equal for the same object only; it keeps the object alive, so its address is not reused."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameObject) and self._value is other._value


def observable_key(observable: SparsePauliOp) -> Hashable:
    """Return a key that is equal only for equal lists of Paulis and coefficients."""
    paulis = observable.paulis
    return paulis.x.shape, paulis.x.tobytes(), paulis.z.tobytes(), paulis.phase.tobytes(), observable.coeffs.tobytes()


def circuit_key(circuit: QuantumCircuit) -> Hashable:
    """Return a key that is equal only for circuits with the same gates, qubits and parameters in the same order.

    Names and addresses of circuits do not matter: a circuit changed in place has another key, a copy has the same.
    """
    position = {qubit: i for i, qubit in enumerate(circuit.qubits)}
    return (
        circuit.num_qubits,
        tuple(
            (operation_key(item.operation), tuple(position[q] for q in item.qubits), len(item.clbits))
            for item in circuit.data
        ),
    )


def operation_key(operation: Any) -> Hashable:
    """Return a key that is equal only for operations with the same effect and the same noise, in any noise model."""
    kind = getattr(operation, "base_class", type(operation))
    params = tuple(_key(p) for p in getattr(operation, "params", ()))
    key = (kind, operation.name, getattr(operation, "label", None), params)
    if getattr(operation, "_standard_gate", None) is not None and kind.__module__.startswith("qiskit.circuit.library"):
        return (*key, getattr(operation, "ctrl_state", None))
    if isinstance(operation, Instruction):
        with contextlib.suppress(QiskitError, TypeError, ValueError):  # there is none for some unbound gates
            _ = operation.definition  # Qiskit computes this attribute when it is first read
    return (*key, getattr(operation, "unit", None), _attributes(operation, 0))


def object_key(value: Any) -> Hashable:
    """Return a key of an object's type and all of its attributes."""
    return type(value), _attributes(value, 0)


def _attributes(value: Any, depth: int) -> Hashable:
    """Return a key of all attributes of an object."""
    named = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if not slot.startswith("__") and hasattr(value, slot):
                named.setdefault(slot, getattr(value, slot))
    return tuple((name, _key(named[name], depth + 1)) for name in sorted(named))


def _key(value: Any, depth: int = 0) -> Hashable:
    if value is None or isinstance(value, bool | int | str | bytes | Parameter | type):
        return type(value), value
    if isinstance(value, float | complex | np.generic):
        return type(value), np.asarray(value).tobytes()  # -0.0 differs from 0.0, and NaN is equal to itself
    if isinstance(value, ParameterExpression):
        return str(value), frozenset(value.parameters)
    if isinstance(value, QuantumCircuit):
        return circuit_key(value)
    if isinstance(value, SparsePauliOp):
        return observable_key(value)
    if depth > _MAX_DEPTH or isinstance(value, FunctionType | BuiltinFunctionType | MethodType):
        return SameObject(value)
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return value.shape, tuple(_key(element, depth + 1) for element in value.reshape(-1))
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, list | tuple):
        return type(value), tuple(_key(element, depth + 1) for element in value)
    if isinstance(value, Mapping):
        return type(value), tuple((_key(name, depth + 1), _key(element, depth + 1)) for name, element in value.items())
    if hasattr(value, "params") and hasattr(value, "num_qubits"):
        return operation_key(value)
    if type(value).__module__.startswith("qiskit.") and hasattr(value, "__dict__"):
        return type(value), _attributes(value, depth)
    return object()
