"""Turning a list of requests (circuit, parameter row, observable) into as few batches as possible.

``EstimatorQNN`` asks for samples x observables one by one, a V2 PUB for any broadcast of the two. Both are
the same list of requests here. Requests on one circuit whose rows want the same observables become one
batch (R rows, K observables), so that nothing is computed that nobody asked for and nothing twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.engines.keys import circuit_key, observable_key

V = TypeVar("V")


@dataclass(frozen=True)
class Requests:
    """Wanted expectation values of one circuit: pair i is row ``rows[i]`` with observable ``which[i]``.

    Args:
        circuit: the circuit; its P parameters in the circuit's own order are the columns of ``values``.
        values: (R,P) parameter rows.
        observables: the observables that ``which`` counts.
        rows: (Q,) row of each request.
        which: (Q,) observable of each request.
    """

    circuit: QuantumCircuit
    values: np.ndarray
    observables: Sequence[SparsePauliOp]
    rows: np.ndarray
    which: np.ndarray


@dataclass(frozen=True)
class Batch:
    """R distinct rows that all want the same K distinct observables of one circuit.

    ``requests``, ``row`` and ``column`` say that the result's entry ``[row[j], column[j]]`` answers request
    number ``requests[j]`` in the order in which the requests were given.
    """

    circuit: QuantumCircuit
    key: Hashable
    values: np.ndarray
    observables: tuple[SparsePauliOp, ...]
    requests: np.ndarray
    row: np.ndarray
    column: np.ndarray


def group(requests: Iterable[Requests], independent: bool = False) -> list[Batch]:
    """Group all requests, numbered in the order given, into batches.

    Args:
        requests: The requests.
        independent: Give every repetition of a request a row of its own, because its value is a random draw. Different
            observables of equal rows still share a row, as they do in one PUB.
    """
    by_circuit: dict[Hashable, list[tuple[int, Requests]]] = {}
    start = 0
    for request in requests:
        key = circuit_key(request.circuit)
        by_circuit.setdefault(key, []).append((start, request))
        start += len(request.rows)
    return [batch for key, parts in by_circuit.items() for batch in _batches(key, parts, independent)]


def _batches(key: Hashable, parts: list[tuple[int, Requests]], independent: bool) -> Iterable[Batch]:
    observables: dict[Hashable, int] = {}
    distinct: list[SparsePauliOp] = []
    columns, rows, numbers, values, offset = [], [], [], [], 0
    for start, part in parts:
        index = []
        for observable in part.observables:
            place = observables.setdefault(observable_key(observable), len(distinct))
            if place == len(distinct):
                distinct.append(observable)
            index.append(place)
        columns.append(np.asarray(index, dtype=int)[part.which])
        rows.append(part.rows + offset)
        numbers.append(start + np.arange(len(part.rows)))
        values.append(part.values)
        offset += len(part.values)
    value, inverse = np.unique(np.concatenate(values), axis=0, return_inverse=True)
    column, number = np.concatenate(columns), np.concatenate(numbers)
    row = inverse.reshape(-1)[np.concatenate(rows)]
    if independent:
        copies, row = np.unique(np.stack([row, _repetition(row, column)]), axis=1, return_inverse=True)
        value, row = value[copies[0]], row.reshape(-1)
    order = np.lexsort((column, row))
    row, column, number = row[order], column[order], number[order]
    signatures: dict[tuple[int, ...], list[np.ndarray]] = {}
    for of_row in np.split(np.arange(len(row)), np.flatnonzero(np.diff(row)) + 1):
        if len(of_row):
            signatures.setdefault(tuple(np.unique(column[of_row]).tolist()), []).append(of_row)
    for wanted, members in signatures.items():
        chosen = np.concatenate(members)
        local = np.repeat(np.arange(len(members)), [len(m) for m in members])
        yield Batch(
            circuit=parts[0][1].circuit,
            key=(key, tuple(list(observables)[c] for c in wanted)),
            values=value[[row[m[0]] for m in members]],
            observables=tuple(distinct[c] for c in wanted),
            requests=number[chosen],
            row=local,
            column=np.searchsorted(np.asarray(wanted), column[chosen]),
        )


def _repetition(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return how many of the earlier requests (Q,) have the same row and column."""
    order = np.lexsort((column, row))
    changes = (np.diff(row[order], prepend=-1) != 0) | (np.diff(column[order], prepend=-1) != 0)
    position = np.arange(len(row))
    counts = np.empty(len(row), dtype=int)
    counts[order] = position - np.maximum.accumulate(np.where(changes, position, 0))
    return counts


class Recent(Generic[V]):
    """The most recently used values, at most ``size`` of them."""

    def __init__(self, size: int) -> None:
        self.size, self._kept = size, OrderedDict[Hashable, V]()

    def get(self, key: Hashable) -> V | None:
        """Return the value under ``key`` and mark it used, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, value: V) -> V:
        """Keep ``value`` under ``key``, dropping the least recently used beyond the size."""
        self._kept[key] = value
        if len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return value
