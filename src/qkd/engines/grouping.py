"""Cache keys of compiled programs, and the grouping of requests into as few batches as possible.

Two keys are equal only if the programs are. An object of an unknown kind is equal to itself alone. A missing case
therefore costs a compilation and never gives a wrong number.

A request is a circuit, a parameter row and an observable.

``EstimatorQNN`` requests samples x observables one by one; a V2 PUB requests a broadcast of the two. Both become the
same list here. Requests on one circuit whose rows want the same observables form one batch (R rows, K observables), so
that an engine computes each requested value once and no other value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Requests:
    """Requested expectation values of one circuit: pair i is row ``rows[i]`` with observable ``columns[i]``.

    Attributes:
        circuit: The circuit. Its P parameters, in its own order, are the columns of ``values``.
        values: The R parameter rows (R,P).
        observables: The K observables.
        rows: The row (Q,) of each request.
        columns: The observable (Q,) of each request.
        numbers: The position (Q,) of each request in the ungrouped list; only batches have it.
        key: A hashable that is equal for equal circuits with equal observables; only batches have it.
    """

    circuit: QuantumCircuit
    values: np.ndarray
    observables: Sequence[SparsePauliOp]
    rows: np.ndarray
    columns: np.ndarray
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    key: Hashable = None


def group(requests: Iterable[Requests], independent: bool = False) -> list[Requests]:
    """Return batches in which all R rows want all K observables.

    Args:
        requests: The requests, numbered in the order given.
        independent: Whether each repetition of a request gets a row of its own, because its value is a random draw.
            Different observables of equal rows still share a row, as in one PUB.
    """
    by_circuit: dict[Hashable, list[tuple[int, Requests]]] = {}
    start = 0
    for request in requests:
        by_circuit.setdefault(circuit_key(request.circuit), []).append((start, request))
        start += len(request.rows)
    return [batch for key, parts in by_circuit.items() for batch in _batches(key, parts, independent)]


def _batches(key: Hashable, parts: list[tuple[int, Requests]], independent: bool) -> Iterable[Requests]:
    place: dict[Hashable, int] = {}
    distinct: list[SparsePauliOp] = []
    all_columns, all_rows, offset = [], [], 0
    for _, part in parts:
        index = []
        for observable in part.observables:
            index.append(place.setdefault(observable_key(observable), len(distinct)))
            if index[-1] == len(distinct):
                distinct.append(observable)
        all_columns.append(np.asarray(index, dtype=int)[part.columns])
        all_rows.append(part.rows + offset)
        offset += len(part.values)
    values, inverse = np.unique(np.concatenate([part.values for _, part in parts]), axis=0, return_inverse=True)
    column = np.concatenate(all_columns)
    number = np.concatenate([start + np.arange(len(part.rows)) for start, part in parts])
    row = inverse.reshape(-1)[np.concatenate(all_rows)]
    if independent:
        copies, row = np.unique(np.stack([row, _repetition(row, column)]), axis=1, return_inverse=True)
        values, row = values[copies[0]], row.reshape(-1)

    order = np.lexsort((column, row))
    row, column, number = row[order], column[order], number[order]
    by_wanted: dict[tuple[int, ...], list[np.ndarray]] = {}
    for of_row in np.split(np.arange(len(row)), np.flatnonzero(np.diff(row)) + 1):
        if len(of_row):
            by_wanted.setdefault(tuple(np.unique(column[of_row]).tolist()), []).append(of_row)
    keys = list(place)
    for wanted, members in by_wanted.items():
        chosen = np.concatenate(members)
        yield Requests(
            circuit=parts[0][1].circuit,
            values=values[[row[member[0]] for member in members]],
            observables=tuple(distinct[c] for c in wanted),
            rows=np.repeat(np.arange(len(members)), [len(member) for member in members]),
            columns=np.searchsorted(np.asarray(wanted), column[chosen]),
            numbers=number[chosen],
            key=(key, tuple(keys[c] for c in wanted)),
        )


def _repetition(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return for each request (Q,) the number of earlier requests with the same row and column."""
    order = np.lexsort((column, row))
    starts = (np.diff(row[order], prepend=-1) != 0) | (np.diff(column[order], prepend=-1) != 0)
    position = np.arange(len(row))
    counts = np.empty(len(row), dtype=int)
    counts[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return counts
